"""The leftmost position goes first."""

from dataclasses import dataclass
from typing import ClassVar

from unison.decode.sight import Score, Sight


@dataclass(frozen=True)
class Position:
    """Write from left to right, as autoregressive models do.

    One token per step is then autoregression with a masked model (Austin et al., 2021,
    arXiv:2107.03006).
    """

    probability: ClassVar[bool] = False

    def score(self, sight: Sight) -> Score:
        """Return the negative canvas positions."""
        return -sight.positions.double()
