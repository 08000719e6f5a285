"""How long may a connection say nothing that is a request?

The server under the application waits without end for the head of a request; an endpoint sees the
request only after it. This stands between the socket and the server, and closes connections that
are not being answered and have been so for too long.
"""

import asyncio
from collections.abc import Callable
from typing import Any

Peer = tuple[str, int]
Build = Callable[..., asyncio.Protocol]


class Patient(asyncio.Protocol):
    """A protocol that passes everything on to another, and closes what is idle.

    Args:
        inner: Speaks HTTP.
        seconds: A connection may be without a request.
        busy: Whether a peer's request is being answered.
    """

    def __init__(
        self, inner: asyncio.Protocol, seconds: float, busy: Callable[[Peer], bool]
    ) -> None:
        self._inner, self._seconds, self._busy = inner, seconds, busy
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._idle_since = asyncio.get_running_loop().time()
        self._inner.connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        """Pass it on; half a head is no request yet."""
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._inner.connection_lost(exc)

    def _look(self) -> None:
        """Close the connection if its time is up; else look again, at the latest when it is."""
        loop, transport = asyncio.get_running_loop(), self._transport
        assert transport is not None
        now = loop.time()
        peer = transport.get_extra_info("peername")
        if peer is not None and self._busy((peer[0], peer[1])):
            self._idle_since = now
        left = self._idle_since + self._seconds - now
        if left <= 0:
            # Not ``close``, which waits until a client that reads nothing has read everything.
            transport.abort()
            return
        self._timer = loop.call_later(min(left, self._seconds / 4), self._look)


def patiently(build: Build, seconds: float, busy: Callable[[Peer], bool]) -> Callable[..., Patient]:
    """Return what builds the protocol of each connection, with patience around it."""

    def wrapped(*arguments: Any, **settings: Any) -> Patient:
        return Patient(build(*arguments, **settings), seconds, busy)

    return wrapped
