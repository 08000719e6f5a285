"""How are an image and its label one thing? Two processes side by side, one belief about both.

The image is under Gaussian noise of level s, the label is hidden or told: a product of a continuous
and a discrete process that share one network, after MT-Diffusion (Chen et al., 2024,
arXiv:2407.17571; differs: there the label's embedding is added into the noisy image, here the label
has a process of its own, so that each head answers an exact question). A belief is asked about
(x, s, label or -1) and answers the mean of the clean image and log-probabilities of the label.

A pair is drawn by telling the label at one level: above it the image is undone without a label, at
it the label is drawn from the belief, below it both are known. With an exact belief the pair has
the exact joint law wherever that level is, and the nats of the pair are the same (``parted``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.decode.continuous import Levels, Solver, solve
from unison.decode.continuous.dpm_solver import DPMSolver
from unison.prob import rng
from unison.prob.categorical import sample
from unison.prob.rng import Key
from unison.types import Event, Level

SITE_LABEL, SITE_NOISE = 63, 64

Labels = Int[Tensor, " B"]
LogShares = Float[Tensor, "B K"]
Rows = Float[Tensor, " B"]


@runtime_checkable
class Joint(Protocol):
    """A belief about an image and its label."""

    def __call__(self, x: Event, level: Level, label: Labels) -> tuple[Event, LogShares]:
        """Return E[x_0 | y, label] and log p(label | y); label -1 is a hidden one."""
        ...


@dataclass(frozen=True)
class Told:
    """A joint belief with its labels bound: a denoiser of images.

    Attributes:
        joint: The belief.
        label: Of each row, -1 where it is hidden.
    """

    joint: Joint
    label: Labels

    def __call__(self, x: Event, level: Level) -> Event:
        """Return the mean of the image."""
        return self.joint(x, level, self.label)[0]


class DrawnPairs(NamedTuple):
    """Images and their labels.

    Attributes:
        x: Images.
        label: One for each.
    """

    x: Event
    label: Labels


def drawn(
    joint: Joint,
    levels: Levels,
    start: Event,
    key: Key,
    solver: Solver | None = None,
    place: int | None = None,
) -> DrawnPairs:
    """Draw images with their labels.

    Args:
        joint: The belief.
        levels: Falling, above 0 but for the last one, which may be 0.
        start: The rows at the first level.
        key: One random stream per row.
        solver: Who undoes the image; DPM-Solver++ if left out.
        place: At which of the levels the label is told; the middle one if left out.

    Raises:
        ValueError: The label is told at no level inside the grid.
    """
    at = len(levels) // 2 if place is None else place
    if not 0 < at < len(levels) - 1 or levels[at] <= 0:
        raise ValueError(
            f"the label is told at level number {at} of {len(levels)}; give one inside the grid, "
            f"from 1 to {len(levels) - 2}."
        )
    rule = solver or DPMSolver()
    hidden = torch.full((len(start),), -1)
    half = solve(rule, levels[: at + 1], Told(joint, hidden), start, key).x
    label = drawn_label(joint, half, levels[at], key)
    below = Key(rng.derived(key.seed, 1))  # the second half has noise of its own
    x = solve(rule, levels[at:], Told(joint, label), half, below).x
    return DrawnPairs(x, label)


def drawn_label(joint: Joint, x: Event, level: float, key: Key) -> Labels:
    """Draw a label for each noisy image from the belief."""
    shares = joint(x, _at(level, x), torch.full((len(x),), -1))[1]
    return sample(shares, rng.uniform(key, SITE_LABEL, 1)[:, 0])


def classified(joint: Joint, x: Event, level: float) -> Labels:
    """Return the most likely label of clean images, asked at a level that is nearly clean."""
    return joint(x, _at(level, x), torch.full((len(x),), -1))[1].argmax(1)


class Parts(NamedTuple):
    """Nats of pairs, from the highest level down to the lowest.

    Attributes:
        above: Of the image, before the label is told.
        label: Of the label, where it is told.
        below: Of the image, given the label.
    """

    above: Rows
    label: Rows
    below: Rows

    @property
    def total(self) -> Rows:
        """Nats of the pair: the same wherever the label is told, for an exact belief."""
        return self.above + self.label + self.below


def parted(
    joint: Joint, clean: Event, label: Labels, levels: Sequence[float], place: int, key: Key
) -> Parts:
    """Estimate the nats of pairs between two levels of noise.

    Between levels a > b the image costs (1/b^2 - 1/a^2) / 2 |x_0 - D|^2 (Kingma et al., 2021,
    arXiv:2107.00630, with D asked in the middle, log-wise); the label costs -log p(label | y)
    where it is told. That the sum does not depend on where is the I-MMSE relation (Guo et al.,
    2005, doi:10.1109/TIT.2005.844072) for the label's information.

    Args:
        joint: The belief.
        clean: Images.
        label: Their labels.
        levels: Falling, above 0.
        place: At which of the levels the label is told, both ends allowed.
        key: One random stream per row; all levels see the same noise.
    """
    noise = rng.normal(key, SITE_NOISE, clean[0].numel()).to(clean).view_as(clean)
    hidden = torch.full_like(label, -1)
    sums = torch.zeros(2, len(clean), dtype=torch.float64)
    for number, (high, low) in enumerate(pairwise(levels)):
        middle = math.sqrt(high * low)
        told = label if number >= place else hidden
        mean = joint(clean + middle * noise, _at(middle, clean), told)[0]
        square = (clean - mean).double().square().flatten(1).sum(1)
        sums[int(number >= place)] += (low**-2 - high**-2) / 2 * square
    there = levels[place]
    shares = joint(clean + there * noise, _at(there, clean), hidden)[1].double()
    cost = -shares.gather(1, label[:, None])[:, 0]
    return Parts(sums[0], cost, sums[1])


def _at(level: float, x: Event) -> Level:
    return torch.full((len(x),), level, dtype=x.dtype)
