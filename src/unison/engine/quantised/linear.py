"""What stands in a network in place of a dense layer? The same map, its weight on a grid."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unison.engine.quantised import grid, kernel, packed
from unison.engine.quantised.grid import Bits, Grid
from unison.engine.quantised.packed import LANES, Packed

_TILE = 32  # blocks that are made dense at a time where there is no kernel: half a megabyte or so


class QuantisedLinear(nn.Module):
    """x W^T + b with W packed in groups of weights of 4 or 8 bits; products are of float32.

    On a CPU with llvmlite (``pip install 'unison[fast]'``) the weights are never made dense, and a
    row's answer is the same to the last bit beside any other rows. Elsewhere, and where a gradient
    is wanted, a few rows of W are made dense at a time and torch multiplies. W cannot be trained.
    The state of the layer is that of a dense one: it is saved, hashed and compared as such.
    """

    weights: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weights: Packed,
        bits: Bits,
        out_features: int,
        bias: Float[Tensor, " N"] | None = None,
        *,
        tied: bool = False,
    ) -> None:
        """Take packed weights.

        Args:
            weights: In blocks of 16 rows; see ``packed``.
            bits: Of a weight.
            out_features: Rows that are answered, of the first blocks.
            bias: What is added.
            tied: The weights are another layer's and that one's state.
        """
        super().__init__()
        self.bits: Bits = bits
        self.in_features, self.out_features = packed.width(weights, bits), out_features
        self.tied = tied
        self.register_buffer("weights", weights[: -(-out_features // LANES)], persistent=False)
        self.register_buffer("bias", bias)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if not self.tied:
            destination[prefix + "weight"] = self.weight

    @property
    def weight(self) -> Float[Tensor, "N K"]:
        """The dense weight, float32; made anew at each asking."""
        return packed.dense(self.weights, self.bits)[: self.out_features]

    def forward(self, x: Float[Tensor, "*P K"]) -> Float[Tensor, "*P N"]:
        """Return the map of every vector, in the dtype of x.

        Raises:
            ValueError: The vectors have another number of entries.
        """
        if x.shape[-1] != self.in_features:
            raise ValueError(
                f"this layer maps vectors of {self.in_features} entries, got {x.shape[-1]}."
            )
        flat = x.reshape(-1, self.in_features).float()
        if (
            flat.is_cpu
            and not (flat.requires_grad and torch.is_grad_enabled())
            and kernel.available()
        ):
            y = self.product(flat)
        else:
            parts = self.weights.split(_TILE)
            y = torch.cat([F.linear(flat, packed.dense(part, self.bits)) for part in parts], dim=1)
            y = self._finished(y)
        return y.to(x.dtype).view(*x.shape[:-1], self.out_features)

    def product(self, x: Float[Tensor, "M K"]) -> Float[Tensor, "M N"]:
        """Return the map of float32 vectors on a CPU that ``kernel`` serves; no gradient flows."""
        return self._finished(kernel.product(x, self.weights, self.bits))

    def _finished(self, y: Tensor) -> Tensor:
        y = y if y.shape[1] == self.out_features else y[:, : self.out_features].contiguous()
        return y if self.bias is None else y + self.bias


class QuantisedEmbedding(nn.Module):
    """Rows of a packed table; the output layer may be on the same memory."""

    weights: Tensor

    def __init__(self, weights: Packed, bits: Bits, rows: int) -> None:
        super().__init__()
        self.bits: Bits = bits
        self.num_embeddings, self.embedding_dim = rows, packed.width(weights, bits)
        self.register_buffer("weights", weights, persistent=False)

    @property
    def weight(self) -> Float[Tensor, "S D"]:
        """The dense table, float32; made anew at each asking."""
        return packed.dense(self.weights, self.bits)[: self.num_embeddings]

    def forward(self, tokens: Int[Tensor, "*P"]) -> Float[Tensor, "*P D"]:
        """Return each token's row, float32."""
        return packed.rows(self.weights, self.bits, tokens)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "weight"] = self.weight


def from_dense(
    weight: Float[Tensor, "N K"], bits: Bits, bias: Float[Tensor, " N"] | None = None
) -> QuantisedLinear:
    """Return the layer with its weight rounded; what already lies on a grid of bits stays exactly.

    Raises:
        ValueError: K is not a multiple of 32, or a weight is not finite or above 65504.
    """
    return from_grid(grid.nearest(weight, bits), bias)


def from_grid(fitted: Grid, bias: Float[Tensor, " N"] | None = None) -> QuantisedLinear:
    """Return the layer whose weight is on a grid."""
    kept = None if bias is None else bias.detach().clone()
    return QuantisedLinear(packed.packed(fitted), fitted.bits, len(fitted.scale), kept)
