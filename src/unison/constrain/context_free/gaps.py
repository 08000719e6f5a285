"""Which lexemes may a text hold of which some stretches are unknown, of any length?

Places are those before each given byte and before each unknown stretch; a node is a place and a
situation of the text there (see ``cuts``). An unknown stretch may end, and begin, lexemes in every
way, so within it one edge stands for a whole lexeme.
"""

from collections.abc import Iterator, Sequence

from unison.constrain.context_free.closing import SILENT, Move, Node
from unison.constrain.context_free.cuts import Cuts
from unison.constrain.machine import DEAD

UNKNOWN = -1


class Gaps:
    """The graph of such a text, its edges written with the bytes they add."""

    start: Node = (0, 0)

    def __init__(self, cuts: Cuts, items: Sequence[int]) -> None:
        """Take a text as bytes and ``UNKNOWN``s, no two of the latter next to each other."""
        self._cuts, self._items = cuts, items

    def moves(self, node: Node) -> Iterator[Move]:
        """Return the edges from a node."""
        place, situation = node
        if place == len(self._items):
            return
        if self._items[place] == UNKNOWN:
            yield from self._unknown(place, situation)
            return
        byte = self._items[place]
        state = self._cuts.read(situation, byte)
        if state != DEAD:
            yield from self._given(place + 1, state, bytes((byte,)))

    def ends(self, node: Node) -> bool:
        """Return whether a text may end here: behind everything, with no lexeme begun."""
        return node[0] == len(self._items) and node[1] < len(self._cuts.barred)

    def rank(self, node: Node) -> int:
        """Return the place."""
        return node[0]

    def kind(self, node: Node) -> Node:
        """Return the node: none stands for another."""
        return node

    def _given(self, place: int, state: int, text: bytes) -> Iterator[Move]:
        """Yield the ways on behind a given byte, only those that the byte behind it allows."""
        cuts, goes_on, stops = self._cuts, self._cuts.goes_on[state], True
        if place == len(self._items):
            goes_on = False
        elif self._items[place] != UNKNOWN:
            goes_on = cuts.steps[state][self._items[place]] != DEAD
            stops = not goes_on
        if goes_on:
            yield SILENT, text, (place, cuts.inside(state))
        if stops and (ending := cuts.ending(state)):
            yield ending[0], text, (place, ending[1])

    def _unknown(self, place: int, situation: int) -> Iterator[Move]:
        cuts, behind = self._cuts, place + 1
        yield SILENT, b"", (behind, situation)
        for (lexeme, boundary), text in cuts.endings[situation].items():
            yield lexeme, text, (place, boundary)
        if behind < len(self._items):
            byte = self._items[behind]
            for state, text in cuts.ahead[situation].items():
                if cuts.steps[state][byte] != DEAD:
                    yield SILENT, text, (behind, cuts.inside(state))
