"""What most often came after these words, in this text and in others?"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from unison.drafters.automaton import BREAK, NOWHERE, Automaton, Match
from unison.drafters.copying import Copying
from unison.speculation.parts import Target


@dataclass(frozen=True)
class Suffix:
    """Continue every suffix of the text as often seen before; keep the most promising tree.

    Suffix decoding (Oliaro et al., 2024, arXiv:2411.04975). A token's chance is its share of what
    followed; a tree is grown by the likeliest node first and is worth the sum of its nodes'
    chances. Longer suffixes may draft more.

    Attributes:
        factor: Tokens of a tree for each token that agrees.
        least: Smallest chance of a node, its way included.
        shortest: Fewest tokens that must agree.
        reach: Most tokens compared.
        corpus: Earlier texts (``Automaton.of``), of the target's tokens; only read.
    """

    copies: ClassVar[bool] = True
    factor: float = 1.0
    least: float = 0.1
    shortest: int = 1
    reach: int = 24
    corpus: Automaton | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.factor <= 0 or not 0 < self.least <= 1:
            raise ValueError(
                "factor must be positive and least in (0, 1], got "
                f"factor={self.factor} and least={self.least}."
            )
        if not 1 <= self.shortest <= self.reach:
            raise ValueError(
                "shortest must be at least 1 and at most reach, got "
                f"shortest={self.shortest} and reach={self.reach}."
            )

    @property
    def taps(self) -> tuple[int, ...]:
        """No streams."""
        return ()

    def open(self, target: Target, rows: int) -> Copying:
        """Return the drafting of empty texts."""
        del target
        return Copying([Suffixes(self) for _ in range(rows)])


class Node(NamedTuple):
    """A token of a tree of guesses; least first is likeliest first.

    Attributes:
        cost: Minus the chance of its way.
        order: A number of its own, in the order of discovery.
        text: The guesses up to it.
        match: The string before it, and it, in the automaton.
    """

    cost: float
    order: int
    text: tuple[int, ...]
    match: Match


class Suffixes:
    """The strings of one text, and where its end occurs in the corpus."""

    def __init__(self, suffix: Suffix) -> None:
        self.suffix = suffix
        self.own = Automaton(suffix.reach)
        self.elsewhere = NOWHERE

    def extend(self, tokens: Sequence[int]) -> None:
        """Read on."""
        corpus = self.suffix.corpus
        for token in tokens:
            self.own.read(token)
            if corpus is not None:
                self.elsewhere = corpus.moved(self.elsewhere, token)

    def continuations(self, depth: int, nodes: int) -> list[list[int]]:
        """Return the ways to the leaves of the best tree."""
        if depth <= 0 or nodes <= 0:
            return []
        best: list[Node] = []
        worth = 0.0
        for automaton, match, seen in self._patterns():
            room = min(nodes, int(self.suffix.factor * match.size))
            if room <= worth:  # not even sure guesses could be worth more
                continue
            tree = self._grown(automaton, match, seen, depth, room)
            value = -sum(node.cost for node in tree)
            if value > worth:
                best, worth = tree, value
        return _leaves(best)

    def _patterns(self) -> Iterator[tuple[Automaton, Match, int]]:
        """Yield suffixes of the text that occur elsewhere, longest first, and how often."""
        for state in self.own.suffixes(self.own.end):
            match = Match(state, min(self.own.size[state], self.own.end.size))
            if self.own.count[state] > 1 and match.size >= self.suffix.shortest:
                yield self.own, match, self.own.count[state] - 1
        corpus = self.suffix.corpus
        if corpus is not None:
            for state in corpus.suffixes(self.elsewhere):
                match = Match(state, min(corpus.size[state], self.elsewhere.size))
                if match.size >= self.suffix.shortest:
                    yield corpus, match, corpus.count[state]

    def _grown(
        self, automaton: Automaton, match: Match, seen: int, depth: int, room: int
    ) -> list[Node]:
        """Return the likeliest nodes, parents first."""
        tree: list[Node] = []
        heap = self._children(automaton, Node(-1.0, 0, (), match), seen, 0)
        heapq.heapify(heap)
        found = len(heap)
        while heap and len(tree) < room:
            node = heapq.heappop(heap)
            tree.append(node)
            after = _continued(automaton, node.match)
            if after.state and len(node.text) < depth:
                seen = automaton.count[after.state]
                children = self._children(automaton, node._replace(match=after), seen, found)
                found += len(children)
                for child in children:
                    heapq.heappush(heap, child)
        return tree

    def _children(self, automaton: Automaton, node: Node, seen: int, found: int) -> list[Node]:
        chances = (
            (token, automaton.count[state] / seen * -node.cost)
            for token, state in automaton.next[node.match.state].items()
            if token != BREAK
        )
        likely = [(token, chance) for token, chance in chances if chance >= self.suffix.least]
        return [
            Node(-chance, found + i, (*node.text, token), automaton.moved(node.match, token))
            for i, (token, chance) in enumerate(likely)
        ]


def _continued(automaton: Automaton, match: Match) -> Match:
    """Return the match, or where nothing ever followed it, its longest suffix that goes on."""
    state, size = match
    while state and not automaton.next[state]:
        state = automaton.link[state]
        size = automaton.size[state]
    return Match(state, size)


def _leaves(tree: list[Node]) -> list[list[int]]:
    """Return the texts of the nodes without children, likeliest first."""
    inner = {node.text[:-1] for node in tree}
    return [list(node.text) for node in tree if node.text not in inner]
