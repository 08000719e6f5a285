"""Which sums reach a number? Countdown: combine numbers with + - * / until the target is there.

Files are those of Dream (Ye et al. 2025, arXiv 2508.15487; the target stands last in ``input``)
and of d1 (Zhao et al. 2025, arXiv 2504.12216; the target is ``output``), both JSON lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from unison.suites.dice import Dice
from unison.suites.given.jsonl import Record, drawn, records
from unison.suites.puzzles.reckoning import ReckoningError, outcome, random_steps, steps_to
from unison.suites.task import Grade, Problem

_FEWEST, _MOST = 2, 6
_EXPECTED = '{"input": "15,44,79,50", "output": "44-15=29,79-29=50"}'


class Asked(NamedTuple):
    """One question.

    Attributes:
        name: Of the problem.
        numbers: To be combined.
        target: To be reached.
        steps: That lead there.
    """

    name: str
    numbers: list[int]
    target: int
    steps: str


@dataclass(frozen=True)
class Countdown:
    """Combine numbers to reach a target.

    Attributes:
        numbers: How many, 2 to 6; in a file every line must have so many.
        largest: Of the numbers and the target.
        every: Whether each number is used exactly once, rather than at most once.
        shots: Examples before the question.
        path: A file to read the problems from.
    """

    about: ClassVar[str] = "sums of given numbers that reach a target; exact, in steps or as one"
    executes: ClassVar[bool] = False

    numbers: int = 3
    largest: int = 99
    every: bool = True
    shots: int = 1
    path: Path | None = None

    def __post_init__(self) -> None:
        if not _FEWEST <= self.numbers <= _MOST:
            raise ValueError(f"numbers must be {_FEWEST} to {_MOST}, got {self.numbers}.")
        for name, least in (("largest", 9), ("shots", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}.")

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` problems, or as many as the file holds, in random order.

        Raises:
            SuiteError: The file holds something else; the message names the line.
        """
        if self.path is None:
            asked = [self._numbered(seed, number) for number in range(count)]
        else:
            rows = records(self.path, _EXPECTED)
            chosen = drawn(rows, count, "countdown", self.path.name, seed)
            asked = [self._read(record) for record in chosen]
        return [self._problem(one, seed) for one in asked]

    def _numbered(self, seed: int, number: int) -> Asked:
        how = "every" if self.every else "some"
        dice = Dice("countdown", self.numbers, self.largest, how, seed, number)
        return self._drawn(dice, f"countdown/{self.numbers}/{seed}/{number:04}")

    def _drawn(self, dice: Dice, name: str) -> Asked:
        while True:
            numbers = [dice.between(1, self.largest) for _ in range(self.numbers)]
            steps, target = random_steps(dice, numbers)
            if 1 <= target <= self.largest and target not in numbers:
                return Asked(name, numbers, target, steps)

    def _problem(self, asked: Asked, seed: int) -> Problem:
        dice = Dice("examples", asked.name, self.largest, seed)
        examples = [self._drawn(dice, "") for _ in range(self.shots)]
        shown = [f"{_question(example)} {example.steps}" for example in examples]
        return Problem(
            name=asked.name,
            prompt="\n\n".join([self._task(), *shown, _question(asked)]),
            answer=f" {asked.steps}",
            group=f"n={self.numbers}",
            facts={"numbers": asked.numbers, "target": asked.target},
        )

    def _task(self) -> str:
        often = "every number once" if self.every else "no number more than once"
        return f"Combine the numbers with + - * / to reach the target. Use {often}."

    def grade(self, problem: Problem, answer: str) -> Grade:
        """Return 1 if the calculation on the first line reaches the target by the rules."""
        line = answer.strip().partition("\n")[0].strip().rstrip(".")
        read = "".join(line.split())
        try:
            value, left = outcome(line, problem.facts["numbers"])
        except ReckoningError as error:
            return Grade(0.0, read, str(error))
        if value != problem.facts["target"]:
            return Grade(0.0, read, f"reaches {value}, not {problem.facts['target']}")
        return Grade.of(not (self.every and left), read, f"{left} left over")

    def _read(self, record: Record) -> Asked:
        told, output = _whole(record, "input"), record.text("output")
        if "=" in output:
            *numbers, target = told
            steps = output
        else:
            numbers, target = told, _whole(record, "output")[0]
            steps = steps_to(numbers, target)
        if len(numbers) != self.numbers:
            raise record.wrong(f"has {len(numbers)} numbers where numbers={self.numbers}")
        if not steps:
            raise record.wrong(f"has no whole steps to {target}")
        try:
            reached = outcome(steps, numbers)
        except ReckoningError as error:
            raise record.wrong(f"has steps {steps!r} that fail: {error}") from None
        if reached != (target, 0):
            raise record.wrong(f"has steps {steps!r} that do not reach {target} with all numbers")
        return Asked(
            f"countdown/{record.line.path.stem}/{record.line.number:04}", numbers, target, steps
        )


def _whole(record: Record, name: str) -> list[int]:
    try:
        return [int(part) for part in record.text(name).split(",")]
    except ValueError:
        raise record.wrong(f"has {name} {record.text(name)!r}, not whole numbers") from None


def _question(asked: Asked) -> str:
    numbers = ", ".join(map(str, asked.numbers))
    return f"Numbers: {numbers}\nTarget: {asked.target}\nSteps:"
