"""How near is a piece of work to its limit, and where does the rest go? Times into a row."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from unison.bench.roofline.ceiling import Bound, Peaks
from unison.bench.roofline.kinds import BETWEEN
from unison.bench.roofline.watching import Operation, Spent, Watched
from unison.bench.roofline.work import Work
from unison.bench.training.machine import Spread, spread

GAPS = 3


@dataclass(frozen=True)
class Gap:
    """One kind of operation that takes longer than it would have to.

    Attributes:
        kind: Of operation, with its pass; or what passes between operations.
        share: Of the time of the work.
        of_limit: The least time these operations could take, over the time they took; one by one,
            each with its products at the best rate, or its operands and results moved once.
        lost: Share of the time of the work by which they exceed that.
        mostly: The kernel and the shape that lose most of it; empty between operations.
    """

    kind: str
    share: float
    of_limit: float
    lost: float
    mostly: str = ""

    @property
    def words(self) -> str:
        """What a reader is told."""
        told = f"{self.kind}: {100 * self.share:.0f} % of the time"
        if self.kind == BETWEEN:
            return told
        return f"{told} at {100 * self.of_limit:.0f} % of its limit ({self.mostly})"


@dataclass(frozen=True)
class Row:
    """What a piece of work came to; numbers are of one step.

    Attributes:
        name: Of the work.
        size: Of the network.
        dtype: Of its weights, or of the products of a training step.
        tokens: Tokens the step is about.
        seconds: On the wall.
        cpu_seconds: Of this process.
        flops: Of matrix products, by type of the operands.
        bytes: That must be moved whatever is cached; see ``watching.Watched``.
        traffic: Of all operands and results.
        limit: Least seconds the step could take.
        bound: What decides that.
        fraction: ``limit`` over the time taken, round by round.
        outside: Share of the time that passes outside networks; ``None`` where that is not told.
        gaps: The largest, largest first.
    """

    name: str
    size: str
    dtype: str
    tokens: int
    seconds: Spread
    cpu_seconds: Spread
    flops: Mapping[str, int]
    bytes: int
    traffic: int
    limit: float
    bound: Bound
    fraction: Spread
    outside: Spread | None
    gaps: tuple[Gap, ...]

    @property
    def tokens_per_second(self) -> float:
        """By the median on the wall."""
        return self.tokens / self.seconds.median


class Timing(NamedTuple):
    """What was measured of a work, round by round, of one call of it.

    Attributes:
        steps: Steps of a call.
        wall: Seconds on the wall.
        cpu: CPU seconds.
        compared: Of these the ones that limits are told in.
        inside: Seconds inside networks.
        watched: What its operations were, and took while they were watched.
    """

    steps: int
    wall: Sequence[float]
    cpu: Sequence[float]
    compared: Sequence[float]
    inside: Sequence[float]
    watched: Sequence[Watched]


def row(work: Work, size: str, dtype: str, timing: Timing, peaks: Sequence[Peaks]) -> Row:
    """Return what a work came to.

    Args:
        work: Its name and how much it is about.
        size: Of the network.
        dtype: Of its weights.
        timing: What was measured.
        peaks: What it is held against in each round.
    """
    steps, first = timing.steps, timing.watched[0]
    per_step = {kind: round(count / steps) for kind, count in first.flops.items()}
    moved = round(first.bytes / steps)
    least = [peak.seconds(per_step, moved) for peak in peaks]
    taken = [seconds / steps for seconds in timing.compared]
    outside = [
        1 - inside / whole for inside, whole in zip(timing.inside, timing.compared, strict=True)
    ]
    return Row(
        work.name,
        size,
        dtype,
        work.tokens,
        spread([seconds / steps for seconds in timing.wall]),
        spread([seconds / steps for seconds in timing.cpu]),
        per_step,
        moved,
        round(first.traffic / steps),
        spread(least).median,
        peaks[0].bound(per_step, moved),
        spread([limit / whole for limit, whole in zip(least, taken, strict=True)]),
        spread(outside) if work.decodes else None,
        gaps(merged(timing), sum(timing.compared), peaks[len(peaks) // 2], moved),
    )


def merged(timing: Timing) -> dict[Operation, Spent]:
    """Return what operations took in all rounds together."""
    found: dict[Operation, Spent] = {}
    for watched in timing.watched:
        for one, spent in watched.operations.items():
            calls, seconds = found.get(one, Spent(0, 0.0))
            found[one] = Spent(calls + spent.calls, seconds + spent.seconds)
    return found


def without(watched: Watched, price: float) -> Watched:
    """Return what was seen with the price of calling an operation left out of its time."""
    operations = {
        one: spent._replace(seconds=max(0.0, spent.seconds - price * spent.calls))
        for one, spent in watched.operations.items()
    }
    return watched._replace(operations=operations)


def gaps(
    operations: Mapping[Operation, Spent], seconds: float, peaks: Peaks, working: int
) -> tuple[Gap, ...]:
    """Return the kinds of operations that lose most, the largest loss first.

    What operations take while they are watched is held against the time of the work while it is
    not; what is left passes between operations: Python, calling kernels, allocation, waiting.

    Args:
        operations: What they took together.
        seconds: What the work took, as often as it was watched.
        peaks: What an operation could come to.
        working: Bytes that a step must move: what was there before comes from as far away as all
            of it together, what was just made from as far as an operation's own bytes.
    """
    busy = sum((spent.seconds for spent in operations.values()), 0.0)
    whole = max(seconds, busy)
    kinds: dict[str, dict[Operation, Spent]] = defaultdict(dict)
    for one, spent in operations.items():
        kinds[one.kind][one] = spent
    found = [
        _gap(kind, some, whole, partial(_least, peaks, working)) for kind, some in kinds.items()
    ]
    idle = (whole - busy) / whole
    found.append(Gap(BETWEEN, idle, 0.0, idle))
    return tuple(sorted(found, key=lambda gap: -gap.lost)[:GAPS])


def _gap(
    kind: str,
    some: Mapping[Operation, Spent],
    whole: float,
    once: Callable[[Operation], float],
) -> Gap:
    least = {one: spent.calls * once(one) for one, spent in some.items()}
    taken, limit = sum((spent.seconds for spent in some.values()), 0.0), sum(least.values(), 0.0)
    losses: dict[str, float] = defaultdict(float)
    for one, spent in some.items():
        losses[f"{one.name}, {one.shape}" if one.shape else one.name] += spent.seconds - least[one]
    mostly = max(losses, key=lambda name: losses[name])
    of_limit = limit / taken if taken else 1.0
    return Gap(kind, taken / whole, of_limit, (taken - limit) / whole, mostly)


def _least(peaks: Peaks, working: int, one: Operation) -> float:
    near = peaks.moving(one.bytes) * (one.bytes - one.far) / one.bytes if one.bytes else 0.0
    moving = near + one.far / peaks.bandwidth(max(working, one.bytes))
    return max(peaks.computing({one.dtype: one.flops} if one.flops else {}), moving)
