"""What is written down about a request? One line of JSON, without what was asked or answered."""

import datetime
import json
import logging
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from unison.serve.access.account import Account, Cost

Log = Callable[[Mapping[str, Any]], None]


@runtime_checkable
class Sink(Protocol):
    """A stream of text, as far as a log needs one."""

    def write(self, text: str, /) -> object:
        """Take text."""
        ...

    def flush(self) -> object:
        """Let go of it."""
        ...


class Visit(NamedTuple):
    """One request, seen from outside.

    Attributes:
        id: Its name, also told to the client.
        method: Of HTTP.
        route: The template of its path; ``other`` where there is nothing.
        status: Of HTTP; 499 where the client went before it was told any.
        seconds: From its arrival to the end of its answer.
        ended: ``done``, ``gone`` where the client did not wait for it, ``failed`` for a defect.
        error: Kind and place of a defect.
    """

    id: str
    method: str
    route: str
    status: int
    seconds: float
    ended: str = "done"
    error: str | None = None


def to_stream(stream: Sink) -> Log:
    """Return a log that writes a line for each entry, whole ones also from several threads.

    JSON in ASCII escapes control characters and line ends: no client can forge a line, or reach
    the terminal somebody reads them on. A stream that is closed is no reason to fail a request.
    """
    lock = threading.Lock()

    def write(entry: Mapping[str, Any]) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, **entry}, ensure_ascii=True, default=str)
        with lock:
            try:
                stream.write(line + "\n")
                stream.flush()
            except (OSError, ValueError):
                return

    return write


def entry(visit: Visit, account: Account, cost: Cost, *, prompts: bool) -> dict[str, Any]:
    """Return the line of a request.

    Args:
        visit: From outside.
        account: Of its work.
        cost: What that came to.
        prompts: Whether the line holds what was asked and answered.
    """
    told = {
        "event": "request",
        "id": visit.id,
        "client": account.client.name,
        "method": visit.method,
        "route": visit.route,
        "status": visit.status,
        "ended": visit.ended,
        "seconds": _rounded(visit.seconds),
        "model": cost.model,
        "strategy": cost.strategy,
        "prompt_tokens": cost.prompt_tokens,
        "completion_tokens": cost.completion_tokens,
        "nfe": cost.nfe,
        "queue_seconds": _rounded(cost.queue_seconds),
        "first_seconds": _rounded(cost.first_seconds),
        "run_seconds": _rounded(cost.run_seconds),
    }
    if visit.error is not None:
        told["error"] = visit.error
    return {**told, "prompts": account.prompts, "answers": account.answers} if prompts else told


class Records(logging.Handler):
    """Turns what libraries log into lines of the same kind.

    Their messages may quote a request: of an exception, only kind and place are told.

    Args:
        log: Takes the lines.
        prompts: Whether lines may hold what was asked.
    """

    def __init__(self, log: Log, *, prompts: bool) -> None:
        super().__init__(logging.WARNING)
        self._log, self._prompts = log, prompts

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record down."""
        told = {"event": "log", "logger": record.name, "level": record.levelname.lower()}
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            told["error"] = place_of(error)
        said = record.getMessage() if self._prompts else str(record.msg)
        self._log({**told, "message": said})


def place_of(error: BaseException) -> str:
    """Return an exception's kind and where it was raised, without its message."""
    calls = traceback.extract_tb(error.__traceback__)
    place = f" at {calls[-1].filename}:{calls[-1].lineno}" if calls else ""
    return f"{type(error).__name__}{place}"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
