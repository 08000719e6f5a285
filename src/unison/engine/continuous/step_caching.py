"""May a U-Net's inner levels rest? What they hand out moves slower than what the outer ones see.

DeepCache (Ma et al., 2023, arXiv:2312.00858): at key steps the whole network is asked; at the
others the outermost levels see the events anew, and take what the inner ones handed out at the
last key step. Unlike ``propagation`` every answer knows the events of its own step, so it can
not be had in advance.
"""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.decode.continuous.api import Levels
from unison.engine.continuous.keys import Every, KeySteps
from unison.engine.continuous.remembering import (
    Bound,
    Remembering,
    Told,
    remembering,
    unet_of,
)
from unison.models.continuous.unet import UNet
from unison.types import Event, Level


@dataclass(frozen=True)
class StepCaching:
    """A U-Net whose inner levels run at key steps alone.

    Attributes:
        denoise: The model, conditions bound.
        keys: Which steps are key steps.
        levels: How many of the outermost levels run at every step.
    """

    denoise: Bound
    keys: KeySteps = field(default_factory=Every)
    levels: int = 1

    def __post_init__(self) -> None:
        inner = len(unet_of(self.denoise).body.ups) - 1
        if not 1 <= self.levels <= inner:
            raise ValueError(
                f"a U-Net of {inner + 1} levels has 1 to {inner} outer levels, got levels="
                f"{self.levels}; a U-Net of one level has no inner ones to keep."
            )

    def with_memory(self, levels: Levels) -> Remembering:
        """Return the denoiser of one run along a grid.

        Raises:
            ValueError: The levels are no grid, or outside what the model knows.
        """
        return remembering(self.denoise, Handed(self.levels), self.keys, levels)


@dataclass(frozen=True)
class Handed:
    """What the inner levels hand out is kept.

    Attributes:
        levels: How many outer levels run at every step.
    """

    levels: int

    def begun(self, denoise: Bound, x: Event, level: Level, ahead: Levels) -> Told:
        """Ask all levels."""
        asked = _Whole(unet_of(denoise), self.levels)
        mean = replace(denoise, network=asked)(x, level)
        return Told(mean, asked.inner.detach())  # gradients end with the step they began in

    def again(self, denoise: Bound, x: Event, level: Level, kept: Tensor) -> Event:
        """Ask the outer levels."""
        return replace(denoise, network=_Outer(unet_of(denoise), self.levels, kept))(x, level)


class _Whole:
    """The whole network; what its inner levels hand out is noted."""

    def __init__(self, network: UNet, levels: int) -> None:
        self.network, self.levels = network, levels
        self.inner = torch.empty(0)

    def __call__(
        self,
        x: Event,
        noise: Level,
        label: Int[Tensor, " B"] | None = None,
        beside: Float[Tensor, "B ..."] | None = None,
    ) -> Event:
        features = self.network.encode(x, noise, label, beside)
        self.inner = self.network.inner(features, noise, label, self.levels)
        return self.network.outermost(features.skips[: self.levels], self.inner, noise, label)


@dataclass(frozen=True)
class _Outer:
    """The outer levels, with what the inner ones once gave."""

    network: UNet
    levels: int
    inner: Tensor

    def __call__(
        self,
        x: Event,
        noise: Level,
        label: Int[Tensor, " B"] | None = None,
        beside: Float[Tensor, "B ..."] | None = None,
    ) -> Event:
        return self.network.outer(x, noise, self.inner, self.levels, label, beside)
