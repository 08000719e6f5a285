"""How often is one of k tries right, or all of them? Unbiased, for every k up to the tries made.

Of n tries of a problem c are right. Any k of them, drawn without putting back, are k fresh tries,
so the share of k-subsets with a right one is unbiased for pass@k (Chen et al. 2021, arXiv
2107.03374), and no other estimate from (n, c) is. Intervals are over problems, which are the
independent draws: they hold both kinds of chance, which problems were asked and what was written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from unison.suites import wilson

LEVEL = 0.95


class ScalingError(ValueError):
    """Tries from which the quantity asked for cannot be told; the message says why."""


@dataclass(frozen=True, eq=False)
class Tries:
    """How many tries each problem had, and how many were right.

    Attributes:
        tried: Tries of each problem.
        right: Right ones among them.
    """

    tried: Int[np.ndarray, " P"]
    right: Int[np.ndarray, " P"]

    def __post_init__(self) -> None:
        if len(self.tried) == 0 or len(self.tried) != len(self.right):
            raise ScalingError(
                f"Every problem needs its tries and its right ones, got {len(self.tried)} and "
                f"{len(self.right)} numbers."
            )
        if (self.tried < 1).any() or (self.right < 0).any() or (self.right > self.tried).any():
            raise ScalingError("Every problem needs at least 1 try and 0 <= right <= tried.")

    @classmethod
    def of(cls, outcomes: Sequence[Sequence[bool]]) -> "Tries":
        """Count tries, given for each problem whether each of its tries was right."""
        tried = np.array([len(row) for row in outcomes], dtype=np.int64)
        right = np.array([sum(map(bool, row)) for row in outcomes], dtype=np.int64)
        return cls(tried, right)

    def __len__(self) -> int:
        return len(self.tried)

    @property
    def fewest(self) -> int:
        """The largest k of which every problem can tell without bias."""
        return int(self.tried.min())

    def take(self, problems: Int[np.ndarray, " Q"]) -> "Tries":
        """Return the tries of some problems, which may be named more than once."""
        return Tries(self.tried[problems], self.right[problems])


class Band(NamedTuple):
    """A curve over the number of tries with its 95 % interval at every point.

    Attributes:
        k: Tries.
        value: The estimate.
        low: Lower ends.
        high: Upper ends.
    """

    k: Int[np.ndarray, " K"]
    value: Float[np.ndarray, " K"]
    low: Float[np.ndarray, " K"]
    high: Float[np.ndarray, " K"]


def pass_at_k(tried: int, right: int, k: int) -> float:
    """Return the share of k-subsets of the tries with a right one, 1 - C(n-c,k)/C(n,k).

    Exact to rounding up to 100 000 tries: a sum of logarithms, never a binomial coefficient.

    Raises:
        ScalingError: k is below 1 or above the tries, or ``right`` is impossible.
    """
    _validate_counts(tried, right, k)
    return float(-np.expm1(log_avoided(tried, right, np.array([k])))[0])


def all_right_at_k(tried: int, right: int, k: int) -> float:
    """Return the share of k-subsets of the tries that are all right, C(c,k)/C(n,k) ("pass^k").

    Unbiased for the probability that k tries are all right (Yao et al. 2024, arXiv 2406.12045).

    Raises:
        ScalingError: k is below 1 or above the tries, or ``right`` is impossible.
    """
    _validate_counts(tried, right, k)
    return float(np.exp(log_avoided(tried, tried - right, np.array([k])))[0])


def pass_table(tries: Tries, k: Int[np.ndarray, " K"]) -> Float[np.ndarray, "P K"]:
    """Return pass@k of every problem.

    Raises:
        ScalingError: Some k is below 1, or above the tries of some problem.
    """
    return -np.expm1(_avoided(tries.tried, tries.right, k))


def all_right_table(tries: Tries, k: Int[np.ndarray, " K"]) -> Float[np.ndarray, "P K"]:
    """Return of every problem the share of k-subsets that are all right.

    Raises:
        ScalingError: Some k is below 1, or above the tries of some problem.
    """
    return np.exp(_avoided(tries.tried, tries.tried - tries.right, k))


def coverage(
    tries: Tries,
    k: Int[np.ndarray, " K"] | None = None,
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
) -> Band:
    """Return the mean over problems of pass@k, with its interval.

    Args:
        tries: Of every problem.
        k: Numbers of tries; by default all that every problem can tell of.
        rng: For the bootstrap.
        resamples: Of the problems.

    Raises:
        ScalingError: Some k is below 1, or above the tries of some problem.
    """
    asked = np.arange(1, tries.fewest + 1) if k is None else k
    return mean_band(pass_table(tries, asked), asked, rng=rng, resamples=resamples)


def mean_band(
    table: Float[np.ndarray, "P K"],
    k: Int[np.ndarray, " K"],
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
) -> Band:
    """Return the mean over problems of shares, with the percentile bootstrap over problems.

    Where all problems have one value, 0 or 1 say, resampling them shows no spread at all; there the
    interval is Wilson's of as many yeses and noes, which is wider than need be.

    Args:
        table: Of every problem, a share in [0, 1] for every k.
        k: Numbers of tries.
        rng: For the bootstrap.
        resamples: Of the problems.
    """
    value = table.mean(0)
    low, high = _percentiles(table, rng, resamples)
    for i in np.flatnonzero(np.ptp(table, axis=0) == 0):
        low[i], high[i] = wilson(float(value[i]) * len(table), len(table))
    return Band(k, value, low, high)


def difference_band(
    ours: Float[np.ndarray, "P K"],
    theirs: Float[np.ndarray, "P K"],
    k: Int[np.ndarray, " K"],
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
) -> Band:
    """Return the mean of ``ours - theirs`` on the same problems, with its bootstrap interval.

    Problems are resampled in pairs, so what both find hard cancels.
    """
    table = ours - theirs
    return Band(k, table.mean(0), *_percentiles(table, rng, resamples))


def doubling(largest: int) -> Int[np.ndarray, " K"]:
    """Return 1, 2, 4, ... up to ``largest``."""
    return 2 ** np.arange(largest.bit_length())


def _percentiles(
    table: Float[np.ndarray, "P K"], rng: np.random.Generator, resamples: int
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    count = len(table)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn @ table / count, [tail, 1 - tail], axis=0)
    return low, high


def _avoided(
    tried: Int[np.ndarray, " P"], part: Int[np.ndarray, " P"], k: Int[np.ndarray, " K"]
) -> Float[np.ndarray, "P K"]:
    _validate_k(k, int(tried.min()))
    kinds, kind = np.unique(np.stack([tried, part], axis=1), axis=0, return_inverse=True)
    rows = np.stack([log_avoided(int(n), int(size), k) for n, size in kinds])
    return rows[kind.reshape(-1)]


def log_avoided(tried: int, part: int, k: Int[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """Return the log of the share of k-subsets of ``tried`` things that avoid a part of them.

    The i-th thing drawn, from 0, avoids it with probability 1 - part/(tried - i).
    """
    most = min(int(k.max()), tried - part)
    log_share = np.cumsum(np.log1p(-part / (tried - np.arange(most))))
    # k = 0 is never asked for; beyond the last thing outside the part nothing avoids it.
    return np.concatenate([log_share, [-np.inf]])[np.minimum(k, most + 1) - 1]


def _validate_counts(tried: int, right: int, k: int) -> None:
    Tries(np.array([tried]), np.array([right]))
    _validate_k(np.array([k]), tried)


def _validate_k(k: Int[np.ndarray, " K"], fewest: int) -> None:
    if k.min() < 1 or k.max() > fewest:
        raise ScalingError(
            f"k must be in [1, {fewest}], the fewest tries of a problem, got {k.min()} to "
            f"{k.max()}; beyond that nothing is unbiased: fit a law and extrapolate."
        )
