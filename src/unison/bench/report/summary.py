"""What came out of a bench? Every cell in tables, the frontier in figures, answers to look at."""

from collections.abc import Callable, Sequence
from pathlib import Path

from unison import files
from unison.bench.record import Answer, Asked, BenchError, Result
from unison.bench.report import frontier, html, markdown, naming, provenance, tables
from unison.bench.report.document import Document, Figure, Section, Table
from unison.bench.report.drawing import MISSING, can_draw
from unison.bench.report.printable import clipped

_SHOWN = 3  # right answers of a task that are shown, and as many wrong ones
_LETTERS = 400  # of an answer

Answers = Callable[[Asked], list[Answer]]


def document(
    results: Sequence[Result], answers: Answers, extra: Sequence[Section] = ()
) -> Document:
    """Return the report of a bench; equal results give an equal report.

    Args:
        results: Cells in the order of the report; of two with one name the later counts.
        answers: Of a cell; asked only of some.
        extra: Further sections, shown behind the tasks.
    """
    results = list({result.asked: result for result in results}.values())
    tasks = list(dict.fromkeys(result.asked.task for result in results))
    names = _file_names(tasks)
    sections = [
        _task(task, [r for r in results if r.asked.task == task], answers, names[task])
        for task in tasks
    ]
    return Document(
        "unison bench",
        [_counts(results, tasks), *([] if can_draw() else [MISSING])],
        [*_overview(results), *sections, *extra, provenance.section(results)],
        provenance.settings(results),
    )


def write(
    folder: Path, report: Document, *, text: str = "summary.md", page: str = "report.html"
) -> None:
    """Write a report as Markdown, as a page and its figures, each of them whole or not at all.

    Args:
        folder: Exists.
        report: What is written.
        text: Name of the Markdown file.
        page: Name of the page.

    Raises:
        BenchError: Two figures have one name, or a name is none for a file. Nothing was written.
        OSError: The disk is full or not writable.
    """
    figures = [figure for section in report.sections for figure in section.figures]
    _check(figures)
    written = {text: markdown.render(report), page: html.render(report)}
    if figures:
        files.replace_folder(folder / markdown.FIGURES, lambda place: _put(place, figures))
    for name, content in written.items():
        files.write_text(folder / name, content)


def _check(figures: Sequence[Figure]) -> None:
    names = [figure.name for figure in figures]
    for name in names:
        if name != frontier.file_name(name):
            raise BenchError(
                f"The figure {name!r} cannot be a file; use lower case, digits and hyphens."
            )
        if names.count(name) > 1:
            raise BenchError(f"Two figures are called {name!r}; give each a name of its own.")


def _put(place: Path, figures: Sequence[Figure]) -> None:
    for figure in figures:
        (place / f"{figure.name}.png").write_bytes(figure.png)
        (place / f"{figure.name}.svg").write_bytes(figure.svg)


def _counts(results: Sequence[Result], tasks: Sequence[str]) -> str:
    models = {result.asked.model for result in results}
    ways = {result.asked.strategy for result in results}
    said = [_many(len(models), "model"), _many(len(tasks), "task"), _many(len(ways), "strategy")]
    counts = [
        f"{sum(result.status == status for result in results)} {status}"
        for status in ("done", "skipped", "failed")
    ]
    return f"{', '.join(said)}: {_many(len(results), 'cell')}, {', '.join(counts)}."


def _many(count: int, what: str) -> str:
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"


def _overview(results: Sequence[Result]) -> list[Section]:
    glance, unfinished = tables.glance(results), tables.unfinished(results)
    sections = []
    if glance is not None:
        sections.append(Section("At a glance", tables=[glance]))
    if unfinished is not None:
        words = "These cells have no numbers; they count nowhere as wrong."
        sections.append(Section("Not measured", [words], [unfinished]))
    return sections


def _task(task: str, results: Sequence[Result], answers: Answers, name: str) -> Section:
    found = [
        tables.cells(results),
        tables.resources(results),
        tables.groups(results),
        tables.metrics(results),
        _examples(results, answers),
    ]
    return Section(
        task,
        [_asked(results)],
        [table for table in found if table is not None],
        frontier.pictured(task, results, f"frontier-{name}"),
    )


def _asked(results: Sequence[Result]) -> str:
    done = [result for result in results if result.status == "done"]
    if not done:
        return "No cell of this task was measured."
    problems = sorted({result.problems for result in done})
    samples = sorted({result.samples for result in done})
    said = [" or ".join(f"{n:,}" for n in counts) for counts in (problems, samples)]
    each = "one text for each" if samples == [1] else f"{said[1]} texts for each"
    return f"{said[0]} problems, {each}."


def _examples(results: Sequence[Result], answers: Answers) -> Table | None:
    """Return a few right and a few wrong answers, each of another model as far as there are."""
    names = naming.models(result.asked.model for result in results)
    right: list[list[str]] = []
    wrong: list[list[str]] = []
    for result in _in_turns(results):
        if len(right) == len(wrong) == _SHOWN:
            break
        written = answers(result.asked)
        graded = result.accuracy is not None
        for rows, good in ((right, True), (wrong, False)):
            fitting = [a for a in written if (a.score >= 1 or not graded) == good]
            if fitting and len(rows) < _SHOWN:
                chosen = fitting[len(rows) % len(fitting)]  # another problem each time
                rows.append(_example(names[result.asked.model], result, chosen))
    if not (right or wrong):
        return None
    columns = ["model", "strategy", "problem", "written", "read", "worth", "why"]
    return Table(columns, right + wrong, "Some answers, as they were written.")


def _in_turns(results: Sequence[Result]) -> list[Result]:
    """Return the measured cells, the first one of every model first."""
    turns: dict[str, int] = {}
    ordered = []
    for result in results:
        if result.status == "done":
            turn = turns[result.asked.model] = turns.get(result.asked.model, 0) + 1
            ordered.append((turn, result))
    return [result for _, result in sorted(ordered, key=lambda pair: pair[0])]


def _example(model: str, result: Result, answer: Answer) -> list[str]:
    worth = f"{answer.score:.3g}" if result.accuracy is not None else tables.NOTHING
    return [
        model,
        result.asked.strategy,
        answer.problem,
        clipped(answer.text, _LETTERS),
        clipped(answer.read, _LETTERS),
        worth,
        clipped(answer.why, _LETTERS),
    ]


def _file_names(tasks: Sequence[str]) -> dict[str, str]:
    """Return a different name for the files of each task."""
    names: dict[str, str] = {}
    for task in tasks:
        name = stem = frontier.file_name(task)
        number = 2
        while name in names.values():
            name, number = f"{stem}-{number}", number + 1
        names[task] = name
    return names
