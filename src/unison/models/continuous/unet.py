"""Which network suits images? A small U-Net whose halves can be called apart.

Ho et al., 2020 (arXiv:2006.11239). Its encoder's features vary little between neighbouring noise
levels (Faster Diffusion, arXiv:2312.09608), and so does what its inner levels hand to the outer
ones (DeepCache, arXiv:2312.00858): ``encode``, ``decode`` and ``outer`` let both be kept.
"""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unison.models.continuous.body import Body, Layout, check_layout
from unison.models.continuous.parts import (
    Condition,
    Labels,
    check_counts,
    check_shares,
    group_norm,
    joined,
    zeroed,
)
from unison.types import Level

Images = Float[Tensor, "B C H W"]
Beside = Float[Tensor, "B M H W"]


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a U-Net for images.

    Attributes:
        channels: Of the events, and of the answer.
        width: Channels of the outermost level.
        multipliers: Width of each level over ``width``; every level but the last halves the sides.
        blocks: Residual blocks of each level, on either side.
        attention: Levels with attention, 0 the outermost; the middle always has some.
        classes: Known classes; 0 for none.
        beside_channels: Channels of what is known beside the events, on their grid.
        dropout: Inside residual blocks, while training.
    """

    channels: int = 1
    width: int = 32
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1
    attention: tuple[int, ...] = ()
    classes: int = 0
    beside_channels: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_counts(
            "unet", {"channels": self.channels, "width": self.width, "blocks": self.blocks}
        )
        check_shares("unet", self.classes, self.beside_channels, self.dropout)
        check_layout("unet", self.multipliers, self.attention)


class Features(NamedTuple):
    """What the encoder hands to the decoder.

    Attributes:
        skips: For each level, outermost first, its features after each block.
        middle: The features of the innermost level.
    """

    skips: tuple[tuple[Tensor, ...], ...]
    middle: Tensor


class UNet(nn.Module):
    """Images in, an answer of their shape out; the answer of a fresh network is 0."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        cond = 4 * config.width
        self.condition = Condition(cond, config.classes)
        self.stem = nn.Conv2d(config.channels + config.beside_channels, config.width, 3, padding=1)
        self.body = Body(
            Layout(
                config.width,
                config.multipliers,
                config.blocks,
                config.attention,
                cond,
                2,
                config.dropout,
            )
        )
        self.norm = group_norm(config.width)
        self.head = zeroed(nn.Conv2d(config.width, config.channels, 3, padding=1))

    @property
    def factor(self) -> int:
        """Height and width must be multiples of this."""
        return 2 ** (len(self.config.multipliers) - 1)

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
        return self.decode(self.encode(x, noise, label, beside), noise, label)

    def encode(
        self,
        x: Images,
        noise: Level,
        label: Labels | None = None,
        beside: Beside | None = None,
    ) -> Features:
        """Return the features of all levels."""
        h, cond = self._started(x, noise, label, beside)
        skips = []
        for down in self.body.downs:
            h, kept = down(h, cond)
            skips.append(kept)
        return Features(tuple(skips), self.body.middle(h, cond))

    def decode(self, features: Features, noise: Level, label: Labels | None = None) -> Images:
        """Return the answer from features, which another noise level may have made."""
        return self.outermost(features.skips, features.middle, noise, label)

    def inner(self, features: Features, noise: Level, label: Labels | None, levels: int) -> Tensor:
        """Return what the inner levels hand to the outermost ``levels``.

        Raises:
            ValueError: There are not that many outer levels.
        """
        self._check_levels(levels)
        cond, h = self.condition(noise, label), features.middle
        for place in range(len(self.body.ups) - 1, levels - 1, -1):
            h = self.body.ups[place](h, features.skips[place], cond)
        return h

    def outer(
        self,
        x: Images,
        noise: Level,
        inner: Tensor,
        levels: int = 1,
        label: Labels | None = None,
        beside: Beside | None = None,
    ) -> Images:
        """Return the answer from the outermost ``levels`` and what ``inner`` once gave.

        Raises:
            ValueError: There are not that many outer levels.
        """
        self._check_levels(levels)
        h, cond = self._started(x, noise, label, beside)
        skips = []
        for down in self.body.downs[:levels]:
            h, kept = down(h, cond)
            skips.append(kept)
        return self.outermost(tuple(skips), inner, noise, label)

    def outermost(
        self,
        skips: tuple[tuple[Tensor, ...], ...],
        inner: Tensor,
        noise: Level,
        label: Labels | None = None,
    ) -> Images:
        """Return the answer from the outermost levels' features and what the inner ones gave."""
        cond, h = self.condition(noise, label), inner
        for place in range(len(skips) - 1, -1, -1):
            h = self.body.ups[place](h, skips[place], cond)
        return self._ended(h)

    def _started(
        self, x: Images, noise: Level, label: Labels | None, beside: Beside | None
    ) -> tuple[Tensor, Tensor]:
        if any(side % self.factor or not side for side in x.shape[2:]):
            raise ValueError(
                f"height and width must be multiples of {self.factor} for a U-Net of "
                f"{len(self.config.multipliers)} levels, got {tuple(x.shape[2:])}; pad the images "
                "or take fewer levels."
            )
        shown = joined(x, beside, self.config.channels, self.config.beside_channels)
        return self.stem(shown), self.condition(noise, label)

    def _ended(self, h: Tensor) -> Tensor:
        return self.head(F.silu(self.norm(h)))

    def _check_levels(self, levels: int) -> None:
        if not 1 <= levels < len(self.body.ups):
            raise ValueError(
                f"a U-Net of {len(self.body.ups)} levels has 1 to {len(self.body.ups) - 1} outer "
                f"levels, got {levels}."
            )
