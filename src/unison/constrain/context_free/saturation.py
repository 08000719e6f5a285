"""Does a context-free language share a text with a finite graph of texts, and which one?

Facts "symbol A spells a way from node p to node q" are added until none is new or the whole is
found (Bar-Hillel, Perles and Shamir 1961; rules kept short but with empty and single bodies, as
Mündler, Dekoninck and Vechev 2025, arXiv 2508.10111, do). Differs: a fact is looked for only where
one that could use it begins (Earley 1970), so that a long given text costs what parsing it does.
"""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from unison.constrain.context_free.binary import Binary


@runtime_checkable
class Graph(Protocol):
    """Nodes joined by edges with terminals, found as they are asked for."""

    @property
    def start(self) -> int:
        """The node every text starts at."""
        ...

    @property
    def rank(self) -> Sequence[int]:
        """By node: a number that no edge lowers."""
        ...

    @property
    def kind(self) -> Sequence[int]:
        """By node: which nodes can stand for each other.

        Of two nodes of one kind, the one of lower rank can do all that the other can, by nodes of
        the same kinds and no higher ranks; so the other is dropped. A graph that knows nothing of
        this gives each node a kind of its own.
        """
        ...

    def after(self, node: int) -> Mapping[int, Sequence[int]]:
        """Return where each terminal leads."""
        ...

    def accepts(self, node: int) -> bool:
        """Return whether a text may end here."""
        ...


@dataclass(frozen=True)
class Walk:
    """One text of the language that the graph allows.

    Attributes:
        word: Its terminals.
        path: The nodes it passes, one more than terminals.
    """

    word: tuple[int, ...]
    path: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        walk: A common text; ``None`` if there is none or if the search was cut short.
        decided: Whether the search was not cut short.
        facts: How many facts it looked at.
    """

    walk: Walk | None
    decided: bool
    facts: int


Fact = tuple[int, int, int]


def saturate(rules: Binary, graph: Graph, limit: int | None = None) -> Outcome:
    """Return a text of both, or that there is none, or, past the limit of facts, neither."""
    chart = _Chart(rules, graph)
    chart.want(graph.start, rules.start)
    taken = 0
    while chart.whole is None:
        fact = chart.next()
        if fact is None:
            return Outcome(None, decided=True, facts=taken)
        if limit is not None and taken >= limit:
            return Outcome(None, decided=False, facts=taken)
        taken += 1
        chart.take(*fact)
    return Outcome(chart.walk(chart.whole), decided=True, facts=taken)


class _Chart:
    """All facts so far, each with the first reason found for it."""

    def __init__(self, rules: Binary, graph: Graph) -> None:
        self.whole: Fact | None = None
        self._rules, self._graph = rules, graph
        self._why: dict[Fact, tuple[int, ...]] = {}  # by begin, symbol and the end's kind
        self._ends: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        self._waiting: defaultdict[tuple[int, int], list[Fact]] = defaultdict(list)
        self._wanted: defaultdict[int, set[int]] = defaultdict(set)
        self._late: list[tuple[int, int, int, set[int]]] = []  # facts that may begin what is new
        self._queues: list[deque[Fact]] = [deque()]  # by the end's rank, which never falls
        self._rank = 0

    def next(self) -> Fact | None:
        """Return a fact not looked at yet, of the lowest rank."""
        while self._rank < len(self._queues):
            if self._queues[self._rank]:
                return self._queues[self._rank].popleft()
            self._rank += 1
        return None

    def want(self, p: int, symbol: int) -> None:
        """Look for texts of a symbol that begin at a node, and of all that they may begin with."""
        wanted = self._wanted[p]
        if symbol in wanted:
            return
        fresh = self._corners(symbol, wanted)
        for corner in {one for new in fresh for one in self._rules.begins[new]} - fresh:
            self._late += [(p, corner, q, fresh) for q in self._ends.get((p, corner), ())]
        wanted |= fresh
        for empty in self._rules.empty & fresh:
            self._add(p, empty, p, ())
        for terminal, nodes in self._graph.after(p).items():
            for one in self._rules.spelt[terminal]:
                if one in fresh:
                    for q in nodes:
                        self._add(p, one, q, (terminal,))

    def _corners(self, symbol: int, known: set[int]) -> set[int]:
        """Return what a symbol may begin with, itself too, and is not known yet."""
        found = {symbol}
        stack = [symbol]
        while stack:
            for one in self._rules.begins[stack.pop()]:
                if one not in known and one not in found:
                    found.add(one)
                    stack.append(one)
        return found

    def take(self, p: int, symbol: int, q: int) -> None:
        """Draw all conclusions from a fact and those looked at before."""
        self._ends[p, symbol].append(q)
        self._begin(p, symbol, q, self._wanted[p])
        for begin, parent, left in self._waiting.get((p, symbol), ()):
            self._add(begin, parent, q, (left, p, symbol))
        while self._late:
            self._begin(*self._late.pop())

    def _begin(self, p: int, symbol: int, q: int, parents: set[int]) -> None:
        """Let a fact be the beginning of some symbols."""
        for parent in self._rules.single[symbol]:
            if parent in parents:
                self._add(p, parent, q, (symbol, q))
        for parent, rest in self._rules.first[symbol]:
            if parent in parents:
                self.want(q, rest)
                self._waiting[q, rest].append((p, parent, symbol))
                for r in self._ends.get((q, rest), ()):
                    self._add(p, parent, r, (symbol, q, rest))

    def walk(self, whole: Fact) -> Walk:
        """Return the text a fact stands for, by the reasons."""
        word: list[int] = []
        path = [whole[0]]
        stack = [whole]
        while stack:
            p, symbol, q = stack.pop()
            match self._why[p, symbol, self._graph.kind[q]]:
                case (terminal,):
                    word.append(terminal)
                    path.append(q)
                case (one, _):
                    stack.append((p, one, q))
                case (left, middle, right):
                    stack += ((middle, right, q), (p, left, middle))
        return Walk(tuple(word), tuple(path))

    def _add(self, p: int, symbol: int, q: int, why: tuple[int, ...]) -> None:
        key = (p, symbol, self._graph.kind[q])
        if key in self._why:
            return
        self._why[key] = why
        rank = self._graph.rank[q]
        while rank >= len(self._queues):
            self._queues.append(deque())
        self._queues[rank].append((p, symbol, q))
        if symbol == self._rules.start and p == self._graph.start and self._graph.accepts(q):
            self.whole = (p, symbol, q)
