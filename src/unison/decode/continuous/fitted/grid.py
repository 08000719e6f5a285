"""Which levels did a fit choose? A grid like any other, that also stretches to other spans."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.interpolate import PchipInterpolator

from unison.decode.continuous.api import Levels, checked
from unison.decode.continuous.grids import Span


@dataclass(frozen=True)
class LearnedGrid:
    """Levels by their place between the ends in log s.

    Attributes:
        places: From 0 (the highest level) to 1 (the lowest), rising.
    """

    places: tuple[float, ...]

    def __post_init__(self) -> None:
        whole = len(self.places) > 1 and self.places[0] == 0 and self.places[-1] == 1
        if not whole or any(after <= before for before, after in pairwise(self.places)):
            raise ValueError(f"places must rise strictly from 0 to 1, got {self.places}.")

    @staticmethod
    def through(levels: Levels) -> "LearnedGrid":
        """Return the grid that goes through these levels, the last above 0."""
        u = [math.log(level) for level in checked(levels)]
        inner = tuple((u[0] - one) / (u[0] - u[-1]) for one in u[1:-1])
        return LearnedGrid((0.0, *inner, 1.0))

    def levels(self, span: Span, intervals: int) -> Levels:
        """Return the levels; another number of intervals interpolates monotonically.

        Raises:
            ValueError: There is no interval, or the span is none.
        """
        if intervals < 1:
            raise ValueError(f"a grid needs at least 1 interval, got {intervals}.")
        if not 0 < span.low < span.high:
            raise ValueError(f"0 < low < high is needed, got {span.low} and {span.high}.")
        own = np.linspace(0, 1, len(self.places))
        places = np.asarray(self.places)
        if intervals != len(self.places) - 1:
            places = PchipInterpolator(own, places)(np.linspace(0, 1, intervals + 1))
        u = math.log(span.high) + math.log(span.low / span.high) * places
        return (span.high, *map(float, np.exp(u[1:-1])), span.low)
