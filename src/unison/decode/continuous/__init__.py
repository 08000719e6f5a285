"""Solvers of continuous diffusion, by name.

To add one: copy ``ddim.py``, and add one line below. The contract tests, the command line and the
benchmark iterate this table.
"""

from unison.decode.continuous.api import Drawn, Levels, Past, Solver, State, solve
from unison.decode.continuous.ddim import DDIM
from unison.decode.continuous.grids import GRIDS, Grid, Span

SOLVERS: dict[str, type[Solver]] = {
    "ddim": DDIM,
}

__all__ = [
    "GRIDS",
    "SOLVERS",
    "Drawn",
    "Grid",
    "Levels",
    "Past",
    "Solver",
    "Span",
    "State",
    "solve",
]
