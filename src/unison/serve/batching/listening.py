"""How does a coroutine, or a plain loop, hear what an engine tells?"""

import asyncio
import contextlib
import queue
from collections.abc import AsyncIterator, Iterator

from unison.serve.batching.engine import Engine
from unison.serve.batching.work import Event, Failed, Finished, Step, Work

_BEHIND = 64  # steps a slow listener may lag before some are left out


async def listen(engine: Engine, work: Work) -> AsyncIterator[Event]:
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

    ticket = engine.submit(work, tell)
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
    ticket = engine.submit(work, told.put)
    try:
        while True:
            event = told.get()
            yield event
            if isinstance(event, Failed | Finished):
                return
    finally:
        engine.cancel(ticket)
