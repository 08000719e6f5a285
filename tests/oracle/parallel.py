"""Writing several items at once, by brute force: lists of right answers, all equally likely.

Nothing here knows a formula: conditionals are counted, groups and outcomes are enumerated.
"""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import combinations, permutations, product

import numpy as np

Answer = tuple[int, ...]
Groups = Sequence[Sequence[int]]


def answers(family: str, n: int) -> list[Answer]:
    """Return the right answers about the list 0 .. n - 1; the new item is n."""
    given = tuple(range(n))
    if family == "copy":
        return [given]
    if family == "replace_random":
        return [(*given[:j], n, *given[j + 1 :]) for j in range(n)]
    if family == "insert_random":
        return [(*given[:j], n, *given[j:]) for j in range(n + 1)]
    if family == "remove_random":
        return [(*given[:j], *given[j + 1 :]) for j in range(n)]
    orders = list(permutations(given))
    return orders if family == "shuffle" else [order for order in orders if order != given]


FAMILIES = (
    "copy", "replace_random", "insert_random", "remove_random", "shuffle", "shuffle_changed",
)  # fmt: skip


def latin() -> list[Answer]:
    """Return the Latin squares of order 4."""
    rows = list(permutations(range(4)))
    return [
        sum(square, ())
        for square in product(rows, repeat=4)
        if all(len({row[column] for row in square}) == 4 for column in range(4))
    ]


class Counted:
    """The law of a list of answers, by counting; what an ideal model believes."""

    def __init__(self, right: Sequence[Answer]) -> None:
        self._right = np.array(sorted(right))
        self.length, self.size = self._right.shape[1], int(self._right.max()) + 1

    def belief(self, items: np.ndarray) -> np.ndarray:
        """Return the shares of the answers that agree with what is decided."""
        said = np.zeros((*items.shape, self.size))
        for b, row in enumerate(items):
            agree = self._right[((row < 0) | (self._right == row)).all(1)]
            for i in range(self.length):
                if row[i] >= 0:
                    said[b, i, row[i]] = 1
                elif len(agree):
                    said[b, i] = np.bincount(agree[:, i], minlength=self.size) / len(agree)
                else:
                    said[b, i] = 1 / self.size
        return said

    def right(self, items: np.ndarray) -> np.ndarray:
        """Return which answers are in the list."""
        return (items[:, None] == self._right).all(-1).any(-1)


def partitions(length: int, sizes: Sequence[int]) -> Iterator[Groups]:
    """Yield every way to split positions into groups of these sizes, in order."""

    def rest(left: tuple[int, ...], sizes: Sequence[int]) -> Iterator[Groups]:
        if not sizes:
            yield ()
            return
        for group in combinations(left, sizes[0]):
            remaining = tuple(i for i in left if i not in group)
            for after in rest(remaining, sizes[1:]):
                yield (group, *after)

    return rest(tuple(range(length)), sizes)


def compositions(length: int) -> Iterator[Answer]:
    """Yield every list of positive numbers with this sum."""
    if length == 0:
        yield ()
    for first in range(1, length + 1):
        for rest in compositions(length - first):
            yield (first, *rest)


def written(right: Sequence[Answer], groups: Groups) -> dict[Answer, Fraction]:
    """Return the law of what is written: every outcome of every group, wrong ones included."""
    law: dict[Answer, Fraction] = {(-1,) * len(right[0]): Fraction(1)}
    for group in groups:
        after: dict[Answer, Fraction] = {}
        for state, chance in law.items():
            agree = [y for y in right if all(s in (-1, i) for s, i in zip(state, y, strict=True))]
            if not agree:
                after[state] = after.get(state, Fraction(0)) + chance  # wrong for good
                continue
            for outcome in product(*(sorted({y[i] for y in agree}) for i in group)):
                drawn, there = chance, list(state)
                for i, item in zip(group, outcome, strict=True):
                    drawn *= Fraction(sum(y[i] == item for y in agree), len(agree))
                    there[i] = item
                after[tuple(there)] = after.get(tuple(there), Fraction(0)) + drawn
        law = after
    return law


class Agreement:
    """How likely each right answer is to be written, for many choices of groups."""

    def __init__(self, right: Sequence[Answer]) -> None:
        self._right = np.array(right)
        self.length = self._right.shape[1]
        self._counts: dict[frozenset[int], np.ndarray] = {}

    def _count(self, places: frozenset[int]) -> np.ndarray:
        if places not in self._counts:
            part = self._right[:, sorted(places)]
            self._counts[places] = (part[:, None] == part).all(-1).sum(-1).astype(float)
        return self._counts[places]

    def chances(self, groups: Groups) -> np.ndarray:
        """Return the probability that each answer is written."""
        chance, decided = np.ones(len(self._right)), frozenset[int]()
        for group in groups:
            for i in group:
                chance = chance * self._count(decided | {i}) / self._count(decided)
            decided = decided | frozenset(group)
        return chance

    def accuracy(self, sizes: Sequence[int]) -> float:
        """Return how often random groups of these sizes give a right answer."""
        shares = [self.chances(groups).sum() for groups in partitions(self.length, sizes)]
        return float(np.mean(shares))

    def divergence(self, groups: Groups) -> float:
        """Return the divergence of the uniform law from that of what is written, in bits."""
        return float(np.mean(-np.log2(len(self._right) * self.chances(groups))))

    def mean_divergence(self, sizes: Sequence[int]) -> float:
        """Return the same, mean over random groups of these sizes."""
        return float(np.mean([self.divergence(g) for g in partitions(self.length, sizes)]))

    def entropy(self, places: Sequence[int]) -> float:
        """Return the entropy of some items in bits."""
        return float(np.mean(np.log2(len(self._right) / self._count(frozenset(places)))))

    def mean_entropy(self, m: int) -> float:
        """Return the entropy of m items in bits, mean over all sets of m."""
        return float(np.mean([self.entropy(p) for p in combinations(range(self.length), m)]))


def greedy(right: Sequence[Answer]) -> bool:
    """Return whether the likeliest items, the lowest of equals, are a right answer."""
    columns = list(zip(*right, strict=True))
    return tuple(min(c, key=lambda item, c=c: (-c.count(item), item)) for c in columns) in right


def by_threshold(
    right: Sequence[Answer], threshold: float, *, drawn: bool, strictly: bool = False
) -> float:
    """Return how often the threshold rule is right, all outcomes enumerated.

    Items are drawn, or the likeliest taken; those whose probability passes are written, or else the
    surest, the first of equals.
    """

    @cache
    def share(state: Answer) -> Fraction:
        agree = [y for y in right if all(s in (-1, i) for s, i in zip(state, y, strict=True))]
        open_ = [i for i, item in enumerate(state) if item < 0]
        if not agree or not open_:
            return Fraction(len(agree))
        odds = [
            {x: Fraction(sum(y[i] == x for y in agree), len(agree)) for x in {y[i] for y in agree}}
            for i in open_
        ]
        if not drawn:
            odds = [{min(o, key=lambda x, o=o: (-o[x], x)): max(o.values())} for o in odds]
        total = Fraction(0)
        for outcome in product(*odds):
            sure = [o[x] for o, x in zip(odds, outcome, strict=True)]
            passed = [float(s) > threshold if strictly else float(s) >= threshold for s in sure]
            if not any(passed):
                passed[sure.index(max(sure))] = True
            there = list(state)
            for i, x, p in zip(open_, outcome, passed, strict=True):
                there[i] = x if p else -1
            total += (math.prod(sure) if drawn else 1) * share(tuple(there))
        return total

    return float(share((-1,) * len(right[0])))
