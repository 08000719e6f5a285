"""May a U-Net's encoder rest? Its features hardly move between neighbouring levels.

Faster Diffusion (Li et al., 2023, arXiv:2312.09608): at key steps the whole network is asked; at
the others the decoder alone, with the features of the last key step and its own noise level.

Between two key steps the decoder sees nothing of the events: its answers F depend on the key
step's features and the level alone, and only the mean skip y + out F reads y. So the answers at
*all* levels up to the next key step can be had in one batch at the key step (``together``), and
whatever the solver does with them is the same as one by one. What that takes is that the levels
are known in advance: every solver that asks at the levels of its grid (DDIM, the multistep rules,
UniPC) profits; one that asks between them (midpoints of single-step rules) is answered one by
one there. What it does not give: fewer steps of the solver, or features that know where y went.
Steps whose network does read y, as in ``step_caching``, cannot be had in advance.

What is saved is to be weighed against fewer steps of a plain run, the other way to spend less:
``benchmarks/event_caching.py`` tells both.

Gradients from the mean to the events (guidance) pass whole at key steps; at the others only
through skip y, for the answer does not read y.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.decode.continuous.api import Levels
from unison.engine.continuous.keys import KeySteps, Places
from unison.engine.continuous.remembering import (
    Bound,
    Remembering,
    Told,
    remembering,
    unet_of,
)
from unison.models.continuous.unet import Features, UNet
from unison.types import Event, Level


@dataclass(frozen=True)
class Propagation:
    """A U-Net whose encoder runs at key steps alone.

    Attributes:
        denoise: The model, conditions bound.
        keys: Which steps are key steps.
        together: Decode all steps up to the next key step in one batch; memory for as many
            batches of features, in exchange for fewer, larger calls.
    """

    denoise: Bound
    keys: KeySteps = field(default_factory=Places)
    together: bool = False

    def __post_init__(self) -> None:
        unet_of(self.denoise)

    def with_memory(self, levels: Levels) -> Remembering:
        """Return the denoiser of one run along a grid.

        Raises:
            ValueError: The levels are no grid, or outside what the model knows.
        """
        return remembering(self.denoise, Encoded(self.together), self.keys, levels)


class _Kept(NamedTuple):
    """What a key step leaves.

    Attributes:
        features: Of the encoder.
        levels: Those whose answers are known already.
        answers: Of the network, at each of them.
    """

    features: Features
    levels: Levels = ()
    answers: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Encoded:
    """The features of the encoder are kept.

    Attributes:
        together: Decode all levels up to the next key step at once.
    """

    together: bool = False

    def begun(self, denoise: Bound, x: Event, level: Level, ahead: Levels) -> Told:
        """Encode and decode; with ``together`` decode what lies ahead too."""
        asked = _Encoding(unet_of(denoise))
        mean = replace(denoise, network=asked)(x, level)
        features = _detached(asked.features)
        if not (self.together and ahead):
            return Told(mean, _Kept(features))
        return Told(mean, _Kept(features, ahead, _ahead(denoise, x, ahead, features)))

    def again(self, denoise: Bound, x: Event, level: Level, kept: _Kept) -> Event:
        """Decode, unless the answer is known."""
        now = level[0].item()
        for known, answer in zip(kept.levels, kept.answers, strict=True):
            if abs(known - now) <= 1e-6 * known:
                return replace(denoise, network=_Known(answer))(x, level)
        return replace(denoise, network=_Decoding(unet_of(denoise), kept.features))(x, level)


def _ahead(denoise: Bound, x: Event, ahead: Levels, features: Features) -> tuple[Tensor, ...]:
    """Return the network's answers at several levels, from one call."""
    rows = torch.arange(len(x), device=x.device).repeat(len(ahead))
    level = torch.tensor(ahead, dtype=x.dtype, device=x.device).repeat_interleave(len(x))
    repeated = Features(
        tuple(tuple(one[rows] for one in kept) for kept in features.skips), features.middle[rows]
    )
    network = _Decoding(unet_of(denoise), repeated)
    asked = replace(denoise.keep(rows), network=network)
    return asked.answered(x[rows], level).answer.chunk(len(ahead))


def _detached(features: Features) -> Features:
    """Return features that later steps may read: gradients end with the step they began in."""
    skips = tuple(tuple(one.detach() for one in kept) for kept in features.skips)
    return Features(skips, features.middle.detach())


class _Encoding:
    """The whole network, whose features are noted."""

    def __init__(self, network: UNet) -> None:
        self.network = network
        self.features = Features((), torch.empty(0))

    def __call__(
        self,
        x: Event,
        noise: Level,
        label: Int[Tensor, " B"] | None = None,
        beside: Float[Tensor, "B ..."] | None = None,
    ) -> Event:
        self.features = self.network.encode(x, noise, label, beside)
        return self.network.decode(self.features, noise, label)


@dataclass(frozen=True)
class _Decoding:
    """The decoder alone; events and what lies beside them are not looked at."""

    network: UNet
    features: Features

    def __call__(
        self,
        x: Event,
        noise: Level,
        label: Int[Tensor, " B"] | None = None,
        beside: Float[Tensor, "B ..."] | None = None,
    ) -> Event:
        return self.network.decode(self.features, noise, label)


@dataclass(frozen=True)
class _Known:
    """An answer that was given in advance."""

    answer: Tensor

    def __call__(
        self,
        x: Event,
        noise: Level,
        label: Int[Tensor, " B"] | None = None,
        beside: Float[Tensor, "B ..."] | None = None,
    ) -> Event:
        return self.answer
