"""What do all searches do? Drive groups of candidates, one group a row, and count what it costs."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.decode.api import selected
from unison.prob import categorical, rng
from unison.prob.rng import Key
from unison.search.api import Found, Reward, Run

SITE_CHOICE = 0x7FFFFF60  # which candidate lives on


@dataclass
class Hunt:
    """A search under way: B rows, each with a group of candidates that stand next to each other.

    Lives inside one call of ``Search.search``, as its counters do.

    Attributes:
        run: What is searched.
        reward: What is looked for.
        key: One random stream per row; all others are derived from it.
        evaluations: Denoiser evaluations of each row so far.
        judged: Candidates of each row judged so far.
    """

    run: Run
    reward: Reward
    key: Key
    evaluations: Int[Tensor, " B"]
    judged: int = 0

    def streams(self, count: int, number: int = 0) -> Key:
        """Return random streams for ``count`` candidates of each row.

        Args:
            count: Of how many.
            number: Which streams: a search that comes by the same step twice needs others.
        """
        seed = rng.derived(self.key.seed, number).repeat_interleave(count)
        slot = torch.arange(count, device=seed.device).repeat(len(self.key.seed))
        return Key(rng.derived(seed, slot))

    def start(self, streams: Key) -> Any:
        """Draw a first state for each stream."""
        count = len(streams.seed) // len(self.key.seed)
        rows = torch.arange(len(self.key.seed), device=streams.seed.device)
        return self.run.start(streams, rows.repeat_interleave(count))

    def look(self, state: Any, streams: Key) -> Any:
        """Ask the model about states."""
        return self._paid(self.run.look(state, streams))

    def advance(self, state: Any, streams: Key, steps: int | None = None) -> Any:
        """Take some steps; all there are from a first state if not said."""
        for _ in range(self.run.steps if steps is None else steps):
            state = self._paid(self.run.advance(state, streams))
        return state

    def copies(self, state: Any, count: int) -> Any:
        """Return every state ``count`` times, copies next to each other."""
        rows = torch.arange(len(self.key.seed), device=self.key.seed.device)
        each = count * (self._size(state) // len(rows))
        return self.run.fork(state, torch.arange(each * len(rows), device=rows.device) // count)

    def judge(self, sample: Any) -> Float[Tensor, " R"]:
        """Return the rewards of samples, float64.

        Raises:
            ValueError: The reward is no number for each.
        """
        return self.scored(self.reward(sample), self._size(sample), "the reward")

    def scored(self, value: Tensor, count: int, who: str) -> Float[Tensor, " R"]:
        """Return what was said of ``count`` candidates, checked and counted.

        Raises:
            ValueError: It is not one number for each, or not a number.
        """
        if tuple(value.shape) != (count,):
            raise ValueError(
                f"{who} was asked about {count} candidates and answered with shape "
                f"{tuple(value.shape)}; return one number for each."
            )
        value = value.double()
        if bool((value.isnan() | (value == torch.inf)).any()):
            raise ValueError(
                f"{who} holds NaN or +infinity; -infinity is what a forbidden sample gets. Check "
                "the reward, and the model's answers."
            )
        self.judged += count // len(self.key.seed)
        return value

    def choices(self, step: int) -> Float[Tensor, " B"]:
        """Return a uniform for each row to choose among its candidates with."""
        return rng.uniform(self.key.at(step), SITE_CHOICE, 1)[:, 0]

    def kept(self, state: Any, index: Int[Tensor, "B K"], count: int) -> Any:
        """Return the states with these numbers within their row's group of ``count``."""
        return self.run.fork(state, flat(index, count))

    def found(
        self,
        state: Any,
        reward: Float[Tensor, " R"],
        index: Int[Tensor, " B"],
        log_weight: Float[Tensor, " B"] | None = None,
    ) -> Found:
        """Return one of each row's ended candidates.

        Args:
            state: Of all.
            reward: Of all.
            index: Which, within its row's group.
            log_weight: The weight of each row; zeros if not said.
        """
        rows = flat(index[:, None], len(reward) // len(index))
        weight = torch.zeros_like(reward[rows]) if log_weight is None else log_weight
        sample = selected(self.run.finish(state), rows)
        return Found(sample, reward[rows], weight, self.evaluations, self.judged)

    def _paid(self, moved: Any) -> Any:
        spent = moved.cost.view(len(self.key.seed), -1).sum(1)
        self.evaluations = self.evaluations + spent
        return moved.state

    def _size(self, state: Any) -> int:
        """Return how many rows a state or sample has."""
        return len(state) if isinstance(state, Tensor) else self._size(state[0])


def begun(run: Run, reward: Reward, key: Key) -> Hunt:
    """Return a search that has cost nothing yet."""
    return Hunt(run, reward, key, torch.zeros_like(key.seed))


def flat(index: Int[Tensor, "B K"], count: int) -> Int[Tensor, " R"]:
    """Return numbers within groups of ``count`` as numbers within the batch."""
    first = torch.arange(len(index), device=index.device)[:, None] * count
    return (first + index).flatten()


def check_at_least(least: int, **numbers: int) -> None:
    """Raise ValueError for the first number that is too small."""
    for name, value in numbers.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}.")


def check_temperature(temperature: float, zero: str = "") -> None:
    """Raise ValueError for a temperature that is none; ``zero`` names who takes 0."""
    least = ("above 0" if zero else "at least 0") + ", and finite"
    if not (temperature > 0 or (temperature == 0 and not zero)) or math.isinf(temperature):
        hint = f" A temperature of 0 is known to {zero}." if zero else ""
        raise ValueError(f"temperature must be {least}, got {temperature}.{hint}")


def drawn(weights: Float[Tensor, "B N"], uniform: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
    """Draw one of each row's candidates by log weights; any, where all are -infinity."""
    dead = (weights == -torch.inf).all(1, keepdim=True)
    return categorical.sample(torch.where(dead, 0.0, weights), uniform)


def finite(weights: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Return log weights with -infinity where -infinity was subtracted: no weight comes back."""
    return weights.nan_to_num(nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf)


def blended(take: Bool[Tensor, " B"], new: Any, old: Any) -> Any:
    """Return states whose rows are those of ``new`` where ``take``, else of ``old``."""
    if isinstance(new, Tensor):
        return torch.where(take.view(-1, *[1] * (new.ndim - 1)), new, old)
    if isinstance(new, tuple):
        parts = [blended(take, *pair) for pair in zip(new, old, strict=True)]
        return type(new)(*parts) if hasattr(new, "_fields") else tuple(parts)
    return old
