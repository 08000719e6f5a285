"""How is a file of requests answered without a server? By its engine, in this process."""

import asyncio
import itertools
import json
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from unison import files
from unison.bench.facts import weights_hash
from unison.language_model import LanguageModel
from unison.serve import batch_lines, ledger
from unison.serve.asking import App, whole
from unison.serve.batch_lines import Facts, Line
from unison.serve.inside import serving
from unison.serve.ledger import Ledger
from unison.serve.settings import Settings

_AHEAD = 8  # times as many answers as are being written may wait for an earlier one
_LONE = re.compile("[\ud800-\udfff]")  # halves of a pair, which UTF-8 cannot hold
_WEEK = 604_800.0
_REFUSED = 400
_PLENTY = 2**20  # what is in flight is bounded here, and nothing of it is to be sent away
SETTINGS = Settings(timeout=_WEEK, playground=False, waiting=_PLENTY)
_DECIDING = ("prompt_tokens", "new_tokens", "texts", "logprobs", "logprob_digits")


@dataclass(frozen=True)
class How:
    """How a batch is answered.

    Attributes:
        settings: Limits of a request, and how much is written at once.
        strict: Refuse a file with a line that cannot be read, and stop at the first request that
            is refused.
    """

    settings: Settings = field(default_factory=lambda: SETTINGS)
    strict: bool = False

    @property
    def at_once(self) -> int:
        """Requests in flight."""
        return self.settings.rows


class Progress(NamedTuple):
    """How far it is.

    Attributes:
        done: Requests answered, those of an earlier run included.
        total: All requests.
        failed: Answers of this run that hold an error.
        resumed: Requests that an earlier run answered.
    """

    done: int
    total: int
    failed: int
    resumed: int


Observer = Callable[[Progress], None]


class RefusedError(ValueError):
    """A strict batch met a request that is refused."""


def run(
    source: Path,
    out: Path,
    model: LanguageModel | Callable[[], LanguageModel],
    name: str,
    how: How | None = None,
    observe: Observer = lambda progress: None,
) -> Progress:
    """Answer every line of a file, in order, whatever has to happen between.

    The answers are those a server gives to the same bodies. What was written before a kill stays
    and is not asked again.

    Args:
        source: Requests, one JSON object a line.
        out: Answers, one a line, in the same order.
        model: Answers; or how to load it, once the file is known to be good.
        name: What requests call the model.
        how: Limits and strictness.
        observe: Called with the progress; cannot change anything.

    Raises:
        ValueError: The file holds nothing or is not UTF-8, two requests share a name, ``out``
            belongs to another batch, or, where strict, a line is bad.
        OSError: A file cannot be read or written.
    """
    how = How() if how is None else how
    facts = checked(source, out, how)
    made = model if isinstance(model, LanguageModel) else model()
    with (
        begun(source, out, facts, fingerprint(made, name, how)) as book,
        serving(made, name, how.settings) as inside,
    ):
        rest = itertools.islice(batch_lines.texts(source), book.done, None)
        lines = (batch_lines.parse(*numbered) for numbered in rest)
        return asyncio.run(_write(inside.app, lines, book, (how, facts.requests, observe)))


def checked(source: Path, out: Path, how: How) -> Facts:
    """Return what a file holds, once it is known that a batch of it can begin.

    Raises:
        ValueError: See ``run``.
    """
    _check_source(source)
    if source.resolve() == out.resolve():
        raise ValueError(f"{source} cannot be both input and output; name another output.")
    ledger.check_place(out)
    facts = batch_lines.scan(source)
    if how.strict and facts.bad is not None:
        raise RefusedError(
            f"{source} {facts.bad.problem} Nothing was asked, as you wish it strict."
        )
    return facts


def _check_source(source: Path) -> None:
    if not source.exists():
        raise ValueError(f"there is no file {source}; name one with a request on each line.")
    if source.is_dir():
        raise ValueError(f"{source} is a folder; name a file with a request on each line.")
    if not source.is_file():
        raise ValueError(f"{source} can be read only once, and a batch reads twice; save it first.")


@contextmanager
def begun(source: Path, out: Path, facts: Facts, model: dict[str, Any]) -> Iterator[Ledger]:
    """Open the output of a batch behind the answers that are there already."""
    said = {"input": {"sha256": facts.sha256, "requests": facts.requests}, **model}
    names = (batch_lines.parse(*numbered).custom_id for numbered in batch_lines.texts(source))
    with ledger.opened(out, said, names) as book:
        yield book


def fingerprint(model: LanguageModel, name: str, how: How) -> dict[str, Any]:
    """Return what of a model and the settings decides an answer."""
    return {
        "model": {
            "name": name,
            "weights_sha256": weights_hash(model.network),
            "tokenizer": model.tokenizer.fingerprint,
            "device": model.device.type,
        },
        "settings": {field: getattr(how.settings, field) for field in _DECIDING},
    }


async def answers(app: App, lines: Iterable[Line], at_once: int) -> AsyncGenerator[list[str]]:
    """Yield the answers to lines, in order, as JSON; as many together as are ready.

    Args:
        app: Is asked.
        lines: Read as they are needed.
        at_once: Requests in flight.
    """
    gate = asyncio.Semaphore(at_once)
    waiting: deque[asyncio.Task[str]] = deque()

    async def one(line: Line) -> str:
        async with gate:
            return _LONE.sub(_escaped, files.to_json(await _record(app, line)))

    async def ready() -> list[str]:
        await asyncio.wait([waiting[0]])
        count = next((i for i, task in enumerate(waiting) if not task.done()), len(waiting))
        return [waiting.popleft().result() for _ in range(count)]

    try:
        for line in lines:
            waiting.append(asyncio.create_task(one(line)))
            if len(waiting) >= _AHEAD * at_once or waiting[0].done():
                yield await ready()
        while waiting:
            yield await ready()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _record(app: App, line: Line) -> dict[str, Any]:
    """Return the line of the output that answers a line of the input."""
    if line.request is None:
        error = {"code": "invalid_line", "message": line.problem}
        return {"custom_id": line.custom_id, "response": None, "error": error}
    status, body = await whole(app, line.request)
    response = {"status_code": status, "body": json.loads(body)}
    return {"custom_id": line.custom_id, "response": response, "error": None}


async def _write(
    app: App, lines: Iterable[Line], book: Ledger, told: tuple[How, int, Observer]
) -> Progress:
    how, total, observe = told
    so_far = Progress(book.done, total, 0, book.done)
    observe(so_far)
    async with aclosing(answers(app, lines, how.at_once)) as ready:
        async for records in ready:
            so_far = written(book, records, so_far, how)
            observe(so_far)
    return so_far


def written(book: Ledger, records: list[str], so_far: Progress, how: How) -> Progress:
    """Write records down; return how far it is now.

    Raises:
        RefusedError: One holds an error, and it is to be strict; those before it are written.
    """
    bad = [i for i, record in enumerate(records) if _failed(record)]
    if bad and how.strict:
        book.append(records[: bad[0]])
        raise RefusedError(f"a request was refused, and it is to be strict: {records[bad[0]]}")
    book.append(records)
    return so_far._replace(done=book.done, failed=so_far.failed + len(bad))


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _failed(record: str) -> bool:
    said = json.loads(record)
    return said["response"] is None or said["response"]["status_code"] >= _REFUSED
