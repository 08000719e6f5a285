"""How does a bench reach its readers? Report, limits and what grows with tries, put together."""

from collections.abc import Sequence
from pathlib import Path

from unison.bench import plan, record
from unison.bench.record import Answer, Asked, Result
from unison.bench.report import summary, tables
from unison.bench.report.document import Document, Section
from unison.bench.report.drawing import can_draw
from unison.bench.theory import ideal
from unison.bench.theory import limits as theory
from unison.bench.theory import tries as scaling
from unison.decode import Strategy
from unison.suites import Theoretical


def write(folder: Path, results: Sequence[Result]) -> None:
    """Write ``summary.md``, ``report.html`` and figures into the folder of a bench.

    Raises:
        OSError: The disk is full or not writable.
    """
    summary.write(folder, document(folder, results))


def document(folder: Path, results: Sequence[Result]) -> Document:
    """Return the whole report of a bench whose answers lie in a folder."""

    def answers(asked: Asked) -> list[Answer]:
        return record.read_answers(folder, asked)[0]

    grown = scaling.section(results, answers)
    return summary.document(
        results, answers, [*_limits(results), *([] if grown is None else [grown])]
    )


def brief(results: Sequence[Result]) -> str:
    """Return the tables of a bench as plain lines: a cell each, and what it came to."""
    lines: list[str] = []
    for task in dict.fromkeys(result.asked.task for result in results):
        lines.append(task)
        for result in (each for each in results if each.asked.task == task):
            name = f"{Path(result.asked.model).name} {result.asked.strategy}"
            lines.append(f"  {name:44} {tables.outcome(result)}{_cost(result)}")
    return "\n".join(lines)


def _cost(result: Result) -> str:
    if result.nfe is None or result.tokens_per_forward is None:
        return ""
    return (
        f"  {result.nfe.value:.1f} evaluations, {result.tokens_per_forward:.2f} tokens per forward"
    )


def _limits(results: Sequence[Result]) -> list[Section]:
    """Return the limit of every task whose right answers have a known law."""
    done = [result for result in results if result.status == "done"]
    labels = dict.fromkeys(result.asked.task for result in done) if can_draw() else {}
    sections = []
    for asked in plan.questions(tuple(labels)) if labels else []:
        if isinstance(asked.task, Theoretical):
            ways = _ways([result for result in done if result.asked.task == asked.label])
            sections.append(theory.section(asked.label, asked.task, ways, done))
    return sections


def _ways(results: Sequence[Result]) -> list[tuple[str, Strategy]]:
    """Return the strategies a perfect model can be run with; a model's own it has not."""
    ways = []
    for spelling in dict.fromkeys(result.asked.strategy for result in results):
        try:
            ways.append((spelling, ideal.strategy_spelt(spelling)))
        except ValueError:  # the model's own, or a setting only a trained model has
            continue
    return ways
