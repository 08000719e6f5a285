"""How right can a perfect model be on a law whose answers can all be listed? By enumeration."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from unison.suites.limits.closed_forms import Plan, Profile, checked
from unison.suites.task import ItemLaw

Groups = Sequence[Sequence[int]]
Kinds = Int[np.ndarray, " A"]


# Answers times sets of positions: seconds each.
_SETS, _GROUPS = 50_000_000, 4_000_000


class TooLargeError(ValueError):
    """An enumeration that would take too long; the message says how long and what to do."""


@dataclass(frozen=True)
class Listed:
    """All right answers and their probabilities.

    Attributes:
        answers: One a row.
        chances: Of each; they sum to 1.
    """

    answers: Int[np.ndarray, "A L"]
    chances: Float[np.ndarray, " A"]

    def __post_init__(self) -> None:
        if not len(self.answers) or not np.isclose(self.chances.sum(), 1, rtol=0, atol=1e-9):
            raise ValueError(
                f"chances must sum to 1, got {len(self.answers)} answers of {self.chances.sum()}."
            )

    @property
    def length(self) -> int:
        """Items of an answer."""
        return self.answers.shape[1]

    def entropies(self) -> Profile:
        """Return the entropy of m items in bits, mean over all sets of m.

        Raises:
            TooLargeError: There are too many sets.
        """
        _afford(2**self.length * len(self.answers), _SETS)
        sums = np.zeros(self.length + 1)
        for places, entropy in self._entropies():
            sums[len(places)] += entropy
        return sums / [math.comb(self.length, m) for m in range(self.length + 1)]

    def accuracy(self, sizes: Sequence[int]) -> float:
        """Return how often a perfect model is right that draws random groups of these sizes.

        Raises:
            ValueError: The sizes do not sum to the length.
            TooLargeError: There are too many groups.
        """
        sizes = checked(sizes, self.length)
        if max(sizes, default=1) == 1:
            return 1.0
        known = [sum(sizes[:t]) for t in range(len(sizes))]
        ways = [
            math.comb(self.length, m) * math.comb(self.length - m, k)
            for m, k in zip(known, sizes, strict=True)
        ]
        _afford(sum(ways) * len(self.answers), _GROUPS)
        reached = {(): np.ones(len(self.answers))}
        for m, size in zip(known, sizes, strict=True):
            share = 1 / math.comb(self.length - m, size)
            after: dict[tuple[int, ...], np.ndarray] = {}
            for decided, chance in reached.items():
                for chosen, drawn in self._drawn(decided, size):
                    there = tuple(sorted((*decided, *chosen)))
                    before = after.get(there, 0.0)
                    after[there] = before + share * chance * drawn
            reached = after
        return float(sum(chance.sum() for chance in reached.values()))

    def accuracy_in(self, groups: Groups) -> float:
        """Return the same for given groups of positions, one after the other."""
        chance, decided = np.ones(len(self.answers)), ()
        for group in _partition(groups, self.length):
            chance = chance * np.prod(list(self._conditionals(decided, group).values()), axis=0)
            decided = (*decided, *group)
        return float(chance.sum())

    def divergence_in(self, groups: Groups) -> float:
        """Return L in bits for given groups of positions, one after the other."""
        bits, decided = 0.0, ()
        for group in _partition(groups, self.length):
            known = self._entropy(decided)
            bits += sum(self._entropy((*decided, place)) - known for place in group)
            decided = (*decided, *group)
        return bits - self._entropy(decided)

    def least_divergence(self, steps: int) -> Plan:
        """Return the least L in bits over all choices of positions for so many groups.

        Raises:
            TooLargeError: There are too many choices.
        """
        _afford(steps * 3**self.length + 2**self.length * len(self.answers), _GROUPS)
        everything = 2**self.length - 1
        entropy = {_mask(places): bits for places, bits in self._entropies()}
        best = {0: Plan(0.0, ())}
        for _ in range(steps):
            following: dict[int, Plan] = {}
            for decided, so_far in best.items():
                for group in _parts(everything & ~decided):
                    alone = [entropy[decided | 1 << i] - entropy[decided] for i in _places(group)]
                    plan = Plan(so_far.bits + sum(alone), (*so_far.sizes, len(alone)))
                    there = decided | group
                    following[there] = min(following.get(there, plan), plan)
            best = following
        return best[everything]._replace(bits=best[everything].bits - entropy[everything])

    def greedy(self) -> float:
        """Return 1 where the likeliest items, taken all at once, are an answer, else 0.

        Of equally likely items the lowest number is taken.
        """
        size = int(self.answers.max()) + 1
        likeliest = [
            np.bincount(column, self.chances, size).round(12).argmax() for column in self.answers.T
        ]
        return float((self.answers == likeliest).all(1).any())

    def _joined(self, kind: Kinds, place: int) -> Kinds:
        """Return numbers of kinds that tell apart what they did and the items at a place."""
        size = int(self.answers.max()) + 1
        return np.unique(kind * size + self.answers[:, place], return_inverse=True)[1]

    def _kind(self, places: Iterable[int]) -> Kinds:
        """Return a number for each answer, equal where the items at all these places are."""
        return reduce(self._joined, places, np.zeros(len(self.answers), np.int64))

    def _mass(self, kind: Kinds) -> Float[np.ndarray, " A"]:
        """Return the probability of each answer's kind."""
        return np.bincount(kind, self.chances)[kind]

    def _bits(self, kind: Kinds) -> float:
        return float(-(self.chances * np.log2(self._mass(kind))).sum())

    def _entropy(self, places: Iterable[int]) -> float:
        return self._bits(self._kind(places))

    def _entropies(self) -> Iterator[tuple[tuple[int, ...], float]]:
        """Yield every set of places and its entropy in bits."""
        left: list[tuple[tuple[int, ...], Kinds]] = [((), self._kind(()))]
        while left:
            places, kind = left.pop()
            yield places, self._bits(kind)
            following = range(places[-1] + 1 if places else 0, self.length)
            left += [((*places, place), self._joined(kind, place)) for place in following]

    def _conditionals(
        self, decided: Iterable[int], places: Iterable[int]
    ) -> dict[int, Float[np.ndarray, " A"]]:
        """Return the probability of each answer's item at each place, its decided items given."""
        kind = self._kind(decided)
        known = self._mass(kind)
        return {place: self._mass(self._joined(kind, place)) / known for place in places}

    def _drawn(
        self, decided: tuple[int, ...], size: int
    ) -> Iterator[tuple[tuple[int, ...], Float[np.ndarray, " A"]]]:
        """Yield every group that may follow and the chance that it agrees with each answer."""
        left = [place for place in range(self.length) if place not in decided]
        said = self._conditionals(decided, left)
        for chosen in combinations(left, size):
            yield chosen, np.prod([said[place] for place in chosen], axis=0)


