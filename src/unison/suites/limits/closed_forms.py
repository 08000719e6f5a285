r"""How right can a perfect model be that writes several items at once?

An answer is a draw y from a law over lists of items. A perfect model knows every conditional of
that law, and still errs where it draws several items independently of each other: with the groups
S_1 .. S_T, drawn one group after the other, what it writes is off by

    L = sum_t E[ sum_{i in S_t} H(y_i | y_{S_<t}) - H(y_{S_t} | y_{S_<t}) ]    bits,

which for one group is the total correlation C = sum_i H(y_i) - H(y) (ParallelBench, Kang et al.,
2025, arXiv:2510.04767). Where groups are drawn at random, only their sizes matter, and of the law
only the mean entropy of m items: L = sum_t k_t (H(m_t + 1) - H(m_t)) - H(n).

The accuracy is the probability that what is written is a possible draw. It is at least 2^-L, with
equality where every right answer is equally likely to be written.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

Profile = Float[np.ndarray, " N"]  # mean entropy of m = 0 .. n items, bits

LATIN_SQUARES = {1: 1, 2: 2, 3: 12, 4: 576, 5: 161_280, 6: 812_851_200}  # OEIS A002860


@runtime_checkable
class Limits(Protocol):
    """What can be known of a law without drawing from it."""

    @property
    def length(self) -> int:
        """Items of an answer."""
        ...

    def entropies(self) -> Profile:
        """Return the entropy of m items in bits, mean over all sets of m, for m = 0 .. length."""
        ...

    def accuracy(self, sizes: Sequence[int]) -> float:
        """Return how often a perfect model is right that draws random groups of these sizes.

        Raises:
            ValueError: The sizes do not sum to the length.
        """
        ...

    def greedy(self) -> float:
        """Return 1 where the likeliest items, taken all at once, are a right answer, else 0.

        Of equally likely items the lowest number is taken, as ``argmax`` does; items that were in
        the question have lower numbers than new ones.
        """
        ...


class Plan(NamedTuple):
    """A way to divide a text into groups.

    Attributes:
        bits: The divergence L.
        sizes: Of the groups, in order.
    """

    bits: float
    sizes: tuple[int, ...]


def groups_of(length: int, size: int) -> tuple[int, ...]:
    """Return the sizes of groups of ``size`` and what is left at the end.

    Raises:
        ValueError: ``size`` is not positive.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}.")
    whole, rest = divmod(length, size)
    return (size,) * whole + ((rest,) if rest else ())


