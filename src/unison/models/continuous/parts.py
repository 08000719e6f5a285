"""Which pieces do networks of continuous data share? Noise, classes, residual blocks, attention."""

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unison.types import Level

Cond = Float[Tensor, "B C"]
Field = Float[Tensor, "B D *P"]  # D channels at every place of a line or a plane
Labels = Int[Tensor, " B"]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Layer = TypeVar("Layer", bound=nn.Linear | nn.Conv1d | nn.Conv2d)

_SLOWEST, _FASTEST = 0.25, 32.0  # radians per unit of a noise that stays within a few units
CONV: dict[int, type[nn.Conv1d] | type[nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}


class Condition(nn.Module):
    """A row's noise, and its class if there are any, in one vector.

    Fourier features of the noise (Tancik et al., 2020, arXiv:2006.10739) at fixed frequencies,
    through a small MLP; a class adds its own vector, label -1 one that says nothing.
    """

    def __init__(self, width: int, classes: int, frequencies: int = 32) -> None:
        super().__init__()
        self.classes, self.frequencies = classes, frequencies
        self.mlp = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU())
        self.last = nn.Linear(width, width)
        self.label = nn.Embedding(classes + 1, width) if classes else None

    def forward(self, noise: Level, label: Labels | None) -> Cond:
        """Embed; no label at all is -1 for every row.

        Raises:
            ValueError: The network knows no classes and was told some.
        """
        powers = torch.linspace(0, 1, self.frequencies, device=noise.device)
        rates = _SLOWEST * (_FASTEST / _SLOWEST) ** powers
        angle = noise.float()[:, None] * rates
        waves = torch.cat([angle.cos(), angle.sin()], dim=-1).to(self.last.weight.dtype)
        known = self.last(self.mlp(waves))
        if self.label is None:
            if label is not None:
                raise ValueError(
                    "labels were given to a network without classes; make it with "
                    "classes=N, or leave the labels out."
                )
            return F.silu(known)
        if label is None:
            label = torch.full((len(noise),), -1, device=noise.device)
        return F.silu(known + self.label(torch.where(label < 0, self.classes, label)))


class ResidualBlock(nn.Module):
    """Two convolutions behind group norms; the condition scales and shifts the second's input.

    As in Ho et al., 2020 (arXiv:2006.11239), with the modulation of arXiv:2105.05233. The second
    convolution starts at 0, so a fresh block passes its input on.
    """

    def __init__(self, into: int, out: int, cond: int, dimensions: int, dropout: float) -> None:
        super().__init__()
        conv = CONV[dimensions]
        self.first_norm, self.second_norm = group_norm(into), group_norm(out)
        self.first = conv(into, out, 3, padding=1)
        self.second = zeroed(conv(out, out, 3, padding=1))
        self.modulation = nn.Linear(cond, 2 * out)
        self.dropout = nn.Dropout(dropout)
        self.across = conv(into, out, 1) if into != out else None

    def forward(self, h: Field, cond: Cond) -> Tensor:
        """Return the features after the block, [batch, out, *places]."""
        inner = self.first(F.silu(self.first_norm(h)))
        told = self.modulation(cond).view(len(h), -1, *[1] * (h.ndim - 2))
        scale, shift = told.chunk(2, 1)
        inner = self.second_norm(inner) * (1 + scale) + shift
        inner = self.second(self.dropout(F.silu(inner)))
        return inner + (h if self.across is None else self.across(h))


class PlaceAttention(nn.Module):
    """Every place of a feature map looks at every other; adds nothing at first.

    Attributes:
        attend: From queries, keys and values, [batch, heads, places, width], to what is found:
            where places lie on several devices, something that fetches the others.
    """

    def __init__(self, width: int, head_width: int = 32) -> None:
        super().__init__()
        self.heads = max(1, width // head_width)
        if width % self.heads:
            raise ValueError(
                f"attention over {width} channels needs heads of equal width; make the width a "
                f"multiple of {head_width}."
            )
        self.norm = group_norm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = zeroed(nn.Linear(width, width))
        self.attend: Attend = F.scaled_dot_product_attention

    def forward(self, h: Field) -> Tensor:
        """Mix places."""
        x = self.norm(h).flatten(2).transpose(1, 2)
        heads = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = self.attend(*heads.unbind(0))
        added = self.out(found.transpose(1, 2).flatten(2))
        return h + added.transpose(1, 2).unflatten(2, h.shape[2:])


def group_norm(width: int) -> nn.GroupNorm:
    """Return a norm over groups of about 8 channels, at most 32 groups."""
    most = max(1, min(32, width // 8))
    return nn.GroupNorm(next(n for n in range(most, 0, -1) if width % n == 0), width)


def zeroed(layer: Layer) -> Layer:
    """Return the layer with weights and bias 0."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def check_counts(name: str, counts: dict[str, int]) -> None:
    """Refuse sizes below 1.

    Raises:
        ValueError: One is.
    """
    for field, value in counts.items():
        if value < 1:
            raise ValueError(f"{name}.{field} must be at least 1, got {value}.")


def check_shares(name: str, classes: int, beside: int, dropout: float) -> None:
    """Refuse impossible conditions and dropout rates.

    Raises:
        ValueError: A number is outside its range.
    """
    if min(classes, beside) < 0:
        raise ValueError(
            f"{name}: classes and what lies beside must be at least 0, got {classes} and {beside}."
        )
    if not 0 <= dropout < 1:
        raise ValueError(f"{name}.dropout must be in [0, 1), got {dropout}.")


def joined(x: Tensor, beside: Tensor | None, channels: int, expected: int) -> Tensor:
    """Return the events with what is known beside them, along the channels.

    Args:
        x: Events, [batch, channels, *places].
        beside: What lies beside, on the same grid.
        channels: Channels the events must have.
        expected: Channels ``beside`` must have; 0 for none.

    Raises:
        ValueError: Something has other channels or another grid, or is missing.
    """
    if x.ndim < 2 or x.shape[1] != channels:
        raise ValueError(
            f"the network takes events of {channels} channels (axis 1), got shape {tuple(x.shape)}."
        )
    if beside is None:
        if expected:
            raise ValueError(
                f"the network needs {expected} channels beside the events and got none; bind them "
                "to the denoiser, or pass zeros where nothing is known."
            )
        return x
    wanted = (len(x), expected, *x.shape[2:])
    if not expected or tuple(beside.shape) != wanted:
        raise ValueError(
            f"what lies beside the events must have shape {wanted}, got {tuple(beside.shape)}."
            if expected
            else "something was given beside the events, and the network takes nothing there."
        )
    return torch.cat([x, beside.to(x.dtype)], 1)


def sinusoids(size: int, width: int, device: torch.device) -> Float[Tensor, "{size} {width}"]:
    """Return sines and cosines of the places of a line (arXiv:1706.03762)."""
    half = width // 2
    rates = torch.exp(-math.log(10_000.0) * torch.arange(half, device=device) / half)
    angle = torch.arange(size, device=device)[:, None] * rates
    return torch.cat([angle.sin(), angle.cos()], -1)
