"""On which exactly known laws are solvers compared?

Every law has standard deviation 1 in the mean over coordinates, as data that models are trained
on are scaled.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unison.exact.mixtures import Mixture, finite, gaussian
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event, Level

SITE_LAW = 0x7FFFFF12


def gmm5() -> Mixture:
    """Return five stretched components in the plane."""
    angles = torch.tensor([0.3, 1.7, 2.6, 4.1, 5.4], dtype=torch.float64)
    radii = torch.tensor([1.3, 0.9, 1.6, 1.1, 1.4], dtype=torch.float64)
    means = radii[:, None] * torch.stack([angles.cos(), angles.sin()], 1)
    shapes = torch.stack([_stretched(0.35, 0.08, angle) for angle in (0.5, 2.0, 1.1, 0.1, 2.7)])
    weights = torch.tensor([0.3, 0.15, 0.2, 0.25, 0.1], dtype=torch.float64)
    return standardised(Mixture(weights.log(), means, shapes))


def ring8() -> Mixture:
    """Return eight narrow round components on a circle."""
    angles = torch.arange(8, dtype=torch.float64) * math.pi / 4
    means = math.sqrt(2) * torch.stack([angles.cos(), angles.sin()], 1)
    shapes = (0.08**2 * torch.eye(2, dtype=torch.float64)).expand(8, 2, 2)
    return standardised(Mixture(torch.full((8,), -math.log(8), dtype=torch.float64), means, shapes))


def spirals() -> Mixture:
    """Return two arms of 24 small components each."""
    along = torch.linspace(0.4, 3.0, 24, dtype=torch.float64)
    arm = along[:, None] * torch.stack([(1.6 * along).cos(), (1.6 * along).sin()], 1)
    means = torch.cat([arm, -arm])
    shapes = (0.07**2 * torch.eye(2, dtype=torch.float64)).expand(48, 2, 2)
    weights = torch.full((48,), -math.log(48), dtype=torch.float64)
    return standardised(Mixture(weights, means, shapes))


def gaussian16() -> Mixture:
    """Return a Gaussian in 16 dimensions whose variances fall from 3 to 0.001."""
    values = torch.logspace(0.5, -3, 16, dtype=torch.float64)
    axes, _ = torch.linalg.qr(_normals(7, 16, 16))
    return standardised(gaussian(_normals(8, 1, 16)[0] * 0.3, axes * values @ axes.T))


def random_mixture(seed: int, size: int = 2, components: int = 6) -> Mixture:
    """Return a mixture with random weights, means and shapes; no two seeds agree."""
    means = _normals(3 * seed + 100, components, size)
    axes, _ = torch.linalg.qr(
        _normals(3 * seed + 101, components * size, size).view(-1, size, size)
    )
    draws = rng.uniform(Key(torch.tensor([3 * seed + 102])), SITE_LAW, components * (size + 1))[0]
    scales = 10 ** (-2.2 * draws[: components * size].view(components, size))
    weights = draws[components * size :].log()
    shapes = (axes * (0.25 * scales)[:, None, :]) @ axes.mT
    return standardised(Mixture(weights.log_softmax(0), means, shapes))


@dataclass(frozen=True)
class Guided:
    """A law with classifier-free guidance towards some of its components.

    D + (weight - 1) (D_some - D): the exact belief of both, so that only the solver errs.

    Attributes:
        law: All components.
        some: Those that are asked for.
        weight: How much; 1 samples ``some`` alone.
    """

    law: Mixture
    some: Mixture
    weight: float = 4.0

    def __call__(self, x: Event, level: Level) -> Event:
        """Return the guided mean."""
        plain = self.law(x, level)
        return plain + self.weight * (self.some(x, level) - plain)


def guided() -> Guided:
    """Return ``gmm5`` guided towards its third component with weight 4."""
    law = gmm5()
    return Guided(law, part(law, (2,)))


def part(law: Mixture, components: tuple[int, ...]) -> Mixture:
    """Return the law of some components."""
    index = torch.tensor(components)
    weights = law.log_weights[index].log_softmax(0)
    return Mixture(weights, law.means[index], law.covariances[index])


def lifted(law: Mixture, size: int) -> Mixture:
    """Return the law in more dimensions, turned, with a variance of 0.01 in the new ones."""
    old = law.means.shape[1]
    turn, _ = torch.linalg.qr(_normals(9, size, size))
    means = torch.nn.functional.pad(law.means, (0, size - old)) @ turn.T
    rest = torch.diag(torch.cat([torch.zeros(old), torch.full((size - old,), 0.01)])).double()
    shapes = torch.nn.functional.pad(law.covariances, (0, size - old, 0, size - old)) + rest
    return Mixture(law.log_weights, means, turn @ shapes @ turn.T)


def standardised(law: Mixture) -> Mixture:
    """Return the law scaled to a mean variance of 1 over coordinates."""
    scale = law.covariance().diagonal().mean().rsqrt()
    return Mixture(law.log_weights, law.means * scale, law.covariances * scale**2)


ZOO: dict[str, Callable[[], Mixture | Guided]] = {
    "gaussian16": gaussian16,
    "gmm5": gmm5,
    "guided": guided,
    "ring8": ring8,
    "spirals": spirals,
}


def _stretched(long: float, short: float, angle: float) -> Tensor:
    """Return the covariance of a cigar."""
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]],
        dtype=torch.float64,
    )
    return turn @ torch.diag(torch.tensor([long**2, short**2], dtype=torch.float64)) @ turn.T


def _normals(seed: int, rows: int, size: int) -> Float[Tensor, "R D"]:
    return rng.normal(Key(rng.rows(seed, 0, rows)), SITE_LAW, size)


__all__ = ["ZOO", "Guided", "finite", "gmm5", "guided", "lifted", "part", "random_mixture", "ring8"]
