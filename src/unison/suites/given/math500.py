r"""MATH-500: competition mathematics, read from a file of the published form.

Sources: Hendrycks et al. 2021 (arXiv 2103.03874); the 500 of Lightman et al. 2023 (arXiv
2305.20050).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from unison.suites.given.jsonl import Record, drawn, found, records
from unison.suites.given.latex import same, spelt
from unison.suites.task import Grade, Problem

_EXPECTED = '{"problem": "...", "answer": "..."}, and if known "solution", "subject" and "level"'
_FILES = ("test.jsonl", "math500.jsonl", "math_500.jsonl")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_SAID = re.compile(r"answer is:?([^\n]*)", re.IGNORECASE)
_NEXT = "\nProblem:"  # where a model that goes on writing asks itself the next one

_BUILT_IN = (
    (
        "What is the sum of the solutions of $x^2 - 5x + 6 = 0$?",
        r"We factor $x^2 - 5x + 6 = (x - 2)(x - 3)$, so the solutions are 2 and 3, and their sum "
        r"is $\boxed{5}$.",
    ),
    (
        "Half of a cake is shared evenly by three friends. Which part of the cake does each get?",
        r"Each gets $\frac{1}{2} \cdot \frac{1}{3} = \boxed{\frac{1}{6}}$.",
    ),
    (
        r"How long is the diagonal of a square of side $4$?",
        r"By Pythagoras its square is $4^2 + 4^2 = 32$, so it is $\sqrt{32} = \boxed{4\sqrt{2}}$.",
    ),
)


@dataclass(frozen=True)
class Math500:
    r"""Solve a problem of competition mathematics; the answer stands in ``\boxed{}``.

    Attributes:
        path: Of the file, or of the folder that holds ``test.jsonl``.
        shots: Built-in examples before the question, at most three.
    """

    about: ClassVar[str] = "MATH-500: competition mathematics (path=FILE)"
    executes: ClassVar[bool] = False

    path: Path | None = None
    shots: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.shots <= len(_BUILT_IN):
            raise ValueError(f"shots must be from 0 to {len(_BUILT_IN)}, got {self.shots}.")

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` problems, or all there are.

        Raises:
            SuiteError: The file cannot be used; the message names the line.
        """
        path = found("math500", self.path, _FILES)
        shown = [f"Problem: {asked}\nSolution: {done}\n\n" for asked, done in _BUILT_IN]
        before = "".join(["Solve the problem; box the answer.\n\n", *shown[: self.shots]])
        read = [_problem(before, record) for record in records(path, _EXPECTED)]
        return drawn(read, count, "math500", seed)

    def grade(self, problem: Problem, answer: str) -> Grade:
        r"""Return 1 if the last ``\boxed{}`` says the same as the reference.

        Without a box, what stands behind the last "answer is" is taken. Spelling is evened out and
        values are compared (see ``latex``). Text from the next ``Problem:`` on is not read.
        """
        said = _said(answer.partition(_NEXT)[0])
        if said is None:
            return Grade(0.0, "", r"no \boxed{} answer")
        read, wanted = spelt(said).body, problem.facts["answer"]
        return Grade.of(same(said, wanted), read, f"wanted {wanted}")


def _problem(before: str, record: Record) -> Problem:
    problem, answer = record.text("problem").strip(), record.text("answer").strip()
    solution = record.content.get("solution")
    boxed = _said(solution) if isinstance(solution, str) else None
    if not isinstance(solution, str) or boxed is None or not same(boxed, answer):
        solution = rf"The answer is \boxed{{{answer}}}."
    return Problem(
        f"math500/{record.line.number:05}",
        f"{before}Problem: {problem}\nSolution:",
        f" {solution.strip()}",
        group=_group(record),
        facts={"answer": answer},
    )


def _group(record: Record) -> str:
    level, subject = record.content.get("level"), record.content.get("subject")
    if level is not None:
        return f"level={str(level).removeprefix('Level ')}"
    return f"subject={subject}" if subject else ""


def _said(text: str) -> str | None:
    """Return what the last box holds, or what "the answer is"."""
    boxes = list(_BOX.finditer(text))
    if boxes:
        return _inside(text, boxes[-1].end())
    said = _SAID.findall(text)
    return said[-1].partition(". ")[0] if said else None


def _inside(text: str, start: int) -> str | None:
    """Return the text from ``start`` to the brace that closes; nothing where none does."""
    depth = 1
    for brace in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[start : start + brace.start()]
    return None
