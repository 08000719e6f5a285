"""Which laws of continuous data are known exactly? Gaussians, their mixtures, finite sets.

In the frame y = x_0 + s noise each gives its clean mean and variance, its density, its posterior
under a linear measurement and its probability-flow ODE to any accuracy: what solvers, posteriors
and distillation are measured against.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser, Level

SITE_COMPONENT, SITE_POINT = 0x7FFFFF10, 0x7FFFFF11

Points = Float[Tensor, "N D"]


@dataclass(frozen=True)
class Mixture:
    """A mixture of K Gaussians in D dimensions, float64.

    One component makes a Gaussian, covariances of zero a finite set.

    Attributes:
        log_weights: Normalised.
        means: Where the components are.
        covariances: Their shapes, positive semidefinite.
    """

    log_weights: Float[Tensor, " K"]
    means: Float[Tensor, "K D"]
    covariances: Float[Tensor, "K D D"]

    def __call__(self, x: Event, level: Level) -> Event:
        """Return E[x_0 | y] at the level of each row, in the type of ``x``."""
        return self.moments(x, level)[0]

    def moments(self, x: Event, level: Level) -> tuple[Event, Event]:
        """Return E[x_0 | y] and the variance of each coordinate."""
        shares, centres, spreads = self._beliefs(x.double(), level.double())
        mean = (shares[..., None] * centres).sum(1)
        second = (shares[..., None] * (spreads + centres.square())).sum(1)
        return mean.to(x.dtype), (second - mean.square()).clamp(min=0).to(x.dtype)

    def log_prob(self, y: Float[Tensor, "B D"], level: Level) -> Float[Tensor, " B"]:
        """Return log p_s(y), the density of noisy data; a level of 0 asks for that of the data."""
        return self._joint(y.double(), level.double()).logsumexp(1)

    def responsibilities(self, y: Float[Tensor, "B D"], level: Level) -> Float[Tensor, "B K"]:
        """Return the probability of each component given y."""
        return self._joint(y.double(), level.double()).softmax(1)

    def sample(self, key: Key) -> Points:
        """Draw one point for each row of the key."""
        u = rng.uniform(key, SITE_COMPONENT, 1)[:, 0].contiguous()
        chosen = torch.searchsorted(self.log_weights.exp().cumsum(0), u)
        chosen = chosen.clamp(max=len(self.means) - 1)
        noise = rng.normal(key, SITE_POINT, self.means.shape[1])
        return self.means[chosen] + (self._roots()[chosen] @ noise[..., None])[..., 0]

    def mean(self) -> Float[Tensor, " D"]:
        """Return the mean of the data."""
        return self.log_weights.exp() @ self.means

    def covariance(self) -> Float[Tensor, "D D"]:
        """Return the covariance of the data."""
        away = self.means - self.mean()
        parts = self.covariances + away[:, :, None] * away[:, None, :]
        return (self.log_weights.exp()[:, None, None] * parts).sum(0)

    def posterior(
        self, operator: Float[Tensor, "M D"], seen: Float[Tensor, " M"], noise: float
    ) -> "Mixture":
        """Return p(x_0 | seen) for seen = operator x_0 + noise * standard normal, exactly."""
        hidden = self.covariances @ operator.T
        shape = operator @ hidden + noise**2 * torch.eye(len(seen), dtype=hidden.dtype)
        gain = torch.linalg.solve(shape, hidden.mT).mT
        off = seen - self.means @ operator.T
        weights = self.log_weights + _log_normal(off, shape)
        return Mixture(
            weights.log_softmax(0),
            self.means + (gain @ off[..., None])[..., 0],
            self.covariances - gain @ hidden.mT,
        )

    def evidence(
        self, operator: Float[Tensor, "M D"], seen: Float[Tensor, " M"], noise: float
    ) -> Float[Tensor, ""]:
        """Return log p(seen)."""
        shape = operator @ self.covariances @ operator.T
        shape = shape + noise**2 * torch.eye(len(seen), dtype=shape.dtype)
        return (self.log_weights + _log_normal(seen - self.means @ operator.T, shape)).logsumexp(0)

    def _beliefs(self, y: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return responsibilities [B, K], and each component's mean and variances [B, K, D]."""
        values, axes = self._eigen
        gain = values / (values + level.square()[:, None, None])  # B K D
        away = (y[:, None] - self.means)[..., None, :] @ axes  # B K 1 D
        centres = self.means + ((gain[..., None, :] * away) @ axes.mT)[..., 0, :]
        left = gain * level.square()[:, None, None]
        spreads = (axes.square() * left[..., None, :]).sum(-1)
        return self._joint(y, level).softmax(1), centres, spreads

    def _joint(self, y: Tensor, level: Tensor) -> Tensor:
        """Return log w_k + log N(y; mean_k, covariance_k + s^2), [B, K]."""
        values, axes = self._eigen
        total = values + level.square()[:, None, None]
        away = ((y[:, None] - self.means)[..., None, :] @ axes)[..., 0, :]
        quadratic = (away.square() / total + total.log() + math.log(2 * math.pi)).sum(-1)
        return self.log_weights - quadratic / 2

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        values, axes = torch.linalg.eigh(self.covariances)
        return values.clamp(min=0), axes

    def _roots(self) -> Tensor:
        values, axes = self._eigen
        return axes * values.sqrt()[:, None, :]


def gaussian(mean: Float[Tensor, " D"], covariance: Float[Tensor, "D D"]) -> Mixture:
    """Return one Gaussian."""
    return Mixture(torch.zeros(1, dtype=torch.float64), mean[None], covariance[None])


def finite(points: Points) -> Mixture:
    """Return the law of data that are exactly these points, each as likely."""
    count, size = points.shape
    weights = torch.full((count,), -math.log(count), dtype=torch.float64)
    return Mixture(weights, points.double(), torch.zeros(count, size, size, dtype=torch.float64))


def flow(
    denoise: EventDenoiser, y: Float[Tensor, "B D"], high: float, low: float, steps: int = 2000
) -> Float[Tensor, "B D"]:
    """Return the end of the probability-flow ODE from each y, by RK4 in log s, float64.

    The error falls with steps^-4: 2000 leave 1e-8 on the laws of ``zoo``.
    """
    y, u = y.double(), math.log(high)
    width = (math.log(low) - u) / steps

    def slope(point: Tensor, at: float) -> Tensor:
        return point - denoise(point, torch.full((len(point),), math.exp(at), dtype=y.dtype))

    for _ in range(steps):
        first = slope(y, u)
        second = slope(y + width / 2 * first, u + width / 2)
        third = slope(y + width / 2 * second, u + width / 2)
        fourth = slope(y + width * third, u + width)
        y, u = y + width / 6 * (first + 2 * second + 2 * third + fourth), u + width
    return y


def _log_normal(off: Tensor, covariance: Tensor) -> Tensor:
    """Return log N(off; 0, covariance) of each component."""
    root = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(root, off[..., None], upper=False)[..., 0]
    scale = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return -(white.square() + math.log(2 * math.pi)).sum(-1) / 2 - scale
