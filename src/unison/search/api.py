"""The contract of searches: what can be forked and judged can be searched, text or not.

A run is a sampler under way: a strategy with its canvas, or a solver with its events. A search
drives many of its states and sees nothing but the operations below, so each search is written
once for both.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from unison.prob.rng import Key

Reward = Callable[[Any], Float[Tensor, " R"]]  # clean samples, rows first, to a number each


class Moved(NamedTuple):
    """States after an operation that may ask the model.

    Attributes:
        state: The states.
        cost: Denoiser evaluations spent on each.
    """

    state: Any
    cost: Int[Tensor, " R"]


@runtime_checkable
class Run(Protocol):
    """A sampler that can be stopped, copied and continued.

    States are named tuples of tensors with rows first, of which searches read ``step`` alone: how
    many steps are behind them, the same for all of a batch. Every operation is pure, and no row
    sees another.
    """

    @property
    def steps(self) -> int:
        """How many steps lead from a first state to the end."""
        ...

    def start(self, key: Key, rows: Int[Tensor, " R"]) -> Any:
        """Draw first states.

        Args:
            key: One random stream per state.
            rows: The row each belongs to: whose prompt, or whose condition, it has.
        """
        ...

    def look(self, state: Any, key: Key) -> Moved:
        """Ask the model about the states and keep the answer in them.

        A guess needs it; the next step, and every copy's, is the cheaper for it.
        """
        ...

    def guess(self, state: Any, key: Key | None = None) -> Any:
        """Return clean samples as the model expects them from states that were looked at.

        Args:
            state: Ended states stand for themselves.
            key: Draw them from the belief; ``None`` for its mean, of events, or its mode, of text.

        Raises:
            ValueError: The states were not looked at, or the model cannot say what is asked.
        """
        ...

    def advance(self, state: Any, key: Key) -> Moved:
        """Take the next step with fresh noise from the key; ended states stay as they are."""
        ...

    def finish(self, state: Any) -> Any:
        """Return the clean samples of states after the last step."""
        ...

    def fork(self, state: Any, rows: Int[Tensor, " R"]) -> Any:
        """Return the states of some rows, some of them perhaps more than once."""
        ...

    def near(self, state: Any, spread: float, key: Key) -> Any:
        """Return first states near these, distributed exactly as first states are.

        Args:
            state: First states.
            spread: 0 for the same again, 1 for independent ones.
            key: One random stream per state.

        Raises:
            ValueError: First states are all alike: a canvas of masks holds no noise to move.
        """
        ...

    def back(self, state: Any, to: int, key: Key) -> Any:
        """Return states noised again, by the law of the process, to where step ``to`` begins.

        Raises:
            ValueError: They have not come as far as that.
        """
        ...


class Found(NamedTuple):
    """What a search returns.

    Attributes:
        sample: One clean sample per row.
        reward: Its reward.
        log_weight: Log importance weight of each row's sample: with exp of it, samples represent
            the sampler's law times exp(reward / temperature), whose total it estimates without
            bias. 0 from searches that promise no law.
        evaluations: Denoiser evaluations spent on each row, those behind guesses included.
        judged: Samples and guesses of each row that the reward, or a value, was asked about.
    """

    sample: Any
    reward: Float[Tensor, " B"]
    log_weight: Float[Tensor, " B"]
    evaluations: Int[Tensor, " B"]
    judged: int


@runtime_checkable
class Search(Protocol):
    """One way to look for samples of high reward; a frozen dataclass."""

    def search(self, run: Run, reward: Reward, key: Key) -> Found:
        """Return one sample for each row of the key. Pure: rows never see each other."""
        ...
