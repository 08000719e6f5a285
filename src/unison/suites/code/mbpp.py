"""MBPP: write a short program from one sentence and three tests, read from a file.

Source: Austin et al. 2021 (arXiv 2108.07732). Differs: the sentence and the tests stand in a
docstring in front of the code, and the examples are our own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from unison.suites.code.answers import distinct, fenced, graded, program
from unison.suites.code.sandbox import Sandbox, enclosed
from unison.suites.given.jsonl import Record, drawn, found, records
from unison.suites.task import Grade, Problem

_EXPECTED = (
    '{"task_id": 11, "text": "Write a function ...", "code": "def ...", '
    '"test_list": ["assert ..."], "test_setup_code": ""}'
)
_FILES = ("mbpp_test.jsonl", "mbpp.jsonl", "mbpp_sanitized.jsonl", "sanitized-mbpp.jsonl")
_BUILT_IN = (
    (
        "Write a function to count how often an item stands in a list.",
        ["assert count_item([4, 2, 4], 4) == 2", "assert count_item([], 1) == 0"],
        "def count_item(items, wanted):\n    return sum(item == wanted for item in items)\n",
    ),
    (
        "Write a python function to join words, each one turned around.",
        ["assert turned(['ab', 'cd']) == 'ba dc'", "assert turned([]) == ''"],
        "def turned(words):\n    return ' '.join(word[::-1] for word in words)\n",
    ),
    (
        "Write a function to find the first number above a limit, or None.",
        ["assert first_above([1, 5, 9], 4) == 5", "assert first_above([1], 4) is None"],
        "def first_above(numbers, limit):\n    for number in numbers:\n"
        "        if number > limit:\n            return number\n    return None\n",
    ),
)


@dataclass(frozen=True)
class Mbpp:
    """Write a program that passes the tests shown.

    An answer is its first fenced block, or else all of it; it ends where tests, calls or the next
    docstring begin at the margin.

    Attributes:
        path: Of the full, the test or the sanitised file, or of the folder that holds them.
        shots: Examples before the question, up to three, all built in.
        seconds: Of computing for one answer.
    """

    about: ClassVar[str] = "MBPP: short programs from a sentence, checked by tests (path=FILE)"
    executes: ClassVar[bool] = True

    path: Path | None = None
    shots: int = 1
    seconds: int = 5

    def __post_init__(self) -> None:
        Sandbox(cpu_seconds=self.seconds)  # refuses what is out of range
        if not 0 <= self.shots <= len(_BUILT_IN):
            raise ValueError(f"shots must be 0 to {len(_BUILT_IN)}, got {self.shots}.")

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` problems, or all there are.

        Raises:
            SuiteError: The file cannot be used; the message names the line.
        """
        read = records(found("mbpp", self.path, _FILES), _EXPECTED)
        shots = "".join(f"{_asked(text, tests)}{code}\n" for text, tests, code in self._shots())
        return drawn(
            [_problem(record, shots) for record in distinct(read, "task_id")], count, "mbpp", seed
        )

    def _shots(self) -> Sequence[tuple[str, list[str], str]]:
        return _BUILT_IN[: self.shots]

    def grade(self, problem: Problem, answer: str) -> Grade:
        """Return 1 if the tests pass."""
        read = program(fenced(answer))
        before, after = problem.facts["imports"], [problem.facts["setup"], *problem.facts["tests"]]
        source = "\n".join([*before, enclosed(read), *after, ""])
        return graded(Sandbox(cpu_seconds=self.seconds).run(source), read)


def _problem(record: Record, shots: str) -> Problem:
    text = record.text("text" if "text" in record.content else "prompt").strip()
    tests = _lines(record, "test_list" if "test_list" in record.content else "test")
    if not tests:
        raise record.wrong("has no tests")
    facts = {
        "tests": tests,
        "imports": _lines(record, "test_imports") if "test_imports" in record.content else [],
        "setup": str(record.content.get("test_setup_code", "")).replace("\r\n", "\n"),
    }
    code = record.text("code").replace("\r\n", "\n").rstrip() + "\n"
    name = f"mbpp/{record.content.get('task_id', record.line.number)}"
    return Problem(name, shots + _asked(text, tests), code, facts=facts)


def _asked(text: str, tests: Sequence[str]) -> str:
    shown = "\n".join([text, *tests])
    return f'"""\n{shown}\n"""\n'


def _lines(record: Record, name: str) -> list[str]:
    """Return a field that holds a list of texts."""
    value = record.content.get(name)
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
        raise record.wrong(f"has no list of texts as {name!r}")
    return [line.replace("\r\n", "\n").strip() for line in value]
