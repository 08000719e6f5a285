"""What can the machine do at best? Rates of products, memory, attention, softmax and draws.

A piece of work is held against two of them: products of its type, and memory of its size. Its limit
is the longer of two times: its products at the best rate that any product of that type was measured
with, and its bytes at the best rate of a loop over arrays no larger than they are (the roofline of
Williams, Waterman and Patterson, 2009). The other rates say what kernels come to by themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from unison.bench.training.machine import Spread, Work, spread

Kind = Literal["products", "memory", "attention", "streams"]
Bound = Literal["products", "memory"]


class Gauge(NamedTuple):
    """One way to measure the machine.

    Attributes:
        kind: What it measures.
        name: Of what it does.
        dtype: Of the operands; empty for memory.
        size: Bytes of the arrays it goes over; 0 where that does not matter.
        amount: FLOPs it computes, or bytes it moves.
        run: Does it once.
    """

    kind: Kind
    name: str
    dtype: str
    size: int
    amount: int
    run: Work


@dataclass(frozen=True)
class Peaks:
    """What work is held against, per second.

    Attributes:
        products: FLOPs by type of the operands.
        memory: Bytes, by the bytes of the arrays gone over.
    """

    products: Mapping[str, float]
    memory: Mapping[int, float]

    def bandwidth(self, size: int) -> float:
        """Return the best rate over arrays no larger than ``size``, or over the smallest.

        Larger ones are further away: the rate of those just below flatters the memory, never the
        work.
        """
        fits = [known for known in self.memory if known <= size]
        return self.memory[max(fits, default=min(self.memory))]

    def computing(self, flops: Mapping[str, int]) -> float:
        """Return the seconds that products take; types nobody measured count as float32."""
        usual = self.products["float32"]
        times = (count / self.products.get(dtype, usual) for dtype, count in flops.items())
        return sum(times, 0.0)

    def moving(self, size: int) -> float:
        """Return the seconds that bytes take."""
        return size / self.bandwidth(size)

    def seconds(self, flops: Mapping[str, int], size: int) -> float:
        """Return the least seconds for FLOPs by type, and bytes that move meanwhile."""
        return max(self.computing(flops), self.moving(size))

    def bound(self, flops: Mapping[str, int], size: int) -> Bound:
        """Return which of the two decides."""
        return "products" if self.computing(flops) >= self.moving(size) else "memory"


@dataclass(frozen=True)
class Ceiling:
    """What the gauges came to, per second of ``clock``.

    Attributes:
        clock: ``CPU second`` or ``device second``.
        rates: By kind, then by type and name.
        facts: Machine, versions, threads, and the load of everyone on it.
    """

    clock: str
    rates: Mapping[Kind, Mapping[str, Spread]]
    facts: Mapping[str, Any]


def ceiling(
    gauges: Sequence[Gauge],
    readings: Mapping[str, Sequence[float]],
    clock: str,
    facts: Mapping[str, Any],
) -> Ceiling:
    """Return what gauges came to.

    Args:
        gauges: Each with a name of its own.
        readings: Seconds of each in every round, by ``named``.
        clock: Of what.
        facts: Of the machine.
    """
    rates: dict[Kind, dict[str, Spread]] = {}
    for gauge in gauges:
        found = [gauge.amount / seconds for seconds in readings[named(gauge)]]
        rates.setdefault(gauge.kind, {})[named(gauge)] = spread(found)
    return Ceiling(clock, rates, facts)


def peaks(gauges: Sequence[Gauge], readings: Mapping[str, Sequence[float]], number: int) -> Peaks:
    """Return what work of one round is held against: what was fastest over all rounds, then.

    Args:
        gauges: Of products and of memory; others are left aside.
        readings: Seconds of each in every round, by ``named``.
        number: Of the round, from 0.
    """
    best: dict[tuple[Kind, str, int], tuple[float, float]] = {}
    for gauge in gauges:
        if gauge.kind in ("products", "memory"):
            rates = [gauge.amount / seconds for seconds in readings[named(gauge)]]
            place = (gauge.kind, gauge.dtype, gauge.size)
            found = (spread(rates).median, rates[number])
            best[place] = max(best.get(place, found), found)
    return Peaks(
        {dtype: now for (kind, dtype, _), (_, now) in best.items() if kind == "products"},
        {size: now for (kind, _, size), (_, now) in best.items() if kind == "memory"},
    )


def named(gauge: Gauge) -> str:
    """Return the name of a gauge with its type."""
    return f"{gauge.dtype} {gauge.name}".strip()
