"""Which lexemes may one token end, and in which situation may it leave a text?

From a situation, each token ends some lexemes and leads to a situation (see ``cuts``). All tokens
together are kept as a small graph in which equal rests are one.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64, Integer, UInt8
from numpy import ndarray

from unison.constrain.automaton.draft import NO_LABEL
from unison.constrain.context_free.cuts import Cuts
from unison.constrain.machine import DEAD
from unison.constrain.vocabulary import Vocabulary

Part = tuple[tuple[tuple[int, int], ...], tuple[int, ...]]  # lexemes and the rest, situations


@dataclass
class _Words:
    """All lexemes that tokens may end from one situation, as a tree; word 0 is none at all.

    Attributes:
        longer: By word, the words with one more lexeme.
        tokens: By word, the situations behind it, each with a token that leads there.
        root: The part that stands for all of it; ``None`` if there is no token at all.
    """

    longer: list[dict[int, int]] = field(default_factory=lambda: [{}])
    tokens: list[dict[int, int]] = field(default_factory=lambda: [{}])
    root: int | None = None

    def add(self, word: int, lexeme: int) -> int:
        """Return the word with one more lexeme."""
        if lexeme == NO_LABEL:
            return word
        if lexeme not in self.longer[word]:
            self.longer[word][lexeme] = len(self.longer)
            self.longer.append({})
            self.tokens.append({})
        return self.longer[word][lexeme]


class Spread:
    """The parts that slots are made of, found as they are asked for.

    Attributes:
        parts: For each, where each lexeme leads, and the situations in which the token may end.
    """

    def __init__(self, cuts: Cuts, vocabulary: Vocabulary) -> None:
        self.parts: list[Part] = []
        self._cuts, self._vocabulary = cuts, vocabulary
        self._first = np.array(vocabulary.trie.first_token)
        self._number: dict[Part, int] = {}
        self._words: dict[tuple[int, int | None], _Words] = {}

    def root(self, situation: int, token: int | None) -> int | None:
        """Return the part a token begins with, for ``None`` any token; ``None`` if none can."""
        return self._of(situation, token).root

    def token(self, situation: int, token: int | None, word: tuple[int, ...], to: int) -> int:
        """Return a token that ends these lexemes and leads from one situation to another."""
        words, place = self._of(situation, token), 0
        for lexeme in word:
            place = words.longer[place][lexeme]
        return words.tokens[place][to]

    def _of(self, situation: int, token: int | None) -> _Words:
        key = (situation, token)
        if key not in self._words:
            words = self._any(situation) if token is None else self._one(situation, token)
            words.root = self._shared(words)
            self._words[key] = words
        return self._words[key]

    def _one(self, situation: int, token: int) -> _Words:
        words, cuts = _Words(), self._cuts
        first, *rest = self._vocabulary.spellings[token] or (None,)
        if first is None:
            return words
        word, state = 0, cuts.read(situation, first)
        for byte in rest:
            if state == DEAD:
                return words
            onward = cuts.steps[state][byte]
            if onward == DEAD and (ending := cuts.ending(state)):
                word = words.add(word, ending[0])
                onward = cuts.steps[0][byte]
            state = onward
        if state != DEAD:
            self._leave(words, word, state, token)
        return words

    def _any(self, situation: int) -> _Words:
        """Walk through the tree of spellings, level by level."""
        words, tree = _Words(), self._vocabulary.trie
        nodes = np.arange(tree.child[0], tree.child[1])
        word = np.zeros(len(nodes), np.int64)
        state = np.array([self._cuts.read(situation, b) for b in tree.byte[nodes].tolist()])
        while True:
            alive = state != DEAD
            nodes, word, state = nodes[alive], word[alive], state[alive]
            if not len(nodes):
                return words
            self._record(words, nodes, word, state)
            count = tree.child[nodes + 1] - tree.child[nodes]
            parent = np.repeat(np.arange(len(nodes)), count)
            before = count.cumsum() - count
            nodes = np.arange(len(parent)) + (tree.child[nodes] - before)[parent]
            word, state = self._read(words, word[parent], state[parent], tree.byte[nodes])

    def _read(
        self,
        words: _Words,
        word: Int64[ndarray, " n"],
        state: Integer[ndarray, " n"],
        byte: UInt8[ndarray, " n"],
    ) -> tuple[Int64[ndarray, " n"], Integer[ndarray, " n"]]:
        """Read one byte in each state; where a lexeme cannot go on, it ends before the byte."""
        cuts = self._cuts
        onward = cuts.step[state, byte]
        label = cuts.label[state]
        ends = (onward == DEAD) & (label != NO_LABEL)
        onward = np.where(ends, cuts.step[0, byte], onward)
        seen = ends & cuts.seen[label] & (onward != DEAD)
        pairs, place = np.unique(word[seen] * len(cuts.seen) + label[seen], return_inverse=True)
        longer = [words.add(*divmod(pair, len(cuts.seen))) for pair in pairs.tolist()]
        word = word.copy()
        word[seen] = np.array(longer, np.int64)[place]
        return word, onward

    def _record(
        self,
        words: _Words,
        nodes: Int64[ndarray, " n"],
        word: Int64[ndarray, " n"],
        state: Integer[ndarray, " n"],
    ) -> None:
        """Note where the tokens of nodes lead, one token for each place."""
        first = self._first[nodes]
        spelt = np.flatnonzero(first >= 0)
        pairs = word[spelt] * len(self._cuts.step) + state[spelt]
        some, place = np.unique(pairs, return_index=True)
        tokens = first[spelt[place]].tolist()
        for pair, token in zip(some.tolist(), tokens, strict=True):
            at, to = divmod(pair, len(self._cuts.step))
            self._leave(words, at, to, token)

    def _leave(self, words: _Words, word: int, state: int, token: int) -> None:
        """Note that a token leads to a state, so that its lexeme goes on or ends there."""
        if self._cuts.goes_on[state]:
            words.tokens[word].setdefault(self._cuts.inside(state), token)
        if ending := self._cuts.ending(state):
            words.tokens[words.add(word, ending[0])].setdefault(ending[1], token)

    def _shared(self, words: _Words) -> int | None:
        """Number all parts of a tree, from its leaves on."""
        numbers: dict[int, int] = {}
        for word in reversed(range(len(words.longer))):
            longer = sorted(words.longer[word].items())
            steps = tuple((lexeme, numbers[to]) for lexeme, to in longer if to in numbers)
            part = (steps, tuple(sorted(words.tokens[word])))
            if any(part):
                numbers[word] = self._number.setdefault(part, len(self.parts))
                self.parts += [part] * (numbers[word] == len(self.parts))
        return numbers.get(0)
