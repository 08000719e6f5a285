"""How are problems drawn so that every machine and every Python draws the same?

Python promises that ``random.Random(text).random()`` never changes, and nothing else of its module;
so everything here is built on that one method.
"""

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A stream of draws named by what it is for, such as ``Dice("copy", seed, number)``."""

    def __init__(self, *name: str | int) -> None:
        self._unit = random.Random("/".join(map(str, name))).random  # no secret

    def unit(self) -> float:
        """Return a number in [0, 1)."""
        return self._unit()

    def below(self, count: int) -> int:
        """Return a whole number in [0, count)."""
        return int(self._unit() * count)

    def between(self, low: int, high: int) -> int:
        """Return a whole number in [low, high]."""
        return low + self.below(high - low + 1)

    def one(self, items: Sequence[T]) -> T:
        """Return one of the items."""
        return items[self.below(len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """Return ``count`` different items, in random order."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(count)]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in random order."""
        return self.some(items, len(items))
