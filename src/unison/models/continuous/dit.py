"""Which network suits images without levels? A transformer of patches (arXiv:2212.09748)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unison.models.config import TransformerConfig
from unison.models.continuous.parts import (
    Condition,
    Labels,
    check_counts,
    check_shares,
    joined,
    sinusoids,
    zeroed,
)
from unison.models.layers import Block, modulate
from unison.types import Level

Images = Float[Tensor, "B C H W"]
Beside = Float[Tensor, "B M H W"]


@dataclass(frozen=True)
class DiTConfig:
    """The shape of a diffusion transformer.

    Attributes:
        channels: Of the events, and of the answer.
        patch: Side of the squares that become one position.
        width: Of the residual stream; a multiple of 4.
        depth: Blocks.
        heads: Of the attention.
        classes: Known classes; 0 for none.
        beside_channels: Channels of what is known beside the events, on their grid.
        dropout: On both residual branches, while training.
    """

    channels: int = 1
    patch: int = 2
    width: int = 64
    depth: int = 4
    heads: int = 4
    classes: int = 0
    beside_channels: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_counts("dit", {"channels": self.channels, "patch": self.patch, "width": self.width})
        check_shares("dit", self.classes, self.beside_channels, self.dropout)
        if self.width % 4:
            raise ValueError(f"dit.width must be a multiple of 4, got {self.width}.")
        self.block()

    def block(self) -> TransformerConfig:
        """Return the shape of its blocks: those of the text networks, without rotary positions.

        Raises:
            ValueError: Depth, heads or dropout are impossible.
        """
        return TransformerConfig(
            hidden=self.width,
            depth=self.depth,
            heads=self.heads,
            cond_dim=self.width,
            dropout=self.dropout,
        )


class DiT(nn.Module):
    """Images in, an answer of their shape out; the answer of a fresh network is 0."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        area, shape = config.patch**2, config.block()
        self.condition = Condition(config.width, config.classes)
        self.stem = nn.Linear((config.channels + config.beside_channels) * area, config.width)
        self.blocks = nn.ModuleList(Block(shape, layer) for layer in range(config.depth))
        self.norm = nn.LayerNorm(config.width, elementwise_affine=False)
        self.modulation = zeroed(nn.Linear(config.width, 2 * config.width))
        self.head = zeroed(nn.Linear(config.width, config.channels * area))

    def forward(
        self,
        x: Images,
        noise: Level,
        label: Labels | None = None,
        beside: Beside | None = None,
    ) -> Images:
        """Return the answer (``types.EventNetwork``).

        Raises:
            ValueError: Channels, sides or conditions do not fit the configuration.
        """
        side = self.config.patch
        if any(length % side or not length for length in x.shape[2:]):
            raise ValueError(
                f"height and width must be multiples of the patch, {side}, got "
                f"{tuple(x.shape[2:])}; pad the images."
            )
        shown = joined(x, beside, self.config.channels, self.config.beside_channels)
        cond = self.condition(noise, label)
        h = self.stem(F.unfold(shown, side, stride=side).transpose(1, 2))
        rows, columns = (length // side for length in x.shape[2:])
        h = h + _places(rows, columns, self.config.width, x.device).to(h.dtype)
        for block in self.blocks:
            h = block(h, cond, None, None)
        shift, scale = self.modulation(cond).chunk(2, 1)
        patches = self.head(modulate(self.norm(h), shift, scale)).transpose(1, 2)
        return F.fold(patches, tuple(x.shape[2:]), side, stride=side)


def _places(rows: int, columns: int, width: int, device: torch.device) -> Tensor:
    """Return an embedding of every patch: half of it speaks of the row, half of the column."""
    down = sinusoids(rows, width // 2, device)[:, None].expand(-1, columns, -1)
    along = sinusoids(columns, width // 2, device)[None].expand(rows, -1, -1)
    return torch.cat([down, along], -1).flatten(0, 1)
