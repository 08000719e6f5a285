"""Which mixture of Gaussians do samples come from whose noise is known? EM, by closed forms.

x_i = x_0 + n_i noise with a level n_i for each sample, 0 for clean ones: extreme deconvolution
(Bovy, Hogg and Roweis, 2011, arXiv:0905.2979). What is fitted is the law of x_0.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unison.exact.mixtures import Mixture, Points

LEAST = 1e-6  # variance that every component keeps, so that clean samples have a density


class _Moments(NamedTuple):
    """Sums over samples, weighted with responsibilities.

    Attributes:
        mass: Samples of each component, [K].
        first: Of the clean means, [K, D].
        second: Of the clean second moments, [K, D, D].
    """

    mass: Tensor
    first: Tensor
    second: Tensor


def begun(points: Points, components: int) -> Mixture:
    """Return a mixture to start from: round components on samples far from each other.

    Each centre is the sample farthest from those before it; the first is the farthest from the
    mean.

    Raises:
        ValueError: There are fewer samples than components.
    """
    if not 1 <= components <= len(points):
        raise ValueError(
            f"components must number from 1 to the {len(points)} samples, got {components}."
        )
    points = points.double()
    away = (points - points.mean(0)).norm(dim=1)
    chosen = [int(away.argmax())]
    nearest = (points - points[chosen[0]]).norm(dim=1)
    while len(chosen) < components:
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).norm(dim=1))
    size = points.shape[1]
    wide = points.var(0).mean() / components ** (2 / size)
    shapes = (wide * torch.eye(size, dtype=points.dtype)).expand(components, size, size)
    weights = torch.full((components,), 1 / components, dtype=points.dtype)
    return Mixture(weights.log(), points[chosen], shapes)


def fitted(
    start: Mixture,
    points: Points,
    noise: Float[Tensor, " N"],
    steps: int = 50,
    means_only: bool = False,
) -> Mixture:
    """Return a mixture whose likelihood of the samples no step made worse.

    Args:
        start: Where EM begins (``begun``).
        points: x_i.
        noise: n_i, at least 0.
        steps: Of EM.
        means_only: Keep the weights and the shapes of the start.

    Raises:
        ValueError: A level is below 0, or there is not one for each sample.
    """
    if len(noise) != len(points) or not bool((noise >= 0).all()):
        raise ValueError(
            f"each of the {len(points)} samples needs a level of at least 0, got {len(noise)} from "
            f"{noise.min().item():.6g}."
        )
    points, noise = points.double(), noise.double()
    groups = [(level, points[noise == level]) for level in noise.unique().tolist()]
    law = start
    for _ in range(steps):
        parts = [_moments(law, level, seen) for level, seen in groups]
        added = [torch.stack(part).sum(0) for part in zip(*parts, strict=True)]
        better = _maximised(_Moments(*added))
        law = replace(law, means=better.means) if means_only else better
    return law


def fitted_alike(
    start: Mixture, points: Points, noise: float, steps: int = 50, atoms: bool = False
) -> Mixture:
    """Return the same for samples of one level, in larger steps: ``noise`` bounds shapes below.

    The covariance of x_i is C_k + n^2, so the best C_k is that of a plain mixture less n^2, its
    eigenvalues held to 0.

    Args:
        start: Where EM begins.
        points: x_i.
        noise: n, above 0.
        steps: Of EM.
        atoms: Keep C_k = 0: the law of x_0 is finitely many points.

    Raises:
        ValueError: The level is not above 0.
    """
    if not noise > 0:
        raise ValueError(f"the level of the noise must be above 0, got {noise}.")
    points, law = points.double(), start
    levels = torch.full((len(points),), noise, dtype=torch.float64)
    for _ in range(steps):
        shares = law.responsibilities(points, levels)
        mass = shares.sum(0).clamp(min=1e-12)
        means = shares.T @ points / mass[:, None]
        shapes = torch.zeros_like(law.covariances)
        if not atoms:
            away = points[:, None] - means
            whole = torch.einsum("nk,nki,nkj->kij", shares, away, away) / mass[:, None, None]
            values, axes = torch.linalg.eigh(whole)
            shapes = axes * (values - noise**2).clamp(min=0)[:, None, :] @ axes.mT
        law = Mixture((mass / mass.sum()).log(), means, shapes)
    return law


def _moments(law: Mixture, level: float, points: Points) -> _Moments:
    size = points.shape[1]
    levels = torch.full((len(points),), level, dtype=points.dtype)
    shares = law.responsibilities(points, levels)
    total = law.covariances + level**2 * torch.eye(size, dtype=points.dtype)
    gain = torch.linalg.solve(total, law.covariances).mT  # C (C + n^2)^-1
    centres = law.means + ((points[:, None] - law.means)[..., None, :] @ gain.mT)[..., 0, :]
    left = level**2 * gain
    mass = shares.sum(0)
    second = torch.einsum("nk,nki,nkj->kij", shares, centres, centres)
    return _Moments(
        mass,
        torch.einsum("nk,nki->ki", shares, centres),
        second + mass[:, None, None] * (left + left.mT) / 2,
    )


def _maximised(found: _Moments) -> Mixture:
    mass = found.mass.clamp(min=1e-12)
    means = found.first / mass[:, None]
    shapes = found.second / mass[:, None, None] - means[:, :, None] * means[:, None, :]
    least = LEAST * torch.eye(means.shape[1], dtype=means.dtype)
    return Mixture((mass / mass.sum()).log(), means, (shapes + shapes.mT) / 2 + least)
