"""How does text reach a client while it is written? As server-sent events, in the order it settles.

What was sent is never taken back: the pieces of a text, one after the other, are the text that is
answered without a stream. Who asks for ``drafts`` is told besides what every step did, in chunks
without choices that hold an object ``unison``:

``{"event": "draft", "index", "step", "settled", "positions": [{"position", "token", "text",
"confidence", "decided"}]}`` tells tokens that were decided, and, where ``decided`` is false, what
would be written now. ``{"event": "revision", ...}`` has positions of ``{"position", "before",
"after", "confidence"}``: a token that was told became another, or ``null`` where it was taken back.
Positions count tokens from the answer's first. The last texts told, joined by position, are the
answer.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from typing import Any, NamedTuple

from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from unison.serve.batching import Event, Step, Wrote
from unison.serve.http.drafts import Drafts, Tell
from unison.serve.http.errors import answer_to
from unison.serve.http.likelihoods import disclosed
from unison.serve.http.texts import committed, span
from unison.serve.http.writing import Job, attended, events
from unison.serve.service import Service

_LOG = logging.getLogger(__name__)
DONE = "data: [DONE]\n\n"


class Begun(NamedTuple):
    """The work began."""

    texts: int


class Delta(NamedTuple):
    """A text grew.

    Attributes:
        index: Number of the text.
        text: What it grew by; may be empty in the last.
        wrote: All of it, in the last delta of each text; ``None`` before.
    """

    index: int
    text: str
    wrote: Wrote | None


class Note(NamedTuple):
    """A draft or a revision.

    Attributes:
        index: Number of the text.
        said: The object ``unison`` of its chunk.
    """

    index: int
    said: dict[str, Any]


class Done(NamedTuple):
    """All is written.

    Attributes:
        texts: In the order's order.
    """

    texts: list[Wrote]


Told = Begun | Delta | Note | Done
Chunks = Callable[[Told], Iterable[dict[str, Any]]]


class EventStream(StreamingResponse):
    """A stream that frees what feeds it, however it ends."""

    media_type = "text/event-stream"

    def __init__(self, lines: AsyncGenerator[str, None]) -> None:
        # The other header keeps proxies from holding events back.
        super().__init__(lines, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, then close their source."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._lines.aclose()


async def streamed(
    service: Service, request: Request, job: Job, chunks: Chunks, *, drafts: bool = False
) -> EventStream:
    """Return the answer that streams; it begins when the work does.

    What fails before is raised, and so told by a status. What fails later is told by an event that
    holds the error object, and ends the stream.

    Args:
        service: Runs the work.
        request: Whose client may go.
        job: With ``Write.watch``.
        chunks: From what is told to the JSON objects of its events.
        drafts: Whether drafts and revisions are told.

    Raises:
        Full: The engine takes no more work.
        Exception: Why the work failed.
    """
    told = events(service, job.write)
    try:
        first = await attended(request, anext(told))
        settings = service.settings
        tell = disclosed(settings.logprobs, settings.logprob_digits) if drafts else None
        followers = await asyncio.to_thread(_followers, job, tell)
    except BaseException:
        await told.aclose()
        raise
    return EventStream(_lines(first, told, followers, chunks))


def _followers(job: Job, tell: Tell | None) -> list["Follower"]:
    return [Follower(job, number, tell) for number in range(len(job.order.texts))]


async def _lines(
    first: Event, told: AsyncGenerator[Event, None], followers: list["Follower"], chunks: Chunks
) -> AsyncGenerator[str, None]:
    """Yield events as lines; closing it gives the work up."""
    try:
        async with contextlib.aclosing(_told(first, told, followers)) as said:
            async for one in said:
                for chunk in chunks(one):
                    yield line(chunk)
        yield DONE
    except Exception as error:  # noqa: BLE001  # a stream that has begun can only tell and end
        yield line(_failure(error))


async def _told(
    first: Event, told: AsyncGenerator[Event, None], followers: list["Follower"]
) -> AsyncGenerator[Told, None]:
    texts: list[Wrote] = []
    async with contextlib.aclosing(told):
        yield Begun(len(followers))
        for said in _said(first, followers):
            yield said
        async for event in told:
            if isinstance(event, Wrote):
                texts.append(event)
            for said in _said(event, followers):
                yield said
    yield Done(sorted(texts, key=lambda one: one.text))


def _said(event: Event, followers: list["Follower"]) -> Iterator[Told]:
    if isinstance(event, Step):
        yield from followers[event.text].step(event)
    elif isinstance(event, Wrote):
        yield from followers[event.text].finish(event)


def _failure(error: Exception) -> dict[str, Any]:
    answer = answer_to(error)
    if answer.status_code >= 500 and not isinstance(error, InterruptedError):
        _LOG.error("a stream broke off", exc_info=error)
    return json.loads(bytes(answer.body))


def line(chunk: dict[str, Any]) -> str:
    """Return a server-sent event."""
    return f"data: {json.dumps(chunk, ensure_ascii=False, allow_nan=False)}\n\n"


class Follower:
    """Follows one text and says what is new of it.

    Args:
        job: What it belongs to.
        number: Of the text.
        tell: How probabilities are told with drafts; ``None`` for no drafts.
    """

    def __init__(self, job: Job, number: int, tell: Tell | None = None) -> None:
        row = job.order.texts[number].row
        self._model, self._stop, self._number = job.order.model, job.write.stop, number
        self._start, self._past = span(row)
        self._settled, self._sent = self._start, ""
        self._drafts = None if tell is None else Drafts(job.order.model, row, number, tell)

    def step(self, step: Step) -> Iterator[Told]:
        """Yield what a step brought: drafts first, then text that will never change."""
        if self._drafts is not None:
            for said in self._drafts.step(step):
                yield Note(self._number, said)
        settled = min(step.settled, self._past)
        if settled <= self._settled:
            return
        self._settled = settled
        text, _ = committed(self._model, step.tokens[:settled], self._start, self._stop)
        if len(text) > len(self._sent) and text.startswith(self._sent):
            delta = text[len(self._sent) :]
            self._sent = text
            yield Delta(self._number, delta, None)

    def finish(self, wrote: Wrote) -> Iterator[Told]:
        """Yield what is left of a text.

        Raises:
            RuntimeError: Its beginning is not what was sent: a defect of the engine.
        """
        if not wrote.answer.startswith(self._sent):
            raise RuntimeError(f"sent {self._sent!r}, which does not begin {wrote.answer!r}")
        if self._drafts is not None:
            for said in self._drafts.finish(wrote):
                yield Note(self._number, said)
        yield Delta(self._number, wrote.answer[len(self._sent) :], wrote)