def even(length: int, steps: int) -> tuple[int, ...]:
    """Return the sizes of so many groups, as equal as can be, the larger ones first.

    Raises:
        ValueError: ``steps`` is not positive.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}.")
    whole, rest = divmod(length, steps)
    return tuple(size for i in range(steps) if (size := whole + (i < rest)))


def total_correlation(entropies: Profile) -> float:
    """Return C in bits: what is lost at least where all items are drawn at once."""
    return float((len(entropies) - 1) * entropies[1] - entropies[-1]) if len(entropies) > 1 else 0.0


def divergence(entropies: Profile, sizes: Sequence[int]) -> float:
    """Return L in bits for random groups of these sizes.

    Raises:
        ValueError: The sizes do not sum to the length.
    """
    known, bits = 0, 0.0
    for size in checked(sizes, len(entropies) - 1):
        bits += size * float(entropies[known + 1] - entropies[known])
        known += size
    return bits - float(entropies[-1])


def least_divergence(entropies: Profile, steps: int) -> Plan:
    """Return the sizes of so many random groups that lose least.

    By dynamic programming over the items written so far: a group's loss depends on these alone. For
    laws that treat all positions alike no other choice of positions does better.

    Raises:
        ValueError: There cannot be so many groups.
    """
    length = len(entropies) - 1
    if not 1 <= steps <= max(length, 1):
        raise ValueError(f"{length} items can be written in 1 to {length} steps, got {steps}.")
    gain = np.diff(entropies)
    best = np.full((steps + 1, length + 1), np.inf)
    first = np.zeros((steps + 1, length + 1), int)  # size of the group that starts there
    best[0, length] = 0.0
    for left in range(1, steps + 1):
        for known in range(length):
            sizes = np.arange(1, length - known + 1)
            costs = sizes * gain[known] + best[left - 1, known + 1 :]
            chosen = int(costs.argmin())
            best[left, known], first[left, known] = costs[chosen], sizes[chosen]
    sizes, known = [], 0
    for left in range(steps, 0, -1):
        sizes.append(int(first[left, known]))
        known += sizes[-1]
    return Plan(divergence(entropies, [s for s in sizes if s]), tuple(s for s in sizes if s))


@dataclass(frozen=True)
class Certain:
    """Copy, sort, reverse, replace or remove or insert at a place, Sudoku: one right answer.

    Attributes:
        length: Items of the answer.
    """

    length: int

    def entropies(self) -> Profile:
        """Return zeros."""
        return np.zeros(self.length + 1)

    def accuracy(self, sizes: Sequence[int]) -> float:
        """Return 1."""
        checked(sizes, self.length)
        return 1.0

    def greedy(self) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class Replacement:
    """One item, every one equally likely, is replaced by a given new one.

    C = n h(1/n) - log2 n, which tends to log2 e from below. Any m of the items hold the new one
    with probability m/n.

    Attributes:
        length: Items, n.
    """

    length: int

    def __post_init__(self) -> None:
        at_least(1, self.length)

    def entropies(self) -> Profile:
        """Return -(1 - m/n) log2(1 - m/n) + m/n log2 n."""
        share = np.arange(self.length + 1) / self.length
        return surprise(1 - share) + share * math.log2(self.length)

    def accuracy(self, sizes: Sequence[int]) -> float:
        """Return a(r) = k/r (1 - 1/r)^(k-1) + (1 - 1/r)^k a(r - k), r items being open."""
        right, spared, open_ = 0.0, 1.0, self.length
        for size in checked(sizes, self.length):
            keep = 1 - 1 / open_
            right += spared * size / open_ * keep ** (size - 1)
            spared *= keep**size
            open_ -= size
        return right

    def greedy(self) -> float:
        """Return 0: nothing is replaced; a single item is."""
        return float(self.length == 1)


@dataclass(frozen=True)
class Permutation:
    """The items in any order, or in any but the given one.

    C = n log2 n - log2 n! for all orders: m of the items have n! / (n - m)! equally likely states.

    Attributes:
        length: Items, n.
        differs: Whether the given order is wrong, which a perfect model knows.
    """

    length: int
    differs: bool = False

    def __post_init__(self) -> None:
        at_least(2 if self.differs else 1, self.length)

    def entropies(self) -> Profile:
        """Return log2 n! / (n - m)!, less what is known where one order is excluded."""
        n = self.length
        if not self.differs:
            return np.array([_log2_falling(n, m) for m in range(n + 1)])
        orders = math.factorial(n) - 1
        left = [math.factorial(n - m) for m in range(n + 1)]
        # Of the states of m items, the given one has one completion fewer than the others.
        rare = np.array([(each - 1) / orders for each in left])
        others = np.array([1 - each for each in rare])
        return surprise(rare) + others * np.array([_log2_ratio(orders, each) for each in left])

    def accuracy(self, sizes: Sequence[int]) -> float:
        """Return the product of r! / ((r - k)! r^k), r items being open before each group of k."""
        sizes = checked(sizes, self.length)
        if not self.differs:
            return _any_order(sizes, self.length)
        right, given, open_ = 0.0, 1.0, self.length  # given: nothing is out of place yet
        for step, size in enumerate(sizes):
            if open_ == 1 or given == 0.0:  # all in place but one: no way left to be right
                break
            own, other = _odds(open_)
            rest = _any_order(sizes[step + 1 :], open_ - size)
            for fixed in range(size):
                ways = math.comb(size, fixed) * _moved(open_ - fixed, size - fixed)
                right += given * rest * _times(ways, (own, fixed), (other, size - fixed))
            given *= own**size
            open_ -= size
        return right

    def greedy(self) -> float:
        """Return 0, since all positions take the same item or two of them do."""
        return float(self.length <= (2 if self.differs else 1))


def latin_correlation(order: int) -> float:
    """Return C of Latin squares in bits: every cell is alike, so n^2 log2 n - log2 (squares).

    Raises:
        ValueError: The number of squares is not known here.
    """
    return order**2 * math.log2(order) - math.log2(_squares(order))


def latin_one_shot(order: int) -> float:
    """Return how often a square is Latin whose cells are drawn independently.

    Raises:
        ValueError: The number of squares is not known here.
    """
    return _squares(order) / order ** (order**2)


def safe_threshold(limits: Replacement | Permutation) -> float:
    """Return what a threshold must exceed for the greedy threshold rule to be right.

    The rule takes the likeliest item everywhere and writes those at least as probable as the
    threshold, or else the likeliest one (Fast-dLLM, arXiv:2505.22618). A replacement goes wrong
    where the old items, (r - 1)/r probable with r open, pass together: first at r = n. A
    permutation goes wrong where two equally likely items pass, last at r = 2, so that anything
    above 1/2 writes one by one. A rule that asks for more than the threshold is right at these
    values too.
    """
    if isinstance(limits, Replacement):
        return 0.0 if limits.length == 1 else 1 - 1 / limits.length
    return 0.0 if limits.greedy() else 0.5


def sampled_threshold(limits: Replacement | Permutation, threshold: float) -> float:
    """Return how often the threshold rule is right where items are drawn and ranked by probability.

    A permutation is written one by one until r items are left whose probability 1/r passes, and
    these at once. A replacement writes everything where 1/r passes; where (r - 1)/r alone does, it
    writes the old items, and the u positions that drew the new one are a replacement in u items.

    Raises:
        ValueError: The permutation excludes the given order.
    """
    if isinstance(limits, Replacement):
        return _sampled_replacement(limits.length, threshold)
    if limits.differs:
        raise ValueError("sampled_threshold knows permutations that may be the given order only.")
    left = next(r for r in range(limits.length, 0, -1) if r == 1 or 1 / r >= threshold)
    return _any_order((left,), left)


def _sampled_replacement(length: int, threshold: float) -> float:
    chances = [0.0, 1.0]
    for r in range(2, length + 1):
        if 1 / r >= threshold:
            chances.append((1 - 1 / r) ** (r - 1))
        elif 1 - 1 / r < threshold:
            chances.append(1.0)
        else:
            drew = [math.comb(r, u) * (1 / r) ** u * (1 - 1 / r) ** (r - u) for u in range(r + 1)]
            chances.append(drew[r] + sum(drew[u] * chances[u] for u in range(1, r)))
    return chances[length]


def checked(sizes: Sequence[int], length: int) -> tuple[int, ...]:
    """Return the sizes.

    Raises:
        ValueError: They are not positive or do not sum to ``length``.
    """
    if sum(sizes) != length or any(size < 1 for size in sizes):
        raise ValueError(f"sizes must be positive and sum to {length}, got {tuple(sizes)}.")
    return tuple(sizes)


def at_least(least: int, count: int) -> None:
    """Raise ValueError where there are fewer items than a law needs."""
    if count < least:
        raise ValueError(f"The law needs at least {least} items, got {count}.")


def surprise(p: np.ndarray) -> np.ndarray:
    """Return -p log2 p in bits, 0 at 0."""
    return -p * np.log2(np.where(p > 0, p, 1.0))


def _log2_falling(n: int, m: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(n - m + 1)) / math.log(2)


def _log2_ratio(whole: int, part: int) -> float:
    return math.log2(whole) - math.log2(part)


def _any_order(sizes: Sequence[int], open_: int) -> float:
    bits = 0.0
    for size in sizes:
        bits += _log2_falling(open_, size) - size * math.log2(open_)
        open_ -= size
    return 2.0**bits


def _odds(open_: int) -> tuple[float, float]:
    """Return the chances of the given and of any other item, nothing being out of place so far."""
    orders, rest = math.factorial(open_) - 1, math.factorial(open_ - 1)
    return (rest - 1) / orders, rest / orders


def _moved(items: int, positions: int) -> int:
    """Return in how many ways so many positions get different items, none of them its own."""
    signed = (
        (-1) ** j * math.comb(positions, j) * math.perm(items - j, positions - j)
        for j in range(positions + 1)
    )
    return sum(signed)


def _times(ways: int, *powers: tuple[float, int]) -> float:
    """Return a huge number times powers of small ones."""
    if ways == 0 or any(base == 0 and exponent for base, exponent in powers):
        return 0.0
    logs = [exponent * math.log(base) for base, exponent in powers if exponent]
    return math.exp(math.log(ways) + sum(logs))


def _squares(order: int) -> int:
    if order not in LATIN_SQUARES:
        known = ", ".join(map(str, LATIN_SQUARES))
        raise ValueError(f"Latin squares are counted here for the orders {known}, got {order}.")
    return LATIN_SQUARES[order]
