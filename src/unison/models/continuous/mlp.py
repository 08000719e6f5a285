"""Which network suits points? Residual layers on vectors: toys, molecules' torsions, features."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unison.models.continuous.parts import (
    Cond,
    Condition,
    Labels,
    check_counts,
    check_shares,
    joined,
    zeroed,
)
from unison.types import Level

Points = Float[Tensor, "B D"]


@dataclass(frozen=True)
class PointsConfig:
    """The shape of a network for points.

    Attributes:
        channels: Coordinates of an event.
        width: Of the hidden layers.
        depth: Residual layers.
        classes: Known classes; 0 for none.
        beside_channels: Numbers known beside each event.
        dropout: Inside residual layers, while training.
    """

    channels: int = 2
    width: int = 128
    depth: int = 3
    classes: int = 0
    beside_channels: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_counts(
            "points", {"channels": self.channels, "width": self.width, "depth": self.depth}
        )
        check_shares("points", self.classes, self.beside_channels, self.dropout)


class PointsLayer(nn.Module):
    """A hidden layer behind a norm, scaled and shifted by the condition; adds nothing at first."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, 2 * width), zeroed(nn.Linear(2 * width, width))
        self.modulation = nn.Linear(width, 2 * width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Points, cond: Cond) -> Tensor:
        """Return the features after the layer."""
        scale, shift = self.modulation(cond).chunk(2, 1)
        inner = self.first(self.norm(h) * (1 + scale) + shift)
        return h + self.second(self.dropout(F.silu(inner)))


class PointsNetwork(nn.Module):
    """Points in, an answer of their shape out; the answer of a fresh network is 0."""

    def __init__(self, config: PointsConfig) -> None:
        super().__init__()
        self.config = config
        self.condition = Condition(config.width, config.classes)
        self.stem = nn.Linear(config.channels + config.beside_channels, config.width)
        self.layers = nn.ModuleList(
            PointsLayer(config.width, config.dropout) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = zeroed(nn.Linear(config.width, config.channels))

    def forward(
        self,
        x: Points,
        noise: Level,
        label: Labels | None = None,
        beside: Float[Tensor, "B M"] | None = None,
    ) -> Points:
        """Return the answer (``types.EventNetwork``).

        Raises:
            ValueError: Coordinates or conditions do not fit the configuration.
        """
        shown = joined(x, beside, self.config.channels, self.config.beside_channels)
        cond, h = self.condition(noise, label), self.stem(shown)
        for layer in self.layers:
            h = layer(h, cond)
        return self.head(self.norm(h))
