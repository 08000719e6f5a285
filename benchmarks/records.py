"""What does a committed result say? Ratios, how they are to be read, and where they were measured.

A record is one JSON file per benchmark: no seconds, no paths, no name of a host. ``cpu`` and
versions are there because ratios of other machines are other numbers.
"""

import json
import math
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

FORMAT = 1
Better = Literal["higher", "lower"]
Scale = Literal["log", "linear"]
PLACE = ("cpu", "gpu", "threads", "torch")  # facts under which two ratios can be compared
TOLD = ("cores", "load", "python", "numpy", "scipy")  # facts that are only kept


class RecordError(ValueError):
    """A result that cannot be read; the message says which and why."""


@dataclass(frozen=True)
class Measured:
    """One ratio over the rounds of one run.

    Attributes:
        name: What is divided by what.
        median: Of the rounds.
        low: Smallest.
        high: Largest.
        rounds: How many.
        better: Which way is an improvement.
        scale: ``log`` for factors; ``linear`` for shares, which may lie around 0.
        floor: What two runs of the same code may differ by, on that scale.
        target: What is hoped for, in words; empty if nothing.
    """

    name: str
    median: float
    low: float
    high: float
    rounds: int
    better: Better
    scale: Scale
    floor: float
    target: str = ""

    def __post_init__(self) -> None:
        numbers = (self.median, self.low, self.high, self.floor)
        if not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
            raise RecordError(f"{self.name!r}: all of {numbers} must be finite numbers.")
        if not self.low <= self.median <= self.high:
            raise RecordError(f"{self.name!r}: low, median, high must rise, got {numbers[:3]}.")
        if not isinstance(self.rounds, int) or self.rounds < 1 or self.floor < 0:
            raise RecordError(
                f"{self.name!r}: rounds must be 1 or more and floor not negative, got "
                f"{self.rounds!r} and {self.floor}."
            )
        if self.better not in get_args(Better) or self.scale not in get_args(Scale):
            raise RecordError(
                f"{self.name!r}: better must be higher or lower and scale log or linear, got "
                f"{self.better!r} and {self.scale!r}."
            )
        if self.scale == "log" and self.low <= 0:
            raise RecordError(f"{self.name!r}: a factor must be positive, got {self.low}.")


@dataclass(frozen=True)
class Record:
    """All ratios of one benchmark.

    Attributes:
        name: Of the benchmark.
        settings: Its arguments and dtype, and whatever else decides what is measured.
        machine: Facts of the machine and versions.
        ratios: Of its alternatives.
        facts: What else the benchmark says of itself; never compared.
    """

    name: str
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    ratios: tuple[Measured, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


def text(record: Record) -> str:
    """Return the record as JSON."""
    document = {
        "format": FORMAT,
        "name": record.name,
        "settings": dict(record.settings),
        "machine": dict(record.machine),
        "ratios": [asdict(one) for one in record.ratios],
        "facts": dict(record.facts),
    }
    return json.dumps(document, indent=1) + "\n"


def parsed(said: str, where: str) -> Record:
    """Return the record of a file's text.

    Args:
        said: The text.
        where: The file, for the message.

    Raises:
        RecordError: It is no record, or one of a newer format.
    """
    try:
        document = json.loads(said)
        if document["format"] > FORMAT:
            raise RecordError(
                f"format {document['format']} is newer than {FORMAT}; take a newer checkout."
            )
        names = [one.name for one in fields(Measured)]
        ratios = tuple(
            Measured(**{name: one[name] for name in names}) for one in document["ratios"]
        )
        record = Record(
            str(document["name"]),
            dict(document["settings"]),
            dict(document["machine"]),
            ratios,
            dict(document["facts"]),
        )
        if len({one.name for one in ratios}) < len(ratios):
            raise RecordError("two ratios have one name.")
    except RecordError as error:
        raise RecordError(f"{where}: {error}") from None
    except json.JSONDecodeError as error:
        raise RecordError(f"{where} is no JSON ({error}); run make bench again.") from None
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(
            f"{where} is no record of a benchmark ({error!r}); run make bench again."
        ) from None
    return record


def folder(path: Path) -> dict[str, Record]:
    """Return the records of a folder, or of one file, by the benchmark's name.

    Raises:
        RecordError: There are none, or one cannot be read.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.json"))
    if not files:
        raise RecordError(f"{path} holds no results (*.json); run make bench first.")
    return _by_name(
        parsed(file.read_text(encoding="utf-8", errors="replace"), str(file)) for file in files
    )


def committed(revision: str, place: Path) -> dict[str, Record]:
    """Return the records that a git revision holds in a folder; empty if there are none.

    Args:
        revision: Such as ``HEAD``.
        place: The folder, inside the checkout.

    Raises:
        RecordError: git does not know the revision, or one of the files is no record.
    """
    names = _git(place, "ls-tree", "--name-only", revision, "./").split()
    return _by_name(
        parsed(_git(place, "show", f"{revision}:./{name}"), f"{name} of {revision}")
        for name in names
        if name.endswith(".json")
    )


def _git(place: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=place, capture_output=True, text=True)
    except FileNotFoundError:
        raise RecordError(f"{place} is no folder, or git is not installed.") from None
    if done.returncode:
        raise RecordError(f"git {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout


def _by_name(records: Any) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for record in records:
        if record.name in found:
            raise RecordError(f"two results are called {record.name!r}; remove one.")
        found[record.name] = record
    return found
