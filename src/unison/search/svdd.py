"""Soft value-based decoding (Li et al., 2024, arXiv:2408.08252): choose among a step's children."""

import math
from dataclasses import dataclass, field

import torch

from unison.prob.rng import Key
from unison.search.api import Found, Reward, Run
from unison.search.hunt import begun, check_at_least, check_temperature, drawn, finite
from unison.search.value import Guessed, Value, ahead


@dataclass(frozen=True)
class SVDD:
    """Take each step M times, and go on with one child, drawn by exp(value / temperature).

    Law: with the exact soft value, the sampler's law times exp(reward / temperature) as M grows;
    any other value moves it, which ``log_weight`` makes up for: it is the log of the product of
    the children's mean exp(v / T) over exp(v / T) of the parent, so that weighted samples
    represent that law for every value and every M. Rows never share candidates.

    The parent is asked once for all its children. With guesses a run of n steps costs
    1 + M (n - 1) evaluations, with a value of one's own n.

    Differs: published code takes the child of highest value, ``temperature=0`` here, which
    approaches no tilted law.

    Attributes:
        candidates: M.
        temperature: T, in the unit of the reward; 0 takes the best child.
        value: What children are chosen by; after the last step it is the reward.
    """

    candidates: int = 8
    temperature: float = 0.0
    value: Value = field(default_factory=Guessed)

    def __post_init__(self) -> None:
        check_at_least(1, candidates=self.candidates)
        check_temperature(self.temperature)

    def search(self, run: Run, reward: Reward, key: Key) -> Found:
        """Go on with one lineage a row."""
        hunt = begun(run, reward, key)
        parents, streams = hunt.streams(1), hunt.streams(self.candidates, 1)
        state = hunt.start(parents)
        total = torch.zeros_like(key.seed, dtype=torch.float64)
        before = total
        while True:
            state = hunt.look(state, parents)
            state = hunt.advance(hunt.copies(state, self.candidates), streams, 1)
            value, state = ahead(hunt, self.value, state, streams, self.temperature)
            group = value.view(-1, self.candidates)
            if self.temperature == 0:
                chosen = group.argmax(1)
            else:
                tilted = group / self.temperature
                chosen = drawn(tilted, hunt.choices(state.step))
                gain = tilted.logsumexp(1) - math.log(self.candidates) - before
                total = finite(total + gain)
                before = tilted.gather(1, chosen[:, None])[:, 0]
            if state.step == run.steps:
                return hunt.found(state, value, chosen, total)
            state = hunt.kept(state, chosen[:, None], self.candidates)
