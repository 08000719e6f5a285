"""Which answers are on disk already? Lines appended and synced, so that a kill loses none of them.

Beside the file of answers lies ``NAME.run.json``, which says what they answer.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from unison import files

FORMAT_VERSION = 1
_BRIEF = 24  # characters of a value that a message shows


class Ledger:
    """Answers in the order of their requests; made by ``opened``.

    Attributes:
        done: How many are written.
    """

    def __init__(self, file: BinaryIO, done: int) -> None:
        self._file, self.done = file, done

    def append(self, answers: Sequence[str]) -> None:
        """Write whole answers; when this returns they survive a kill and a power cut.

        Raises:
            OSError: The disk is full, or has gone.
        """
        self._file.write("".join(f"{answer}\n" for answer in answers).encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done += len(answers)


def sidecar(path: Path) -> Path:
    """Return where it says what a file of answers answers."""
    return path.with_name(f"{path.name}.run.json")


def check_place(path: Path) -> None:
    """Refuse a place where no answers can be written.

    Raises:
        ValueError: It is a folder, its folder does not exist, or it holds something else.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file.")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}; make it, or choose another place.")
    if path.exists() and path.stat().st_size and not sidecar(path).exists():
        raise ValueError(
            f"{path} exists and is not the output of a batch; delete it or choose another name."
        )


@contextmanager
def opened(path: Path, facts: Mapping[str, Any], names: Iterable[str]) -> Iterator[Ledger]:
    """Open a file of answers, new or begun, behind what is whole in it.

    Args:
        path: The file.
        facts: What determines the answers, as JSON values.
        names: ``custom_id`` of every request, in order.

    Raises:
        ValueError: The file belongs to other facts, or somebody writes it right now.
        OSError: It cannot be written.
    """
    check_place(path)
    with path.open("ab+") as file:
        _lock(file, path)
        _claim(path, facts)
        done, size = _whole(file, path, names)
        file.truncate(size)
        files.sync(path.parent)
        yield Ledger(file, done)


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go when we end
    except BlockingIOError:
        raise ValueError(f"{path} is being written by another process; wait for it.") from None


def _claim(path: Path, facts: Mapping[str, Any]) -> None:
    """Say what the answers answer, or find that it says so already."""
    beside = sidecar(path)
    if not beside.exists():
        files.write_json(beside, {"format_version": FORMAT_VERSION, **facts})
        return
    try:
        known = json.loads(beside.read_bytes())
        version = known.pop("format_version")
    except (ValueError, KeyError, AttributeError):
        raise ValueError(f"{beside} is damaged; delete it and {path} to begin anew.") from None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{beside} is of format {version} and this unison reads {FORMAT_VERSION}; go on with "
            "the version that began it."
        )
    wrong = _differences(known, facts)
    if wrong:
        raise ValueError(
            f"{path} was begun with another {' and another '.join(wrong)}; give what it was begun "
            f"with, or another name for the output. {beside} says what it was."
        )


def _differences(known: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """Return what differs, and where both are known how."""
    wrong = []
    for name in {**known, **facts}:
        before, now = known.get(name), facts.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            inner = [key for key in {**before, **now} if before.get(key) != now.get(key)]
            how = [f"{key} {_brief(before.get(key))}, not {_brief(now.get(key))}" for key in inner]
            wrong += [f"{name} ({'; '.join(how)})"] if inner else []
        elif before != now:
            wrong.append(name)
    return wrong


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _BRIEF else f"{text[: _BRIEF - 4]}..."


def _whole(file: BinaryIO, path: Path, names: Iterable[str]) -> tuple[int, int]:
    """Return how many answers are whole, and where the last of them ends."""
    file.seek(0)
    done = size = 0
    expected = iter(names)
    for line in file:
        name = _name(line)
        if name is None:  # a kill cut it
            break
        wanted = next(expected, None)
        if name != wanted:
            raise ValueError(
                f"{path} line {done + 1} answers {name!r}, where {wanted!r} is next; it was "
                "changed since. Delete it to begin anew."
            )
        done, size = done + 1, size + len(line)
    return done, size


def _name(line: bytes) -> str | None:
    """Return which request a line answers; ``None`` for a line that is not whole."""
    try:
        return json.loads(line)["custom_id"] if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError):
        return None
