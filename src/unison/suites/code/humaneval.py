"""HumanEval: write the body of a function from its docstring, read from a file.

Source: Chen et al. 2021 (arXiv 2107.03374).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from unison.suites.code.answers import body, distinct, fenced, graded, program, starts_at_margin
from unison.suites.code.sandbox import Sandbox, enclosed
from unison.suites.given.jsonl import Record, drawn, found, records
from unison.suites.task import Grade, Problem

_EXPECTED = (
    '{"task_id": "HumanEval/0", "prompt": "def ...", "canonical_solution": "    return ...", '
    '"test": "def check(candidate): ...", "entry_point": "..."}'
)
_FILES = ("HumanEval.jsonl", "humaneval.jsonl")


@dataclass(frozen=True)
class HumanEval:
    """Go on after a docstring; the tests are run.

    An answer ends where a line returns to the margin. One that starts there, or a fenced block
    that does, is taken for a whole program and run behind the prompt.

    Attributes:
        path: Of ``HumanEval.jsonl``, or of the folder that holds it.
        seconds: Of computing for one answer.
    """

    about: ClassVar[str] = "HumanEval: functions from docstrings, checked by tests (path=FILE)"
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
        read = records(found("humaneval", self.path, _FILES), _EXPECTED)
        return drawn(
            [_problem(record) for record in distinct(read, "task_id")], count, "humaneval", seed
        )

    def grade(self, problem: Problem, answer: str) -> Grade:
        """Return 1 if the tests pass."""
        text = fenced(answer)
        read = program(text) if starts_at_margin(text) else body(text)
        whole = f"{problem.prompt}\n{read}" if starts_at_margin(text) else problem.prompt + read
        checks = f"{problem.facts['test']}\ncheck({problem.facts['entry_point']})\n"
        outcome = Sandbox(cpu_seconds=self.seconds).run(enclosed(whole) + checks)
        return graded(outcome, read)


def _problem(record: Record) -> Problem:
    name, prompt, answer = map(record.text, ("task_id", "prompt", "canonical_solution"))
    facts = {field: record.text(field) for field in ("test", "entry_point")}
    return Problem(name, prompt, answer, facts=facts)
