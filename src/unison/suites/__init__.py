"""Which questions are asked? Tasks with known answers, drawn here or read from a file.

A task is a frozen dataclass in a file of its own and one line in ``TASKS``; ``SUITES`` names sets
of them.
"""

from collections.abc import Callable, Mapping

from unison.suites.chains import Chains
from unison.suites.dice import Dice
from unison.suites.spelling import Spelt, alternatives, made, spelt
from unison.suites.task import Grade, ItemLaw, Problem, SuiteError, Task, Theoretical, wilson

TASKS: Mapping[str, Callable[..., Task]] = {
    "chain": Chains,
}

SUITES: Mapping[str, tuple[str, ...]] = {
    "arithmetic": ("chain",),
}

__all__ = [
    "SUITES",
    "TASKS",
    "Dice",
    "Grade",
    "ItemLaw",
    "Problem",
    "Spelt",
    "SuiteError",
    "Task",
    "Theoretical",
    "alternatives",
    "made",
    "spelt",
    "wilson",
]
