"""What does a recipe leave behind? Numbers with errors, the files it wrote, and what made them."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unison import files
from unison.train import folder as folders
from unison.types import Estimate

RESULTS = "results.json"
VERB = "continuous recipe"

Say = Callable[[str], None]
Row = Mapping[str, Estimate]


@dataclass(frozen=True)
class Report:
    """What a recipe found.

    Attributes:
        numbers: For each row of its table the columns, each with its error.
        files: What was written, relative to the folder.
        seconds: Wall time of this call; what an earlier one had trained is not in it.
        facts: What else is worth knowing: choices that were made, wins and losses.
    """

    numbers: Mapping[str, Row]
    files: tuple[str, ...] = ()
    seconds: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)


def opened(out: Path, name: str, config: Any, sources: list[str]) -> float:
    """Make a folder this recipe's, or go on with it; return the time it began.

    Raises:
        ValueError: The folder holds something else, or was made with other settings.
    """
    folders.claim(out, True, f"{VERB} {name}", config, sources)
    files.sweep(out)
    return time.perf_counter()


def closed(out: Path, began: float, report: Report) -> Report:
    """Write ``results.json``; return the report with its files and its time."""
    found = dataclasses.replace(
        report, files=(*report.files, RESULTS), seconds=time.perf_counter() - began
    )
    files.write_json(out / RESULTS, as_json(found))
    return found


def as_json(report: Report) -> dict[str, Any]:
    """Return a report as JSON has it."""
    rows = {
        row: {name: value._asdict() for name, value in columns.items()}
        for row, columns in report.numbers.items()
    }
    return {
        "numbers": rows,
        "facts": {
            name: fact._asdict() if isinstance(fact, Estimate) else fact
            for name, fact in report.facts.items()
        },
        "files": list(report.files),
        "seconds": report.seconds,
    }


def table(numbers: Mapping[str, Row]) -> Iterable[str]:
    """Yield lines of a table: a row of names, then rows of values with 95 % half-widths."""
    columns = list(dict.fromkeys(name for row in numbers.values() for name in row))
    wide = max([len(name) for name in numbers], default=0) + 2
    heads = {name: max(len(name), 16) + 2 for name in columns}
    yield " " * wide + "".join(f"{name:>{heads[name]}}" for name in columns)
    for name, row in numbers.items():
        cells = (f"{cell(row.get(column)):>{heads[column]}}" for column in columns)
        yield f"{name:<{wide}}" + "".join(cells)


def cell(value: Estimate | None) -> str:
    """Return a number with its 95 % half-width; a dash where there is none."""
    if value is None:
        return "-"
    return f"{value.value:.4g} ± {1.96 * value.stderr:.2g}"
