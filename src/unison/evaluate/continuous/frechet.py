"""How far apart are two sets of events, seen as Gaussians in a space of features?

|m - m'|^2 + tr(C + C' - 2 (C^1/2 C' C^1/2)^1/2), the squared Wasserstein-2 distance of Gaussians
with the sets' moments (Frechet, 1957; Dowson and Landau, 1982, doi:10.1016/0047-259X(82)90077-X).
With features of one published network it is known as FID (Heusel et al., 2017, arXiv:1706.08500);
with others the numbers are of another scale, so say which features they are of.

The distance of finite sets of one law is above 0 and shrinks with their size (Chong and Forsyth,
2020, arXiv:1911.07023): compare sets of one size, and with the distance of two sets of real events.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from unison.exact.distances import gaussian_wasserstein
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Estimate

SITE_BOOTSTRAP = 61
_ROUNDS = 32

Features = Float[Tensor, "N D"]
Others = Float[Tensor, "M K"]
Moments = tuple[Float[Tensor, " D"], Float[Tensor, "D D"]]
OtherMoments = tuple[Float[Tensor, " K"], Float[Tensor, "K K"]]


def moments(features: Features) -> Moments:
    """Return mean and covariance, float64, the latter without bias.

    Raises:
        ValueError: There are fewer than two rows, or a number is not finite.
    """
    if len(features) < 2:
        raise ValueError(f"moments need at least two rows of features, got {len(features)}.")
    if not features.isfinite().all():
        raise ValueError("features hold NaN or infinity; look at the samples they are of.")
    rows = features.double()
    away = rows - rows.mean(0)
    return rows.mean(0), away.T @ away / (len(rows) - 1)


def between(left: Moments, right: OtherMoments) -> float:
    """Return the Frechet distance of two Gaussians, exactly.

    Raises:
        ValueError: They are of different dimensions.
    """
    if left[0].shape != right[0].shape:
        raise ValueError(
            f"features of {len(left[0])} and of {len(right[0])} dimensions cannot be compared; "
            "take both from one network."
        )
    return gaussian_wasserstein(left, right).square().item()


def frechet(left: Features, right: Others, seed: int = 0, rounds: int = _ROUNDS) -> Estimate:
    """Return the Frechet distance of two sets of features, with a bootstrap error.

    Both sets are drawn again from themselves ``rounds`` times (Efron, 1979); the error is the
    standard deviation over rounds. It says how the distance varies between sets of these sizes,
    not how far it is above that of the laws.

    Args:
        left: Features of one set.
        right: Of the other.
        seed: Names the bootstrap.
        rounds: Of the bootstrap, at least two.

    Raises:
        ValueError: A set has fewer than two rows, their dimensions differ, or there are too few
            rounds.
    """
    if rounds < 2:
        raise ValueError(f"rounds must be at least 2, got {rounds}.")
    found = between(moments(left), moments(right))
    again = torch.tensor(
        [
            between(moments(_again(left, seed, 2 * i)), moments(_again(right, seed, 2 * i + 1)))
            for i in range(rounds)
        ],
        dtype=torch.float64,
    )
    return Estimate(found, again.std().item(), min(len(left), len(right)), "squared features")


def _again(features: Features, seed: int, number: int) -> Features:
    count = len(features)
    u = rng.uniform(Key(rng.rows(seed, number, 1)), SITE_BOOTSTRAP, count)[0]
    return features[(u * count).long().clamp(max=count - 1)]
