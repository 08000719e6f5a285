"""Which questions are asked? Tasks with known answers, drawn here or read from a file.

A task is a frozen dataclass in a file of its own and one line in ``TASKS``; ``SUITES`` names sets
of them.
"""

from collections.abc import Callable, Mapping
from functools import partial

from unison.suites.chains import Chains
from unison.suites.countdown import Countdown
from unison.suites.dice import Dice
from unison.suites.edits import Edits
from unison.suites.extraction import Extraction
from unison.suites.functions import Functions
from unison.suites.gsm8k import Gsm8k
from unison.suites.humaneval import HumanEval
from unison.suites.humaneval_infilling import HumanEvalInfilling
from unison.suites.lambada import Lambada
from unison.suites.latin import Latin
from unison.suites.math500 import Math500
from unison.suites.mbpp import Mbpp
from unison.suites.recall import Recall
from unison.suites.schemas import Schemas
from unison.suites.spelling import Spelt, alternatives, made, settings_of, spelt
from unison.suites.stories import Stories
from unison.suites.sudoku import Sudoku
from unison.suites.task import Grade, ItemLaw, Problem, SuiteError, Task, Theoretical, wilson
from unison.suites.waiting_line import RULES, WaitingLine

TASKS: Mapping[str, Callable[..., Task]] = {
    "chain": Chains,
    "countdown": Countdown,
    "edit": Edits,
    "extract": Extraction,
    "functions": Functions,
    "gsm8k": Gsm8k,
    "humaneval": HumanEval,
    "humaneval-infilling": HumanEvalInfilling,
    "json-schema": Schemas,
    "lambada": Lambada,
    "latin": Latin,
    "math500": Math500,
    "mbpp": Mbpp,
    "recall": Recall,
    "story": Stories,
    "sudoku": Sudoku,
    "sudoku9": partial(Sudoku, 9, blanks=30),
    **{rule: partial(WaitingLine, rule) for rule in RULES},
}

SUITES: Mapping[str, tuple[str, ...]] = {
    "arithmetic": ("chain",),
    "code": ("functions",),
    "lists": tuple(RULES),
    "parallelbench": (*RULES, "latin", "sudoku"),
    "puzzles": ("countdown", "latin", "sudoku", "sudoku9"),
    "text": ("edit", "extract", "recall", "story"),
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
    "settings_of",
    "spelt",
    "wilson",
]
