"""Is what a client sends small and quick enough, and is the client still there?

The body is taken in whole before anything else looks at it: what is too large or too slow never
holds an endpoint. After it, whoever waits on the connection learns when the client has gone.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unison.serve.access.account import Denied

_LINGER = 16_000_000  # bytes of a body that is refused that are still read, so that the answer
# reaches clients that look for one only after they have sent everything
_TAKEN = "body_taken"  # in a request's state: it was read to its end
_GRACE = 1.0  # seconds an endpoint has to end by itself once its client has gone


@dataclass(frozen=True)
class Bounds:
    """What a client may send.

    Attributes:
        size: Bytes.
        seconds: From the first look at it to its end.
    """

    size: int
    seconds: float


def whole(app: ASGIApp, bounds: Bounds) -> ASGIApp:
    """Return an application whose requests come whole, and end when their clients go.

    Raises:
        Denied: The body is too large, or takes too long.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        body = await taken(scope, receive, bounds)
        await _attended(app, scope, body, (receive, send))

    return guarded


async def taken(scope: Scope, receive: Receive, bounds: Bounds) -> bytes:
    """Return the body of a request.

    Raises:
        Denied: It is too large (413) or takes too long (408).
        ClientGone: There is nobody to answer.
    """
    too_large = Denied(
        413,
        "body_too_large",
        f"the request has more than the {bounds.size} bytes this server takes; send less.",
    )
    announced = length(scope)
    if announced is not None and announced > bounds.size:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(bounds.seconds):
            async for chunk in _chunks(receive):
                size += len(chunk)
                if size > bounds.size:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError:
        raise Denied(
            408,
            "body_too_slow",
            f"the request was not sent within {bounds.seconds:g} seconds; try again.",
        ) from None
    scope["state"][_TAKEN] = True
    return b"".join(chunks)


async def discard(scope: Scope, receive: Receive, seconds: float) -> None:
    """Read on for a while what nobody wants, so that the client hears why.

    Not where it waits for leave to send (``Expect``): the answer is its leave not to.
    """
    waits = any(name == b"expect" for name, _ in scope["headers"])
    if waits or scope["state"].get(_TAKEN):
        return
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in _chunks(receive):
                size += len(chunk)
                if size > _LINGER:
                    return
    except (TimeoutError, ClientGone):
        return


class ClientGone(Exception):  # noqa: N818  # a state, nobody is told
    """The client closed the connection."""


def length(scope: Scope) -> int | None:
    """Return the size a request announces; ``None`` if it does not, or not as a number."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
    return None


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def _attended(app: ASGIApp, scope: Scope, body: bytes, line: tuple[Receive, Send]) -> None:
    """Run an application on a whole body; end it when the client goes before the answer does."""
    receive, send = line
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    gone, answered = asyncio.Event(), asyncio.Event()

    async def replay() -> Message:
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def forward(message: Message) -> None:
        if gone.is_set() and not answered.is_set():
            return  # nobody hears it, and it is no answer that was given
        await send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            answered.set()

    work = asyncio.ensure_future(app(scope, replay, forward))
    watcher = asyncio.ensure_future(_watch(receive, gone))
    try:
        await asyncio.wait({work, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if gone.is_set() and not answered.is_set():
            await asyncio.wait({work}, timeout=_GRACE)
            raise ClientGone
        await work
    finally:
        await _ended(watcher)
        await _ended(work)


async def _watch(receive: Receive, gone: asyncio.Event) -> None:
    """Say when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()


async def _ended(task: asyncio.Future[None]) -> None:
    """End a task, if it has not; what it raised is told by whoever waited for it."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
