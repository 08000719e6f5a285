"""Which part of a canvas must obey which constraint, and can it? Asked before writing begins."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int

from unison.constrain import ConstraintError, Grammar, Slots, Vocabulary, compiled
from unison.constrain.infilling import GAP, explanation, fitting
from unison.constrain.joint import Conditioner, Stretch
from unison.constrain.tokens import UNREACHABLE, TokenMachine
from unison.constrain.vocabulary import vocabulary
from unison.data.spellings import spellings
from unison.data.tokenizer import Tokenizer
from unison.decode.constrained import Bound
from unison.generation.canvases import Row
from unison.language_model import LanguageModel
from unison.process import Absorbing, Sequential

Covers = Literal["answer", "canvas"]
SEARCH = 5_000_000  # facts looked at before a canvas with given parts is called undecided


@dataclass(frozen=True)
class Rule:
    """What one row must obey.

    Attributes:
        language: As it was given.
        tokens: The same, as tokens.
        first: Where the constrained stretch begins.
        hole: For each slot of it, the number of its hole; -1 where the token is given.
        known: Tokens that fill it so that it obeys, where finding some took a search.
    """

    language: Grammar
    tokens: TokenMachine
    first: int
    hole: Int[np.ndarray, " N"]
    known: tuple[int, ...] | None = None

    def bounds(self) -> tuple[Bound, ...]:
        """Return the rule for one text that is about to be written."""
        conditioner = Conditioner(self.tokens)
        if self.known is not None:
            conditioner.remember(np.array(self.known), self.hole)
        return (Bound(conditioner, self.first, self.hole),)


@dataclass(frozen=True)
class PerHole:
    """A language for each hole of a canvas, in order; ``None`` for any text.

    Unlike a language of the whole canvas it says where each hole's text ends: where the hole does.
    """

    languages: tuple[Grammar | None, ...]


@dataclass(frozen=True)
class Rules:
    """What the holes of one row must obey, each by itself.

    Attributes:
        parts: A rule for each hole that has one.
        others: Whether there are holes that have none.
    """

    parts: tuple[Rule, ...]
    others: bool

    def bounds(self) -> tuple[Bound, ...]:
        """Return the rules for one text that is about to be written."""
        each = (bound for part in self.parts for bound in part.bounds())
        return tuple(replace(bound, others=self.others) for bound in each)


def rules(
    model: LanguageModel,
    rows: Sequence[Row],
    constraint: Grammar | PerHole | Sequence[Grammar | PerHole | None] | None,
    covers: Covers,
) -> list[Rule | Rules | None]:
    """Return what each row must obey; ``None`` where nothing.

    Args:
        model: Would write.
        rows: Canvases.
        constraint: The language of all rows, or one for each; or languages of their holes.
        covers: Whether it speaks of the answer, from its first open token to its last (of a
            scaffold from its first token), or of the whole canvas.

    Raises:
        ConstraintError: A row has no completion that obeys, or none that fits.
        ValueError: There are not as many constraints as rows.
    """
    if covers not in ("answer", "canvas"):
        raise ValueError(f"covers must be answer or canvas, got {covers!r}.")
    if constraint is None and covers != "answer":
        raise ValueError(f"covers={covers!r} says what a constraint speaks of, and there is none.")
    languages = _each(constraint, len(rows))
    made: dict[tuple[Row, int], Rule | Rules | None] = {}
    for row, language in zip(rows, languages, strict=True):
        if language is not None and (row, id(language)) not in made:
            find = _rules if isinstance(language, PerHole) else _rule
            made[row, id(language)] = find(model, row, language, covers)  # pyright: ignore
    return [
        None if language is None else made[row, id(language)]
        for row, language in zip(rows, languages, strict=True)
    ]


def _each(
    constraint: Grammar | PerHole | Sequence[Grammar | PerHole | None] | None, count: int
) -> list[Grammar | PerHole | None]:
    if constraint is None or isinstance(constraint, Grammar | PerHole):
        return [constraint] * count
    if len(constraint) != count:
        raise ValueError(
            f"there are {len(constraint)} constraints and {count} canvases; give one for all, or "
            "one for each."
        )
    return list(constraint)


def _rules(model: LanguageModel, row: Row, each: PerHole, covers: Covers) -> Rules | None:
    """Return what the holes of a row must obey.

    Raises:
        ConstraintError: There are not as many languages as holes, or one has no text that fits.
    """
    if covers != "answer":
        raise ConstraintError("languages of holes speak of holes; covers must be answer.")
    hole = np.array(_holes(row.given), dtype=np.int64)
    count = int(hole.max()) + 1
    if len(each.languages) != count:
        raise ConstraintError(
            f"there are {len(each.languages)} languages and the canvas has {count} holes; give "
            "one for each, None for any text. Holes that touch are one."
        )
    parts = []
    for number, language in enumerate(each.languages):
        if language is None:
            continue
        places = np.flatnonzero(hole == number)
        slots = np.zeros(len(places), dtype=np.int64)
        tokens = compiled(language, vocabulary_of(model))
        rule = Rule(language, tokens, int(places[0]), slots)
        _check_room(rule, len(slots))
        parts.append(rule)
    return Rules(tuple(parts), None in each.languages) if parts else None


def _rule(model: LanguageModel, row: Row, language: Grammar, covers: Covers) -> Rule | None:
    hole = np.array(_holes(row.given), dtype=np.int64)
    open_ = np.flatnonzero(hole >= 0)
    if not len(open_):
        return None
    first, past = 0, len(hole)
    if covers == "answer":
        first, past = row.answer or (int(open_[0]), int(open_[-1]) + 1)
    rule = Rule(language, compiled(language, vocabulary_of(model)), first, hole[first:past])
    return _checked(model, rule, row.tokens[first:past])


def _checked(model: LanguageModel, rule: Rule, tokens: tuple[int, ...]) -> Rule:
    """Return the rule, with a text that obeys where the language's states are found on the way.

    Raises:
        ConstraintError: There is no such text.
    """
    if (rule.hole == rule.hole[0]).all():
        _check_room(rule, len(rule.hole))
        return rule
    if isinstance(model.process, Sequential) and (
        rule.hole[-1] < 0 or len(np.unique(rule.hole[rule.hole >= 0])) > 1
    ):
        raise ConstraintError(
            "a left-to-right model writes without seeing the given text behind a hole, so no "
            "constraint can speak of both; leave the given text out, or use a diffusion model."
        )
    _check_parts(model, rule, tokens)
    if rule.tokens.exact:
        _check_exactly(model, rule, tokens)
        return rule
    given = tuple(
        None if open_ else token
        for token, open_ in zip(tokens, (rule.hole >= 0).tolist(), strict=True)
    )
    slots = Slots(given, tuple(rule.hole.tolist()))
    known = fitting(rule.language, rule.tokens.vocabulary, slots, SEARCH)
    if known is None:
        raise _too_small(rule)
    return replace(rule, known=tuple(known))


def _check_parts(model: LanguageModel, rule: Rule, tokens: tuple[int, ...]) -> None:
    """Refuse given parts that no text of the language holds, however large the holes."""
    pieces = []
    for number, run in groupby(range(len(tokens)), lambda i: int(rule.hole[i])):
        pieces.append(GAP if number >= 0 else model.text([tokens[i] for i in run]))
    why = explanation(rule.language, pieces)
    if why is not None:
        raise ConstraintError(f"the given parts cannot be completed: {why}")


def _check_exactly(model: LanguageModel, rule: Rule, tokens: tuple[int, ...]) -> None:
    stretch = Stretch(
        np.where(rule.hole >= 0, -1, np.array(tokens, dtype=np.int64)),
        np.full(len(tokens), -1, dtype=np.int64),
        rule.hole,
    )
    try:
        rule.bounds()[0].conditioner.law(stretch, torch.zeros(0, model.tokenizer.vocab_size))
    except ConstraintError as error:
        raise _too_small(rule) from error


def _too_small(rule: Rule) -> ConstraintError:
    sizes = np.unique(rule.hole[rule.hole >= 0], return_counts=True)[1]
    return ConstraintError(
        f"texts of {rule.language.about} complete the given parts, but none fits holes of "
        f"{', '.join(map(str, sizes))} tokens; give larger ones."
    )


def _check_room(rule: Rule, slots: int) -> None:
    tokens = rule.tokens
    least = int(tokens.distance(np.array([tokens.start], dtype=np.int32))[0])
    if least >= UNREACHABLE:
        raise ConstraintError(f"the model's tokens spell no text of {rule.language.about}.")
    if least > slots:
        raise ConstraintError(
            f"the shortest text of {rule.language.about} takes {least} tokens and there is room "
            f"for {slots}; raise new_tokens or length."
        )


def _holes(given: Sequence[bool]) -> list[int]:
    """Return the number of the hole each position belongs to; -1 where it was given."""
    numbers, count = [], -1
    for i, known in enumerate(given):
        count += not known and (i == 0 or given[i - 1])
        numbers.append(-1 if known else count)
    return numbers


def vocabulary_of(model: LanguageModel) -> Vocabulary:
    """Return what the model's tokens spell; its end tokens fill what a text leaves of a hole."""
    mask = model.process.mask_id if isinstance(model.process, Absorbing) else None
    return _vocabulary(model.tokenizer, model.eos_ids, model.process.vocab_size, mask)


@lru_cache(maxsize=8)
def _vocabulary(
    tokenizer: Tokenizer, ends: tuple[int, ...], size: int, mask: int | None
) -> Vocabulary:
    """Return what the tokens spell that a network of ``size`` tokens may write."""
    said = [None if i == mask else text for i, text in enumerate(spellings(tokenizer)[:size])]
    name = f"{tokenizer.fingerprint}/{size}/{mask}/{','.join(map(str, ends))}"
    return vocabulary(said, ends, name)
