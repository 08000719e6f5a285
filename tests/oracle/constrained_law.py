"""The law of a stretch of tokens given that its text is in a language: by trying all texts."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
    """A vocabulary, a language, what stands in each slot, and a belief.

    Attributes:
        spellings: By token; ``None`` where it is no text.
        nulls: Tokens that stand behind the text of a hole.
        member: Whether a text is in the language.
        token: By slot, -1 where it is open.
        column: By slot, the row of the belief; -1 where there is none.
        hole: By slot, -1 where the token was given.
        logp: Log-weights [rows, tokens].
    """

    spellings: Sequence[bytes | None]
    nulls: Sequence[int]
    member: Callable[[bytes], bool]
    token: Sequence[int]
    column: Sequence[int]
    hole: Sequence[int]
    logp: np.ndarray


def texts(case: Case) -> Iterator[tuple[int, ...]]:
    """Yield every text of the language that agrees with what stands there, as tokens."""

    def grow(slots: tuple[int, ...], text: bytes, ended: bool) -> Iterator[tuple[int, ...]]:
        place = len(slots)
        if place == len(case.token):
            if case.member(text):
                yield slots
            return
        if place and case.hole[place] != case.hole[place - 1]:
            ended = False
        fixed = case.token[place]
        for token in range(len(case.spellings)) if fixed < 0 else [fixed]:
            spelling = case.spellings[token]
            if token in case.nulls and case.hole[place] >= 0:
                yield from grow((*slots, token), text, True)
            elif spelling is not None and not ended:
                yield from grow((*slots, token), text + spelling, False)

    return grow((), b"", False)


def law(case: Case) -> dict[tuple[int, ...], float]:
    """Return the log-weight of every possible text, with -1 in slots that nothing is known of."""
    free = [t < 0 and c < 0 for t, c in zip(case.token, case.column, strict=True)]
    found = {}
    for text in texts(case):
        shown = tuple(-1 if f else t for f, t in zip(free, text, strict=True))
        found[shown] = sum(
            float(case.logp[c, t]) for c, t in zip(case.column, text, strict=True) if c >= 0
        )
    return found


def log_sum(weights: Sequence[float]) -> float:
    """Return logsumexp; -inf of nothing."""
    return float(np.logaddexp.reduce(np.array(weights, float))) if len(weights) else -np.inf


def marginals(case: Case) -> np.ndarray:
    """Return log p(token) for every row of the belief that a slot reads; others as they are."""
    weights = law(case)
    total, found = log_sum(list(weights.values())), np.array(case.logp, float)
    for place, column in enumerate(case.column):
        if column >= 0:
            for token in range(found.shape[1]):
                here = [w for text, w in weights.items() if text[place] == token]
                found[column, token] = log_sum(here) - total
    return found
