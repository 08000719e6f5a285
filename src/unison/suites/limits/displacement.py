"""How right can a perfect model be where an item was put in or left out at a hidden place?

The closed forms of ``unison.suites.limits.closed_forms`` for insertions and removals; derived here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from unison.suites.limits.closed_forms import Profile, at_least, checked, surprise


@dataclass(frozen=True)
class Displaced:
    """A change at a hidden place, every one equally likely, moves all items behind it by one.

    Where the change is visible (an insertion), position s of the answer holds its old item if the
    place is to its right, the new item if it is there, and the item before if it is to its left.
    Where it is not (a removal), position s says only whether the place is to its right. What is
    written leaves an interval of places, and the law in the interval is again of this kind.

    Attributes:
        places: Where the change may be, N.
        visible: Whether a position can hold the change itself.
    """

    places: int
    visible: bool

    def __post_init__(self) -> None:
        at_least(1, self.places)

    @property
    def length(self) -> int:
        """Items of the answer: N, or N - 1 where something was removed."""
        return self.places if self.visible else self.places - 1

    def entropies(self) -> Profile:
        """Return the mean entropy of the interval that m random positions leave."""
        n, told = self.places, int(self.visible)
        bits = surprise(np.arange(n + 1) / n)
        result = np.zeros(self.length + 1)
        for m in range(1, self.length + 1):
            # m positions leave m + 1 intervals, alike in law; a first one of g places is followed
            # by a position, the others are anywhere behind it.
            gaps = range(1 - told, n - m + 1)
            ways = [math.comb(n - g - 1, m - 1) / math.comb(self.length, m) for g in gaps]
            left = sum(w * bits[g] for g, w in zip(gaps, ways, strict=True))
            result[m] = (m + 1) * left + told * m / n * math.log2(n)
        return result

    def accuracy(self, sizes: Sequence[int]) -> float:
        """Return the chance that every group leaves some interval, by recursion over intervals.

        All at once: n! 2^n / (n + 1)^(n + 1) for an insertion into n items, and
        (n - 1)! 2^(n - 1) / n^(n - 1) for a removal from n.
        """
        open_ = checked(sizes, self.length)
        told = int(self.visible)

        @cache
        def right(step: int, places: int) -> float:
            inside = places - 1 + told  # open positions that do not yet know their item
            if step == len(open_) or inside == 0:
                return 1.0
            total, size = sum(open_[step:]), open_[step]
            chance = 0.0
            for hits in range(max(0, size - total + inside), min(size, inside) + 1):
                drawn = _hypergeometric(hits, total, inside, size)
                found, after = _narrowed(places, hits, self.visible)
                onward = [w * right(step + 1, left) for left, w in after.items()]
                chance += drawn * (found + sum(onward))
            return chance

        return right(0, self.places)

    def greedy(self) -> float:
        """Return 1 for a removal: the middle item is left out. An insertion writes nothing new."""
        return float(not self.visible or self.places == 1)


def insertion(length: int) -> Displaced:
    """Return the limits of putting a new item anywhere among ``length``."""
    return Displaced(length + 1, visible=True)


def removal(length: int) -> Displaced:
    """Return the limits of leaving out any one of ``length`` items."""
    return Displaced(length, visible=False)


def _hypergeometric(hits: int, total: int, inside: int, drawn: int) -> float:
    return (
        math.comb(inside, hits) * math.comb(total - inside, drawn - hits) / math.comb(total, drawn)
    )


@cache
def _narrowed(places: int, hits: int, visible: bool) -> tuple[float, dict[int, float]]:
    """Return what some random positions of an interval say when drawn independently.

    Returns:
        The probability that they show the change and agree with it, and the probabilities that
        they agree and leave so many places, by number of places.
    """
    told, inside = int(visible), places - 1 + int(visible)
    before = np.array([(places - 1 - s) / places for s in range(inside)])
    behind = np.array([(s + 1 - told) / places for s in range(inside)])
    lefts = _subsets(before, hits)
    rights = _subsets(behind[::-1], hits)[::-1]  # row s: of the positions from s on
    sets = math.comb(inside, hits)
    found = 0.0
    if visible and hits:
        pairs = [lefts[s, :hits] @ rights[s + 1, :hits][::-1] for s in range(inside)]
        found = float(sum(pairs)) / places / sets
    after: dict[int, float] = {}
    for a in range(inside + 1):  # the last position that says "behind me" is a - 1
        for b in range(a, inside + 1):  # the first that says "before me" is b
            left = lefts[a] if a == 0 else np.append(0.0, lefts[a - 1, :-1] * before[a - 1])
            right = rights[b] if b == inside else np.append(0.0, rights[b + 1, :-1] * behind[b])
            remaining = b - a + 1 - told
            if remaining:
                weight = float(left @ right[::-1]) / sets
                after[remaining] = after.get(remaining, 0.0) + weight
    return found, after


def _subsets(weights: np.ndarray, most: int) -> np.ndarray:
    """Return [a, c]: the sum over sets of c among the first a of the product of their weights."""
    sums = np.zeros((len(weights) + 1, most + 1))
    sums[:, 0] = 1.0
    for a, weight in enumerate(weights):
        sums[a + 1, 1:] = sums[a, 1:] + weight * sums[a, :-1]
    return sums
