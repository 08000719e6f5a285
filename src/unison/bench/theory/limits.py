"""How much of an error is the model's, and how much is the price of writing several items at once?

Puts the limit of a task's law, the perfect model under the measured strategies, and what was
measured on one pair of axes (ParallelBench, Kang et al., 2025, arXiv:2510.04767).
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from unison.bench.record import Interval, Result
from unison.bench.report.document import Figure, Section, Table
from unison.bench.theory.ideal import in_groups, simulate
from unison.decode import Strategy
from unison.evaluate import figures
from unison.evaluate.scatter import Cloud, Scatter, Spot
from unison.suites import ItemLaw, Theoretical
from unison.suites.limits.closed_forms import Limits, divergence, groups_of, least_divergence
from unison.suites.limits.listed import TooLargeError
from unison.suites.limits.recognised import limits_of

_PERFECT, _GROUPS = "perfect model", "perfect model, random groups"
_FEW = 6  # items up to which every group size is shown
_NOTHING = 1e-9  # bits
_WORK, _FEWEST = 100_000_000, 200  # entries of beliefs, over all steps; answers simulated at least

T = TypeVar("T")


class Group(NamedTuple):
    """What a perfect model can do that writes random groups of one size.

    Attributes:
        size: Items written at once; the last group may be smaller.
        steps: Groups of an answer.
        bits: What is lost by drawing them independently; ``None`` where it is too hard to know.
        least: The same for as many groups of the best sizes.
        accuracy: How often the answer is right; simulated where ``n`` is not 0, else exact.
    """

    size: int
    steps: int
    bits: float | None
    least: float | None
    accuracy: Interval


class Point(NamedTuple):
    """One way of writing.

    Attributes:
        writer: A model, the perfect one among them.
        strategy: As spelt.
        accuracy: Share of right answers.
        items_per_step: Items of the answer over evaluations; ``None`` if it cannot run.
        why: Why it cannot.
    """

    writer: str
    strategy: str
    accuracy: Interval | None
    items_per_step: float | None
    why: str = ""


def limit(law: ItemLaw, rows: int = 2000, seed: int = 0) -> list[Group]:
    """Return the limit of a law for growing groups, from closed forms where there are any.

    Args:
        law: Of the right answers.
        rows: Answers simulated where neither a closed form nor an enumeration is at hand.
        seed: Names them.
    """
    known = _known(law)
    entropies = None if known is None else _afforded(known.entropies)
    result = []
    for size in _sizes(law.length):
        sizes = groups_of(law.length, size)
        share = None if known is None else _afforded(partial(known.accuracy, sizes))
        result.append(
            Group(
                size,
                len(sizes),
                None if entropies is None else divergence(entropies, sizes),
                None if entropies is None else least_divergence(entropies, len(sizes)).bits,
                simulate(law, in_groups(size), rows, seed).accuracy
                if share is None
                else Interval(share, share, share, 0),
            )
        )
    return result


def perfect(
    law: ItemLaw, ways: Sequence[tuple[str, Strategy]], rows: int = 2000, seed: int = 0
) -> list[Point]:
    """Return what the perfect model reaches under each strategy.

    Args:
        law: Of the right answers.
        ways: Strategies and their names.
        rows: Answers written.
        seed: Names them.
    """
    return [_perfect(law, name, strategy, (rows, seed)) for name, strategy in ways]


def measured(label: str, law: ItemLaw, results: Sequence[Result]) -> list[Point]:
    """Return the cells of a task that were measured.

    Args:
        label: The task as spelt.
        law: Says how many items an answer has.
        results: Of a bench; other tasks and unfinished cells are left out.
    """
    there = [result for result in results if result.asked.task == label]
    names = _names({result.asked.model for result in there})
    return [
        Point(
            names[result.asked.model],
            result.asked.strategy,
            result.accuracy,
            law.length / result.nfe.value,
        )
        for result in there
        if result.status == "done" and result.accuracy and result.nfe and result.nfe.value > 0
    ]


def section(
    label: str,
    task: Theoretical,
    ways: Sequence[tuple[str, Strategy]],
    results: Sequence[Result],
    rows: int = 2000,
    seed: int = 0,
) -> Section:
    """Return a task's limit beside what was measured.

    Args:
        label: The task as spelt.
        task: Knows the law of its right answers.
        ways: The measured strategies as they were spelt and as they are before they are fitted to
            a model; the perfect model is run through each.
        results: Of a bench, any tasks.
        rows: Answers of a simulation; fewer where they are long.
        seed: Names them.

    Raises:
        ValueError: Figures cannot be drawn here.
    """
    law = task.law()
    rows = min(rows, max(_FEWEST, _WORK // (law.length**2 * law.size)))
    groups = limit(law, rows, seed)
    points = [*perfect(law, ways, rows, seed), *measured(label, law, results)]
    return Section(
        f"Limit of {label}",
        _words(law, groups),
        (_limits_table(groups), *([_points_table(points)] if points else [])),
        (_figure(label, groups, points),),
    )


def _known(law: ItemLaw) -> Limits | None:
    return _afforded(partial(limits_of, law))


def _afforded(asked: Callable[[], T]) -> T | None:
    """Return an answer unless it would take too long."""
    try:
        return asked()
    except TooLargeError:
        return None


def _sizes(length: int) -> list[int]:
    if length <= _FEW:
        return list(range(1, length + 1))
    return sorted({1, *(2**i for i in range(1, length.bit_length()) if 2**i < length), length})


def _perfect(law: ItemLaw, name: str, strategy: Strategy, drawn: tuple[int, int]) -> Point:
    try:
        found = simulate(law, strategy, *drawn)
    except ValueError as error:
        return Point(_PERFECT, name, None, None, str(error))
    return Point(_PERFECT, name, found.accuracy, found.items_per_step)


def _names(models: set[str]) -> dict[str, str]:
    """Return the last part of each path, or all of it where two would be called the same."""
    short = Counter(Path(model).name for model in models)
    return {m: Path(m).name if short[Path(m).name] == 1 else m for m in models}


def _words(law: ItemLaw, groups: Sequence[Group]) -> tuple[str, ...]:
    lost = groups[-1].bits
    price = (
        "how much is lost by that is too hard to compute here"
        if lost is None
        else "all right answers are one, so nothing is lost by that"
        if lost < _NOTHING
        else f"written all at once they lose {lost:.4g} bits, their total correlation"
    )
    return (
        f"An answer has {law.length} items. A perfect model knows the chance of every item given "
        "those already there, and all right answers are equally likely to it. What it writes in "
        f"one evaluation it draws independently: {price}. The dashed line is how often its answer "
        "is right for random groups of one size. What a model loses against the line is the "
        "model's; what the line loses against 1 is the price of writing in parallel.",
        "A model's tokens are not items: it spends several on one item, and others on brackets "
        "and commas. So all are compared by the items of an answer over the evaluations it took, "
        "all tokens included. Left of 1 a model has at least one evaluation for each item, and the "
        "line asks nothing of it; right of 1 items are written together, at least on average. "
        "Tokens of one item that are written together cost nothing here.",
        "The line holds for models that leave every right answer its chance. A strategy that takes "
        "the likeliest item, or a model that has settled on one of the right answers, has less to "
        "lose and may stand above it, or, where the likeliest items do not go together, far below.",
    )


def _limits_table(groups: Sequence[Group]) -> Table:
    rows = [
        (
            str(group.size),
            str(group.steps),
            _bits(group.bits),
            _bits(group.least),
            _share(group.accuracy),
        )
        for group in groups
    ]
    simulated = any(group.accuracy.n for group in groups)
    return Table(
        (
            "items at once",
            "evaluations",
            "bits lost",
            "bits lost, best group sizes",
            "accuracy of a perfect model",
        ),
        rows,
        "Groups of random positions; the last may be smaller."
        + (" Accuracies with an interval were simulated." if simulated else ""),
    )


def _points_table(points: Sequence[Point]) -> Table:
    rows = [
        (
            point.writer,
            point.strategy,
            _share(point.accuracy) if point.accuracy else "-",
            "-" if point.items_per_step is None else f"{point.items_per_step:.2f}",
        )
        for point in points
    ]
    why = [f"{point.strategy}: {point.why}" for point in points if point.why]
    return Table(
        ("writer", "strategy", "accuracy", "items per evaluation"),
        rows,
        " ".join(["A perfect model cannot run", *why]) if why else "",
    )


def _figure(label: str, groups: Sequence[Group], points: Sequence[Point]) -> Figure:
    length = max(group.size for group in groups)
    line = [Point(_GROUPS, str(g.size), g.accuracy, length / g.steps) for g in groups]
    best = {g.steps: 0.0 for g in groups}
    for group in groups:
        best[group.steps] = max(best[group.steps], group.accuracy.value)
    shown = [point for point in (*line, *points) if point.accuracy]
    panel = Scatter(
        [
            Cloud(writer, [_spot(point) for point in shown if point.writer == writer])
            for writer in dict.fromkeys(point.writer for point in shown)
        ],
        "answer items per evaluation",
        "share of right answers",
        front=[(length / steps, best[steps]) for steps in sorted(best)],
        y_range=(0.0, 1.0),
    )
    ends = groups[0].accuracy.value, groups[-1].accuracy.value
    return Figure(
        "limit-" + re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-"),
        figures.drawn([panel]),
        figures.drawn([panel], dark=True),
        figures.drawn([panel], kind="svg"),
        f"{label}: a perfect model that draws random groups (dashed; numbers are items at once), "
        "the same model under the measured strategies, and the models measured. Bars are 95 % "
        "intervals.",
        f"Accuracy over answer items per evaluation. The perfect model falls from {ends[0]:.3g} "
        f"with one item at a time to {ends[1]:.3g} with all at once.",
    )


def _spot(point: Point) -> Spot:
    assert point.accuracy is not None
    assert point.items_per_step is not None
    value, low, high, count = point.accuracy
    return Spot(point.strategy, point.items_per_step, value, None, (low, high) if count else None)


def _bits(bits: float | None) -> str:
    return "-" if bits is None else f"{max(bits, 0.0):.4f}"


def _share(share: Interval) -> str:
    if share.n == 0:
        return f"{share.value:.4g}"
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"
