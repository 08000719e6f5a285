"""What does an ideal model believe about the rest of an answer? Laws of equally likely answers.

Every right answer is as likely as any other; the belief at a position is then the share of the
answers that agree with what is already there. This is the ideal model behind the limits of writing
in parallel in Kang et al. 2025 (arXiv 2510.04767).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import gammaln


@dataclass(frozen=True, eq=False)
class Enumerated:
    """Answers told one by one.

    Attributes:
        answers: Every right answer once.
    """

    answers: Int[np.ndarray, "N L"]

    def __post_init__(self) -> None:
        if self.answers.size == 0 or self.answers.min() < 0:
            raise ValueError("A law needs at least one answer, and items counted from 0.")
        if len(np.unique(self.answers, axis=0)) < len(self.answers):
            raise ValueError("An answer stands in the list twice; name each right answer once.")

    @classmethod
    def of(cls, answers: Iterable[Iterable[int]]) -> "Enumerated":
        """Return the law of answers written as sequences."""
        return cls(np.array([list(answer) for answer in answers]))

    @property
    def length(self) -> int:
        """Items in an answer."""
        return self.answers.shape[1]

    @property
    def size(self) -> int:
        """Different items, right or not, counted up to the largest that occurs."""
        return int(self.answers.max()) + 1

    @cached_property
    def _table(self) -> Float[np.ndarray, "N LV"]:
        return _certain(self.answers, self.size).reshape(len(self.answers), -1)

    def belief(self, items: Int[np.ndarray, "B L"]) -> Float[np.ndarray, "B L V"]:
        """Return p(item | the items already there)."""
        decided = items >= 0
        agreed = _certain(items, self.size).reshape(len(items), -1) @ self._table.T
        possible = (agreed == decided.sum(1, keepdims=True)).astype(float)
        weight = (possible @ self._table).reshape(*items.shape, self.size)
        return _belief(items, weight)

    def right(self, items: Int[np.ndarray, "B L"]) -> Bool[np.ndarray, " B"]:
        """Return which answers are in the list."""
        agreed = _certain(items, self.size).reshape(len(items), -1) @ self._table.T
        return (agreed == self.length).any(1)


@dataclass(frozen=True)
class Shuffled:
    """Orders of the items 0, 1, 2 ...: n! answers, or n! - 1, which no list could hold.

    With r items left the rest can be written in r! ways. One of them is the order that was given,
    which does not count, if everything so far stands where it stood; so the item that stood at a
    position has (r - 1)! - 1 ways there and any other has (r - 1)!.

    Attributes:
        length: Items.
        changed: Whether the given order itself is wrong.
    """

    length: int
    changed: bool = True

    def __post_init__(self) -> None:
        if self.length < 1 + self.changed:
            raise ValueError(f"There is no other order of {self.length} items; name 2 or more.")

    @property
    def size(self) -> int:
        """Different items."""
        return self.length

    def belief(self, items: Int[np.ndarray, "B L"]) -> Float[np.ndarray, "B L V"]:
        """Return p(item | the items already there)."""
        still = (items < 0) | (items == np.arange(self.length))
        left = (items < 0).sum(1)
        unused = (1 - _certain(items, self.size).max(1, initial=0))[:, None, :]
        lost = np.exp(-gammaln(np.maximum(left, 1))) * still.all(1) * self.changed
        weight = unused * (1 - lost[:, None, None] * np.eye(self.length))
        return _belief(items, weight)

    def right(self, items: Int[np.ndarray, "B L"]) -> Bool[np.ndarray, " B"]:
        """Return which answers hold every item, in another order where that is asked."""
        given = np.arange(self.length)
        another = (items != given).any(1) | (not self.changed)
        return (np.sort(items, axis=1) == given).all(1) & another


def _certain(items: Int[np.ndarray, "B L"], size: int) -> Float[np.ndarray, "B L V"]:
    """Return the law that is sure of the items; zero where they are undecided."""
    return (items[..., None] == np.arange(size)).astype(float)


def _belief(
    items: Int[np.ndarray, "B L"], weight: Float[np.ndarray, "B L V"]
) -> Float[np.ndarray, "B L V"]:
    """Return decided items as they are, elsewhere the shares; uniform where nothing is possible."""
    size = weight.shape[-1]
    total = weight.sum(-1, keepdims=True)
    share = np.where(total > 0, weight / np.where(total > 0, total, 1.0), 1.0 / size)
    return np.where((items >= 0)[..., None], _certain(items, size), share)
