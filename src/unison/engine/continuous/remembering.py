"""Where does a run keep what its key steps computed? In one object, made for that run.

Solvers are pure and a denoiser with a memory is not, so the memory is never hidden in the model:
``Propagation`` and ``StepCaching`` are settings, and ``with_memory`` makes the denoiser of *one*
run along *one* grid. ``keep`` copies the memory of chosen rows, so a search that forks states
forks it too. What would read another run's memory is refused: a level above the last one (a new
run, a state that was noised again, a solver that adds noise), or other rows. The first level of a
grid reads no memory, so a run that begins there again is right in any case.

Where a level lies in the grid decides what is computed: on a GPU every call waits once for it.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Int
from torch import Tensor

from unison.decode.api import selected
from unison.decode.continuous.api import Levels, checked
from unison.engine.continuous.keys import KeySteps
from unison.event_denoising import Preconditioned, Residual
from unison.models.continuous.unet import UNet
from unison.types import Event, Level

Bound = Preconditioned | Residual
_SAME = 1e-6  # relative: a level that passed through float32 is the same


class Told(NamedTuple):
    """A mean, and what a key step leaves for those after it.

    Attributes:
        mean: Of the clean event.
        kept: Tensors with rows first, in tuples, and what is the same for all rows.
    """

    mean: Event
    kept: Any


@runtime_checkable
class Way(Protocol):
    """What is kept of a key step, and how it serves the others. Pure."""

    def begun(self, denoise: Bound, x: Event, level: Level, ahead: Levels) -> Told:
        """Ask in full; ``ahead`` are the levels of the grid before the next key step."""
        ...

    def again(self, denoise: Bound, x: Event, level: Level, kept: Any) -> Event:
        """Return the mean with what was kept."""
        ...


class Plan(NamedTuple):
    """Which levels of a grid are key steps.

    Attributes:
        levels: The grid, without its last 0.
        keys: Places of the key steps.
    """

    levels: Levels
    keys: tuple[int, ...]

    def place(self, level: float) -> int | None:
        """Return the place of a level; ``None`` between the levels of the grid."""
        for place, known in enumerate(self.levels):
            if math.isclose(known, level, rel_tol=_SAME):
                return place
        return None

    def ahead(self, place: int | None) -> Levels:
        """Return the levels after a place, before the next key step."""
        if place is None:
            return ()
        later = [key for key in self.keys if key > place]
        return self.levels[place + 1 : later[0] if later else len(self.levels)]


@dataclass
class Work:
    """What was asked of a network, in rows.

    Attributes:
        whole: Rows asked in full.
        rest: Rows answered with what was kept.
    """

    whole: int = 0
    rest: int = 0


class Remembering:
    """The denoiser of one run.

    Attributes:
        denoise: The model, conditions bound.
        way: What is kept, and how it serves.
        plan: Which levels are key steps.
        work: What was asked so far, shared with the denoisers ``keep`` makes.
    """

    def __init__(self, denoise: Bound, way: Way, plan: Plan) -> None:
        self.denoise, self.way, self.plan, self.work = denoise, way, plan, Work()
        self._kept: Any = None
        self._last: float = math.inf
        self._shape: tuple[int, ...] | None = None

    @property
    def span(self) -> tuple[float, float]:
        """The lowest and the highest level the model was trained on."""
        return self.denoise.span

    def keep(self, rows: Int[Tensor, " R"]) -> "Remembering":
        """Return the denoiser of some rows, with its own copy of what they remember."""
        kept = Remembering(self.denoise.keep(rows), self.way, self.plan)
        kept.work, kept._last = self.work, self._last
        kept._kept = selected(self._kept, rows)
        kept._shape = None if self._shape is None else (len(rows), *self._shape[1:])
        return kept

    def __call__(self, x: Event, level: Level) -> Event:
        """Return the mean of the clean event.

        Raises:
            ValueError: The rows or the level are not those of the run that is remembered.
        """
        now = descended(self._last, level)
        self._check_rows(x)
        place = self.plan.place(now)
        if self._kept is None or place in self.plan.keys:
            mean, self._kept = self.way.begun(self.denoise, x, level, self.plan.ahead(place))
            self.work.whole += len(x)
        else:
            mean = self.way.again(self.denoise, x, level, self._kept)
            self.work.rest += len(x)
        self._last, self._shape = now, tuple(x.shape)
        return mean

    def _check_rows(self, x: Event) -> None:
        if self._shape is not None and self._shape != tuple(x.shape):
            raise ValueError(
                f"this denoiser remembers events of shape {self._shape} and was given "
                f"{tuple(x.shape)}; make one for each run with with_memory(levels), and keep(rows) "
                "to go on with some of its rows."
            )


def remembering(denoise: Bound, way: Way, keys: KeySteps, levels: Levels) -> Remembering:
    """Return the denoiser of one run along a grid.

    Raises:
        ValueError: The levels are no grid, or outside what the model knows.
    """
    grid = checked(levels, denoise)
    above = grid[:-1] if grid[-1] == 0 else grid
    return Remembering(denoise, way, Plan(above, keys.keys(above)))


def descended(last: float, level: Level) -> float:
    """Return the level all rows are at, which must not be above the last one.

    Raises:
        ValueError: It is, or the rows are at different levels.
    """
    low, high = level.min().item(), level.max().item()
    if not math.isclose(low, high, rel_tol=_SAME):
        raise ValueError(
            f"rows that remember must be at one level, got levels from {low:.6g} to {high:.6g}; "
            "give every such row a denoiser of its own."
        )
    if high > last * (1 + _SAME):
        raise ValueError(
            f"this denoiser remembers a run that has come to level {last:.6g} and was asked at "
            f"{high:.6g}; make one for each run with with_memory, and use a solver that never "
            "goes back to higher levels."
        )
    return high


def unet_of(denoise: Bound) -> UNet:
    """Return the network of a denoiser.

    Raises:
        ValueError: It is none whose levels can be asked apart.
    """
    if isinstance(denoise.network, UNet):
        return denoise.network
    raise ValueError(
        f"only the levels of a U-Net for images (network 'unet') can be asked apart, and this "
        f"denoiser asks a {type(denoise.network).__name__}."
    )
