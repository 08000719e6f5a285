"""How far are two laws of points from each other? Distances of samples, weighted or not."""

import torch
from jaxtyping import Float
from torch import Tensor

from unison.prob import rng
from unison.prob.rng import Key

SITE_DIRECTION = 0x7FFFFF13


def directions(key: Key, size: int) -> Float[Tensor, "K {size}"]:
    """Draw a unit vector for each row of the key, uniform over all directions, float64."""
    normals = rng.normal(key, SITE_DIRECTION, size)
    return normals / normals.norm(dim=1, keepdim=True)


def sliced_wasserstein(
    left: Float[Tensor, "N D"],
    right: Float[Tensor, "M D"],
    along: Float[Tensor, "K D"],
    shares: tuple[Float[Tensor, " N"] | None, Float[Tensor, " M"] | None] = (None, None),
) -> Float[Tensor, ""]:
    """Return the root of the mean over directions of the squared 1-D Wasserstein-2 distance.

    Exact for the given points and directions: quantile functions are compared piece by piece, so
    the two sets may have different sizes and weights (Bonneel et al., 2015,
    doi:10.1007/s10851-014-0506-3).

    Args:
        left: Points of the first law.
        right: Points of the second.
        along: Unit vectors (``directions``); the same ones make distances comparable.
        shares: Weights of the points of either, summing to 1; ``None`` for equal ones.

    Raises:
        ValueError: A set of points is empty, or its weights do not sum to 1.
    """
    one = _quantiles(left, along, shares[0])
    two = _quantiles(right, along, shares[1])
    ends = torch.cat([one[1], two[1]], 1).sort(1).values
    widths = ends.diff(dim=1, prepend=torch.zeros_like(ends[:, :1]))
    middles = (ends - widths / 2).contiguous()
    gaps = _at(one, middles) - _at(two, middles)
    return (widths * gaps.square()).sum(1).mean().sqrt()


def energy_distance(left: Float[Tensor, "N D"], right: Float[Tensor, "M D"]) -> Float[Tensor, ""]:
    """Return 2 E|x - y| - E|x - x'| - E|y - y'| without bias (Szekely and Rizzo, 2013).

    0 in the mean exactly when the laws agree, so single values may be negative.

    Raises:
        ValueError: A set holds fewer than two points.
    """
    if min(len(left), len(right)) < 2:
        raise ValueError(
            f"the energy distance needs two points on either side, got {len(left)} and "
            f"{len(right)}."
        )
    left, right = left.double(), right.double()
    return 2 * torch.cdist(left, right).mean() - _within(left) - _within(right)


def gaussian_wasserstein(
    left: tuple[Float[Tensor, " D"], Float[Tensor, "D D"]],
    right: tuple[Float[Tensor, " D"], Float[Tensor, "D D"]],
) -> Float[Tensor, ""]:
    """Return the Wasserstein-2 distance of two Gaussians, each a mean and a covariance.

    |m - m'|^2 + tr(C + C' - 2 (C^1/2 C' C^1/2)^1/2) (Dowson and Landau, 1982,
    doi:10.1016/0047-259X(82)90077-X), its root. The Frechet distances of features are its square.
    """
    (mean, shape), (other, second) = left, right
    root = _root(shape.double())
    cross = _root(root @ second.double() @ root).diagonal().sum()
    traces = shape.double().diagonal().sum() + second.double().diagonal().sum()
    square = (mean.double() - other.double()).square().sum() + traces - 2 * cross
    return square.clamp(min=0).sqrt()


def _quantiles(points: Tensor, along: Tensor, shares: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the sorted projections [K, N] and the cumulative shares they end at."""
    if len(points) == 0:
        raise ValueError("there are no points to compare; give at least one on either side.")
    weights = torch.full((len(points),), 1 / len(points), dtype=torch.float64)
    if shares is not None:
        weights = shares.double()
        if not bool((weights.sum() - 1).abs() < 1e-6) or bool((weights < 0).any()):
            raise ValueError(
                f"weights must be at least 0 and sum to 1; they sum to {float(weights.sum()):.6g}."
            )
    values, order = (along.double() @ points.double().T).sort(1)
    return values, weights.to(points.device)[order].cumsum(1)


def _at(quantiles: tuple[Tensor, Tensor], where: Tensor) -> Tensor:
    values, ends = quantiles
    place = torch.searchsorted(ends, where).clamp(max=values.shape[1] - 1)
    return values.gather(1, place)


def _within(points: Tensor) -> Tensor:
    return torch.cdist(points, points).sum() / (len(points) * (len(points) - 1))


def _root(matrix: Tensor) -> Tensor:
    values, axes = torch.linalg.eigh(matrix)
    return axes * values.clamp(min=0).sqrt() @ axes.mT
