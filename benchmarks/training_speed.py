"""How fast does each objective train, beside what the machine can do? Tables in Markdown.

    python -m benchmarks.training_speed --threads 1 --out x.json

Any setting of ``unison.bench.training.steps.Speed`` is a flag.
"""

import dataclasses
import sys
from pathlib import Path

import tyro

from unison import files
from unison.bench.report.document import Document
from unison.bench.report.markdown import render
from unison.bench.training.rows import section
from unison.bench.training.steps import Speed, measure


@dataclasses.dataclass(frozen=True)
class Flags(Speed):
    """The settings, and where the record goes.

    Attributes:
        out: Write rows and limits as JSON.
    """

    out: Path | None = None


def main():
    """Measure, print, and write the record if asked."""
    flags = tyro.cli(Flags, description=__doc__)
    rows, limits = measure(flags, lambda doing: print(doing, file=sys.stderr))
    title = f"{len(flags.objectives)} objectives at {len(flags.sizes)} sizes"
    print(render(Document(title, sections=[section(rows, limits)])))
    if flags.out is not None:
        parts = {"settings": flags, "limits": limits}
        record = {name: dataclasses.asdict(part) for name, part in parts.items()}
        record["settings"].pop("out")
        files.write_json(flags.out, record | {"rows": [dataclasses.asdict(row) for row in rows]})


if __name__ == "__main__":
    main()
