"""What does a rounded layer compute? A dense map or a convolution of few-bit numbers."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

from unison.engine.continuous.geometry import Dense, geometry_of
from unison.engine.continuous.rounding import Grid, check_bits, of_tokens, over_rows

_HALF = 128  # unsigned levels of 8 bits minus this are signed ones


class Weights(NamedTuple):
    """Rounded weights: levels times the scale of their output channel.

    Attributes:
        levels: Whole numbers.
        scale: One for each output channel.
        bits: Bits of a level.
    """

    levels: Int8[Tensor, "N ..."]
    scale: Float[Tensor, " N"]
    bits: int


class RoundedLayer(nn.Module):
    """A layer with whole-number weights that sees its input on a grid of whole numbers.

    The input's grid is fixed (a calibrated range), or each token's own (``of_tokens``). With a
    fixed grid the product can also be made of 8-bit integers (CPU kernels of torch): the same
    numbers up to the rounding of float32 sums, since sums of integers are exact.
    """

    levels: Int8[Tensor, "N ..."]
    scale: Float[Tensor, " N"]
    seen_scale: Float[Tensor, ""]
    seen_zero: Float[Tensor, ""]
    bias: nn.Parameter | None

    def __init__(
        self, layer: Dense, weights: Weights, seen_bits: int, seen: Grid | None = None
    ) -> None:
        """Take a layer's place.

        Args:
            layer: Whose geometry and bias are kept.
            weights: What is in place of its weights.
            seen_bits: Bits of an input.
            seen: The input's grid; ``None`` for one of each token.

        Raises:
            ValueError: The geometry or the number of bits is not supported.
        """
        super().__init__()
        check_bits(seen_bits)
        self.bits, self.seen_bits, self.fixed = weights.bits, seen_bits, seen is not None
        self.geometry = geometry_of(layer)
        self.integers = False
        self.register_buffer("levels", weights.levels)
        self.register_buffer("scale", weights.scale.detach().clone())
        scale, zero = (torch.ones(()), torch.zeros(())) if seen is None else seen[:2]
        self.register_buffer("seen_scale", scale.detach().clone())
        self.register_buffer("seen_zero", zero.detach().clone())
        bias = layer.bias
        fixed = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.register_parameter("bias", fixed)

    @property
    def weight(self) -> Tensor:
        """The weights, in the type of their scale."""
        return self.levels.to(self.scale.dtype) * over_rows(self.scale, self.levels)

    def grid(self, x: Tensor) -> Grid:
        """Return the grid on which an input is seen."""
        if self.fixed:
            return Grid(self.seen_scale, self.seen_zero, self.seen_bits)
        return of_tokens(x, self.geometry.dense, self.seen_bits)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product and the bias."""
        if self.integers:
            return self._of_integers(x)
        return self.geometry.product(self.grid(x).nearest(x), self.weight, self.bias)

    def _of_integers(self, x: Tensor) -> Tensor:
        """Multiply 8-bit integers with sums in 32 bits; one rounding at the end.

        With q the levels of the input and w those of the weights, the sum of (q - zero) w is that
        of (q - 128) w, and (128 - zero) times the sum of w, a number of each channel.
        """
        shown = (self.grid(x).levels(x) - _HALF).to(torch.int8)
        zero = int(self.seen_zero)
        taps = self.geometry.taps(shown, zero - _HALF)
        weights = self.geometry.rows(self.levels)
        sums = torch._int_mm(  # pyright: ignore[reportPrivateImportUsage]
            taps.flatten(0, -2), weights.T.contiguous()
        )
        sums = sums + (_HALF - zero) * weights.sum(1, dtype=torch.int32)
        out = sums.to(x.dtype) * (self.seen_scale * self.scale)
        out = out if self.bias is None else out + self.bias
        return self.geometry.arranged(out.unflatten(0, taps.shape[:-1]))