class _Tree(NamedTuple):
    items: np.ndarray
    chances: np.ndarray


def listed(law: ItemLaw, most: int = 20_000) -> Listed:
    """Return all answers of a law, found from its beliefs from left to right.

    Raises:
        TooLargeError: There are more than ``most``.
    """
    tree = _Tree(np.full((1, law.length), -1), np.ones(1))
    for place in range(law.length):
        belief = np.asarray(law.belief(tree.items), float)[:, place]
        row, item = belief.nonzero()
        if len(row) > most:
            raise TooLargeError(f"The law has more than {most} answers; draw from it instead.")
        items = tree.items[row]
        items[:, place] = item
        tree = _Tree(items, tree.chances[row] * belief[row, item])
    return Listed(tree.items, tree.chances / tree.chances.sum())


def _afford(work: int, most: int) -> None:
    if work > most:
        raise TooLargeError(
            f"The enumeration takes {work:.1e} steps and {most:.1e} are allowed; draw instead."
        )


def _partition(groups: Groups, length: int) -> Groups:
    if sorted(place for group in groups for place in group) != list(range(length)):
        raise ValueError(f"groups must hold each of {length} positions once, got {groups}.")
    return groups


def _mask(places: Iterable[int]) -> int:
    return sum(1 << place for place in places)


def _places(mask: int) -> tuple[int, ...]:
    return tuple(i for i in range(mask.bit_length()) if mask >> i & 1)


def _parts(mask: int) -> Iterator[int]:
    """Yield every set of positions among these but the empty one."""
    part = mask
    while part:
        yield part
        part = (part - 1) & mask
