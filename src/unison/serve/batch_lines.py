"""What does a line of a batch ask? A request in OpenAI's batch form, or a short one."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from unison.serve.asking import Request
from unison.suggest import nearest

COMPLETIONS, CHAT, INFILL, SCORE = (
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/infill",
    "/v1/score",
)
URLS = (COMPLETIONS, CHAT, INFILL, SCORE)
_LONG = ("custom_id", "method", "url", "body")
_MARK = b"\xef\xbb\xbf"  # that some editors put before UTF-8 text


class Line(NamedTuple):
    """One line that is not blank.

    Attributes:
        number: Of the line in the file, from 1.
        custom_id: Its name; ``line-N`` where it has none.
        request: What it asks; ``None`` where that cannot be read.
        problem: Why it cannot be read; empty where it can.
    """

    number: int
    custom_id: str
    request: Request | None
    problem: str = ""


class Facts(NamedTuple):
    """What a file holds.

    Attributes:
        sha256: Of its lines that are not blank.
        requests: Lines that are not blank.
        bad: The first line that cannot be read; ``None`` if all can.
    """

    sha256: str
    requests: int
    bad: Line | None


def scan(path: Path) -> Facts:
    """Read a file once, from its first line to its last.

    Raises:
        ValueError: It holds nothing or no line that can be read, is not UTF-8, or two lines have
            one ``custom_id``.
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    seen: dict[str, int] = {}
    bad: Line | None = None
    unread = 0
    for number, text in texts(path):
        digest.update(f"{number} {text}\n".encode())
        line = parse(number, text)
        if line.custom_id in seen:
            raise ValueError(
                f"{path} lines {seen[line.custom_id]} and {number} have one custom_id, "
                f"{line.custom_id!r}; give each request its own."
            )
        seen[line.custom_id] = number
        if line.problem:
            bad, unread = bad or line, unread + 1
    if not seen:
        raise ValueError(f"{path} holds no request; write one JSON object on each line.")
    if bad is not None and unread == len(seen):
        raise ValueError(f"{path} holds no request that can be read; {bad.problem}")
    return Facts(digest.hexdigest(), len(seen), bad)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of every line that is not blank.

    Raises:
        ValueError: A line is not UTF-8.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                text = raw.removeprefix(_MARK if number == 1 else b"").decode("utf-8").strip()
            except UnicodeDecodeError:
                raise ValueError(
                    f"{path} line {number} is not UTF-8 text; convert the file first."
                ) from None
            if text:
                yield number, text


def parse(number: int, text: str) -> Line:
    """Return what a line asks, or why that cannot be known."""
    try:
        record = json.loads(text, parse_constant=_no_number)
    except ValueError as error:
        return _bad(number, f"it is not valid JSON: {error}")
    except RecursionError:
        return _bad(number, "it is nested too deeply")
    if not isinstance(record, dict):
        return _bad(number, f"it must be an object, not {_kind(record)}")
    name = record.get("custom_id", _named(number))
    if not isinstance(name, str) or not name:
        return _bad(number, f"custom_id must be text that is not empty, got {name!r}")
    try:
        url, body = _long(record) if record.keys() & {"method", "url", "body"} else _short(record)
    except ValueError as error:
        return Line(number, name, None, f"line {number}: {error}.")
    return Line(number, name, Request("POST", url, json.dumps(body).encode()))


def _long(record: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return address and body of OpenAI's form."""
    for key in record:
        if key not in _LONG:
            raise ValueError(f"unknown field {key!r}{nearest(key, _LONG)}")
    if record.get("method", "POST") != "POST":
        raise ValueError(f"method must be POST, got {record['method']!r}")
    url, body = record.get("url"), record.get("body")
    if not isinstance(url, str) or url not in URLS:
        guess = nearest(url, URLS) if isinstance(url, str) else ""
        raise ValueError(f"url must be one of {', '.join(URLS)}, got {url!r}{guess}")
    if not isinstance(body, dict):
        raise ValueError(f"body must be an object, not {_kind(body)}")
    return url, _unstreamed(body)


def _short(record: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return address and body of a line that is the body itself."""
    body = {name: value for name, value in record.items() if name != "custom_id"}
    for field, url in TELLS.items():
        if field in body:
            return url, _unstreamed(body)
    raise ValueError(f"it needs one of {', '.join(TELLS)}, or method, url and body")


# Which field of a body tells who is asked; the first that is there.
TELLS = {
    "messages": CHAT,
    "canvas": INFILL,
    "tokens": INFILL,
    "prefix": INFILL,
    "input": SCORE,
    "context": SCORE,
    "prompt": COMPLETIONS,
    "suffix": COMPLETIONS,
}


def _unstreamed(body: dict[str, Any]) -> dict[str, Any]:
    if body.get("stream"):
        raise ValueError("stream does not go with a batch, whose answers are written whole")
    return body


def _bad(number: int, reason: str) -> Line:
    return Line(number, _named(number), None, f"line {number}: {reason}.")


def _named(number: int) -> str:
    return f"line-{number}"


def _kind(value: Any) -> str:
    kinds = {list: "a list", str: "text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")
