"""Which ways of writing are worth their price? Accuracy against what it costs, and who is beaten.

A cell is beaten if another one of its task is at least as accurate and at least as cheap, and
better in one of the two; the rest are the front (Pareto). It is a front of estimates: cells whose
intervals overlap may change places in another bench.
"""

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from unison.bench.record import Asked, Result
from unison.bench.report import naming
from unison.bench.report.document import Figure
from unison.bench.report.drawing import figures
from unison.evaluate.scatter import Cloud, Scatter, Spot


class Price(NamedTuple):
    """What a cell costs, with its 95 % interval where one is known."""

    value: float
    low: float
    high: float


class Axis(NamedTuple):
    """One kind of price.

    Attributes:
        key: In names of files.
        name: In tables.
        label: On the axis.
        cheap: 1 if less is better, -1 if more is.
        price: Of a cell; ``None`` where it was not measured.
    """

    key: str
    name: str
    label: str
    cheap: int
    price: Callable[[Result], Price | None]


def _nfe(result: Result) -> Price | None:
    if result.nfe is None:
        return None
    half = 1.96 * result.nfe.stderr if math.isfinite(result.nfe.stderr) else 0.0
    return Price(result.nfe.value, result.nfe.value - half, result.nfe.value + half)


def _tokens_per_forward(result: Result) -> Price | None:
    value = result.tokens_per_forward
    return None if value is None else Price(value, value, value)


def _seconds(result: Result) -> Price | None:
    texts = result.problems * result.samples
    if not texts or not result.seconds:
        return None
    return Price(*[result.seconds / texts] * 3)


AXES = (
    Axis("nfe", "NFE", "network evaluations per text (fewer is better)", 1, _nfe),
    Axis("tokens", "tokens", "tokens per network evaluation (more is better)", -1,
         _tokens_per_forward),
    Axis("seconds", "seconds", "seconds per text, in batches as they ran (fewer is better)", 1,
         _seconds),
)  # fmt: skip


def front(results: Sequence[Result], axis: Axis) -> list[Asked]:
    """Return the cells that no other one beats, cheapest first; equal cells are all in."""
    points = sorted(
        (axis.cheap * price.value, -_percent(result), result.asked)
        for result, price in _priced(results, axis)
    )
    best: list[tuple[float, float, Asked]] = []
    for point in points:
        if not best or point[1] < best[-1][1] or point[:2] == best[-1][:2]:
            best.append(point)
    return [asked for *_, asked in best]


def _priced(results: Sequence[Result], axis: Axis) -> list[tuple[Result, Price]]:
    """Return the cells that have an accuracy and a price."""
    priced = [(r, axis.price(r)) for r in results if r.accuracy is not None]
    return [(r, p) for r, p in priced if p is not None and math.isfinite(p.value) and p.value > 0]


def marks(results: Sequence[Result]) -> dict[Asked, str]:
    """Return for each cell the kinds of price by which it is on the front."""
    fronts = {axis.name: set(front(results, axis)) for axis in AXES}
    return {
        result.asked: ", ".join(name for name, cells in fronts.items() if result.asked in cells)
        for result in results
    }


def pictured(task: str, results: Sequence[Result], name: str) -> tuple[Figure, ...]:
    """Return one figure per kind of price of one task's cells.

    Args:
        task: For people.
        results: Cells of one task; those without an accuracy or a price are not drawn.
        name: Of the files, before the kind of price.
    """
    return tuple(figure for axis in AXES for figure in _pictured(task, results, name, axis))


def _pictured(task: str, results: Sequence[Result], name: str, axis: Axis) -> tuple[Figure, ...]:
    cells = _priced(results, axis)
    if len(cells) < 2:  # one point is no frontier
        return ()
    best = front(results, axis)
    ways = naming.strategies(dict.fromkeys(result.asked.strategy for result, _ in cells))
    who = naming.models(dict.fromkeys(result.asked.model for result, _ in cells))
    clouds = [
        Cloud(short, [_spot(r, p, ways, r.asked in best) for r, p in cells if r.asked.model == m])
        for m, short in who.items()
    ]
    points = [(p.value, _percent(r)) for asked in best for r, p in cells if r.asked == asked]
    panel = Scatter(clouds, axis.label, "accuracy, %", front=_corners(points), y_range=(0.0, 100.0))
    caption = (
        f"{task}: accuracy against {axis.label}. Bars are 95 % intervals; the broken line is the "
        "front: above it nothing was measured. Names without room are left out; the table has all."
    )
    told = "; ".join(
        f"{who[asked.model]} with {ways[asked.strategy]}: {y:.1f} % at {x:.4g}"
        for asked, (x, y) in zip(best, points, strict=True)
    )
    alt = f"Accuracy of {len(cells)} cells of {task} against {axis.label}. On the front: {told}."
    return figures(f"{name}-{axis.key}", [panel], caption, alt)


def _spot(result: Result, price: Price, ways: dict[str, str], best: bool) -> Spot:
    assert result.accuracy is not None
    return Spot(
        ways[result.asked.strategy],
        price.value,
        _percent(result),
        None if price.low == price.high else (price.low, price.high),
        (100 * result.accuracy.low, 100 * result.accuracy.high),
        best,
    )


def _percent(result: Result) -> float:
    assert result.accuracy is not None
    return 100 * result.accuracy.value


def _corners(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the stairs over the best points: between two of them, only the cheaper one is had."""
    stairs = [corner for (_, y), (u, v) in pairwise(points) for corner in ((u, y), (u, v))]
    return [*points[:1], *stairs]


def file_name(text: str) -> str:
    """Return what a task may be called in the name of a file."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower() or "task"
