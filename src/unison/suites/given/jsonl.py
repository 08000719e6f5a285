"""How is a file of problems read? Line by line; what is wrong is said with its line number."""

import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from unison.suites.dice import Dice
from unison.suites.task import SuiteError

T = TypeVar("T")
_KINDS = {str: "text", int: "a whole number", dict: "an object", list: "a list", bool: "a truth"}


@dataclass(frozen=True)
class Line:
    """A line that is not blank.

    Attributes:
        path: Of the file.
        number: From 1, blank lines counted.
        text: Without spaces around it.
    """

    path: Path
    number: int
    text: str

    def wrong(self, what: str) -> SuiteError:
        """Return an error that names the line."""
        return SuiteError(f"{self.path}:{self.number} {what}")


@dataclass(frozen=True)
class Record:
    """A line that holds a JSON object.

    Attributes:
        line: Where it was read.
        content: The object.
        expected: A line as it should be, for messages.
    """

    line: Line
    content: dict[str, Any]
    expected: str

    def wrong(self, what: str) -> SuiteError:
        """Return an error that names the line and shows what was expected."""
        return self.line.wrong(f"{what}; expected a line such as {self.expected}.")

    def text(self, name: str) -> str:
        """Return a field that holds text.

        Raises:
            SuiteError: It is missing, blank or no text.
        """
        value = self.content.get(name)
        if name not in self.content:
            raise self.wrong(f"has no field {name!r}, only {', '.join(self.content) or 'none'}")
        if not isinstance(value, str):
            kind = _KINDS.get(type(value), type(value).__name__)
            raise self.wrong(f"has {kind} as {name!r}, not text")
        if not value.strip():
            raise self.wrong(f"has an empty {name!r}")
        return value


def found(task: str, path: Path | None, usual: Sequence[str]) -> Path:
    """Return the file a setting means: itself, or in a folder the first of the usual names.

    Raises:
        SuiteError: No path was given, nothing is there, or the folder holds none of the names.
    """
    if path is None:
        raise SuiteError(f"{task} needs path=FILE, such as {task}:path={usual[0]}.")
    if path.is_dir():
        names = [name + end for name in usual for end in ("", ".gz")]
        inside = [path / name for name in names if (path / name).is_file()]
        if not inside:
            raise SuiteError(f"{task}: the folder {path} holds none of {', '.join(names)}.")
        return inside[0]
    if not path.is_file():
        raise SuiteError(f"{task}: there is no file {path}; path must name {' or '.join(usual)}.")
    return path


def lines(path: Path) -> list[Line]:
    """Return the lines of a text file, gzipped where its name ends in ``.gz``, blank ones left out.

    Raises:
        SuiteError: The file cannot be read, is empty, or a line is not UTF-8.
    """
    read = []
    for number, raw in enumerate(_bytes(path).removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            text = raw.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise SuiteError(
                f"{path}:{number} is not UTF-8 (byte {error.start + 1} of the line); "
                "save the file as UTF-8."
            ) from None
        if text:
            read.append(Line(path, number, text))
    if not read:
        raise SuiteError(f"{path} is empty; expected one problem per line.")
    return read


def records(path: Path, expected: str) -> list[Record]:
    """Return the JSON objects of a file that holds one per line.

    Args:
        path: Of the file.
        expected: A line as it should be, for messages.

    Raises:
        SuiteError: The file cannot be read, is empty, or a line is not a JSON object.
    """
    return [_record(line, expected) for line in lines(path)]


def drawn(items: Sequence[T], count: int, *name: str | int) -> list[T]:
    """Return up to ``count`` different items in random order; the first n whatever ``count``."""
    return Dice(*name).some(items, min(count, len(items)))


def _bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SuiteError(f"{path} cannot be read ({error.strerror or error}).") from None
    if not path.name.endswith(".gz"):
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise SuiteError(f"{path} is not a whole gzip file ({error}).") from None


def _record(line: Line, expected: str) -> Record:
    try:
        content = json.loads(line.text)
    except (ValueError, RecursionError) as error:
        what = f"is not JSON ({error}); expected a line such as {expected}."
        raise line.wrong(what) from None
    if not isinstance(content, dict):
        kind = _KINDS.get(type(content), type(content).__name__)
        raise line.wrong(f"is {kind}, not an object; expected a line such as {expected}.")
    return Record(line, content, expected)
