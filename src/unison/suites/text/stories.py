"""Templated stories: facts are told in a fixed form, each wherever it belongs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from unison.suites.dice import Dice
from unison.suites.task import Grade, Problem

_NAMES = [
    "Ada",
    "Ben",
    "Cora",
    "Dan",
    "Ella",
    "Finn",
    "Gwen",
    "Hal",
    "Iris",
    "Jack",
    "Kate",
    "Leo",
    "Mona",
    "Ned",
    "Olga",
    "Paul",
]
_THINGS = [
    "basket",
    "book",
    "clock",
    "coat",
    "drum",
    "flute",
    "key",
    "kite",
    "lamp",
    "map",
    "mirror",
    "ring",
    "rope",
    "scarf",
]
_PLACES = [
    "bakery",
    "bridge",
    "castle",
    "chapel",
    "farm",
    "forest",
    "harbour",
    "library",
    "market",
    "mill",
    "station",
]

TEMPLATES: Mapping[str, Sequence[str]] = {
    "lost": (
        "{name} lost a {thing} near the {place}.",
        "So {friend} went to the {place} to look for it.",
        "After an hour {friend} saw the {thing} behind a wall.",
        "Then {friend} gave the {thing} back to {name}.",
        "That evening {name} thanked {friend} with a song.",
        "Since that day {name} and {friend} often meet at the {place}.",
    ),
    "gift": (
        "It was the birthday of {name}.",
        "Early that day {friend} bought a {thing} at the {place}.",
        "The {thing} was wrapped in blue paper for {name}.",
        "When {name} saw the {thing}, there was a long silence.",
        "Then {name} and {friend} walked to the {place} together.",
        "To this day {name} keeps the {thing} from {friend}.",
    ),
    "journey": (
        "Long ago {name} set out for the {place}.",
        "On the way {name} met {friend}, who carried a {thing}.",
        "At night {friend} put the {thing} under a tree.",
        "When they came to the {place}, {friend} was tired.",
        "So {name} took the {thing} and went on alone.",
        "Now {friend} waits at the {place} for {name}.",
    ),
}
_LONGEST = min(len(sentences) for sentences in TEMPLATES.values())


@dataclass(frozen=True)
class Stories:
    """Tell facts in the form an example shows.

    Attributes:
        sentences: Of a story.
        free: Other words are right too, as long as every sentence names the same facts in the same
            order.
        shots: Stories before the question; at least one, for they show the form.
    """

    about: ClassVar[str] = "facts told in a fixed form, each wherever it belongs"
    executes: ClassVar[bool] = False

    sentences: int = 4
    free: bool = False
    shots: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.sentences <= _LONGEST:
            raise ValueError(f"sentences must be from 1 to {_LONGEST}, got {self.sentences}.")
        if self.shots < 1:
            raise ValueError(
                f"shots must be at least 1, got {self.shots}: an example shows the form."
            )

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` problems, forms in turn."""
        return [self._problem(seed, number) for number in range(count)]

    def _problem(self, seed: int, number: int) -> Problem:
        kind = list(TEMPLATES)[number % len(TEMPLATES)]
        dice = Dice("story", kind, self.sentences, self.shots, seed, number)
        form = " ".join(TEMPLATES[kind][: self.sentences])
        told = [_facts(dice) for _ in range(self.shots + 1)]
        parts = [f"{_asked(facts)} {form.format(**facts)}\n" for facts in told[:-1]]
        prompt = "\n".join(["Tell the story with the given words.", *parts, _asked(told[-1])])
        name = f"story/{self.sentences}/{seed}/{number:04}"
        return Problem(name, prompt, f" {form.format(**told[-1])}", group=f"story={kind}")

    def grade(self, problem: Problem, answer: str) -> Grade:
        """Return 1 if the first line tells the story; the first wrong sentence is named."""
        read = " ".join(answer.strip().partition("\n")[0].split())
        said, wanted = _sentences(read), _sentences(problem.answer.strip())
        if len(said) != len(wanted):
            return Grade(0.0, read, f"{len(said)} sentences, wanted {len(wanted)}")
        view = _mentioned if self.free else str
        for number, (one, other) in enumerate(zip(said, wanted, strict=True), 1):
            if view(one) != view(other):
                what = f"must name {', '.join(_mentioned(other))}" if self.free else "differs"
                return Grade(0.0, read, f"sentence {number} {what}: wanted {other}")
        return Grade(1.0, read)


def _facts(dice: Dice) -> dict[str, str]:
    name, friend = dice.some(_NAMES, 2)
    thing, place = dice.one(_THINGS), dice.one(_PLACES)
    return {"name": name, "friend": friend, "thing": thing, "place": place}


def _asked(facts: Mapping[str, str]) -> str:
    return "\n".join([*(f"{name}: {value}" for name, value in facts.items()), "Story:"])


def _sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?]) ", text) if part]


def _mentioned(sentence: str) -> list[str]:
    """Return every word that could be a fact, in order; a name begins with a capital."""
    return [word for word in re.findall(r"[A-Za-z]+", sentence) if word in _FACTS]


_FACTS = frozenset(_NAMES + _THINGS + _PLACES)
