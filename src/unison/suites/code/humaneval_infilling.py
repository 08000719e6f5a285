"""HumanEval infilling: fill a hole in a function, read from a file.

Source: Bavarian et al. 2022 (arXiv 2207.14255).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from unison.suites.code.answers import distinct, filled, graded
from unison.suites.code.sandbox import Sandbox, enclosed
from unison.suites.given.jsonl import Record, drawn, found, records
from unison.suites.task import Grade, Problem

_EXPECTED = (
    '{"task_id": "SingleLineInfilling/HumanEval/0/L0", "prompt": "def ...", "suffix": "...", '
    '"canonical_solution": "...", "test": "def check(candidate): ...", "entry_point": "..."}'
)
_FILES = (
    "HumanEval-SingleLineInfilling.jsonl",
    "HumanEval-MultiLineInfilling.jsonl",
    "HumanEval-RandomSpanInfilling.jsonl",
    "HumanEval-RandomSpanInfillingLight.jsonl",
)


@dataclass(frozen=True)
class HumanEvalInfilling:
    """Write what is missing between two pieces of a function; the tests are run.

    Attributes:
        path: Of one of the four published files, or of the folder that holds them, of which the
            one with single lines is read.
        seconds: Of computing for one answer.
    """

    about: ClassVar[str] = "HumanEval infilling: holes in functions, checked by tests (path=FILE)"
    executes: ClassVar[bool] = True

    path: Path | None = None
    seconds: int = 5

    def __post_init__(self) -> None:
        Sandbox(cpu_seconds=self.seconds)  # refuses what is out of range

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` problems, or all there are.

        Raises:
            SuiteError: The file cannot be used; the message names the line.
        """
        read = records(found("humaneval-infilling", self.path, _FILES), _EXPECTED)
        return drawn(
            [_problem(record) for record in distinct(read, "task_id")],
            count,
            "humaneval-infilling",
            seed,
        )

    def grade(self, problem: Problem, answer: str) -> Grade:
        """Return 1 if the tests pass; the answer is taken whole."""
        whole = problem.prompt + filled(problem.answer, answer) + problem.suffix
        checks = f"{problem.facts['test']}\ncheck({problem.facts['entry_point']})\n"
        outcome = Sandbox(cpu_seconds=self.seconds).run(enclosed(whole) + checks)
        return graded(outcome, answer)


def _problem(record: Record) -> Problem:
    name, prompt = map(record.text, ("task_id", "prompt"))
    answer, suffix = _spaces(record, "canonical_solution"), _spaces(record, "suffix")
    facts = {field: record.text(field) for field in ("test", "entry_point")}
    return Problem(name, prompt, answer, suffix, group=name.partition("/")[0], facts=facts)


def _spaces(record: Record, name: str) -> str:
    """Return a text that may be blank: a hole of spaces, nothing behind the hole."""
    value = record.content.get(name)
    return value if isinstance(value, str) else record.text(name)
