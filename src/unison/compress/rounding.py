r"""Which grid values should weights take so that a layer's answers change least?

With D = W' - W and the second moments S of what the layer reads, the error is tr(D S D^T), a
quadratic in each row of W. Columns are rounded one after another and what each leaves over is made
good by those to come (GPTQ: Frantar et al., 2022, arXiv:2210.17323): with S + damping = (U^T U)^-1,
U upper triangular, the residual e_k of column k moves columns j > k by -e_k U_kj / U_kk, and

    tr(D S D^T) = sum_k |e_k|^2 / U_kk^2        (of the damped S)

so each group's scale is chosen by that sum of its own columns. Then single weights move to other
levels while that lessens the error (as QuantEase: Behdin et al., 2023, arXiv:2309.01885).

Differs: columns go in their order, since groups of 32 neighbours share a scale. The result lies
exactly on the grid of ``unison.engine.quantised``, and is never worse than the nearest rounding.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unison.engine.quantised import grid
from unison.engine.quantised.grid import GROUP, Bits

DAMPING = 0.01  # of the mean of the diagonal of S
SWEEPS = 3
_SHRINK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6)
_HALF = float(torch.finfo(torch.half).max)

Weight = Float[Tensor, "N K"]
Second = Float[Tensor, "K K"]


class Scales(NamedTuple):
    """A grid for a group of each row: values d q + m, q between the ends.

    Attributes:
        step: d, representable in half precision.
        minimum: m, the same.
        ends: Lowest and highest level.
    """

    step: Float[Tensor, " N"]
    minimum: Float[Tensor, " N"]
    ends: tuple[int, int]

    def value(self, x: Tensor) -> Tensor:
        """Return the nearest value of each row's grid; x is [N] or [N, columns]."""
        wide = (...,) if x.ndim == 1 else (..., None)
        step, low = self.step[wide], self.minimum[wide]
        levels = (x - low).double() / torch.where(step == 0, 1.0, step).double()
        return step * levels.round().clamp(*self.ends).float() + low


def rounded(weight: Weight, second: Second, bits: Bits, damping: float = DAMPING) -> Weight:
    """Return the weights on the grid, float32, so that tr(D S D^T) is small.

    The better of two: columns in turn, then improved; and the nearest.

    Args:
        weight: Rows of a multiple of 32.
        second: S, what the layer reads.
        bits: Of a weight.
        damping: Share of the mean of S's diagonal that is added to it.

    Raises:
        ValueError: As ``grid.nearest``.
    """
    weight = weight.detach().float()
    plain = dense(grid.nearest(weight, bits))
    damped = _damped(second.double(), damping).to(weight)
    turned, scales = in_turn(weight, damped, bits)
    tries = [plain, improved(turned, weight, damped, scales)]
    errors = [float(error(one - weight, second)) for one in tries]
    return tries[errors.index(min(errors))]


def error(change: Weight, second: Second) -> Float[Tensor, ""]:
    """Return tr(D S D^T), float64."""
    change = change.double()
    return ((change @ second.to(change)) * change).sum()


def dense(fitted: grid.Grid) -> Weight:
    """Return the values of a grid."""
    values = fitted.scale.float()[..., None] * fitted.levels.float()
    if fitted.minimum is not None:
        values = values + fitted.minimum.float()[..., None]
    return values.flatten(1)


def in_turn(weight: Weight, damped: Second, bits: Bits) -> tuple[Weight, list[Scales]]:
    """Return the weights rounded column by column, and the grid of each group."""
    upper = _upper(damped)
    left, done, scales = weight.clone(), [], []
    for first in range(0, weight.shape[1], GROUP):
        here = slice(first, first + GROUP)
        part = upper[here, here]
        found = fitted(left[:, here], part.diagonal().square().reciprocal(), bits)
        values, residuals = _through(left[:, here], part, found)
        left[:, first + GROUP :] -= residuals @ upper[here, first + GROUP :]
        done.append(values)
        scales.append(found)
    return torch.cat(done, dim=1), scales


