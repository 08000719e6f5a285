"""How is a regular language read? A table of bytes and states, all of them known beforehand."""

from collections import deque
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
from jaxtyping import Bool, Int32, UInt8
from numpy import ndarray

from unison.constrain.automaton.draft import NO_LABEL, Draft
from unison.constrain.machine import DEAD

BYTES = 256


@dataclass(frozen=True, eq=False)
class Dfa:
    """The smallest deterministic automaton of a regular language: a ``Machine``, all found.

    Every state is reached by some text and has a continuation that the language accepts; states
    are numbered by breadth and byte. So two are equal exactly if their languages are.

    Attributes:
        classes: Which bytes lead everywhere to the same states: the column of each byte.
        table: Where each state leads; ``DEAD`` for nowhere.
        accepting: In which states the text may end.
        start: The state of the empty text.
    """

    classes: UInt8[ndarray, "256"]
    table: Int32[ndarray, "Q classes"]
    accepting: Bool[ndarray, " Q"]
    start: int = 0

    @property
    def size(self) -> int:
        """How many states there are."""
        return len(self.accepting)

    def advance(
        self, states: Int32[ndarray, " n"], data: UInt8[ndarray, " n"]
    ) -> Int32[ndarray, " n"]:
        """Return where each state leads with its byte, ``DEAD`` where nowhere; none is ``DEAD``."""
        return self.table[states, self.classes[data]]

    def accepts(self, states: Int32[ndarray, " n"]) -> Bool[ndarray, " n"]:
        """Return in which states the text may end."""
        return self.accepting[states]

    def shortest(self, state: int) -> bytes:
        """Return a continuation of the fewest bytes after which the text may end."""
        found = bytearray()
        while self.remaining[state]:
            row = self.table[state]
            nearer = (row != DEAD) & (self.remaining[row] < self.remaining[state])
            column = int(nearer.argmax())
            found.append(int((self.classes == column).argmax()))
            state = int(row[column])
        return bytes(found)

    def matches(self, data: bytes) -> bool:
        """Return whether the language holds a whole text."""
        state = self.start
        for byte in data:
            state = int(self.table[state, self.classes[byte]])
            if state == DEAD:
                return False
        return bool(self.accepting[state])

    @cached_property
    def remaining(self) -> Int32[ndarray, " Q"]:
        """The fewest bytes from each state to one in which the text may end."""
        sources, columns = np.nonzero(self.table != DEAD)
        targets = self.table[sources, columns]
        steps = np.unique(targets.astype(np.int64) * self.size + sources)
        targets, sources = np.divmod(steps, self.size)
        bounds = np.searchsorted(targets, np.arange(self.size + 1)).tolist()
        before = sources.tolist()
        found = np.where(self.accepting, 0, -1).tolist()
        queue = deque(np.flatnonzero(self.accepting).tolist())
        while queue:
            state = queue.popleft()
            for source in before[bounds[state] : bounds[state + 1]]:
                if found[source] < 0:
                    found[source] = found[state] + 1
                    queue.append(source)
        return np.array(found, dtype=np.int32)

    @cached_property
    def fingerprint(self) -> str:
        """A name of the language: equal exactly if the languages are."""
        digest = sha256(str(self.table.shape).encode())
        for part in (self.classes, self.table, self.accepting):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dfa) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def tabled(draft: Draft) -> Dfa:
    """Write a minimal automaton down as a table."""
    classes, table = tables(draft)
    return Dfa(classes, table, np.array(draft.labels) != NO_LABEL)


def tables(draft: Draft) -> tuple[UInt8[ndarray, "256"], Int32[ndarray, "Q classes"]]:
    """Return the column of each byte, and where each state leads by column."""
    sizes = [len(row) for row in draft.edges]
    flat = [edge for row in draft.edges for edge in row]
    edges = np.array(flat, dtype=np.int64).reshape(-1, 3)
    begins = np.zeros(BYTES + 1, dtype=bool)
    begins[0] = begins[edges[:, 0]] = begins[edges[:, 1] + 1] = True
    interval = np.cumsum(begins[:BYTES]) - 1
    first, last = interval[edges[:, 0]], interval[edges[:, 1]]
    spans = last - first + 1
    offsets = np.arange(spans.sum()) - np.repeat(np.cumsum(spans) - spans, spans)
    table = np.full((len(sizes), int(interval[-1]) + 1), DEAD, dtype=np.int32)
    rows = np.repeat(np.arange(len(sizes)), sizes)
    table[np.repeat(rows, spans), np.repeat(first, spans) + offsets] = np.repeat(edges[:, 2], spans)
    columns: dict[bytes, int] = {}
    merged = [columns.setdefault(column.tobytes(), len(columns)) for column in table.T.copy()]
    kept = np.unique(np.array(merged), return_index=True)[1]
    return np.array(merged, dtype=np.uint8)[interval], np.ascontiguousarray(table[:, kept])
