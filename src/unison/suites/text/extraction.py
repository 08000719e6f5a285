"""JSON extraction: a short record in English, and some of its fields as a JSON object."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from unison.suites.dice import Dice
from unison.suites.task import Grade, Problem
from unison.suites.text.first_json import first_object, written
from unison.suites.text.records import RECORDS

_MOST = min(sum(not field.nested for field in fields) for fields in RECORDS.values())


@dataclass(frozen=True)
class Extraction:
    """Read fields out of a text whose sentences come in random order.

    Attributes:
        fields: Asked ones: texts, whole numbers, truth values and lists.
        nested: Also ask for one that is an object.
        shots: Examples before the question, of the same kind of record.
    """

    about: ClassVar[str] = "asked fields of a short English record, as a JSON object"
    executes: ClassVar[bool] = False

    fields: int = 4
    nested: bool = False
    shots: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.fields <= _MOST:
            raise ValueError(f"fields must be from 1 to {_MOST}, got {self.fields}.")
        if self.shots < 0:
            raise ValueError(f"shots must be at least 0, got {self.shots}.")

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` problems, kinds of record in turn."""
        return [self._problem(seed, number) for number in range(count)]

    def _problem(self, seed: int, number: int) -> Problem:
        kind = list(RECORDS)[number % len(RECORDS)]
        setting = f"{self.fields}{'n' if self.nested else ''}"
        dice = Dice("extract", kind, setting, self.shots, seed, number)
        shown = ["Write the asked fields as JSON. Lists keep the order of the text."]
        shown += ["{} {}\n".format(*self._asked(dice, kind)) for _ in range(self.shots)]
        asked, answer = self._asked(dice, kind)
        name = f"extract/{setting}/{seed}/{number:04}"
        return Problem(name, "\n".join([*shown, asked]), f" {answer}", group=f"record={kind}")

    def _asked(self, dice: Dice, kind: str) -> tuple[str, str]:
        drawn = [(field, field.draw(dice)) for field in RECORDS[kind]]
        who = next(value for field, value in drawn if field.subject)
        sentences = [field.sentence(dice, who, value) for field, value in drawn]
        flat = [pair for pair in drawn if not pair[0].nested]
        deep = [pair for pair in drawn if pair[0].nested]
        wanted = dice.some(flat, self.fields) + (deep if self.nested else [])
        fields = ", ".join(f"{field.name} ({field.kind})" for field, _ in wanted)
        asked = f"Text: {' '.join(dice.shuffled(sentences))}\nFields: {fields}\nJSON:"
        return asked, json.dumps({field.name: value for field, value in wanted})

    def grade(self, problem: Problem, answer: str) -> Grade:
        """Return 1 if the first object has the asked fields, no others, and their very values.

        Kinds count: ``"7"``, ``7.0`` and ``7`` are three values. Text around the object and the
        order of its keys do not.
        """
        try:
            said = first_object(answer)
        except ValueError as error:
            return Grade(0.0, "", str(error))
        why = _difference(json.loads(problem.answer), said.value)
        return Grade.of(not why, said.text, why)


def _difference(wanted: dict[str, Any], said: dict[str, Any]) -> str:
    """Return what is wrong with the first wrong field; nothing where all are right."""
    for name, value in wanted.items():
        if name not in said:
            return f"no field {name!r}"
        if written(said[name]) != written(value):
            return f"{name} is {_short(said[name])}, wanted {_short(value)}"
    unasked = [name for name in said if name not in wanted]
    return f"field {_short(unasked[0])} was not asked" if unasked else ""


def _short(value: Any) -> str:
    text = written(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


_LONGEST = 60  # letters of a value in a reason
