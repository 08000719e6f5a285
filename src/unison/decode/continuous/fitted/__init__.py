"""Which solver suits one model? Solvers that are fitted to trajectories, or searched for."""

from unison.decode.continuous.fitted.evolve import (
    Evolution,
    Searched,
    beginnings,
    error_of,
    search_program,
)
from unison.decode.continuous.fitted.fit import Fitted, Fitting, Rule, fit, reference
from unison.decode.continuous.fitted.grid import LearnedGrid
from unison.decode.continuous.fitted.learned import LearnedSolver, load
from unison.decode.continuous.fitted.programs import (
    Choice,
    Program,
    Programmed,
    load_program,
    plain,
)

__all__ = [
    "Choice",
    "Evolution",
    "Fitted",
    "Fitting",
    "LearnedGrid",
    "LearnedSolver",
    "Program",
    "Programmed",
    "Rule",
    "Searched",
    "beginnings",
    "error_of",
    "fit",
    "load",
    "load_program",
    "plain",
    "reference",
    "search_program",
]
