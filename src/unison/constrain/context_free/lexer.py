"""How is a text cut into lexemes? One automaton for all, that never stops where it could go on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32
from numpy import ndarray

from unison.constrain.automaton.compiled import Regular
from unison.constrain.automaton.draft import NO_LABEL
from unison.constrain.automaton.minimal import minimal
from unison.constrain.automaton.table import tables
from unison.constrain.language import ConstraintError, Grammar, Ref
from unison.constrain.machine import DEAD


@dataclass(frozen=True, eq=False)
class Lexer:
    """Cuts a text: a byte is read on if the state can; else the lexeme of the state ends before it.

    A state that has to end without a label is the end of every lexing. Every state leads to a
    label, and none leads to the start, which has none.

    Attributes:
        table: Where each state leads with each byte; ``DEAD`` for nowhere.
        label: The lexeme that may end in each state; ``NO_LABEL`` for none. Of several, the first.
        names: What the lexemes are called.
        ignored: Lexemes that no rule sees.
        start: The state between two lexemes.
    """

    table: Int32[ndarray, "S 256"]
    label: Int32[ndarray, " S"]
    names: tuple[str, ...]
    ignored: frozenset[int]
    start: int = 0

    def lex(self, text: bytes) -> list[str] | None:
        """Return the names of a text's lexemes in order; ``None`` if it cannot be cut."""
        found: list[str] = []
        state = self.start
        for byte in text:
            onward = int(self.table[state, byte])
            if onward == DEAD:
                if self.label[state] == NO_LABEL:
                    return None
                found.append(self.names[self.label[state]])
                onward = int(self.table[self.start, byte])
            if onward == DEAD:
                return None
            state = onward
        if state == self.start:
            return found
        label = int(self.label[state])
        return None if label == NO_LABEL else [*found, self.names[label]]


def lexer(grammar: Grammar) -> Lexer:
    """Return the lexer of a grammar's lexemes.

    Raises:
        ConstraintError: There are no lexemes, one is not regular, one holds the empty text or no
            text at all, or what is to be ignored is no lexeme.
    """
    names, about = grammar.lexemes, grammar.about
    if not names:
        raise ConstraintError(f"{about} names no lexemes, so there is nothing to cut texts into.")
    for name in sorted({*names, *grammar.ignored}):
        if name not in grammar.rules:
            raise ConstraintError(f"{about} names the lexeme {name!r}, which is not defined.")
        if name not in names:
            raise ConstraintError(
                f"{about} ignores {name!r}, which is no lexeme: name it among the lexemes too."
            )
    regular = Regular(grammar.rules, about)
    for name in names:
        _refuse_useless(name, regular)
    draft = regular.draft([Ref(name) for name in names])
    assert draft is not None  # each lexeme has texts
    smallest = minimal(draft, lone_start=True)
    classes, table = tables(smallest)
    return Lexer(
        table=np.ascontiguousarray(table[:, classes]),
        label=np.array(smallest.labels, dtype=np.int32),
        names=names,
        ignored=frozenset(place for place, name in enumerate(names) if name in grammar.ignored),
    )


def _refuse_useless(name: str, regular: Regular) -> None:
    draft = regular.draft([Ref(name)])
    if draft is None:
        raise ConstraintError(
            f"in {regular.about}, no text is a lexeme {name!r}: {regular.reason(Ref(name))}."
        )
    if draft.labels[0] != NO_LABEL:
        raise ConstraintError(
            f"in {regular.about}, the lexeme {name!r} may be the empty text, so texts could be cut "
            "anywhere: let it match one character or more, and make it optional where it is used."
        )
