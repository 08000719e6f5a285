"""How does a model write for someone? Prompts and holes become canvases, tokens become text."""

from unison.generation.canvases import Part
from unison.generation.constraining import Covers, PerHole, vocabulary_of
from unison.generation.sample import Sample, filled, read
from unison.generation.settings import (
    Sampling,
    choose,
    evaluations,
    facts_of,
    process_name,
    settings_of,
    strategy_named,
    takes_steps,
    with_defaults,
)
from unison.generation.write import OnStep, check, generate

__all__ = [
    "Covers",
    "OnStep",
    "Part",
    "PerHole",
    "Sample",
    "Sampling",
    "check",
    "choose",
    "evaluations",
    "facts_of",
    "filled",
    "generate",
    "process_name",
    "read",
    "settings_of",
    "strategy_named",
    "takes_steps",
    "vocabulary_of",
    "with_defaults",
]