def _through(group: Tensor, upper: Tensor, scales: Scales) -> tuple[Tensor, Tensor]:
    """Round the columns of a group; return them and e_k / U_kk of each."""
    group, values, residuals = group.clone(), [], []
    for k in range(group.shape[1]):
        value = scales.value(group[:, k])
        residual = (group[:, k] - value) / upper[k, k]
        group[:, k:] -= residual[:, None] * upper[k, k:]
        values.append(value)
        residuals.append(residual)
    return torch.stack(values, dim=1), torch.stack(residuals, dim=1)


def improved(
    values: Weight, weight: Weight, damped: Second, scales: list[Scales], sweeps: int = SWEEPS
) -> Weight:
    """Return values in which no single weight would do better at another level, or nearly so.

    Every weight in turn takes the level that is best beside all others as they are: the error falls
    or stays.
    """
    values = values.clone()
    for _ in range(sweeps):
        before = values.clone()
        pull = (weight - values) @ damped  # minus half the gradient
        for number, own in enumerate(scales):
            here = slice(number * GROUP, number * GROUP + values.shape[1] // len(scales))
            moves = _moved(values[:, here], pull[:, here], damped[here, here], own)
            values[:, here] += moves
            pull -= moves @ damped[here]
        if torch.equal(before, values):
            break
    return _settled(values, scales)


def _moved(values: Tensor, pull: Tensor, damped: Tensor, scales: Scales) -> Tensor:
    """Return how the weights of a group move, one after another."""
    new, pull = values.clone(), pull.clone()
    for k in range(values.shape[1]):
        best = scales.value(new[:, k] + pull[:, k] / damped[k, k])
        pull -= (best - new[:, k])[:, None] * damped[k]
        new[:, k] = best
    return new - values


def fitted(group: Float[Tensor, "N C"], cost: Float[Tensor, " C"], bits: Bits) -> Scales:
    """Return the grid of each row's group with the least sum of cost times squared error.

    Tried are the grid from the least to the largest weight, and narrower ones that clip.
    """
    tries = [_spanned(group, shrink, bits) for shrink in _SHRINK]
    errors = torch.stack([((one.value(group) - group).square() * cost).sum(1) for one in tries])
    best = errors.argmin(0)[None]
    step = torch.stack([one.step for one in tries]).gather(0, best)[0]
    minimum = torch.stack([one.minimum for one in tries]).gather(0, best)[0]
    return Scales(step, minimum, tries[0].ends)


def _spanned(group: Tensor, shrink: float, bits: Bits) -> Scales:
    """Return the grid over a share of what the weights span.

    With 4 bits, minima too small beside d to be read back from the values are 0, and d is not so
    small beside a minimum that it could not be: then the values say what their grid is.
    """
    if bits == 8:
        step = _half(shrink * group.abs().amax(1) / 127)
        return Scales(step, torch.zeros_like(step), (-128, 127))
    low, high = group.amin(1), group.amax(1)
    middle, reach = (low + high) / 2, shrink * (high - low) / 2
    minimum = _half(middle - reach)
    step = _half(torch.maximum(2 * reach / 15, minimum.abs() * 2.0**-10))
    return Scales(step, minimum.where(minimum.abs() >= 2.0**-10 * 15 * step, 0.0), (0, 15))


def _half(x: Tensor) -> Tensor:
    return x.clamp(-_HALF, _HALF).half().float()


def _settled(values: Weight, scales: list[Scales]) -> Weight:
    """Return the values with groups of one value at half precision: such a group says no scale."""
    if scales[0].ends[0] < 0:
        return values
    groups = values.unflatten(1, (len(scales), -1))
    single = (groups == groups[..., :1]).all(-1, keepdim=True)
    return torch.where(single, _half(groups), groups).flatten(1)


def _damped(second: Tensor, damping: float) -> Tensor:
    mean = second.diagonal().mean()
    least = damping * float(mean) if float(mean) > 0 else 1.0
    return second + least * torch.eye(len(second), dtype=second.dtype, device=second.device)


def _upper(damped: Second) -> Second:
    """Return U, upper triangular with positive diagonal, U^T U the inverse of S."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped.double()))
    return torch.linalg.cholesky(inverse, upper=True).to(damped.dtype)
