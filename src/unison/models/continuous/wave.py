"""Which network suits waves? A U-Net on a line: sound, or the frames of a spectrogram.

As in DiffWave's successors on audio (Schneider et al., 2023, arXiv:2301.11757): the levels of
``unet.py`` with longer strides, between a stem and a head that fold short patches of samples.
"""

from dataclasses import dataclass

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

Waves = Float[Tensor, "B C N"]
Beside = Float[Tensor, "B M N"]


@dataclass(frozen=True)
class WaveConfig:
    """The shape of a U-Net for waves.

    Attributes:
        channels: Of the events: 1 for mono sound, the bins of a spectrogram.
        width: Channels of the outermost level.
        multipliers: Width of each level over ``width``.
        blocks: Residual blocks of each level, on either side.
        attention: Levels with attention, 0 the outermost; the middle always has some.
        patch: Samples that are folded into one place before the first level.
        stride: By how much every level but the last shortens the line; even.
        classes: Known classes; 0 for none.
        beside_channels: Channels of what is known beside the events, of their length.
        dropout: Inside residual blocks, while training.
    """

    channels: int = 1
    width: int = 32
    multipliers: tuple[int, ...] = (1, 2, 4)
    blocks: int = 1
    attention: tuple[int, ...] = ()
    patch: int = 4
    stride: int = 4
    classes: int = 0
    beside_channels: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_counts(
            "wave",
            {
                "channels": self.channels,
                "width": self.width,
                "blocks": self.blocks,
                "patch": self.patch,
            },
        )
        if self.stride < 2 or self.stride % 2:
            raise ValueError(f"wave.stride must be an even number, got {self.stride}.")
        check_shares("wave", self.classes, self.beside_channels, self.dropout)
        check_layout("wave", self.multipliers, self.attention)


class WaveUNet(nn.Module):
    """Waves in, an answer of their shape out; the answer of a fresh network is 0."""

    def __init__(self, config: WaveConfig) -> None:
        super().__init__()
        self.config = config
        cond = 4 * config.width
        seen = (config.channels + config.beside_channels) * config.patch
        self.condition = Condition(cond, config.classes)
        self.stem = nn.Conv1d(seen, config.width, 3, padding=1)
        self.body = Body(
            Layout(
                config.width,
                config.multipliers,
                config.blocks,
                config.attention,
                cond,
                1,
                config.dropout,
                config.stride,
            )
        )
        self.norm = group_norm(config.width)
        self.head = zeroed(nn.Conv1d(config.width, config.channels * config.patch, 3, padding=1))

    @property
    def factor(self) -> int:
        """The length must be a multiple of this."""
        return self.config.patch * self.config.stride ** (len(self.config.multipliers) - 1)

    def forward(
        self,
        x: Waves,
        noise: Level,
        label: Labels | None = None,
        beside: Beside | None = None,
    ) -> Waves:
        """Return the answer (``types.EventNetwork``).

        Raises:
            ValueError: Channels, length or conditions do not fit the configuration.
        """
        if x.shape[-1] % self.factor or not x.shape[-1]:
            raise ValueError(
                f"the length must be a multiple of {self.factor} for {self.config}, got "
                f"{x.shape[-1]}; pad the waves with silence."
            )
        shown = joined(x, beside, self.config.channels, self.config.beside_channels)
        cond, h = self.condition(noise, label), self.stem(_folded(shown, self.config.patch))
        skips = []
        for down in self.body.downs:
            h, kept = down(h, cond)
            skips.append(kept)
        h = self.body.middle(h, cond)
        for up, kept in zip(reversed(self.body.ups), reversed(skips), strict=True):
            h = up(h, kept, cond)
        return _unfolded(self.head(F.silu(self.norm(h))), self.config.patch)


def _folded(x: Tensor, patch: int) -> Tensor:
    """Return [batch, channels * patch, places] of [batch, channels, places * patch]."""
    return x.unflatten(2, (-1, patch)).transpose(2, 3).flatten(1, 2)


def _unfolded(h: Tensor, patch: int) -> Tensor:
    return h.unflatten(1, (-1, patch)).transpose(2, 3).flatten(2)
