"""Which inputs are activations' ranges taken from? Events on their way, at times of some law.

PTQ4DM (Shang et al., 2023, arXiv:2211.15736): ranges drift along the way from noise to data, so
they are read off events that the model itself makes, stopped at normally distributed times. Here a
time is a share of the run's steps still to come: 0 at the clean end, 1 at the start.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unison.decode.continuous import Solver, solve
from unison.decode.continuous.api import State
from unison.engine.continuous.geometry import layers_of
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser, Level

_SITE_TIME = 0x43414C49  # apart from the solvers' draws of the same streams


@runtime_checkable
class TimeLaw(Protocol):
    """Where runs are stopped."""

    def times(self, u: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Return the share of the way that is left, from a uniform of each row."""
        ...


@dataclass(frozen=True)
class NormalTimes:
    """Normal times, clipped to the run (DNTC, arXiv:2211.15736, section 3.3).

    Attributes:
        mean: In shares of the run; below 1/2 leans to the clean end.
        std: In shares of the run.
    """

    mean: float = 0.4
    std: float = 0.4

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"times.std must be above 0, got {self.std}.")

    def times(self, u: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Invert the law."""
        return (self.mean + self.std * torch.special.ndtri(u)).clamp(0, 1)


@dataclass(frozen=True)
class OneTime:
    """The same time for all: 1 shows pure noise.

    Attributes:
        time: Which.
    """

    time: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.time <= 1:
            raise ValueError(f"times.time must be in [0, 1], got {self.time}.")

    def times(self, u: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Return it for every row."""
        return torch.full_like(u, self.time)


@dataclass(frozen=True)
class UniformTimes:
    """Every time is as likely."""

    def times(self, u: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Return the uniforms."""
        return u


TIME_LAWS: dict[str, type[TimeLaw]] = {
    "normal": NormalTimes,
    "one": OneTime,
    "uniform": UniformTimes,
}


class Shown(NamedTuple):
    """What a denoiser is shown: events, each at its own level.

    Attributes:
        x: Events, in the frame of their process.
        level: Of each row.
    """

    x: Event
    level: Level


class Range(NamedTuple):
    """Between which numbers an input lies.

    Attributes:
        low: The least.
        high: The largest.
    """

    low: float
    high: float


def on_the_way(
    solver: Solver,
    levels: Sequence[float],
    denoise: EventDenoiser,
    start: tuple[Event, Key],
    law: TimeLaw,
) -> Shown:
    """Run a model from noise and stop each row at a time of its own.

    Args:
        solver: How the runs step.
        levels: The levels they visit; the model is shown all but a last one of 0.
        denoise: The model, not rounded yet.
        start: The rows at the first level, and their streams.
        law: Where they are stopped.

    Raises:
        ValueError: The levels are no grid of the model's.
    """
    x, key = start
    above = [level for level in levels if level > 0]
    left = law.times(rng.uniform(key, _SITE_TIME, 1)[:, 0])
    stop = ((1 - left) * (len(above) - 1)).round().long()
    kept = x.clone()

    def keep(step: int, state: State) -> None:
        here = (stop == step).nonzero()[:, 0]
        kept[here] = state.x[here]

    solve(solver, above, denoise, x, key, keep)
    return Shown(kept, torch.tensor(above, dtype=x.dtype)[stop])


@contextmanager
def watching(
    network: nn.Module, leave: tuple[str, ...] = ()
) -> Iterator[Callable[[], Mapping[str, Range]]]:
    """Watch the inputs of a network's layers while it is asked; give the ranges seen so far.

    Args:
        network: Whose layers.
        leave: Parts that are passed over.
    """
    ends: dict[str, tuple[Tensor, Tensor]] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def see(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            low, high = given[0].detach().aminmax()
            if name in ends:
                low, high = low.minimum(ends[name][0]), high.maximum(ends[name][1])
            ends[name] = (low, high)

        return see

    handles = [
        layer.register_forward_pre_hook(hook(name)) for name, layer in layers_of(network, leave)
    ]
    try:
        yield lambda: {name: Range(low.item(), high.item()) for name, (low, high) in ends.items()}
    finally:
        for handle in handles:
            handle.remove()


def ranges_of(
    network: nn.Module, denoise: EventDenoiser, shown: Shown, leave: tuple[str, ...] = ()
) -> Mapping[str, Range]:
    """Return the range of every layer's input while a denoiser is shown some events.

    Args:
        network: The denoiser's.
        denoise: Who asks it.
        shown: What it is shown.
        leave: Parts that are passed over.
    """
    with torch.no_grad(), watching(network, leave) as seen:
        denoise(shown.x, shown.level)
        return seen()
