"""Which of the networks of a large one learn in this step? Laws of choosing, stated exactly.

The sandwich rule (Yu & Huang, 2019, arXiv:1903.05134): the smallest and the largest always do, with
a few drawn between them. What is drawn:

- ``uniform``: every network alike; most are then of middling complexity.
- ``complexity``: a level of complexity, then a network of that level; levels are equal stretches
  between the smallest and the largest, and empty ones are left out.
- ``struggling``: the level alike; within it half of the draws go where the loss lies above the
  curve of losses over complexities, by softmax of how many standard deviations (the "worst"
  attention of AttentiveNAS: Wang et al., 2021, arXiv:2011.09011).
- ``front``: the level alike; within it half of the draws go to networks on the Pareto front of the
  losses so far (its "best" attention).

The other half is spread alike, so that no network is forgotten and a wrong estimate gets mended.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from unison.compress.elastic import curve
from unison.compress.elastic.curve import Values
from unison.prob import rng
from unison.prob.rng import Key

Sampling = Literal["uniform", "complexity", "struggling", "front"]
SAMPLINGS = ("uniform", "complexity", "struggling", "front")
_SITE = 0x454C4153  # no objective draws here
_ALIKE = 0.5  # share of a level's draws that no loss decides


def levels(complexity: Values, count: int) -> Int[np.ndarray, " N"]:
    """Return the level of each complexity: equal stretches from the smallest to the largest."""
    low, high = complexity.min(), complexity.max()
    if high == low:
        return np.zeros(len(complexity), dtype=int)
    return np.minimum(((complexity - low) / (high - low) * count).astype(int), count - 1)


def law(kind: Sampling, complexity: Values, losses: Values, seen: Values, count: int) -> Values:
    """Return the probability of each network.

    Args:
        kind: How they are drawn.
        complexity: Of each.
        losses: Of each so far, on common noise.
        seen: How well each loss is known; 0 for not at all.
        count: Levels of complexity.
    """
    if kind == "uniform":
        return np.full(len(complexity), 1 / len(complexity))
    level = levels(complexity, count)
    share = np.zeros(len(complexity))
    wanted = _wanted(kind, complexity, losses, seen)
    for one in np.unique(level):
        here = level == one
        share[here] = _ALIKE / here.sum() + (1 - _ALIKE) * _normalised(wanted[here])
    return share / share.sum()


def drawn(law: Values, seed: int, step: int, count: int) -> list[int]:
    """Return the numbers of the networks of a step, drawn with replacement by their law."""
    key = Key(torch.tensor([seed]), step)
    u = rng.uniform(key, _SITE, count)[0].numpy()
    edges = np.cumsum(law)
    return [int(n) for n in np.searchsorted(edges / edges[-1], u, side="right")]


def _wanted(kind: Sampling, complexity: Values, losses: Values, seen: Values) -> Values:
    """Return what the losses ask for, as weights; any scale."""
    if kind == "complexity" or not (seen > 0).any():
        return np.ones(len(complexity))
    if kind == "front":
        return curve.front(complexity, np.where(seen > 0, losses, np.nan)).astype(float)
    excess = np.where(seen > 0, losses - curve.fitted(complexity, losses, seen), 0.0)
    spread = np.sqrt(np.mean(excess[seen > 0] ** 2))
    return np.exp(excess / spread) if spread > 0 else np.ones(len(complexity))


def _normalised(weights: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    total = weights.sum()
    return weights / total if total > 0 else np.full(len(weights), 1 / len(weights))
