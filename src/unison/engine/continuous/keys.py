"""At which steps is a network asked in full? A choice of places of a grid, made before the run.

A policy sees the levels alone, so the choice can be printed before anything is evaluated, and it
is the same for every row. The first step is always a key step: nothing is kept before it.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from unison.decode.continuous.api import Levels


@runtime_checkable
class KeySteps(Protocol):
    """Which of a run's evaluations are made in full."""

    def keys(self, levels: Levels) -> tuple[int, ...]:
        """Return the places of key steps in a grid without its last 0, rising from 0."""
        ...


@dataclass(frozen=True)
class Places:
    """Named places of a grid of ``of`` steps, and those nearest below them on other grids.

    The default is what Faster Diffusion publishes for 50 steps (Li et al., 2023,
    arXiv:2312.09608): features move most at the beginning.

    Attributes:
        places: Of the key steps, 0 among them.
        of: Steps of the grid they were chosen on.
    """

    places: tuple[int, ...] = (0, 1, 2, 3, 5, 10, 15, 25, 35)
    of: int = 50

    def __post_init__(self) -> None:
        if not self.places or min(self.places) != 0 or max(self.places) >= self.of:
            raise ValueError(
                f"key steps must be places from 0 to {self.of - 1} of a grid of {self.of} steps, "
                f"0 among them, got {self.places}."
            )

    def keys(self, levels: Levels) -> tuple[int, ...]:
        """Return the places at the same shares of the run."""
        return tuple(sorted({place * len(levels) // self.of for place in self.places}))


@dataclass(frozen=True)
class Every:
    """One key step in every so many.

    Attributes:
        steps: From one to the next; 1 keeps nothing.
    """

    steps: int = 4

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"key steps must be at least 1 step apart, got {self.steps}.")

    def keys(self, levels: Levels) -> tuple[int, ...]:
        """Return every so manieth place."""
        return tuple(range(0, len(levels), self.steps))


@dataclass(frozen=True)
class Change:
    """A key step wherever the level has fallen far enough since the last one.

    Attributes:
        nats: By how much log s must have fallen; 0 makes every step a key step.
    """

    nats: float = 0.5

    def __post_init__(self) -> None:
        if not self.nats >= 0:
            raise ValueError(f"the change between key steps must be at least 0, got {self.nats}.")

    def keys(self, levels: Levels) -> tuple[int, ...]:
        """Return the first place, and each that is far enough below the one before."""
        found = [0]
        slack = 1e-9  # rounding of a grid's logarithms
        for place in range(1, len(levels)):
            if math.log(levels[found[-1]] / levels[place]) >= self.nats - slack:
                found.append(place)
        return tuple(found)


KEYS: dict[str, type[KeySteps]] = {"places": Places, "every": Every, "change": Change}
