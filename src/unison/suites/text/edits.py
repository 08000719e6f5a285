"""Character-level edits of words: what a model that reads tokens has to spell out."""

import codecs
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from unison.suggest import nearest
from unison.suites.dice import Dice
from unison.suites.task import Grade, Problem
from unison.suites.text.pronounceable import made_up

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Edit(NamedTuple):
    """What is done to a word.

    Attributes:
        asked: The instruction.
        done: From a word to the answer.
    """

    asked: str
    done: Callable[[str], str]


def _upper(dice: Dice, word: str) -> Edit:
    n = dice.between(2, 3)
    ordinal = {2: "second", 3: "third"}[n]

    def done(word: str) -> str:
        return "".join(c.upper() if at % n == 0 else c for at, c in enumerate(word, 1))

    return Edit(f"Write every {ordinal} letter as a capital.", done)


def _vowels(dice: Dice, word: str) -> Edit:
    return Edit("Leave out all vowels.", lambda word: word.translate(dict.fromkeys(b"aeiou")))


def _double(dice: Dice, word: str) -> Edit:
    at = dice.between(1, len(word))
    return Edit(f"Double letter number {at}.", lambda word: word[:at] + word[at - 1 :])


def _replace(dice: Dice, word: str) -> Edit:
    old = dice.one(word)
    new = dice.one(_LETTERS.replace(old, ""))
    return Edit(f"Replace every {old} by {new}.", lambda word: word.replace(old, new))


def _reverse(dice: Dice, word: str) -> Edit:
    return Edit("Reverse the word.", lambda word: word[::-1])


def _insert(dice: Dice, word: str) -> Edit:
    at, letter = dice.between(1, len(word)), dice.one(_LETTERS)
    asked = f"Insert {letter} after letter number {at}."
    return Edit(asked, lambda word: word[:at] + letter + word[at:])


def _delete(dice: Dice, word: str) -> Edit:
    at = dice.between(1, len(word))
    return Edit(f"Leave out letter number {at}.", lambda word: word[: at - 1] + word[at:])


def _swap(dice: Dice, word: str) -> Edit:
    asked = "Swap the first and the last letter."
    return Edit(asked, lambda word: word[-1] + word[1:-1] + word[0])


def _rot13(dice: Dice, word: str) -> Edit:
    asked = "Move every letter 13 places on in the alphabet (rot13)."
    return Edit(asked, lambda word: codecs.encode(word, "rot13"))


def _spell(dice: Dice, word: str) -> Edit:
    return Edit("Write a hyphen between the letters.", "-".join)


def _count(dice: Dice, word: str) -> Edit:
    letter = dice.one(word + "aeiou")
    return Edit(f"How often is there {letter} in the word?", lambda word: str(word.count(letter)))


EDITS: Mapping[str, Callable[[Dice, str], Edit]] = {
    "upper": _upper,
    "vowels": _vowels,
    "double": _double,
    "replace": _replace,
    "reverse": _reverse,
    "insert": _insert,
    "delete": _delete,
    "swap": _swap,
    "rot13": _rot13,
    "spell": _spell,
    "count": _count,
}


@dataclass(frozen=True)
class Edits:
    """Change the letters of a made-up word as told.

    Attributes:
        edit: Name of one; empty for all in turn.
        length: Letters of a word.
        shots: Examples of the same edit before the question.
    """

    about: ClassVar[str] = "changes to the letters of a word: capitals, vowels, reversal, rot13"
    executes: ClassVar[bool] = False

    edit: str = ""
    length: int = 8
    shots: int = 1

    def __post_init__(self) -> None:
        if self.edit and self.edit not in EDITS:
            raise ValueError(
                f"edit must be one of {', '.join(EDITS)}, got {self.edit!r}"
                f"{nearest(self.edit, EDITS)}."
            )
        for name, least in (("length", 2), ("shots", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}.")

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` problems, edits in turn."""
        return [self._problem(seed, number) for number in range(count)]

    def _problem(self, seed: int, number: int) -> Problem:
        edits = [self.edit] if self.edit else list(EDITS)
        kind = edits[number % len(edits)]
        dice = Dice("edit", kind, self.length, self.shots, seed, number)
        words = [made_up(dice, self.length) for _ in range(self.shots + 1)]
        edit = EDITS[kind](dice, words[-1])
        shown = [f"{word} -> {edit.done(word)}" for word in words[:-1]]
        prompt = "\n".join([edit.asked, *shown, f"{words[-1]} ->"])
        name = f"edit/{kind}/{self.length}/{seed}/{number:04}"
        return Problem(name, prompt, f" {edit.done(words[-1])}", group=f"edit={kind}")

    def grade(self, problem: Problem, answer: str) -> Grade:
        """Return 1 if the first line is the edited word, capitals and all."""
        read, wanted = answer.strip().partition("\n")[0].strip(), problem.answer.strip()
        return Grade.of(read == wanted, read, f"wanted {wanted}")
