"""Where may a text be cut into lexemes while only parts of it are known?

A lexeme ends where it could not go on with the next byte. A reader of parts guesses that it ends
and remembers the bytes that would prove it wrong: it then stands at a *boundary*. Otherwise it
stands *inside* a lexeme, in a state of the automaton that reads one. Both are *situations*.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int32
from numpy import ndarray

from unison.constrain.automaton.draft import NO_LABEL
from unison.constrain.context_free.binary import Binary
from unison.constrain.context_free.lexer import lexer
from unison.constrain.language import Grammar
from unison.constrain.machine import DEAD

_PLAIN = (*b"abcdefghijklmnopqrstuvwxyz0123456789 _", *range(0x21, 0x7F), *range(256))
Ending = tuple[int, int]  # a lexeme (or none, where nobody sees it) and the boundary behind it


@dataclass(frozen=True, eq=False)
class Cuts:
    """An automaton that reads one lexeme, and the boundaries between lexemes.

    Situations are numbered: boundaries first (0 is the one of the empty text), then states.

    Attributes:
        step: Where each state leads with each byte within one lexeme; state 0 begins one.
        label: The lexeme that may end in each state, ``NO_LABEL`` for none.
        boundary: Where a text stands when a lexeme has ended in each state.
        barred: Bytes that must not follow at each boundary, since the lexeme would go on.
        seen: Whether the rules see each lexeme.
    """

    step: Int32[ndarray, "states 256"]
    label: Int32[ndarray, " states"]
    boundary: Int32[ndarray, " states"]
    barred: Bool[ndarray, "boundaries 256"]
    seen: Bool[ndarray, " lexemes"]

    @cached_property
    def steps(self) -> list[list[int]]:
        """The table, for walks of one text."""
        return self.step.tolist()

    def inside(self, state: int) -> int:
        """Return the situation inside a lexeme."""
        return len(self.barred) + state

    def read(self, situation: int, byte: int) -> int:
        """Return the state that a byte leads to, ``DEAD`` if it must not come."""
        state = situation - len(self.barred)
        if state < 0:
            return DEAD if self.barred[situation, byte] else self.steps[0][byte]
        return self.steps[state][byte]

    def ending(self, state: int) -> Ending | None:
        """Return what ends in a state."""
        return self._endings[state]

    @cached_property
    def _endings(self) -> list[Ending | None]:
        pairs = zip(self.label.tolist(), self.boundary.tolist(), strict=True)
        return [
            None if label == NO_LABEL else (label if self.seen[label] else NO_LABEL, boundary)
            for label, boundary in pairs
        ]

    @cached_property
    def goes_on(self) -> list[bool]:
        """Whether a lexeme may go on in each state."""
        return (self.step != DEAD).any(1).tolist()

    @cached_property
    def ahead(self) -> list[dict[int, bytes]]:
        """By situation: states that one or more bytes lead to in one lexeme, by the shortest."""
        return [self._ahead(situation) for situation in range(len(self.barred) + len(self.step))]

    @cached_property
    def endings(self) -> list[dict[Ending, bytes]]:
        """By situation: how the lexeme may end after one or more bytes, by the shortest."""
        return [
            {end: text for state, text in reversed(ahead.items()) if (end := self.ending(state))}
            for ahead in self.ahead
        ]

    def _ahead(self, situation: int) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for byte in _PLAIN:
            state = self.read(situation, byte)
            if state != DEAD:
                found.setdefault(state, bytes((byte,)))
        queue = list(found)
        for state in queue:  # grows meanwhile
            for to, byte in self._next[state].items():
                if to not in found:
                    found[to] = found[state] + bytes((byte,))
                    queue.append(to)
        return found

    @cached_property
    def _next(self) -> list[dict[int, int]]:
        """By state: the next states, each with a byte that leads there."""
        found = [{row[byte]: byte for byte in reversed(_PLAIN)} for row in self.steps]
        return [{to: byte for to, byte in row.items() if to != DEAD} for row in found]


def cuts(rules: Binary, grammar: Grammar) -> Cuts:
    """Return where texts of a grammar may be cut: into lexemes, else into single bytes."""
    if rules.terminal is None:
        read = lexer(grammar)
        step, label = read.table, read.label
        seen = np.array([name not in grammar.ignored for name in grammar.lexemes])
    else:
        step, label = _single(rules.terminal)
        seen = np.ones(len(rules.spelt), bool)
    known: dict[bytes, int] = {bytes(256): 0}
    boundary = [
        0 if name == NO_LABEL else known.setdefault(row.tobytes(), len(known))
        for name, row in zip(label.tolist(), step != DEAD, strict=True)
    ]
    barred = np.frombuffer(b"".join(known), bool).reshape(-1, 256)
    return Cuts(step, label, np.array(boundary, np.int32), barred, seen)


def _single(
    terminal: Int32[ndarray, "256"],
) -> tuple[Int32[ndarray, "states 256"], Int32[ndarray, " states"]]:
    """Return an automaton that reads one byte, each of a kind into a state of its own."""
    count = int(terminal.max()) + 1
    step = np.full((1 + count, 256), DEAD, np.int32)
    step[0] = np.where(terminal < 0, DEAD, terminal + 1)
    return step, np.arange(-1, count, dtype=np.int32)
