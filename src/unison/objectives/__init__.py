"""What is minimised? One objective a file; each returns a sum and a count.

To add one: write a module next to this file and add one line below.
"""

from unison.objectives.ar import AutoregressiveNll
from unison.objectives.batch import Batch, Loss, Objective
from unison.objectives.duo import Duo
from unison.objectives.mdlm import MaskedNelbo

OBJECTIVES: dict[str, type[Objective]] = {
    "ar": AutoregressiveNll,
    "mdlm": MaskedNelbo,
    "duo": Duo,
}

BOUNDS: dict[str, Objective] = {
    "sequential": AutoregressiveNll(),
    "absorbing": MaskedNelbo(),
    "uniform": Duo(curriculum_steps=0),
}

__all__ = [
    "BOUNDS",
    "OBJECTIVES",
    "AutoregressiveNll",
    "Batch",
    "Duo",
    "Loss",
    "MaskedNelbo",
    "Objective",
]
