"""Which experiments on continuous data have a name? From data to numbers and figures, in minutes.

To add one: write a module with a frozen configuration and a function that runs it, and add one line
below.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from unison.recipes.continuous import (
    chorales,
    generation,
    joint,
    molecules,
    restoration,
    speech,
    unlearning,
)
from unison.recipes.continuous.report import Report, Say


class Recipe(NamedTuple):
    """An experiment.

    Attributes:
        config: Its settings, a frozen dataclass whose fields all have defaults.
        run: Runs it in a folder, which it goes on with if it is its own.
    """

    config: type
    run: Callable[[Any, Path, Say], Report]


RECIPES: Mapping[str, Recipe] = {
    "chorales": Recipe(chorales.Chorales, chorales.run),
    "generation": Recipe(generation.Generation, generation.run),
    "joint": Recipe(joint.JointImages, joint.run),
    "molecules": Recipe(molecules.Conformers, molecules.run),
    "restoration": Recipe(restoration.Restoration, restoration.run),
    "speech": Recipe(speech.SpeechDenoising, speech.run),
    "unlearning": Recipe(unlearning.Unlearning, unlearning.run),
}

__all__ = ["RECIPES", "Recipe", "Report", "Say"]
