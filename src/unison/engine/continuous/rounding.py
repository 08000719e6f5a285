"""Which few values may weights and activations take? Even grids, one for each channel or token.

A grid of b bits is scale (q - zero) for whole numbers q. Weights have one scale for each output
channel and no zero, so that a product is one of whole numbers times two scales; text models, whose
products read weights from memory, use finer groups (``engine.quantised.grid``).
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

MOST_BITS = 8
_SHRUNK = 40  # scales tried for a row of weights, down to half of that which clips nothing


class Grid(NamedTuple):
    """scale (q - zero) for q from 0 to 2^bits - 1, broadcast over what is rounded.

    Attributes:
        scale: Distance of neighbours.
        zero: The level that means 0: a whole number, so padding is exact.
        bits: Bits of a level.
    """

    scale: Tensor
    zero: Tensor
    bits: int

    def levels(self, x: Tensor) -> Tensor:
        """Return the nearest levels, whole numbers in the type of ``x``."""
        return (x / self.scale).round().add(self.zero).clamp(0, 2**self.bits - 1)

    def values(self, levels: Tensor) -> Tensor:
        """Return what levels mean."""
        return self.scale * (levels - self.zero)

    def nearest(self, x: Tensor) -> Tensor:
        """Return ``x`` on the grid."""
        return self.values(self.levels(x))

    def through(self, x: Tensor) -> Tensor:
        """Return ``x`` on the grid; gradients pass where nothing is clipped.

        The straight-through estimator of Bengio et al., 2013 (arXiv:1308.3432).
        """
        steps = round_through(x / self.scale) + self.zero
        return self.scale * (steps.clamp(0, 2**self.bits - 1) - self.zero)


def between(low: Tensor, high: Tensor, bits: int) -> Grid:
    """Return the grid from ``low`` to ``high``, widened so that 0 lies on it."""
    check_bits(bits)
    low, high = low.clamp(max=0), high.clamp(min=0)
    width = high - low
    scale = torch.where(width == 0, 1.0, width / (2**bits - 1))
    return Grid(scale, (-low / scale).round(), bits)


def of_tokens(x: Tensor, dense: bool, bits: int) -> Grid:
    """Return a grid of its own for each token of a dense map's input, or each row of another's.

    A convolution adds products of several places, so these share one.
    """
    axes = (-1,) if dense else tuple(range(1, x.ndim))
    shown = x.detach()
    return between(shown.amin(axes, keepdim=True), shown.amax(axes, keepdim=True), bits)


def weight_ends(bits: int) -> tuple[int, int]:
    """Return the least and the largest level of a weight."""
    check_bits(bits)
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def weight_scale(weight: Float[Tensor, "N ..."], bits: int) -> Float[Tensor, " N"]:
    """Return the scale of each output channel whose rounding has the least squared error.

    Raises:
        ValueError: The number of bits is out of range, or a weight is not finite.
    """
    least, most = weight_ends(bits)
    if not bool(weight.isfinite().all()):
        raise ValueError("a weight is not finite; such a layer cannot be rounded.")
    rows = weight.detach().flatten(1)
    widest = (rows.amax(1) / most).maximum(rows.amin(1) / least)
    widest = torch.where(widest > 0, widest, 1.0)
    best, error = widest, torch.full_like(widest, torch.inf)
    for shrunk in torch.linspace(1.0, 0.5, _SHRUNK).tolist():
        scale = widest * shrunk
        rounded = (rows / scale[:, None]).round().clamp(least, most) * scale[:, None]
        found = (rounded - rows).square().sum(1)
        best, error = torch.where(found < error, scale, best), found.minimum(error)
    return best


def weight_levels(weight: Tensor, scale: Float[Tensor, " N"], bits: int) -> Tensor:
    """Return the nearest levels of weights, int8."""
    ratio = weight.detach() / over_rows(scale, weight)
    return ratio.round().clamp(*weight_ends(bits)).to(torch.int8)


def over_rows(scale: Float[Tensor, " N"], weight: Tensor) -> Tensor:
    """Return a number for each output channel, to be multiplied with weights."""
    return scale.view(-1, *[1] * (weight.ndim - 1))


def learned_steps(weight: Tensor, scale: Float[Tensor, " N"], bits: int) -> Tensor:
    """Return weights on the grid of a scale that is learned: LSQ (arXiv:1902.08153, eq. 1 to 3).

    The scale's gradient is the rounding error where nothing is clipped and the end level where
    something is, over sqrt(elements of a channel times the largest level).
    """
    least, most = weight_ends(bits)
    slower = (weight[0].numel() * most) ** -0.5
    across = over_rows(_Paced.apply(scale, slower), weight)  # pyright: ignore[reportArgumentType]
    return round_through((weight / across).clamp(least, most)) * across


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class _Paced(torch.autograd.Function):
    """A tensor whose gradient is multiplied by a number; its value is the same to the last bit."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.factor, None


def round_through(x: Tensor) -> Tensor:
    """Round to whole numbers, with the gradient of no rounding."""
    return _Round.apply(x)  # pyright: ignore[reportReturnType]


def check_bits(bits: int) -> None:
    """Refuse numbers of bits that are not supported.

    Raises:
        ValueError: It is not 2 to 8.
    """
    if not 2 <= bits <= MOST_BITS:
        raise ValueError(f"bits must be from 2 to {MOST_BITS}, got {bits}.")
