"""Random small languages, vocabularies and canvases, for laws that can be enumerated."""

import numpy as np
from oracle.constrained_law import Case, law

from unison.constrain.joint import Stretch
from unison.constrain.tokens import TokenMachine
from unison.constrain.vocabulary import vocabulary

LETTERS = b"ab"


class Table:
    """An automaton over two letters as a table; all its states lead to an end."""

    def __init__(self, to: np.ndarray, ends: np.ndarray, lazy: bool):
        self.to, self.ends, self.start = to, ends, 0
        self.size = None if lazy else len(to)

    def advance(self, states, data):
        byte = np.where(data == LETTERS[0], 0, np.where(data == LETTERS[1], 1, 2))
        return self.to[states, byte].astype(np.int32)

    def accepts(self, states):
        return self.ends[states]

    def shortest(self, state):
        level = {int(state): b""}
        while True:
            for at, text in level.items():
                if self.ends[at]:
                    return text
            level = {
                int(self.to[at, i]): text + LETTERS[i : i + 1]
                for at, text in level.items()
                for i in (0, 1)
                if self.to[at, i] >= 0
            }

    def member(self, text: bytes) -> bool:
        state = 0
        for byte in text:
            state = self.to[state, LETTERS.index(byte)]
            if state < 0:
                return False
        return bool(self.ends[state])


class Brackets:
    """Balanced brackets, a for an opening one: as many states as there are depths."""

    start, size = 0, None

    def advance(self, states, data):
        return np.where(data == LETTERS[0], states + 1, states - 1).astype(np.int32)

    def accepts(self, states):
        return states == 0

    def shortest(self, state):
        return LETTERS[1:] * state

    def member(self, text: bytes) -> bool:
        depth = np.cumsum([1 if byte == LETTERS[0] else -1 for byte in text])
        return not text or (depth.min() >= 0 and depth[-1] == 0)


def table(random: np.random.Generator, lazy: bool) -> Table:
    """Return a random automaton: some are finite languages, some are not."""
    while True:
        size = random.integers(1, 6)
        to = random.integers(-1, size, (size, 3))
        if random.random() < 0.3:  # no way back: finitely many texts
            to[to <= np.arange(size)[:, None]] = -1
        to[:, 2] = -1
        ends = random.random(size) < 0.4
        live = ends.copy()
        for _ in range(size):
            live |= (live[to[:, :2]] & (to[:, :2] >= 0)).any(1)
        to[(to >= 0) & ~live[to]] = -1
        if live[0]:
            return Table(to, ends, lazy)


SPELLINGS = [b"a", b"b", b"ab", b"ba", b"a", b"b", b"aa", b"bb", None, b""]


def belief(random: np.random.Generator, rows: int, tokens: int) -> np.ndarray:
    """Return log-weights, some of them never, some hardly ever."""
    logp = np.log(random.dirichlet(np.ones(tokens), rows))
    kind = random.random((rows, tokens))
    extreme = random.random()
    if extreme < 0.3:
        logp[kind < 0.15] = -np.inf
    elif extreme < 0.6:
        logp[kind < 0.3] -= 300
        logp[kind < 0.1] -= 5000
    return logp


def pattern(random: np.random.Generator, text: tuple[int, ...], nulls: set[int], blurred: bool):
    """Return tokens, columns and holes around a possible text: given, committed, read or free."""
    size = len(text)
    given = random.random(size) < random.choice([0.0, 0.3])
    given &= np.array([token not in nulls for token in text])
    hole = np.where(given, -1, np.cumsum(np.diff(given, prepend=True) & ~given) - 1)
    committed = ~given & (random.random(size) < random.choice([0.0, 0.3]))
    token = np.where(given | committed, text, -1)
    free = random.random(size) < random.choice([0.0, 0.5])
    if not blurred:  # free slots stand behind those that are read
        free &= np.arange(size) >= random.integers(0, size + 1)
        free = np.logical_and.accumulate((free | (token >= 0))[::-1])[::-1] & (token < 0)
    read = np.flatnonzero((token < 0) & ~free)
    column = np.full(size, -1)
    column[read] = random.permutation(len(read) + random.integers(0, 2))[: len(read)]
    return token, column, hole


def case(random: np.random.Generator, blurred: bool = False, lazy: bool = False, slots: int = 5):
    """Return a case with at least one possible text, and its language by tokens."""
    while True:
        kind = random.random()
        machine = Brackets() if lazy and kind < 0.4 else table(random, lazy)
        many = random.integers(2, 5)
        spelt = [SPELLINGS[i] for i in random.permutation(len(SPELLINGS))[:many]]
        if not any(spelt):
            continue
        nulls = tuple(range(many, many + random.integers(0, 3)))
        words = vocabulary([*spelt, *[None] * len(nulls)], nulls, "toy")
        size = int(random.integers(3, slots + 1))
        rest = [-1] * size, range(size), [0] * size
        width = len(words.spellings)
        empty = Case(words.spellings, nulls, machine.member, *rest, np.zeros((size, width)))
        possible = list(law(empty))
        if not possible:
            continue
        text = possible[random.integers(len(possible))]
        token, column, hole = pattern(random, text, set(nulls), blurred)
        logp = belief(random, column.max() + 1 + random.integers(0, 2), width)
        found = Case(words.spellings, nulls, machine.member, token, column, hole, logp)
        if max(law(found).values()) > -np.inf:
            return found, TokenMachine(machine, words)


def stretch(of: Case) -> Stretch:
    """Return a case's slots."""
    return Stretch(np.asarray(of.token), np.asarray(of.column), np.asarray(of.hole))
