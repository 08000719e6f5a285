"""Which numbers are ours today? Makes docs/results/bench.md from the committed records alone.

    python -m benchmarks.page

Each folder of ``docs/results/bench`` holds what ``unison bench`` left behind: ``run.json`` and
``results.jsonl``, or ``training.json``. No number on the page is written by hand.
"""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unison import files
from unison.bench import read_results
from unison.bench.report import markdown, summary, whole
from unison.bench.report.document import Document, Figure, Section
from unison.bench.training import rows

PAGE = Path("docs/results/bench.md")
RECORDS = Path("docs/results/bench")
_TRAINING = "training.json"
_DRAWN = ("-nfe", "limit-", "tries-")  # figures the page shows; the reports have more
_INTRO = (
    "Made by `python -m benchmarks.page` from the records in `bench/`, without a number written by "
    "hand; a test holds the page to them. `bench.md` in `docs/` says what is measured and how."
)


def document(records: Path) -> Document:
    """Return the page as it follows from the records."""
    sections: list[Section] = []
    for folder in sorted(path for path in records.iterdir() if path.is_dir()):
        training = (folder / _TRAINING).exists()
        sections += _training(folder) if training else _bench(folder)
    return Document("Our own numbers", (), sections)


def text(page: Document) -> str:
    """Return the page in Markdown, its figures beside the records."""
    body = markdown.render(page).replace("](figures/", f"]({RECORDS.name}/figures/")
    title, _, rest = body.partition("\n")
    return f"{title}\n\n{_INTRO}\n{rest}"


def _bench(folder: Path) -> list[Section]:
    results = read_results(folder)
    whole_report = whole.document(folder, results)
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    head = Section(_titled(folder), (_command(run["config"], folder.name),))
    return [head, *(_shown(section, folder.name) for section in whole_report.sections)]


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


def main() -> None:
    """Write the page and its figures."""
    page = document(RECORDS)
    files.replace_folder(RECORDS / "figures", lambda place: summary.put(place, _figures(page)))
    files.write_text(PAGE, text(page))


if __name__ == "__main__":
    main()
