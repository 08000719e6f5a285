"""Which questions are asked? Tasks with known answers, drawn here or read from a file.

A task is a frozen dataclass in a file of its own and one line in ``TASKS``; ``SUITES`` names sets
of them.
"""

from collections.abc import Callable, Mapping
from functools import partial

from unison.suites.code.functions import Functions
from unison.suites.code.humaneval import HumanEval
from unison.suites.code.humaneval_infilling import HumanEvalInfilling
from unison.suites.code.mbpp import Mbpp
from unison.suites.dice import Dice
from unison.suites.given.gsm8k import Gsm8k
from unison.suites.given.lambada import Lambada
from unison.suites.given.math500 import Math500
from unison.suites.given.schemas import Schemas
from unison.suites.puzzles.chains import Chains
from unison.suites.puzzles.countdown import Countdown
from unison.suites.puzzles.latin import Latin
from unison.suites.puzzles.sudoku import Sudoku
from unison.suites.puzzles.waiting_line import RULES, WaitingLine
from unison.suites.spelling import Spelt, alternatives, made, settings_of, spelt
from unison.suites.task import Grade, ItemLaw, Problem, SuiteError, Task, Theoretical, wilson
from unison.suites.text.edits import Edits
from unison.suites.text.extraction import Extraction
from unison.suites.text.recall import Recall
from unison.suites.text.stories import Stories

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
