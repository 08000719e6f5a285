"""Key-value recall: what stood at a key, a chosen distance back? The needle in a list of pairs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from unison.suites.dice import Dice
from unison.suites.task import Grade, Problem
from unison.suites.text.pronounceable import made_up

_KEY_LENGTH = 6  # letters: 75 ** 3 keys
_SHOWN = 4  # pairs of an example


@dataclass(frozen=True)
class Recall:
    """Say the value of one of many keys.

    Attributes:
        pairs: Lines ``key: value``.
        distance: Lines from the asked one to the end, 1 the last; 0 asks at 1, 2, 4, ... and
            ``pairs`` in turn.
        digits: Of a value.
        shots: Examples before the question, of four pairs each.
    """

    about: ClassVar[str] = "the value of one key among many, at growing distance"
    executes: ClassVar[bool] = False

    pairs: int = 32
    distance: int = 0
    digits: int = 4
    shots: int = 1

    def __post_init__(self) -> None:
        for name, least, most in (("pairs", 1, 4000), ("digits", 1, 12), ("shots", 0, 100)):
            if not least <= getattr(self, name) <= most:
                value = getattr(self, name)
                raise ValueError(f"{name} must be from {least} to {most}, got {value}.")
        if not 0 <= self.distance <= self.pairs:
            raise ValueError(f"distance must be from 0 to pairs={self.pairs}, got {self.distance}.")
        if 10**self.digits < 2 * self.pairs:
            raise ValueError(
                f"{self.pairs} different values need more than {self.digits} digits; "
                "raise digits or lower pairs."
            )

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` problems, distances in turn."""
        return [self._problem(seed, number) for number in range(count)]

    def _problem(self, seed: int, number: int) -> Problem:
        distances = [self.distance] if self.distance else _doubling(self.pairs)
        distance = distances[number % len(distances)]
        setting = f"{self.pairs}-{distance}-{self.digits}"
        dice = Dice("recall", setting, self.shots, seed, number)
        shown = [self._example(dice) for _ in range(self.shots)]
        pairs = self._drawn(dice, self.pairs)
        key = list(pairs)[-distance]
        prompt = "\n\n".join(["Remember the value of each key.", *shown, _asked(pairs, key)])
        return Problem(
            f"recall/{setting}/{seed}/{number:04}",
            prompt,
            f" {pairs[key]}",
            group=f"distance={distance}",
            facts={"keys": {value: key for key, value in pairs.items()}},
        )

    def _example(self, dice: Dice) -> str:
        pairs = self._drawn(dice, min(_SHOWN, self.pairs))
        key = dice.one(list(pairs))
        return f"{_asked(pairs, key)} {pairs[key]}"

    def _drawn(self, dice: Dice, count: int) -> dict[str, str]:
        keys = _different(lambda: made_up(dice, _KEY_LENGTH), count)
        most = 10**self.digits
        values = _different(lambda: f"{dice.below(most):0{self.digits}}", count)
        return dict(zip(keys, values, strict=True))

    def grade(self, problem: Problem, answer: str) -> Grade:
        """Return 1 if the first line is the value; a wrong one that is another key's is named."""
        read = answer.strip().partition("\n")[0].strip().removesuffix(".")
        wanted = problem.answer.strip()
        other = problem.facts["keys"].get(read)
        return Grade.of(
            read == wanted, read, f"wanted {wanted}" + (f"; said that of {other}" if other else "")
        )


def _asked(pairs: dict[str, str], key: str) -> str:
    lines = [f"{key}: {value}" for key, value in pairs.items()]
    return "\n".join([*lines, f"What is the value of {key}?"])


def _doubling(pairs: int) -> list[int]:
    """Return 1, 2, 4, ... below ``pairs``, and ``pairs``."""
    return [2**i for i in range((pairs - 1).bit_length())] + [pairs]


def _different(draw: Callable[[], str], count: int) -> list[str]:
    """Return ``count`` different draws, in the order they came."""
    drawn: dict[str, None] = {}
    while len(drawn) < count:
        drawn[draw()] = None
    return list(drawn)
