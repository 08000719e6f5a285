"""How does a coroutine, or a plain loop, hear what an engine tells?"""

import asyncio
import contextlib
import queue
from collections.abc import AsyncGenerator, Iterator
from contextvars import ContextVar
from typing import Protocol, runtime_checkable

from unison.serve.batching.engine import Engine
from unison.serve.batching.work import Event, Failed, Finished, Step, Tell, Work

_BEHIND = 64  # steps a slow listener may lag before some are left out


@runtime_checkable
class Witness(Protocol):
    """Who answers for the work of a context: keys, accounts and logs."""

    def admit(self, work: Work) -> Work:
        """Return work on the terms its client may have; an error refuses it."""
        ...

    def hear(self, work: Work, event: Event) -> None:
        """Hear everything that is told of it, in the engine's thread; must not wait."""
        ...


witness: ContextVar[Witness | None] = ContextVar("witness", default=None)
"""Set around a request; whoever listens within it is witnessed, tasks and threads included."""


def _witnessed(work: Work, tell: Tell) -> tuple[Work, Tell]:
    """Return work and whom to tell of it, with this context's witness between."""
    present = witness.get()
    if present is None:
        return work, tell
    admitted = present.admit(work)

    def both(event: Event) -> None:
        present.hear(admitted, event)
        tell(event)

    return admitted, both


async def listen(engine: Engine, work: Work) -> AsyncGenerator[Event, None]:
    """Submit work and yield what is told, ``Failed`` or ``Finished`` last.

    Closing the iterator gives the work up within one step. A listener that lags misses steps,
    never anything else: later steps replace earlier ones.

    Raises:
        Full: The engine takes no more work.
    """
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[Event] = asyncio.Queue()

    def hear(event: Event) -> None:
        if not isinstance(event, Step) or told.qsize() < _BEHIND:
            told.put_nowait(event)

    def tell(event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody listens
            loop.call_soon_threadsafe(hear, event)

    ticket = engine.submit(*_witnessed(work, tell))
    try:
        while True:
            event = await told.get()
            yield event
            if isinstance(event, Failed | Finished):
                return
    finally:
        engine.cancel(ticket)


def collect(engine: Engine, work: Work) -> Iterator[Event]:
    """Yield what is told, from a thread that may wait.

    Raises:
        Full: The engine takes no more work.
    """
    told: queue.SimpleQueue[Event] = queue.SimpleQueue()
    ticket = engine.submit(*_witnessed(work, told.put))
    try:
        while True:
            event = told.get()
            yield event
            if isinstance(event, Failed | Finished):
                return
    finally:
        engine.cancel(ticket)
