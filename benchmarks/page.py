"""Which numbers are ours today? Makes docs/results/bench.md from the committed records alone.

    python -m benchmarks.page

Each folder of ``docs/results/bench`` holds what ``unison bench`` left behind: ``run.json`` and
``results.jsonl``, or ``training.json``; ``about.txt`` says where models come from. No number on the
page that was measured is written by hand.
"""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unison import files
from unison.bench import Result, read_results
from unison.bench.report import markdown, provenance, tables, whole
from unison.bench.report.document import Document, Figure, Section
from unison.bench.training import rows

PAGE = Path("docs/results/bench.md")
RECORDS = Path("docs/results/bench")
_TRAINING = "training.json"
_FRONT = 3  # models and strategies that make a frontier worth drawing
_DRAWN = ("-nfe", "limit-", "tries-")  # figures the page shows; the reports have more
_INTRO = (
    "Made by `python -m benchmarks.page` from the records in `bench/`, without a number written by "
    "hand; a test holds the page to them. `bench.md` in `docs/` says what is measured and how."
)


def document(records: Path) -> Document:
    """Return the page as it follows from the records."""
    sections: list[Section] = []
    for folder in sorted(path.parent for path in records.glob("*/*.json")):
        training = (folder / _TRAINING).exists()
        sections += _training(folder) if training else _bench(folder)
    return Document("Our own numbers", (), sections)


def text(page: Document) -> str:
    """Return the page in Markdown, its figures beside the records."""
    body = markdown.render(page).replace("](figures/", f"]({RECORDS.name}/figures/")
    body = re.sub(r"^## (?!Record )", "### ", body, flags=re.MULTILINE)
    title, _, rest = body.partition("\n")
    return f"{title}\n\n{_INTRO}\n{rest}"


def _bench(folder: Path) -> list[Section]:
    results = read_results(folder)
    ways = {(result.asked.model, result.asked.strategy) for result in results}
    several = len(ways) >= _FRONT or any(result.samples > 1 for result in results)
    report = whole.document(folder, results) if several else brief(results)
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    head = Section(_titled(folder), (*_about(folder), _command(run["config"], folder.name)))
    return [head, *(_shown(section, folder.name) for section in report.sections)]


def brief(results: Sequence[Result]) -> Document:
    """Return the report of a record with too few cells for a frontier: its table and its origin."""
    table = tables.glance(results)
    assert table is not None  # a record holds results
    return Document("", (), [Section("At a glance", (), [table]), provenance.section(results)])


def _training(folder: Path) -> list[Section]:
    content = json.loads((folder / _TRAINING).read_text(encoding="utf-8"))
    found = rows.section(*rows.read(content))
    threads = content["settings"]["threads"]
    said = f"unison bench --training --threads {threads} --out {folder.name}"
    return [Section(_titled(folder), (said, *found.paragraphs), found.tables)]


def _shown(section: Section, folder: str) -> Section:
    """Return a section with the figures the page has room for, named after their folder."""
    figures = [
        Figure(f"{folder}-{f.name}", f.png, f.dark, f.svg, f.caption, f.alt)
        for f in section.figures
        if any(part in f.name for part in _DRAWN)
    ]
    return Section(section.heading, section.paragraphs, section.tables, figures)


def _about(folder: Path) -> list[str]:
    """Return the paragraphs that people wrote about a record."""
    path = folder / "about.txt"
    return path.read_text(encoding="utf-8").strip().split("\n\n") if path.exists() else []


def _titled(folder: Path) -> str:
    return f"Record {folder.name}"


def _command(config: dict[str, Any], out: str) -> str:
    """Return the command that made a record, as far as it differs from the defaults."""
    words = ["unison", "bench", *config["models"]]
    for name in ("suite", "strategies"):
        words += [f"--{name}", *config[name]]
    for name in ("count", "samples", "new_tokens", "batch_size", "seed"):
        if config[name] is not None:
            words += [f"--{name.replace('_', '-')}", str(config[name])]
    words += [f"--{name}" for name in ("chat", "execute") if config[name]]
    return shlex.join([*words, "--out", out])


def _figures(page: Document) -> Sequence[Figure]:
    return [figure for section in page.sections for figure in section.figures]


def _put(place: Path, figures: Sequence[Figure]) -> None:
    for figure in figures:
        (place / f"{figure.name}.png").write_bytes(figure.png)


def main() -> None:
    """Write the page and its figures."""
    page = document(RECORDS)
    files.replace_folder(RECORDS / "figures", lambda place: _put(place, _figures(page)))
    files.write_text(PAGE, text(page))


if __name__ == "__main__":
    main()
