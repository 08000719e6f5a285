"""Which velocity and score lie between two mixtures? In closed form, for any interpolant.

Given a component of either end, (x_0, x_1, z, x_t) is jointly Gaussian; the conditional means of
all three are averaged with the components' probabilities given x_t.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from unison.exact.mixtures import Mixture
from unison.types import Event, Level

Values = Float[Tensor, "*N"]
Weights = tuple[Tensor, Tensor, Tensor]


@runtime_checkable
class Blending(Protocol):
    """x_t = alpha(t) x_0 + beta(t) x_1 + gamma(t) z, and the derivatives of the three."""

    def at(self, t: Values) -> tuple[Values, Values, Values]:
        """Return alpha, beta and gamma."""
        ...

    def rate(self, t: Values) -> tuple[Values, Values, Values]:
        """Return their derivatives."""
        ...


@dataclass(frozen=True)
class ExactInterpolant:
    """The velocity b and E[z | x_t] between independent draws of two mixtures.

    Attributes:
        first: Law of x_0.
        second: Law of x_1, in as many dimensions.
        blend: The interpolant.
    """

    first: Mixture
    second: Mixture
    blend: Blending

    def __call__(self, x: Event, t: Level) -> tuple[Event, Event]:
        """Return b and E[z | x_t] of every row, where the law of x_t has a density."""
        times, place = t.double().unique(return_inverse=True)
        weights, rates = self.blend.at(times), self.blend.rate(times)
        shares, pulled = self._pulled(x.double(), place, weights)
        weights, rates = ([part[place] for part in parts] for parts in (weights, rates))
        means = (self.first.means[:, None], self.second.means[None])  # K 1 D, 1 J D
        shapes = (self.first.covariances[:, None], self.second.covariances[None])
        velocity = torch.zeros_like(pulled)
        for weight, rate, mean, shape in zip(weights, rates, means, shapes, strict=False):
            clean = mean + _over(weight, pulled) * (shape @ pulled[..., None])[..., 0]
            velocity = velocity + _over(rate, pulled) * clean
        noise = _over(weights[2], pulled) * pulled
        velocity = velocity + _over(rates[2], pulled) * noise
        each = shares[..., None]
        return (each * velocity).sum((1, 2)).to(x.dtype), (each * noise).sum((1, 2)).to(x.dtype)

    def law(self, t: float) -> Mixture:
        """Return the law of x_t: a component for each pair of components."""
        time = torch.tensor([t], dtype=torch.float64)
        means, shapes = self._pairs(self.blend.at(time))
        weights = self.first.log_weights[:, None] + self.second.log_weights
        size = means.shape[-1]
        return Mixture(weights.flatten(), means.reshape(-1, size), shapes.reshape(-1, size, size))

    def _pulled(self, x: Tensor, place: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
        """Return the pairs' probabilities [B, K, J], and covariance^-1 (x - mean).

        Args:
            x: The rows.
            place: Which of the times each row is at.
            weights: Of every time.
        """
        means, shapes = self._pairs(weights)
        root = torch.linalg.cholesky(shapes)
        away = x[:, None, None] - means[place]
        pulled = torch.einsum("bkjde,bkje->bkjd", torch.cholesky_inverse(root)[place], away)
        volume = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)[place]
        logits = self.first.log_weights[:, None] + self.second.log_weights
        logits = logits - (away * pulled).sum(-1) / 2 - volume
        return logits.flatten(1).softmax(1).view_as(logits), pulled

    def _pairs(self, weights: Weights) -> tuple[Tensor, Tensor]:
        """Return the means [T, K, J, D] and covariances of x_t given each pair."""
        alpha, beta, gamma = (part[:, None, None, None] for part in weights)
        means = alpha * self.first.means[:, None] + beta * self.second.means
        eye = torch.eye(means.shape[-1], dtype=means.dtype)
        shapes = (
            alpha[..., None].square() * self.first.covariances[:, None]
            + beta[..., None].square() * self.second.covariances
            + gamma[..., None].square() * eye
        )
        return means, shapes


def _over(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))
