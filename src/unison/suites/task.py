"""What is asked, and what is a right answer? The contract of every task."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int


class SuiteError(ValueError):
    """A task, a suite or a data file that cannot be used; the message says why and where."""


@dataclass(frozen=True)
class Problem:
    """One question.

    Attributes:
        name: Unique in its task and the same for ever: ``copy/5/0007``.
        prompt: Text before the answer, examples included.
        answer: A right answer; there may be others. Models get room for the longest of a task.
        suffix: Text behind the answer; empty unless something is to be filled in.
        group: How hard it is or of which kind, such as ``n=5``; accuracy is also told by group.
        facts: What grading needs, as JSON values.
    """

    name: str
    prompt: str
    answer: str
    suffix: str = ""
    group: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


class Grade(NamedTuple):
    """What an answer is worth.

    Attributes:
        score: 1 for right, 0 for wrong, between for partly right.
        read: What was taken to be the answer; votes are counted on it.
        why: Why it is not right, in a few words; empty where it is.
    """

    score: float
    read: str
    why: str = ""

    @classmethod
    def of(cls, right: bool, read: str, why: str) -> "Grade":
        """Return a grade of 1, or of 0 with the reason."""
        return cls(1.0, read) if right else cls(0.0, read, why)


@runtime_checkable
class Task(Protocol):
    """One kind of question.

    Implementations are frozen dataclasses whose fields are the settings and have defaults, except
    the ``path`` of a task that reads a data file.
    """

    about: ClassVar[str]  # one sentence for lists and tables
    executes: ClassVar[bool]  # grading runs code a model wrote: only where the caller allows it

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` problems, the first n of which do not depend on ``count``.

        Tasks that read a file return fewer where it holds fewer.

        Raises:
            SuiteError: The data file cannot be used; the message names the line.
        """
        ...

    def grade(self, problem: Problem, answer: str) -> Grade:
        """Return what a text is worth; never raises, whatever the text."""
        ...


@runtime_checkable
class ItemLaw(Protocol):
    """The law of right answers of one problem, item by item: what an ideal model believes.

    An answer is ``length`` items, each one of ``size``.
    """

    @property
    def length(self) -> int:
        """Items of an answer."""
        ...

    @property
    def size(self) -> int:
        """Different items."""
        ...

    def belief(self, items: Int[np.ndarray, "B L"]) -> Float[np.ndarray, "B L V"]:
        """Return p(item at a position | the items already there), exactly.

        Args:
            items: -1 where undecided. At decided positions the belief is the item itself; where
                the decided items are already wrong, any law will do, but it must sum to 1.
        """
        ...

    def right(self, items: Int[np.ndarray, "B L"]) -> np.ndarray:
        """Return which whole answers are right, bool [batch]."""
        ...


@runtime_checkable
class Theoretical(Protocol):
    """A task whose right answers have a law that can be written down."""

    def law(self) -> ItemLaw:
        """Return the law of right answers of a typical problem with these settings."""
        ...


def wilson(right: float | int, count: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927), for ``right`` of ``count``.

    Defined for fractional ``right`` too, where it is wider than need be: scores in [0, 1] vary at
    most as much as 0s and 1s of the same mean.
    """
    if count == 0:
        return (0.0, 1.0)
    share = right / count
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale))
