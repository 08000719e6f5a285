"""Which lexemes may a text hold that has to fit a number of slots, some of them given?

A node is a place between slots and either a situation of the text (see ``cuts``) or a part of the
slot that is being filled (see ``spread``). A hole whose text has ended is left at once; behind the
last given text of a hole, having used fewer of its slots is never worse, and the places of these
are of one kind.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from unison.constrain.context_free.closing import SILENT, Move, Node
from unison.constrain.context_free.cuts import Cuts
from unison.constrain.context_free.spread import Spread
from unison.constrain.language import ConstraintError
from unison.constrain.vocabulary import Vocabulary

GIVEN = -1


@dataclass(frozen=True)
class Slots:
    """The constrained stretch of a canvas: what each slot holds, and where its holes are.

    Attributes:
        token: The token of each slot, ``None`` where it is open.
        hole: The number of the hole each slot is in, ``GIVEN`` where the user gave its token.
    """

    token: tuple[int | None, ...]
    hole: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.token) != len(self.hole):
            raise ConstraintError(
                f"{len(self.token)} slots have {len(self.hole)} numbers of holes; give each one."
            )
        for slot, (token, hole) in enumerate(zip(self.token, self.hole, strict=True)):
            if token is None and hole == GIVEN:
                raise ConstraintError(
                    f"slot {slot} is open but in no hole; number the hole, or give its token."
                )

    @property
    def holes(self) -> Iterator[range]:
        """The slots of each hole."""
        for hole, run in groupby(range(len(self.hole)), self.hole.__getitem__):
            slots = list(run)
            if hole != GIVEN:
                yield range(slots[0], slots[-1] + 1)


@dataclass(frozen=True)
class _Plan:
    """What may happen at each place.

    Attributes:
        holds: By slot, whether text may stand there.
        leave: By place, where the hole ends that a text may leave there; the place itself if none.
        kind: By place, those that differ in the slots left alone.
    """

    holds: tuple[bool, ...]
    leave: tuple[int, ...]
    kind: tuple[int, ...]


class Filling:
    """The graph of such a text."""

    start: Node = (0, 0)

    def __init__(self, cuts: Cuts, spread: Spread, vocabulary: Vocabulary, slots: Slots) -> None:
        self._cuts, self._spread, self._slots = cuts, spread, slots
        self._plan = _plan(slots, frozenset(vocabulary.nulls))

    def moves(self, node: Node) -> Iterable[Move]:
        """Return the edges from a node."""
        place, code = node
        if code < 0:
            return self._within(place, ~code)
        return self._between(place, code)

    def ends(self, node: Node) -> bool:
        """Return whether a text may end here: behind everything, with no lexeme begun."""
        return node[0] == len(self._slots.token) and 0 <= node[1] < len(self._cuts.barred)

    def rank(self, node: Node) -> int:
        """Return the place."""
        return node[0]

    def kind(self, node: Node) -> Hashable:
        """Return what may follow but for the number of slots left in this hole."""
        return self._plan.kind[node[0]], node[1]

    def tokens(self, moves: Iterable[Move], null: int) -> list[int]:
        """Return the tokens of a way through this graph, with nulls in the slots left alone."""
        held = self._slots.token
        found: list[int] = []
        word: tuple[int, ...] = ()
        begin = code = self.start[1]
        for terminal, _, (place, to) in moves:
            if terminal != SILENT:
                word = (*word, terminal)
            elif code < 0:
                found.append(self._spread.token(begin, held[place - 1], word, to))
            elif to < 0:
                begin, word = code, ()
            else:
                found += [null if token is None else token for token in held[len(found) : place]]
            code = to
        return found

    def _between(self, place: int, situation: int) -> Iterator[Move]:
        if self._plan.leave[place] != place:
            yield SILENT, b"", (self._plan.leave[place], situation)
        if place < len(self._slots.token) and self._plan.holds[place]:
            root = self._spread.root(situation, self._slots.token[place])
            if root is not None:
                yield SILENT, b"", (place, ~root)

    def _within(self, place: int, part: int) -> Iterator[Move]:
        steps, situations = self._spread.parts[part]
        for lexeme, rest in steps:
            yield lexeme, b"", (place, ~rest)
        for situation in situations:
            yield SILENT, b"", (place + 1, situation)


def narrowed(slots: Slots, nulls: Sequence[int]) -> Iterator[Slots]:
    """Yield slots that leave each hole room for 1, 2, 4, ... more tokens, and last as they are."""
    room, most = 1, max((len(hole) for hole in slots.holes), default=0)
    while nulls and room < most:
        token = list(slots.token)
        for hole in slots.holes:
            for slot in hole[_behind_text(slots, hole, frozenset(nulls)) - hole[0] + room :]:
                token[slot] = nulls[0] if token[slot] is None else token[slot]
        yield Slots(tuple(token), slots.hole)
        room *= 2
    yield slots


def _behind_text(slots: Slots, hole: range, nulls: frozenset[int]) -> int:
    """Return the place behind the last text that is already in a hole."""
    text = [
        slot for slot in hole if slots.token[slot] is not None and slots.token[slot] not in nulls
    ]
    return text[-1] + 1 if text else hole[0]


def _plan(slots: Slots, nulls: frozenset[int]) -> _Plan:
    holds = [True] * len(slots.token)
    leave = list(range(len(slots.token) + 1))
    kind = list(leave)
    for hole in slots.holes:
        ended = next((slot for slot in hole if slots.token[slot] in nulls), hole.stop)
        begin = _behind_text(slots, hole, nulls)
        for slot in range(ended, hole.stop):
            holds[slot] = False
        for place in range(begin, min(ended + 1, hole.stop)) if nulls else ():
            leave[place] = hole.stop
            kind[place] = begin
    return _Plan(tuple(holds), tuple(leave), tuple(kind))
