"""How is a language with nested rules read byte by byte? A machine that finds its states.

States are numbers of what is needed to go on: a set of stacks, and where a lexer cuts the text,
also the lexer's state. What was asked once is a look-up in a table of states and classes of bytes;
the tables grow with the texts that are read and are never emptied.
"""

from threading import Lock
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt8
from numpy import ndarray

from unison.constrain.context_free.cutting import Cut
from unison.constrain.context_free.lengths import Lengths
from unison.constrain.context_free.lexer import lexer
from unison.constrain.context_free.normal import Network, network
from unison.constrain.context_free.places import Places
from unison.constrain.context_free.seams import Seams
from unison.constrain.context_free.stacks import NONE, Stacks
from unison.constrain.language import Grammar
from unison.constrain.machine import DEAD, Machine

Config = tuple[int, int]
UNKNOWN = -2
BYTES = 256
ROOM = 256


@runtime_checkable
class Reader(Protocol):
    """What a machine asks of the rules.

    Attributes:
        start: The configuration of the empty text.
        classes: By byte: bytes of one class are read alike everywhere.
    """

    start: Config
    classes: Int32[ndarray, " 256"]

    def read(self, config: Config, byte: int) -> Config | None:
        """Return the configuration after a byte; ``None`` if no text goes on like this."""
        ...

    def ends(self, config: Config) -> bool:
        """Return whether the text may end here."""
        ...

    def shortest(self, config: Config) -> bytes:
        """Return a shortest continuation to where the text may end."""
        ...


def parsing(grammar: Grammar) -> Machine:
    """Return a machine for any grammar, with or without recursion and lexemes.

    Rules that no text uses are dropped.

    Raises:
        ConstraintError: No text follows the rules, or they cannot be read.
    """
    if not grammar.lexemes:
        return Parsing(Bare(network(grammar, {})))
    seams = Seams(lexer(grammar))
    return Parsing(Cut(network(grammar, seams.possible()), seams, grammar.about))


class Parsing:
    """A machine whose states are found on the way; see ``Machine`` for its promises.

    Attributes:
        start: The state of the empty text.
        size: ``None``: there may be infinitely many states.
    """

    def __init__(self, reader: Reader) -> None:
        self.size = None
        self._reader = reader
        self._classes = reader.classes
        width = int(reader.classes.max()) + 1
        self._samples = [int(np.argmax(reader.classes == one)) for one in range(width)]
        self._configs: list[Config] = []
        self._numbers: dict[Config, int] = {}
        self._table = np.full((ROOM, width), UNKNOWN, np.int32)
        self._ends = np.zeros(ROOM, bool)
        self._lock = Lock()
        self.start = self._state(reader.start)

    def __getstate__(self) -> dict[str, object]:
        """Return everything but the lock, which belongs to a process."""
        with self._lock:
            return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Take everything back, with a lock of its own."""
        vars(self).update(state, _lock=Lock())

    def advance(
        self, states: Int32[ndarray, " n"], data: UInt8[ndarray, " n"]
    ) -> Int32[ndarray, " n"]:
        """Return where each state leads with its byte, ``DEAD`` where nowhere; none is ``DEAD``."""
        columns = self._classes[data]
        found = self._table[states, columns]
        unknown = np.flatnonzero(found == UNKNOWN)
        if unknown.size:
            self._learn(
                np.unique(states[unknown] * np.int64(len(self._samples)) + columns[unknown])
            )
            found[unknown] = self._table[states[unknown], columns[unknown]]
        return found

    def accepts(self, states: Int32[ndarray, " n"]) -> Bool[ndarray, " n"]:
        """Return in which states the text may end."""
        return self._ends[states]

    def shortest(self, state: int) -> bytes:
        """Return a continuation of the fewest bytes after which the text may end."""
        with self._lock:
            return self._reader.shortest(self._configs[state])

    def _learn(self, asked: Int64[ndarray, " m"]) -> None:
        """Fill in places of the table, each given as one number."""
        rows, columns = np.divmod(asked, len(self._samples))
        with self._lock:
            for state, column in zip(rows.tolist(), columns.tolist(), strict=True):
                config = self._reader.read(self._configs[state], self._samples[column])
                target = DEAD if config is None else self._state(config)
                self._table[state, column] = target  # a larger one, if the state needed room

    def _state(self, config: Config) -> int:
        """Return the number of a configuration, a new one if it is new."""
        found = self._numbers.get(config)
        if found is None:
            found = len(self._configs)
            if found == len(self._ends):
                rows = np.full_like(self._table, UNKNOWN)
                self._table = np.concatenate([self._table, rows])
                self._ends = np.concatenate([self._ends, np.zeros_like(self._ends)])
            self._ends[found] = self._reader.ends(config)
            self._configs.append(config)
            self._numbers[config] = found
        return found


class Bare:
    """Reads rules over bytes: a configuration is a set of stacks (and a zero)."""

    def __init__(self, net: Network) -> None:
        self.stacks = Stacks(Places(net))
        self.start: Config = (self.stacks.start, 0)
        self.classes = _classes(net)
        self._lengths: Lengths | None = None

    def read(self, config: Config, byte: int) -> Config | None:
        """Return the configuration after a byte; ``None`` if no text goes on like this."""
        node = self.stacks.step(config[0], byte)
        return None if node == NONE else (node, 0)

    def ends(self, config: Config) -> bool:
        """Return whether the text may end here."""
        return self.stacks.ends[config[0]]

    def shortest(self, config: Config) -> bytes:
        """Return a shortest continuation to where the text may end."""
        if self._lengths is None:
            self._lengths = Lengths(self.stacks, 1, lambda symbol, edge: [(0, 1)])
        return bytes(byte for _, byte, _ in self._lengths.letters(config[0], 0))


def _classes(net: Network) -> Int32[ndarray, " 256"]:
    """Return numbers for bytes, one for bytes that all rules read alike."""
    cuts = {(low, high + 1) for row in net.steps for low, high, _ in row}
    begins = np.zeros(BYTES + 1, bool)
    begins[[0, *(cut for pair in cuts for cut in pair)]] = True
    return (np.cumsum(begins[:BYTES]) - 1).astype(np.int32)
