"""Which part of a canvas must obey which constraint, and can it? Asked before writing begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int

from unison.constrain import ConstraintError, Grammar, Vocabulary, compiled, vocabulary
from unison.constrain.joint import Conditioner, Stretch
from unison.constrain.tokens import UNREACHABLE, TokenMachine
from unison.data.spellings import spellings
from unison.data.tokenizer import Tokenizer
from unison.decode.constrained import Bound
from unison.generation.canvases import Row
from unison.language_model import LanguageModel
from unison.process import Sequential

Covers = Literal["answer", "canvas"]


@dataclass(frozen=True)
class Rule:
    """What one row must obey.

    Attributes:
        tokens: The language, as tokens.
        about: What it is called in messages.
        first: Where the constrained stretch begins.
        hole: For each slot of it, the number of its hole; -1 where the token is given.
    """

    tokens: TokenMachine
    about: str
    first: int
    hole: Int[np.ndarray, " N"]

    def bound(self) -> Bound:
        """Return the rule for one text that is about to be written."""
        return Bound(Conditioner(self.tokens), self.first, self.hole)


def rules(
    model: LanguageModel,
    rows: Sequence[Row],
    constraint: Grammar | Sequence[Grammar | None] | None,
    covers: Covers,
) -> list[Rule | None]:
    """Return what each row must obey; ``None`` where nothing.

    Args:
        model: Would write.
        rows: Canvases.
        constraint: The language of all rows, or one for each.
        covers: Whether it speaks of the answer, from its first open token to its last (of a
            scaffold from its first token), or of the whole canvas.

    Raises:
        ConstraintError: A row has no completion that obeys, or none that fits.
        ValueError: There are not as many constraints as rows.
    """
    if covers not in ("answer", "canvas"):
        raise ValueError(f"covers must be answer or canvas, got {covers!r}.")
    languages = _each(constraint, len(rows))
    made: dict[tuple[Row, int], Rule | None] = {}
    for row, language in zip(rows, languages, strict=True):
        if language is not None and (row, id(language)) not in made:
            made[row, id(language)] = _rule(model, row, language, covers)
    return [
        None if language is None else made[row, id(language)]
        for row, language in zip(rows, languages, strict=True)
    ]


def _each(
    constraint: Grammar | Sequence[Grammar | None] | None, count: int
) -> list[Grammar | None]:
    if constraint is None or isinstance(constraint, Grammar):
        return [constraint] * count
    if len(constraint) != count:
        raise ValueError(
            f"there are {len(constraint)} constraints and {count} canvases; give one for all, or "
            "one for each."
        )
    return list(constraint)


def _rule(model: LanguageModel, row: Row, language: Grammar, covers: Covers) -> Rule | None:
    hole = np.array(_holes(row.given), dtype=np.int64)
    open_ = np.flatnonzero(hole >= 0)
    if not len(open_):
        return None
    first, past = 0, len(hole)
    if covers == "answer":
        first, past = row.answer or (int(open_[0]), int(open_[-1]) + 1)
    rule = Rule(compiled(language, vocabulary_of(model)), language.about, first, hole[first:past])
    _check(model, rule, row.tokens[first:past])
    return rule


def _check(model: LanguageModel, rule: Rule, tokens: tuple[int, ...]) -> None:
    """Refuse a canvas that no text of the language completes."""
    slots = len(rule.hole)
    if (rule.hole == rule.hole[0]).all() and rule.hole[0] >= 0:
        _check_room(rule, slots)
        return
    process = model.process
    if isinstance(process, Sequential) and (rule.hole[-1] < 0 or len(set(rule.hole)) > 2):
        raise ConstraintError(
            "a left-to-right model writes without seeing the given text behind a hole, so no "
            "constraint can speak of both; leave the given text out, or use a diffusion model."
        )
    open_ = rule.hole >= 0
    stretch = Stretch(
        np.where(open_, -1, np.array(tokens, dtype=np.int64)),
        np.full(slots, -1, dtype=np.int64),
        rule.hole,
    )
    try:
        rule.bound().conditioner.law(stretch, torch.zeros(0, model.tokenizer.vocab_size))
    except ConstraintError as error:
        given = model.text([token for token, free in zip(tokens, open_, strict=True) if not free])
        raise ConstraintError(
            f"no text of {rule.about} has the given parts {given!r} with holes of "
            f"{', '.join(map(str, np.unique(rule.hole[open_], return_counts=True)[1]))} tokens "
            "between them; give larger holes, or other parts."
        ) from error


def _check_room(rule: Rule, slots: int) -> None:
    tokens = rule.tokens
    least = int(tokens.distance(np.array([tokens.start], dtype=np.int32))[0])
    if least >= UNREACHABLE:
        raise ConstraintError(f"the model's tokens spell no text of {rule.about}.")
    if least > slots:
        raise ConstraintError(
            f"the shortest text of {rule.about} takes {least} tokens and there is room for "
            f"{slots}; raise new_tokens or length."
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
    return _vocabulary(model.tokenizer, model.eos_ids)


@lru_cache(maxsize=8)
def _vocabulary(tokenizer: Tokenizer, ends: tuple[int, ...]) -> Vocabulary:
    name = f"{tokenizer.fingerprint}/{','.join(map(str, ends))}"
    return vocabulary(spellings(tokenizer), ends, name)
