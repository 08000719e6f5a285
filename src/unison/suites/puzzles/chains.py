"""Arithmetic chains: each result is needed for the next, so parallel writing has to wait."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from unison.suites.dice import Dice
from unison.suites.task import Grade, Problem

_SIGNS = "+-"


@dataclass(frozen=True)
class Chains:
    """Write down every intermediate result of a sum of small numbers.

    Attributes:
        terms: Numbers in a chain.
        largest: Of the numbers.
        shots: Examples before the question.
    """

    about: ClassVar[str] = "intermediate results of a sum, each needed for the next"
    executes: ClassVar[bool] = False

    terms: int = 4
    largest: int = 20
    shots: int = 1

    def __post_init__(self) -> None:
        for name, least in (("terms", 2), ("largest", 1), ("shots", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}.")

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` problems; a question is the same with more or fewer examples."""
        return [self._problem(seed, number) for number in range(count)]

    def _problem(self, seed: int, number: int) -> Problem:
        dice = Dice("chain", self.terms, self.largest, seed, number)
        asked, answer = self._chain(dice)
        shown = ["{} = {}".format(*self._chain(dice)) for _ in range(self.shots)]
        prompt = "\n".join(["Add step by step, writing each result.", *shown, f"{asked} ="])
        name = f"chain/{self.terms}/{seed}/{number:04}"
        return Problem(name, prompt, f" {answer}", group=f"n={self.terms}")

    def _chain(self, dice: Dice) -> tuple[str, str]:
        total = dice.between(1, self.largest)
        asked, results = str(total), []
        for _ in range(self.terms - 1):
            sign, term = dice.one(_SIGNS), dice.between(1, self.largest)
            total += term if sign == "+" else -term
            asked += f" {sign} {term}"
            results.append(str(total))
        return asked, ", ".join(results)

    def grade(self, problem: Problem, answer: str) -> Grade:
        """Return 1 if the first line says all results, commas between them."""
        line, wanted = answer.strip().partition("\n")[0].rstrip(" .\r"), problem.answer.strip()
        read = ", ".join(part.strip() for part in line.split(","))
        return Grade.of(read == wanted, read, f"wanted {wanted}")
