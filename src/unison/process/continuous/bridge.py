"""What is the least noisy-work way between two laws? The Schroedinger bridge, kept light.

The process nearest to Brownian motion of variance epsilon t among all that carry one law to
another. LightSB (Korotin, Gushchin and Burnaev, 2024, arXiv:2310.01174) writes its adjusted
potential as a mixture, v(x_1) = sum_k w_k N(x_1; r_k, epsilon S_k); then everything is closed:

    x_1 given x_t    weights  log w_k - log|M_k| / 2 + (x (S_k - 1) / M_k x
                                          + 2 r_k / M_k x - t r_k / M_k r_k) / (2 epsilon)
                     means    (S_k x + (1 - t) r_k) / M_k
                     shapes   epsilon (1 - t) S_k / M_k,          M_k = t S_k + (1 - t)

At t=0 that is the plan, the law of the far end of each point. Here t=0 is the first set and t=1
the second.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event, Level

SITE_COMPONENT, SITE_PLAN, SITE_PATH = 0x7FFFFD14, 0x7FFFFD15, 0x7FFFFD16

Points = Float[Tensor, "B D"]


@dataclass(frozen=True)
class LightBridge:
    """A Schroedinger bridge with a mixture of K components for its potential.

    Attributes:
        log_weights: Of the components, unnormalised.
        centres: r_k.
        shapes: S_k, symmetric and positive definite.
        epsilon: Variance of the reference's noise over the whole time.
    """

    log_weights: Float[Tensor, " K"]
    centres: Float[Tensor, "K D"]
    shapes: Float[Tensor, "K D D"]
    epsilon: float

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"epsilon must be above 0, got {self.epsilon}.")

    def __call__(self, x: Points, t: Level) -> Points:
        """Return E[x_1 | x_t] of every row."""
        logits, means = self.beliefs(x, t)
        return (logits.softmax(1)[..., None] * means).sum(1)

    def beliefs(self, x: Points, t: Level) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K D"]]:
        """Return unnormalised log-weights and means of the components of x_1 given x_t."""
        values, axes = self._eigen  # K D, K D D
        time = t[:, None, None]
        mixed = time * values + (1 - time)  # B K D, the eigenvalues of M_k
        point = torch.einsum("bd,kde->bke", x, axes)
        centre = torch.einsum("kd,kde->ke", self.centres, axes)
        form = ((values - 1) * point + 2 * centre) * point - time * centre.square()
        logits = self.log_weights + ((form / mixed).sum(2) / self.epsilon - mixed.log().sum(2)) / 2
        means = (values * point + (1 - time) * centre) / mixed
        return logits, torch.einsum("bke,kde->bkd", means, axes)

    def drift(self, x: Points, t: Level) -> Points:
        """Return the drift of the bridge at times below 1: E[x_1 - x_t | x_t] / (1 - t)."""
        return (self(x, t) - x) / (1 - t[:, None])

    def plan(self, x: Points, key: Key) -> Points:
        """Draw the far end of every point, exactly."""
        logits, means = self.beliefs(x, torch.zeros(len(x), dtype=x.dtype))
        u = rng.uniform(key, SITE_COMPONENT, 1)
        chosen = (logits.double().softmax(1).cumsum(1) < u).sum(1).clamp(max=len(self.centres) - 1)
        values, axes = self._eigen
        noise = rng.normal(key, SITE_PLAN, x.shape[1]).to(x.dtype)
        spread = axes[chosen] @ ((self.epsilon * values[chosen]).sqrt() * noise)[..., None]
        return means[torch.arange(len(x)), chosen] + spread[..., 0]

    def travel(self, x: Points, key: Key, steps: int) -> Points:
        """Follow the bridge's SDE from t=0 to 1 in equal steps.

        Raises:
            ValueError: There is no step to take.
        """
        if steps < 1:
            raise ValueError(f"at least one step is needed, got {steps}.")
        for step in range(steps):
            here = step / steps
            noise = rng.normal(Key(key.seed, step), SITE_PATH, x.shape[1]).to(x.dtype)
            drift = self.drift(x, torch.full((len(x),), here, dtype=x.dtype))
            x = x + drift / steps + math.sqrt(self.epsilon / steps) * noise
        return x

    def log_potential(self, x: Points) -> Float[Tensor, " B"]:
        """Return log v(x), the potential of the second set."""
        root = torch.linalg.cholesky(self.epsilon * self.shapes)
        eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device).expand_as(root)
        whitener = torch.linalg.solve_triangular(root, eye, upper=False)
        white = torch.einsum("kde,bke->bkd", whitener, x[:, None] - self.centres)
        volume = root.diagonal(dim1=1, dim2=2).log().sum(1)
        quadratic = (white.square() + math.log(2 * math.pi)).sum(2)
        return (self.log_weights - quadratic / 2 - volume).logsumexp(1)

    def log_normaliser(self, x: Points) -> Float[Tensor, " B"]:
        """Return log c(x), the total of exp(x x_1 / epsilon) v(x_1) over x_1."""
        form = torch.einsum("bd,kde,be->bk", x, self.shapes, x) + 2 * x @ self.centres.T
        return (self.log_weights + form / (2 * self.epsilon)).logsumexp(1)

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        return torch.linalg.eigh(self.shapes)


def light_loss(bridge: LightBridge, first: Points, second: Float[Tensor, "N D"]) -> Tensor:
    """Return KL(best plan, this plan) up to a constant: E log c(x_0) - E log v(x_1)."""
    return bridge.log_normaliser(first).mean() - bridge.log_potential(second).mean()


def gaussian_bridge(
    first: tuple[Float[Tensor, " D"], Float[Tensor, "D D"]],
    second: tuple[Float[Tensor, " D"], Float[Tensor, "D D"]],
    epsilon: float,
) -> LightBridge:
    """Return the bridge between two Gaussians, each a mean and a covariance: one component.

    The plan is x_1 = r + S x_0 + noise of covariance epsilon S, so S A S + epsilon S = A' for the
    covariances A and A'; with T = A^1/2 S A^1/2 that is a quadratic in T.
    """
    root, inverse = _powers(first[1], 0.5), _powers(first[1], -0.5)
    eye = torch.eye(len(root), dtype=root.dtype)
    whole = _powers(root @ second[1] @ root + epsilon**2 / 4 * eye, 0.5) - epsilon / 2 * eye
    shape = inverse @ whole @ inverse
    shape = (shape + shape.mT) / 2
    centre = second[0] - shape @ first[0]
    return LightBridge(torch.zeros(1, dtype=root.dtype), centre[None], shape[None], epsilon)


def between(first: Event, second: Event, noise: Event, t: Level, epsilon: float) -> Event:
    """Return a point on the way of every pair: a Brownian bridge, (1 - t) x_0 + t x_1 + noise."""
    time = t.view(-1, *[1] * (first.ndim - 1))
    return (1 - time) * first + time * second + (epsilon * time * (1 - time)).sqrt() * noise


def _powers(matrix: Tensor, power: float) -> Tensor:
    values, axes = torch.linalg.eigh(matrix)
    return axes * values**power @ axes.mT
