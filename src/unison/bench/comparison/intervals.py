"""How sure is a difference? Intervals and tests for two ways of writing asked the same problems."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy import optimize, stats

Number = float | int
SHARES = "Tango, McNemar"  # the method for scores of 0 and 1

_Z = 1.959963984540054
_FEW = 10  # problems below which a mean is no normal variable


class Difference(NamedTuple):
    """What B scores above A, problem by problem.

    Attributes:
        value: Mean difference.
        low: Lower end of its 95 % interval.
        high: Upper end.
        n: Problems.
        better: Problems at which B scores more than A.
        worse: Problems at which it scores less.
        p: Probability of a difference at least as large if there were none.
        method: How interval and probability were found.
    """

    value: float
    low: float
    high: float
    n: int
    better: int
    worse: int
    p: float
    method: str


class Ratio(NamedTuple):
    """How many times as much B takes, or makes, as A; nan where an end is not known."""

    value: float
    low: float
    high: float


def difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Compare scores in [0, 1] of the same problems, in the same order.

    Scores of 0 and 1 get the score interval of Tango (1998) and the exact test of McNemar (1947).
    Others get Student's for paired differences, where there are enough of them and they vary; else
    Tango's, which is too wide for them, and the sign test, which McNemar's is.

    Raises:
        ValueError: There are no scores, or not as many of one as of the other.
    """
    if not a or len(a) != len(b):
        raise ValueError(f"Paired scores are as many of each, got {len(a)} and {len(b)}.")
    gaps = [y - x for x, y in zip(a, b, strict=True)]
    n, value = len(gaps), math.fsum(gaps) / len(gaps)
    up, down = (math.fsum(max(sign * gap, 0.0) for gap in gaps) for sign in (1, -1))
    better, worse = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    spread = math.sqrt(math.fsum((gap - value) ** 2 for gap in gaps) / max(n - 1, 1))
    if {*a, *b} <= {0.0, 1.0} or n < _FEW or spread == 0:
        low, high = tango(up, down, n)
        p = mcnemar(better, worse)
        return Difference(value, low, high, n, better, worse, p, SHARES)
    error = spread / math.sqrt(n)
    half = float(stats.t.ppf(0.975, n - 1)) * error
    p = 2 * float(stats.t.sf(abs(value) / error, n - 1))
    low, high = max(-1.0, value - half), min(1.0, value + half)
    return Difference(value, low, high, n, better, worse, p, "Student, paired")


def tango(up: Number, down: Number, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a difference of paired shares.

    It holds every difference that the score test does not reject at 5 % (Tango, Statistics in
    Medicine 17, 1998). Defined for sums of parts of a point too, where it is wider than need be:
    gaps in [-1, 1] vary at most as much as gaps of -1, 0 and 1 of the same sums.

    Args:
        up: Points of B above A, where it is above.
        down: Points of A above B, where it is above.
        n: Problems.
    """
    return (_lower(up, down, n), -_lower(down, up, n))


def _lower(up: Number, down: Number, n: int) -> float:
    estimate = (up - down) / n

    def excess(delta: float) -> float:
        """Return by how much the test statistic at ``delta`` exceeds the quantile, times sd."""
        linear = (2 * n - up + down) * delta - up - down
        root = math.sqrt(max(linear**2 + 8 * n * down * delta * (1 - delta), 0.0))
        share = (root - linear) / (4 * n)  # likeliest share of losses if delta were true
        variance = n * (2 * share + delta * (1 - delta))
        return up - down - n * delta - _Z * math.sqrt(max(variance, 0.0))

    beside = estimate - 1e-9  # at the estimate itself the variance may be nought
    if beside <= -1 or excess(-1.0) <= 0:
        return -1.0
    return optimize.root_scalar(excess, bracket=(-1.0, beside), xtol=1e-14).root


def mcnemar(better: int, worse: int) -> float:
    """Return the two-sided exact probability of a split at least as uneven, were both as likely.

    (McNemar, Psychometrika 12, 1947; exact: binomial.)
    """
    return min(1.0, 2 * float(stats.binom.cdf(min(better, worse), better + worse, 0.5)))


def holm(p: Sequence[float]) -> list[float]:
    """Return probabilities corrected for their number, so that at most 5 % of benches err at all.

    (Holm, Scandinavian Journal of Statistics 6, 1979: whatever the dependence between tests.)
    """
    adjusted = [0.0] * len(p)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted


def ratio(tops: Sequence[Sequence[float]], bottoms: Sequence[Sequence[float]]) -> Ratio:
    """Return a product of means over a product of means, with its 95 % interval.

    All lists speak of the same units, such as problems or batches, so that what makes a unit hard
    for both cancels. The interval is Student's for the logarithm, to first order in the errors.

    Args:
        tops: Lists whose means are multiplied.
        bottoms: Lists by whose means they are divided.
    """
    n = len(tops[0])
    means = [[math.fsum(units) / n for units in lists] for lists in (tops, bottoms)]
    if any(mean <= 0 for side in means for mean in side):
        return Ratio(math.nan, math.nan, math.nan)
    value = math.prod(means[0]) / math.prod(means[1])
    if n < 2:
        return Ratio(value, math.nan, math.nan)
    pulls = [
        math.fsum(units[i] / mean for units, mean in zip(tops, means[0], strict=True))
        - math.fsum(units[i] / mean for units, mean in zip(bottoms, means[1], strict=True))
        for i in range(n)
    ]
    centre = math.fsum(pulls) / n
    error = math.sqrt(math.fsum((pull - centre) ** 2 for pull in pulls) / (n - 1) / n)
    half = float(stats.t.ppf(0.975, n - 1)) * error
    return Ratio(value, value * math.exp(-half), value * math.exp(half))
