"""Which few values may a weight take? Groups on grids of 4 or 8 bits.

Along each row, 32 weights or a multiple of that share a scale d and, with 4 bits, a minimum m, all
of half precision: w = d q + m with q in 0 ... 15, or w = d q with q in -128 ... 127. In groups of
32 these are the values of the GGUF types Q4_1 and Q8_0; d q is exact in float32, so adding m
rounds once.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Bits = Literal[4, 8]
GROUP = 32

_ROWS = 2048  # searched at a time: the workings of a whole embedding table would not fit
_CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)  # of the range of a group
_PROBE = 256  # groups that are tried on every grid before all are

Groups = Float[Tensor, "G W"]


class Grid(NamedTuple):
    """Weights [N, K] as groups of W = 32 times ``span`` along K.

    Attributes:
        scale: d, half precision.
        minimum: m, half precision; ``None`` with 8 bits.
        levels: q.
        exact: Whether every weight of the group is d q + m, to the last bit.
    """

    scale: Float[Tensor, "N G"]
    minimum: Float[Tensor, "N G"] | None
    levels: Int[Tensor, "N G W"]
    exact: Bool[Tensor, "N G"]

    @property
    def span(self) -> int:
        """How often 32 weights a group is."""
        return self.levels.shape[2] // GROUP

    @property
    def bits(self) -> Bits:
        """Bits of a level."""
        return 8 if self.minimum is None else 4


def nearest(
    weight: Float[Tensor, "N K"], bits: Bits, span: int = 1, *, clipped: bool = False
) -> Grid:
    """Return the weights rounded to a grid of each group; those that lie on one stay as they are.

    Args:
        weight: Dense.
        bits: Of a level.
        span: How often 32 weights share a grid.
        clipped: Where no grid holds a group, search the one of least squared error; else its ends
            are the group's.

    Raises:
        ValueError: K is not a multiple of 32, or a weight is not finite or above 65504.
    """
    if weight.shape[1] % GROUP or not weight.shape[1]:
        raise ValueError(
            f"a row of {weight.shape[1]} weights is not a number of groups of {GROUP}; such a "
            "layer must stay as it is."
        )
    if not bool((weight.abs() <= torch.finfo(torch.half).max).all()):
        raise ValueError(
            "a weight is not finite or its size is above 65504, the largest number of half "
            "precision; such a layer must stay as it is."
        )
    way = _Sought(bits, span * GROUP, clipped)
    parts = [_nearest(part.detach().float(), way) for part in weight.split(_ROWS)]
    scale, minimum, levels, exact = zip(*parts, strict=True)
    return Grid(
        torch.cat(scale),
        None if bits == 8 else torch.cat(minimum),  # pyright: ignore[reportCallIssue, reportArgumentType]
        torch.cat(levels),
        torch.cat(exact),
    )


def rough(weight: Float[Tensor, "N K"], bits: Bits, span: int) -> float:
    """Return the squared error on grids that end where the groups do, over the squared weights."""
    groups = weight.detach().float().reshape(-1, span * GROUP)
    fit = _fit_affine(groups, 15, 0) if bits == 4 else _fit_symmetric(groups, 127)
    return float(_error(groups, fit).sum()) / (float(groups.square().sum()) or 1.0)


class _Sought(NamedTuple):
    """Bits of a level, weights of a group, and whether its ends may be cut off."""

    bits: Bits
    width: int
    clipped: bool


def _nearest(weight: Float[Tensor, "N K"], way: _Sought) -> Grid:
    groups = weight.reshape(-1, way.width)
    fitted = (_affine if way.bits == 4 else _symmetric)(groups)
    if way.clipped:
        fitted = _squeezed(groups, fitted, way.bits)
    rows = len(weight)
    scale, minimum, levels, exact = (part.unflatten(0, (rows, -1)) for part in fitted)
    return Grid(scale, None if way.bits == 8 else minimum, levels, exact)


class _Fit(NamedTuple):
    """A grid for each group, its levels, and whether they are the weights."""

    scale: Float[Tensor, " G"]
    minimum: Float[Tensor, " G"]
    levels: Int[Tensor, "G W"]
    exact: Bool[Tensor, " G"]


Try = Callable[[Groups], _Fit]


def _affine(groups: Groups) -> _Fit:
    """Return the grid from the least weight to the largest, or one that holds every weight.

    Where a group lies on a grid its ends need not be levels 0 and 15, so all pairs are tried; a
    group of one value says nothing of its scale, and takes any level.
    """
    ends = [(steps, below) for steps in range(15, 0, -1) for below in range(16 - steps)]
    tries = [functools.partial(_fit_affine, steps=n, below=below) for n, below in ends]
    found = _improved(groups, tries[0](groups), tries[1:])
    levels = [(level, shifted) for level in range(1, 16) for shifted in (False, True)]
    single = [functools.partial(_fit_constant, level=n, shifted=near) for n, near in levels]
    return _improved(groups, found, single)


def _symmetric(groups: Groups) -> _Fit:
    """Return the grid from -127 to 127 times the scale, or one that holds every weight."""
    steps = (127, 128, *range(126, 0, -1))
    tries = [functools.partial(_fit_symmetric, steps=n) for n in steps]
    return _improved(groups, tries[0](groups), tries[1:])


def _squeezed(groups: Groups, found: _Fit, bits: Bits) -> _Fit:
    """Return the fits, each on the best of narrower ranges where that has less squared error.

    On each range levels are taken, and then the grid on which they are closest to the weights.
    """
    low, high = groups.amin(1).double(), groups.amax(1).double()
    middle, reach = (low + high) / 2, (high - low) / 2
    best = _error(groups, found)
    for part in _CLIPS:
        if bits == 4:
            ends = (middle - part * reach).half(), (2 * part * reach / 15).half()
            first = _levels(groups, ends[1], ends[0], (0, 15))
            new = _levels(groups, *_regressed(groups, first.levels), (0, 15))
        else:
            most = groups.abs().amax(1).double() * part
            new = _levels(groups, (most / 127).half(), torch.zeros_like(most).half(), (-127, 127))
        error = _error(groups, new)
        better = error < best
        best = torch.where(better, error, best)
        choice = zip(new, found, strict=True)
        found = _Fit(*(torch.where(_beside(better, a), a, b) for a, b in choice))
    return found


def _beside(which: Bool[Tensor, " G"], part: Tensor) -> Tensor:
    return which if part.ndim == 1 else which[:, None]


def _regressed(groups: Groups, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scales and minima of least squared error for levels."""
    q, w = levels.double(), groups.double()
    mean, target = q.mean(1), w.mean(1)
    apart = q - mean[:, None]
    spread = apart.square().sum(1)
    scale = (apart * w).sum(1) / torch.where(spread == 0, 1.0, spread)
    scale = scale.clamp(min=0).half()
    return scale, (target - scale.double() * mean).half()


