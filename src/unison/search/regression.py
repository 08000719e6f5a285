"""How does a value learn from runs of its own sampler? Regression of rewards on noisy states."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unison.prob.rng import Key
from unison.search.api import Reward, Run
from unison.search.hunt import begun

Features = Callable[[Any], Float[Tensor, "R F"]]


@dataclass(frozen=True)
class Regressed:
    """E[reward | state] as a linear function of features, one for each step.

    Used as ``Given(regressed)``: SVDD's Monte Carlo value (arXiv:2408.08252).

    Attributes:
        features: Of states.
        weights: Of each step's features and, last, a constant.
    """

    features: Features
    weights: Float[Tensor, "T G"]

    def __call__(self, state: Any) -> Float[Tensor, " R"]:
        """Return the value of states that stand at one step."""
        return _with_constant(self.features(state)) @ self.weights[state.step]


def regressed(
    run: Run, reward: Reward, features: Features, key: Key, ridge: float = 1e-6
) -> Regressed:
    """Return the value that fits whole runs best, in squared error.

    Args:
        run: Is run to its end once for each row of the key.
        reward: Of its ends.
        features: Of its states, such as ``quadratic``.
        key: One random stream per run.
        ridge: Penalty on squared weights, in units of the features' mean square.

    Raises:
        ValueError: There are fewer runs than weights.
    """
    hunt = begun(run, reward, key)
    streams = hunt.streams(1)
    state, seen = hunt.start(streams), []
    for _ in range(run.steps):
        seen.append(_with_constant(features(state)))
        state = hunt.advance(state, streams, 1)
    count, size = seen[0].shape
    if count < size:
        raise ValueError(
            f"{size} weights need at least as many runs, got {count}; give the key more rows, or "
            "take fewer features."
        )
    ends = hunt.judge(run.finish(state))
    weights = [_solved(one, ends, ridge) for one in seen]
    return Regressed(features, torch.stack(weights))


def quadratic(state: Any) -> Float[Tensor, "R F"]:
    """Return the elements of events and the products of any two of them, float64."""
    x = state.x.double().flatten(1)
    left, right = torch.triu_indices(x.shape[1], x.shape[1], device=x.device)
    return torch.cat([x, x[:, left] * x[:, right]], 1)


def _solved(x: Tensor, y: Tensor, ridge: float) -> Tensor:
    scale = x.square().mean(0).sqrt().clamp(min=1e-12)
    white = x / scale
    gram = white.T @ white
    penalty = ridge * len(x) * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve(gram + penalty, white.T @ y) / scale


def _with_constant(x: Tensor) -> Tensor:
    return torch.cat([x.double(), torch.ones(len(x), 1, dtype=torch.float64, device=x.device)], 1)
