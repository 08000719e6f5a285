"""Can a queue be rewritten in parallel? The ten list tasks of ParallelBench.

Copying, sorting and reversing have one right answer, so all of it can be written at once; shuffling
and changing one customer at random have several, and writing at once mixes them up.

Source: Kang et al. 2025 (arXiv 2510.04767). Instructions and names are our own.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from unison.suggest import nearest
from unison.suites.dice import Dice
from unison.suites.limits.posteriors import Enumerated, Shuffled
from unison.suites.puzzles.names import FIRST_NAMES, SURNAMES
from unison.suites.task import Grade, ItemLaw, Problem

_FEWEST, _MOST = 3, 100
_TASK = "Each queue below is changed as told. The new queue stands in brackets."
_LIST = re.compile(r"\[([^\[\]]*)\]")
_QUOTES = " \t\r\n'\"`\u2018\u2019\u201c\u201d"
_NEXT = "\nQueue:"  # where a model that goes on writing puts a question of its own


class Change(NamedTuple):
    """A queue and what may be done to it.

    Attributes:
        queue: Who waits.
        place: Where something happens, counted from zero.
        new: Who comes.
    """

    queue: Sequence[Any]
    place: int
    new: Any


class Kind(NamedTuple):
    """Which answers are right.

    Attributes:
        right: Whether one is.
        law: Of the right answers about the queue 0, 1, 2 ...
    """

    right: Callable[["Rule", Change, list[str]], bool]
    law: Callable[["Rule", Change], ItemLaw]


class Rule(NamedTuple):
    """What is to be done.

    Attributes:
        told: The instruction; ``{number}`` counts from one, ``{new}`` is who comes.
        done: A new queue that is right.
        kind: Which others are right too.
        ends: Places to choose from beyond those of the customers.
    """

    told: str
    done: Callable[[Change], list[Any]]
    kind: Kind
    ends: int = 0


def _copied(change: Change) -> list[Any]:
    return list(change.queue)


def _sorted(change: Change) -> list[Any]:
    return sorted(change.queue)


def _reversed(change: Change) -> list[Any]:
    return list(reversed(change.queue))


def _shuffled(change: Change) -> list[Any]:
    dice = Dice("order", change.new, *change.queue)
    order = dice.shuffled(change.queue)
    while order == list(change.queue):
        order = dice.shuffled(change.queue)
    return order


def _replaced(change: Change) -> list[Any]:
    queue, place, new = change
    return [*queue[:place], new, *queue[place + 1 :]]


def _inserted(change: Change) -> list[Any]:
    queue, place, new = change
    return [*queue[:place], new, *queue[place:]]


def _removed(change: Change) -> list[Any]:
    queue, place, _ = change
    return [*queue[:place], *queue[place + 1 :]]


def _everywhere(rule: Rule, change: Change) -> list[list[Any]]:
    places = range(len(change.queue) + rule.ends)
    return [rule.done(change._replace(place=place)) for place in places]


def _reordered(_: Rule, change: Change, answer: list[str]) -> bool:
    return sorted(answer) == sorted(change.queue) and answer != change.queue


_AS_TOLD = Kind(
    lambda rule, change, answer: answer == rule.done(change),
    lambda rule, change: Enumerated.of([rule.done(change)]),
)
_ANYWHERE = Kind(
    lambda rule, change, answer: answer in _everywhere(rule, change),
    lambda rule, change: Enumerated.of(_everywhere(rule, change)),
)
_ANY_ORDER = Kind(_reordered, lambda _, change: Shuffled(len(change.queue)))

RULES: Mapping[str, Rule] = {
    "copy": Rule("Copy the queue.", _copied, _AS_TOLD),
    "sort": Rule("Sort the queue by name, from A to Z.", _sorted, _AS_TOLD),
    "reverse": Rule("Reverse the queue, last customer first.", _reversed, _AS_TOLD),
    "shuffle": Rule(
        "Shuffle the queue: any other order of the same customers.", _shuffled, _ANY_ORDER
    ),
    "replace_index": Rule("Replace customer number {number} with {new}.", _replaced, _AS_TOLD),
    "replace_random": Rule(
        "Replace one customer, no matter which, with {new}.", _replaced, _ANYWHERE
    ),
    "insert_index": Rule("Insert {new} as customer number {number}.", _inserted, _AS_TOLD, 1),
    "insert_random": Rule("Insert {new}, no matter where.", _inserted, _ANYWHERE, 1),
    "remove_index": Rule("Remove customer number {number}.", _removed, _AS_TOLD),
    "remove_random": Rule("Remove one customer, no matter which.", _removed, _ANYWHERE),
}


@dataclass(frozen=True)
class WaitingLine:
    """Rewrite a queue of customers by a rule.

    Attributes:
        rule: A name in ``RULES``.
        items: Customers who wait, 3 to 100.
        shots: Examples before the question.
        surnames: Whether customers have a surname too.
    """

    about: ClassVar[str] = "a queue of customers is to be rewritten as the name of the task says"
    executes: ClassVar[bool] = False

    rule: str
    items: int = 5
    shots: int = 1
    surnames: bool = True

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(
                f"rule must be one of {', '.join(RULES)}, got {self.rule!r}"
                f"{nearest(self.rule, RULES)}."
            )
        if not _FEWEST <= self.items <= _MOST:
            raise ValueError(f"items must be {_FEWEST} to {_MOST}, got {self.items}.")
        if self.shots < 0:
            raise ValueError(f"shots must be at least 0, got {self.shots}.")

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` problems; a question is the same with more or fewer examples."""
        return [self._problem(seed, number) for number in range(count)]

    def _problem(self, seed: int, number: int) -> Problem:
        dice = Dice(self.rule, self.items, "full" if self.surnames else "first", seed, number)
        rule, asked = RULES[self.rule], self._drawn(dice)
        examples = [self._drawn(dice) for _ in range(self.shots)]
        shown = [f"{_question(rule, change)} {_written(rule.done(change))}" for change in examples]
        return Problem(
            name=f"{self.rule}/{self.items}/{seed}/{number:04}",
            prompt="\n\n".join([_TASK, *shown, _question(rule, asked)]),
            answer=f" {_written(rule.done(asked))}",
            group=f"n={self.items}",
            facts=asked._asdict(),
        )

    def _drawn(self, dice: Dice) -> Change:
        names = dice.some(FIRST_NAMES, self.items + 1)
        if self.surnames:
            surnames = dice.some(SURNAMES, self.items + 1)
            names = [" ".join(both) for both in zip(names, surnames, strict=True)]
        place = dice.below(self.items + RULES[self.rule].ends)
        return Change(names[:-1], place, names[-1])

    def grade(self, problem: Problem, answer: str) -> Grade:
        """Return 1 if the last list in brackets is right, up to where another queue begins."""
        lists = _LIST.findall(answer.partition(_NEXT)[0])
        if not lists:
            return Grade(0.0, "", "no list in brackets")
        names = [" ".join(name.strip(_QUOTES).split()) for name in lists[-1].split(",")]
        rule, change = RULES[self.rule], Change(**problem.facts)
        right = rule.kind.right(rule, change, names)
        return Grade.of(right, ", ".join(names), f"wanted such as {problem.answer.strip()}")

    def law(self) -> ItemLaw:
        """Return the law of right answers; item i is customer i, and the last whoever comes."""
        rule = RULES[self.rule]
        return rule.kind.law(rule, Change(range(self.items), self.items // 2, self.items))


def _question(rule: Rule, change: Change) -> str:
    told = rule.told.format(number=change.place + 1, new=change.new)
    return f"Queue: {_written(change.queue)}\nTask: {told}\nNew queue:"


def _written(queue: Sequence[str]) -> str:
    return f"[{', '.join(queue)}]"
