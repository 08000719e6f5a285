"""The contract of searches: what can be forked and scored can be searched, text or not.

A run is a sampler under way: a strategy with its canvas, or a solver with its events. A search
drives many of its states and sees nothing but the operations below, so each search is written
once for both.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from unison.prob.rng import Key

Reward = Callable[[Any], Float[Tensor, " B"]]  # clean samples, rows first, to a number each


@runtime_checkable
class Run(Protocol):
    """A sampler that can be stopped, copied and continued.

    States are opaque: tuples or named tuples of tensors with rows first.
    """

    @property
    def steps(self) -> int:
        """How many steps lead from a first state to the end."""
        ...

    def start(self, key: Key) -> Any:
        """Draw a first state for each row of the key."""
        ...

    def advance(self, state: Any, key: Key) -> Any:
        """Take step ``key.step`` for every row, with fresh noise from the key."""
        ...

    def guess(self, state: Any, key: Key) -> Any:
        """Return the clean samples the model expects from each state: x_0's mean, or a draw."""
        ...

    def finish(self, state: Any) -> Any:
        """Return the clean samples of states after the last step."""
        ...

    def fork(self, state: Any, rows: Int[Tensor, " R"]) -> Any:
        """Return the states of some rows, some of them perhaps more than once."""
        ...

    def near(self, state: Any, spread: float, key: Key) -> Any:
        """Return first states near these, distributed as first states are.

        Raises:
            ValueError: First states are all alike: a canvas of masks holds no noise to move.
        """
        ...

    def back(self, state: Any, step: int, to: int, key: Key) -> Any:
        """Return states before step ``step``, noised again to where they are before step ``to``.

        Raises:
            ValueError: ``to`` is after ``step``.
        """
        ...


class Found(NamedTuple):
    """What a search returns.

    Attributes:
        sample: One clean sample per row.
        reward: Its reward.
        log_weight: Log importance weight of each row's sample; 0 where the search has none.
        evaluations: Denoiser evaluations spent on each row, those of rewards' guesses included.
    """

    sample: Any
    reward: Float[Tensor, " B"]
    log_weight: Float[Tensor, " B"]
    evaluations: int


@runtime_checkable
class Search(Protocol):
    """One way to look for samples of high reward; a frozen dataclass."""

    def search(self, run: Run, reward: Reward, key: Key) -> Found:
        """Return one sample for each row of the key. Pure: rows never see each other."""
        ...
