"""What is a reader told? Limits, work beside them and the largest gaps, as tables and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from unison.bench.report.document import Document, Section, Table
from unison.bench.roofline.ceiling import Kind
from unison.bench.roofline.measure import Measured
from unison.bench.roofline.rows import GAPS, Row
from unison.bench.training.machine import Spread


def content(measured: Sequence[Measured]) -> dict[str, Any]:
    """Return what was measured as JSON can hold it."""
    return {
        "sizes": [
            {
                "size": one.size,
                "limits": asdict(one.limits),
                "rows": [
                    asdict(row) | {"tokens_per_second": row.tokens_per_second} for row in one.rows
                ],
                "left_out": dict(one.left_out),
            }
            for one in measured
        ]
    }


def document(measured: Sequence[Measured]) -> Document:
    """Return what was measured as a report."""
    return Document("unison bench --roofline", [_HOW], [_section(one) for one in measured])


def _section(one: Measured) -> Section:
    facts, clock = one.limits.facts, one.limits.clock
    paragraphs = [
        f"{one.rows[0].dtype}, threads: {facts['threads']}, load at the end: "
        f"{facts['load'][0]:.1f}. Everything took turns, {one.rows[0].seconds.rounds} rounds; "
        "numbers are medians of one step, with the extremes in brackets."
    ]
    if one.left_out:
        reasons = (f"{name}: {_sentence(why)}" for name, why in one.left_out.items())
        paragraphs.append(f"Left out. {' '.join(reasons)}")
    heads = (f"limit, per {clock}", "median", "lowest", "highest")
    tables = [
        Table(_WORK, [_work(row) for row in one.rows], _WORK_NOTE),
        Table(_GAPS, [_gaps(row) for row in one.rows], _GAPS_NOTE),
        Table(heads, list(_limits(one.limits.rates))),
    ]
    return Section(one.size, paragraphs, tables)


def _work(row: Row) -> list[str]:
    return [
        row.name,
        f"{row.tokens:,}",
        _range(row.cpu_seconds, 1e-3, 1),
        f"{sum(row.flops.values()) / 1e9:,.2f}",
        f"{row.bytes / 1e6:,.1f}",
        f"{row.traffic / 1e6:,.1f}",
        row.bound,
        _range(row.fraction, 0.01, 0),
        "" if row.outside is None else _range(row.outside, 0.01, 1),
    ]


def _gaps(row: Row) -> list[str]:
    words = [gap.words for gap in row.gaps]
    return [row.name, *words, *[""] * (GAPS - len(words))]


def _limits(rates: Mapping[Kind, Mapping[str, Spread]]) -> Iterator[list[str]]:
    for kind, found in rates.items():
        for name, rate in found.items():
            cells = (f"{value / 1e9:,.1f}" for value in (rate.median, rate.low, rate.high))
            yield [f"{_TITLES[kind]}{name}, {_UNITS[kind]}", *cells]


def _range(value: Spread, unit: float, digits: int) -> str:
    median, low, high = (
        f"{number / unit:,.{digits}f}" for number in (value.median, value.low, value.high)
    )
    return f"{median} [{low} - {high}]"


def _sentence(words: str) -> str:
    return words if words.endswith(".") else f"{words}."


_TITLES: dict[Kind, str] = {
    "products": "product ",
    "memory": "",
    "attention": "attention ",
    "streams": "",
}
_UNITS: dict[Kind, str] = {
    "products": "GFLOP",
    "memory": "GB",
    "attention": "GFLOP",
    "streams": "GB",
}
_HOW = (
    "The limit of a step is the longer of two times: that of its matrix products at the best rate "
    "of any product of their type, and that of the bytes that must move at the best rate of a loop "
    "over arrays of that size. Both were measured beside it, in the same round."
)
_WORK = ("work", "tokens", "step, CPU ms", "GFLOP", "must move, MB", "moves, MB", "bound by",
         "of the limit, %", "outside the network, %")  # fmt: skip
_WORK_NOTE = (
    "must move: what is there before a step, read once, and what of it changes, written once. "
    "moves: all operands and results, as if no cache held any."
)
_GAPS = ("work", *(f"gap {number}" for number in range(1, GAPS + 1)))
_GAPS_NOTE = (
    "Kinds of operations by the time they lose to their own limits, one by one, and the shape that "
    "loses most. Between operations: Python, calling kernels, allocation."
)