def _error(groups: Groups, fit: _Fit) -> Float[Tensor, " G"]:
    values = fit.scale.float()[:, None] * fit.levels + fit.minimum.float()[:, None]
    return (values - groups).square().sum(1)


def _improved(groups: Groups, found: _Fit, tries: Sequence[Try]) -> _Fit:
    """Return the fits, exact where one of the tries is.

    A weight off every grid would pay for all of them: a sample decides whether to go on.
    """
    left = (~found.exact).nonzero()[:, 0]
    sample = left[:: max(len(left) // _PROBE, 1)]
    probed = _tried(groups, found, sample, tries)
    solved = bool(probed.exact[sample].any())
    return _tried(groups, probed, left, tries) if solved and len(sample) < len(left) else probed


def _tried(groups: Groups, found: _Fit, which: Int[Tensor, " S"], tries: Sequence[Try]) -> _Fit:
    """Return the fits, of some groups the first of the tries that is exact, if any is."""
    for attempt in tries:
        which = which[~found.exact[which]]
        if not len(which):
            break
        new = attempt(groups[which])
        good = which[new.exact]
        parts = zip(found, new, strict=True)
        found = _Fit(*(old.index_copy(0, good, fresh[new.exact]) for old, fresh in parts))
    return found


def _fit_affine(groups: Groups, steps: int, below: int) -> _Fit:
    """Return the grid whose levels ``below`` and ``below + steps`` are the ends of each group."""
    low, high = groups.amin(1).double(), groups.amax(1).double()
    scale = ((high - low) / steps).half()
    minimum = (low - below * scale.double()).half()
    return _levels(groups, scale, minimum, (0, 15))


def _fit_constant(groups: Groups, level: int, shifted: bool) -> _Fit:
    """Return a grid with the one value of each group at a level, its minimum 0 or near."""
    value = groups[:, 0].double()
    minimum = value.half() if shifted else torch.zeros_like(value).half()
    scale = ((value - minimum.double()) / level).half()
    return _levels(groups, scale, minimum, (0, 15))


def _fit_symmetric(groups: Groups, steps: int) -> _Fit:
    """Return the grid on which the largest weight is ``steps`` scales from 0."""
    scale = (groups.abs().amax(1).double() / steps).half()
    return _levels(groups, scale, torch.zeros_like(scale), (-128, 127))


def _levels(groups: Groups, scale: Tensor, minimum: Tensor, ends: tuple[int, int]) -> _Fit:
    d, m = scale.float()[:, None], minimum.float()[:, None]
    steps = (groups.double() - m) / torch.where(d == 0, 1.0, d).double()
    levels = steps.round().clamp(*ends).to(torch.int16)
    return _Fit(scale, minimum, levels, (d * levels + m == groups).all(1))
