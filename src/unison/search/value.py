"""How good will a sample be that is still noisy? Values of states under way.

The soft value is v(x_t) = T log E[exp(r(x_0) / T) | x_t] at temperature T: steps that are tilted
by it draw exactly from the sampler's law times exp(r / T) (Li et al., 2024, arXiv:2408.08252).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from unison.prob import rng
from unison.prob.rng import Key
from unison.search.hunt import Hunt, check_at_least


class Valued(NamedTuple):
    """What states are worth.

    Attributes:
        value: Of each state, in the unit of the reward.
        state: The states, with what the model was asked on the way.
    """

    value: Float[Tensor, " R"]
    state: Any


@runtime_checkable
class Value(Protocol):
    """A rule that values states under way; ended ones have their reward."""

    def of(self, hunt: Hunt, state: Any, streams: Key, temperature: float) -> Valued:
        """Return the value of every state, each by itself."""
        ...


@dataclass(frozen=True)
class Guessed:
    """The reward of what the model expects: no training, one evaluation a state.

    With 0 draws the reward of the belief's mean, or mode: too sure, for it leaves out how much of
    the reward is still open, and too low where the reward is concave. Draws from the belief
    estimate the soft value itself, as T log mean exp(r / T), up to what the belief leaves out:
    dependence between elements, and, of events, their shape. At temperature 0 their mean.

    Attributes:
        draws: Guesses a state, each judged; 0 for the belief's mean or mode.
    """

    draws: int = 0

    def __post_init__(self) -> None:
        check_at_least(0, draws=self.draws)

    def of(self, hunt: Hunt, state: Any, streams: Key, temperature: float) -> Valued:
        """Ask the model, and judge its guesses."""
        state = hunt.look(state, streams)
        if self.draws == 0:
            return Valued(hunt.judge(hunt.run.guess(state)), state)
        seed = streams.seed.repeat_interleave(self.draws)
        slot = torch.arange(self.draws, device=seed.device).repeat(len(streams.seed))
        drawn = hunt.run.guess(hunt.copies(state, self.draws), Key(rng.derived(seed, slot)))
        return Valued(_soft(hunt.judge(drawn).view(-1, self.draws), temperature), state)


@dataclass(frozen=True)
class Given:
    """A value somebody has: a trained regression, or the exact one. Costs no evaluation.

    Attributes:
        function: States to a number each; of events it reads ``x`` and ``level``, of text
            ``tokens`` and ``step``.
    """

    function: Callable[[Any], Tensor]

    def of(self, hunt: Hunt, state: Any, streams: Key, temperature: float) -> Valued:
        """Ask the function."""
        return Valued(hunt.scored(self.function(state), len(streams.seed), "the value"), state)


def ahead(hunt: Hunt, value: Value, state: Any, streams: Key, temperature: float) -> Valued:
    """Return the value of states under way, and the reward of those after the last step."""
    if state.step < hunt.run.steps:
        return value.of(hunt, state, streams, temperature)
    return Valued(hunt.judge(hunt.run.finish(state)), state)


def _soft(rewards: Float[Tensor, "R K"], temperature: float) -> Float[Tensor, " R"]:
    if temperature == 0:
        return rewards.mean(1)
    return temperature * ((rewards / temperature).logsumexp(1) - math.log(rewards.shape[1]))
