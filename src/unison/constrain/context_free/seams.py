"""Which lexemes can stand side by side, and what does it cost to write one after another?

A lexeme ends where it cannot go on, so it bars the bytes it could have gone on with from coming
next. The barred bytes are its *seam*; of seams that bar the same bytes there is one. Seam 0 is
that of the empty text, and bars none. Ignored lexemes may come between two that are seen, and are
often what parts them.
"""

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int32
from numpy import ndarray

from unison.constrain.automaton.draft import NO_LABEL
from unison.constrain.context_free.lexer import Lexer
from unison.constrain.machine import DEAD

FAR = 1 << 20  # no lexeme is so long that it would be mistaken for this
_PLAIN = (*b" ", *range(0x21, 0x7F), *b"\n\t", *range(256))  # bytes in the order we like them

End = tuple[int, int]  # a lexeme, and the seam behind it


class Seams:
    """The seams of a lexer, and the ways of lexemes between them.

    Attributes:
        lexer: Cuts the text.
        ends: Pairs of a lexeme and a seam behind it, all that occur.
        end: By state of the lexer: the number of its pair; ``NO_LABEL`` where no lexeme ends.
        barred: By seam: bytes that must not come next, as bits.
        reach: By state: pairs that the lexeme may still become, as bits.
        seen: By seam: pairs of the next lexeme that rules see, past ignored ones, as bits.
    """

    def __init__(self, lexer: Lexer) -> None:
        self.lexer = lexer
        self.table = lexer.table.tolist()
        self.first = [b for b in dict.fromkeys(_PLAIN) if self.table[lexer.start][b] != DEAD]
        seams = {0: 0}
        ends: dict[End, int] = {}
        self.end: list[int] = []
        for row, label in zip(self.table, lexer.label.tolist(), strict=True):
            barred = sum(1 << byte for byte in self.first if row[byte] != DEAD)
            if label == NO_LABEL:
                self.end.append(NO_LABEL)
            else:
                seam = seams.setdefault(barred, len(seams))
                self.end.append(ends.setdefault((label, seam), len(ends)))
        self.barred = list(seams)
        self.ends = list(ends)
        self.onward = [sorted({to for to in row if to != DEAD}) for row in self.table]
        self.reach = self._reach()
        self.seen = self._seen()
        self._costs: Int32[ndarray, "nodes ends"] | None = None
        self._texts: dict[tuple[int, int], bytes] = {}

    def begun(self, seam: int) -> list[tuple[int, int]]:
        """Return bytes that may come behind a seam and the states they lead to."""
        row, barred = self.table[self.lexer.start], self.barred[seam]
        return [(byte, row[byte]) for byte in self.first if not barred >> byte & 1]

    def next(self, seam: int) -> int:
        """Return the pairs that may come next behind a seam, ignored lexemes too, as bits."""
        found = 0
        for _, state in self.begun(seam):
            found |= self.reach[state]
        return found

    def possible(self) -> dict[str, int]:
        """Return the numbers of the lexemes that rules may see, by name."""
        labels = sorted({self.ends[n][0] for n in bits(self.seen[0])})
        return {self.lexer.names[label]: label for label in labels}

    def _seen(self) -> list[int]:
        ignored = sum(1 << n for n, (label, _) in enumerate(self.ends) if self.ignores(label))
        direct = [self.next(seam) for seam in range(len(self.barred))]
        found = []
        for seam in range(len(self.barred)):
            passed, todo, pairs = {seam}, [seam], 0
            while todo:
                coming = direct[todo.pop()]
                pairs |= coming
                fresh = {self.ends[n][1] for n in bits(coming & ignored)} - passed
                passed |= fresh
                todo += fresh
            found.append(pairs & ~ignored)
        return found

    def ignores(self, label: int) -> bool:
        """Return whether rules do not see a lexeme."""
        return label in self.lexer.ignored

    def costs(self) -> Int32[ndarray, "nodes ends"]:
        """Return how many bytes lead to the end of each pair, past ignored lexemes; or ``FAR``.

        Rows are the states of the lexer, then the seams.
        """
        if self._costs is None:
            self._costs = self._spread()
        return self._costs

    def _spread(self) -> Int32[ndarray, "nodes ends"]:
        """Spread costs backwards until none falls."""
        states, seams = len(self.table), len(self.barred)
        onward = [list(row) for row in self.onward]
        onward += [
            [to for to in dict.fromkeys(s for _, s in self.begun(seam))] for seam in range(seams)
        ]
        counts = np.array([len(row) for row in onward])
        flat = np.array([to for row in onward for to in row], np.int64)
        some = np.flatnonzero(counts)
        begins = (np.cumsum(counts) - counts)[some]
        costs = np.full((states + seams, len(self.ends)), FAR, np.int32)
        for state, end in enumerate(self.end):
            if end != NO_LABEL:
                costs[state, end] = 0
        parted = [
            (state, states + self.ends[end][1])
            for state, end in enumerate(self.end)
            if end != NO_LABEL and self.ignores(self.ends[end][0])
        ]
        passing = np.array(parted, np.int64).reshape(-1, 2)
        while True:
            before = costs.copy()
            nearer = np.minimum.reduceat(costs[flat], begins, axis=0) + 1
            costs[some] = np.minimum(costs[some], nearer)
            costs[passing[:, 0]] = np.minimum(costs[passing[:, 0]], costs[passing[:, 1]])
            if np.array_equal(before, costs):
                return costs

    def text(self, node: int, end: int) -> bytes:
        """Return a shortest text from a row of ``costs`` to the end of a pair."""
        found = self._texts.get((node, end))
        if found is None:
            found = self._texts[node, end] = self._walk(node, end)
        return found

    def _walk(self, node: int, end: int) -> bytes:
        """Go down the costs."""
        costs = self.costs()[:, end].tolist()
        states, found = len(self.table), bytearray()
        while costs[node]:
            passed = node
            if node < states and self.end[node] != NO_LABEL:
                label, seam = self.ends[self.end[node]]
                if self.ignores(label) and costs[states + seam] == costs[node]:
                    passed = states + seam
            choices = self.begun(passed - states) if passed >= states else self._steps(passed)
            byte, node = next((b, to) for b, to in choices if costs[to] == costs[node] - 1)
            found.append(byte)
        return bytes(found)

    def _steps(self, state: int) -> list[tuple[int, int]]:
        row = self.table[state]
        return [(byte, row[byte]) for byte in dict.fromkeys(_PLAIN) if row[byte] != DEAD]

    def _reach(self) -> list[int]:
        before: list[list[int]] = [[] for _ in self.table]
        for state, row in enumerate(self.onward):
            for target in row:
                before[target].append(state)
        reach = [0 if end == NO_LABEL else 1 << end for end in self.end]
        todo = deque(state for state, found in enumerate(reach) if found)
        while todo:
            state = todo.popleft()
            for source in before[state]:
                if reach[state] & ~reach[source]:
                    reach[source] |= reach[state]
                    todo.append(source)
        return reach


def bits(number: int) -> Iterable[int]:
    """Yield the places of the bits that are set."""
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low


def alike(moves: Sequence[dict[End, int]]) -> list[int]:
    """Return numbers of seams, one for seams behind which the same may come at the same cost.

    Args:
        moves: By seam: for each pair that may come next, its cost.
    """
    blocks = [0] * len(moves)
    while True:
        kinds: dict[tuple[int, frozenset[tuple[End, int]]], int] = {}
        finer = []
        for seam, coming in enumerate(moves):
            best: dict[End, int] = {}
            for (label, behind), cost in coming.items():
                pair = (label, blocks[behind])
                best[pair] = min(cost, best.get(pair, cost))
            finer.append(kinds.setdefault((blocks[seam], frozenset(best.items())), len(kinds)))
        if finer == blocks:
            return blocks
        blocks = finer
