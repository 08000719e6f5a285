"""What stands in a network for products of bytes? Layers that round each vector as it comes.

Weights keep 8 bits with a scale for every output, activations 8 bits with a scale for every
vector, and sums are exact whole numbers. This is the fastest way of a CPU for many positions, and
since nothing is rounded between, a vector's answer is the same to the last bit beside any others.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float32, Int, Int8
from torch import Tensor, nn
from torch.nn import functional as F

from unison.engine.quantised import activations, integers
from unison.engine.quantised.activations import Bend, Bytes, Columns
from unison.engine.quantised.integers import MOST

_TILE = 256  # vectors at a time: their sums stay close to the core
_ROWS = 4096  # rows of a weight that are searched at a time
_CLIPS = 16  # scales that are tried, from the largest weight down to half of it

Features = Float[Tensor, "*P K"]


class Channels(NamedTuple):
    """A weight as bytes, each row with a scale: W = levels * scale."""

    levels: Int8[Tensor, "N K"]
    scale: Float32[Tensor, " N"]


def nearest(weight: Float[Tensor, "N K"]) -> Channels:
    """Return the weight rounded to bytes, each row on the scale of least squared error.

    A row that is whole multiples of its largest entry over 127 stays as it is.

    Raises:
        ValueError: A weight is not finite.
    """
    if not bool(weight.isfinite().all()):
        raise ValueError("a weight is not finite; such a layer must stay as it is.")
    parts = [_nearest(part.detach().float()) for part in weight.split(_ROWS)]
    levels, scale = zip(*parts, strict=True)
    return Channels(torch.cat(levels), torch.cat(scale))


def _nearest(weight: Tensor) -> Channels:
    most = weight.abs().amax(1)
    best, found = torch.full_like(most, torch.inf), torch.zeros_like(most)
    for step in range(_CLIPS):
        scale = most * ((1 - step / (2 * _CLIPS)) / MOST)
        error = (_levels(weight, scale) * scale[:, None] - weight).square().sum(1)
        better = error < best
        best, found = torch.where(better, error, best), torch.where(better, scale, found)
    return Channels(_levels(weight, found).to(torch.int8), found)


def _levels(weight: Tensor, scale: Tensor) -> Tensor:
    steps = torch.where(scale == 0, 1.0, scale)[:, None]
    return (weight / steps).round().clamp(-MOST, MOST)


class DynamicLinear(nn.Module):
    """x W^T + b with W and x as bytes, their products summed exactly.

    Where a gradient is wanted x is not rounded: it is the dense map with the weights held. W cannot
    be trained. The state of the layer is that of a dense one.
    """

    levels: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(
        self,
        levels: Int8[Tensor, "K N"],
        scale: Float32[Tensor, " N"],
        bias: Float[Tensor, " N"] | None = None,
        *,
        tied: bool = False,
    ) -> None:
        """Take a weight as bytes, transposed.

        Args:
            levels: Of the weight; a column is an output.
            scale: Of each output.
            bias: What is added.
            tied: The weight is another layer's and that one's state.
        """
        super().__init__()
        self.in_features, self.out_features = levels.shape
        self.tied = tied
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("bias", bias)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if not self.tied:
            destination[prefix + "weight"] = self.weight
        super()._save_to_state_dict(destination, prefix, keep_vars)

    @property
    def weight(self) -> Float[Tensor, "N K"]:
        """The dense weight, float32; made anew at each asking."""
        return (self.levels * self.scale.float()).T.contiguous()

    @property
    def columns(self) -> Columns:
        """What its sums are multiplied with, and what is added."""
        bias = None if self.bias is None else self.bias.float().contiguous()
        return Columns(self.scale.float(), bias)

    def forward(self, x: Features) -> Float[Tensor, "*P N"]:
        """Return the map of every vector, in the dtype of x.

        Raises:
            ValueError: The vectors have another number of entries.
        """
        if x.shape[-1] != self.in_features:
            raise ValueError(
                f"this layer maps vectors of {self.in_features} entries, got {x.shape[-1]}."
            )
        flat = x.reshape(-1, self.in_features).float()
        if _learning(flat):
            y = F.linear(flat, self.weight, None if self.bias is None else self.bias.float())
        else:
            y = flat.new_empty(len(flat), self.out_features)
            columns = self.columns
            for some, into in zip(flat.split(_TILE), y.split(_TILE), strict=True):
                self.answer(activations.rounded(some), columns, into)
        return y.to(x.dtype).view(*x.shape[:-1], self.out_features)

    def answer(self, given: Bytes, columns: Columns, into: Float32[Tensor, "M N"]) -> None:
        """Write the map of vectors that are bytes."""
        sums = into.view(torch.int32)
        integers.product(given.levels, self.levels, sums)
        activations.finished(sums, given.scale, columns)


class DynamicGelu(nn.Module):
    """An MLP of two maps round a GELU; between them numbers are bytes as soon as they are bent."""

    def __init__(self, up: DynamicLinear, down: DynamicLinear) -> None:
        super().__init__()
        self.up, self.down = up, down

    def forward(self, x: Features) -> Features:
        """Return the MLP of every position."""
        if _learning(x):
            return self.down(F.gelu(self.up(x), approximate="tanh"))
        return _through(x, self.up, self.down, "gelu")


class DynamicSwiGlu(nn.Module):
    """A gated MLP of two maps; between them numbers are bytes as soon as they are gated."""

    def __init__(self, gate_up: DynamicLinear, down: DynamicLinear) -> None:
        super().__init__()
        self.gate_up, self.down = gate_up, down

    def forward(self, x: Features) -> Features:
        """Return the MLP of every position."""
        if _learning(x):
            gate, up = self.gate_up(x).chunk(2, dim=-1)
            return self.down(F.silu(gate) * up)
        return _through(x, self.gate_up, self.down, "gated")


def _through(x: Tensor, first: DynamicLinear, second: DynamicLinear, bend: Bend) -> Tensor:
    flat = x.reshape(-1, first.in_features).float()
    y = flat.new_empty(len(flat), second.out_features)
    before, after = first.columns, second.columns
    shape = (min(len(flat), _TILE), first.out_features)
    room = torch.empty(shape, dtype=torch.int32, device=flat.device)
    for some, into in zip(flat.split(_TILE), y.split(_TILE), strict=True):
        given, sums = activations.rounded(some), room[: len(some)]
        integers.product(given.levels, first.levels, sums)
        second.answer(activations.bent(sums, given.scale, before, bend), after, into)
    return y.to(x.dtype).view(*x.shape[:-1], second.out_features)


def _learning(x: Tensor) -> bool:
    return x.requires_grad and torch.is_grad_enabled()


class DynamicEmbedding(nn.Module):
    """Rows of a table of bytes; the output layer may be on the same memory."""

    levels: Tensor
    scale: Tensor

    def __init__(self, table: Channels) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = table.levels.shape
        self.register_buffer("levels", table.levels, persistent=False)
        self.register_buffer("scale", table.scale, persistent=False)

    @property
    def weight(self) -> Float[Tensor, "S D"]:
        """The dense table, float32; made anew at each asking."""
        return self.levels * self.scale.float()[:, None]

    def forward(self, tokens: Int[Tensor, "*P"]) -> Float[Tensor, "*P D"]:
        """Return each token's row, float32."""
        return self.levels[tokens] * self.scale.float()[tokens][..., None]

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "weight"] = self.weight


def from_dense(
    weight: Float[Tensor, "N K"], bias: Float[Tensor, " N"] | None = None
) -> DynamicLinear:
    """Return the layer with its weight rounded to bytes.

    Raises:
        ValueError: A weight is not finite.
    """
    levels, scale = nearest(weight)
    kept = None if bias is None else bias.detach().clone()
    return DynamicLinear(levels.T.contiguous(), scale, kept)
