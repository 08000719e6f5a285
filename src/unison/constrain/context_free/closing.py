"""Which texts does a graph allow whose edges may be silent? Silent edges are followed at once."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise
from typing import Protocol, runtime_checkable

from unison.constrain.context_free.saturation import Walk

SILENT = -1
Node = tuple[int, int]
Move = tuple[int, bytes, Node]  # a terminal or SILENT, what is written on the way, and where to


@runtime_checkable
class Moves(Protocol):
    """A graph with silent edges.

    Attributes:
        start: The node every text starts at.
    """

    start: Node

    def moves(self, node: Node) -> Iterable[Move]:
        """Return the edges from a node."""
        ...

    def ends(self, node: Node) -> bool:
        """Return whether a text may end here."""
        ...

    def rank(self, node: Node) -> int:
        """Return a number that no edge lowers."""
        ...

    def kind(self, node: Node) -> Hashable:
        """Return which nodes of higher rank this one can stand for, see ``saturation.Graph``."""
        ...


class Closed:
    """The graph of the places between terminals, found as it is asked for."""

    def __init__(self, graph: Moves) -> None:
        self.start = 0
        self.rank: list[int] = []
        self.kind: list[int] = []
        self._graph = graph
        self._nodes: list[Node] = []
        self._number: dict[Node, int] = {}
        self._known: dict[Hashable, int] = {}
        self._after: dict[int, Mapping[int, Sequence[int]]] = {}
        self._add(graph.start)

    def after(self, node: int) -> Mapping[int, Sequence[int]]:
        """Return where each terminal leads."""
        if node not in self._after:
            found: dict[int, dict[int, None]] = {}
            for near in self._near(node):
                for terminal, _, to in self._graph.moves(near):
                    if terminal != SILENT:
                        found.setdefault(terminal, {})[self._add(to)] = None
            self._after[node] = {terminal: tuple(nodes) for terminal, nodes in found.items()}
        return self._after[node]

    def accepts(self, node: int) -> bool:
        """Return whether a text may end here."""
        return any(self._graph.ends(near) for near in self._near(node))

    def moves(self, walk: Walk) -> Iterator[Move]:
        """Yield all edges of a walk through this graph, the silent ones too."""
        for terminal, (here, there) in zip(walk.word, pairwise(walk.path), strict=True):
            reasons = self._near(here)
            near, last = next(
                (near, move)
                for near in reasons
                for move in self._graph.moves(near)
                if move[0] == terminal and move[2] == self._nodes[there]
            )
            yield from _path(reasons, near)
            yield last
        reasons = self._near(walk.path[-1])
        yield from _path(reasons, next(near for near in reasons if self._graph.ends(near)))

    def _near(self, node: int) -> dict[Node, tuple[Node, Move] | None]:
        """Return what silent edges lead to, the node itself first, each with the last edge."""
        begin = self._nodes[node]
        reasons: dict[Node, tuple[Node, Move] | None] = {begin: None}
        found: dict[Node, tuple[Node, Move] | None] = {}
        kinds: set[Hashable] = set()
        heap = [(self._graph.rank(begin), begin)]
        while heap:
            _, near = heappop(heap)
            kind = self._graph.kind(near)
            if kind in kinds:
                continue
            kinds.add(kind)
            found[near] = reasons[near]
            for move in self._graph.moves(near):
                if move[0] == SILENT and move[2] not in reasons:
                    reasons[move[2]] = near, move
                    heappush(heap, (self._graph.rank(move[2]), move[2]))
        return found

    def _add(self, node: Node) -> int:
        if node not in self._number:
            self._number[node] = len(self._nodes)
            self._nodes.append(node)
            self.rank.append(self._graph.rank(node))
            kind = self._graph.kind(node)
            self.kind.append(self._known.setdefault(kind, len(self._known)))
        return self._number[node]


def _path(reasons: Mapping[Node, tuple[Node, Move] | None], node: Node) -> list[Move]:
    path: list[Move] = []
    while (reason := reasons[node]) is not None:
        node, move = reason
        path.append(move)
    return path[::-1]


@dataclass(frozen=True)
class Merged:
    """A graph in which nodes are one that allow the same texts in the same way.

    Attributes:
        start: The node every text starts at.
        edges: By node, where each terminal leads.
        last: By node, whether a text may end here.
        rank: All alike.
        kind: By node, its own.
    """

    start: int
    edges: Sequence[Mapping[int, Sequence[int]]]
    last: Sequence[bool]
    rank: Sequence[int]
    kind: Sequence[int]

    def after(self, node: int) -> Mapping[int, Sequence[int]]:
        """Return where each terminal leads."""
        return self.edges[node]

    def accepts(self, node: int) -> bool:
        """Return whether a text may end here."""
        return self.last[node]


def merged(graph: Closed) -> Merged:
    """Return the same texts in fewer nodes: equal futures are one, from the last rank on.

    Only nodes of one rank may lead to each other in circles.
    """
    ranks: dict[int, list[int]] = {}
    for node in _reached(graph):
        ranks.setdefault(graph.rank[node], []).append(node)
    block: dict[int, int] = {}
    known: dict[object, int] = {}
    edges: list[Mapping[int, Sequence[int]]] = []
    last: list[bool] = []
    for rank in sorted(ranks, reverse=True):
        _split(graph, ranks[rank], block, known)
    for node, number in sorted(block.items(), key=lambda item: item[1]):
        if number == len(edges):
            after = graph.after(node)
            edges.append({a: tuple({block[q] for q in nodes}) for a, nodes in after.items()})
            last.append(graph.accepts(node))
    count = len(edges)
    return Merged(block[graph.start], edges, last, (0,) * count, range(count))


def _reached(graph: Closed) -> list[int]:
    found = {graph.start: None}
    queue = [graph.start]
    for node in queue:  # grows meanwhile
        for nodes in graph.after(node).values():
            for to in nodes:
                if to not in found:
                    found[to] = None
                    queue.append(to)
    return queue


def _split(
    graph: Closed, nodes: Sequence[int], block: dict[int, int], known: dict[object, int]
) -> None:
    """Number the nodes of one rank by their futures, where all later ranks are numbered."""
    here = dict.fromkeys(nodes, 0)
    while True:
        seen: dict[object, int] = {}
        future = {node: _future(graph, node, block, here) for node in nodes}
        finer = {node: seen.setdefault(future[node], len(seen)) for node in nodes}
        if len(seen) == len(set(here.values())):
            break
        here = finer
    for node in nodes:
        loops = any(q in here for to in graph.after(node).values() for q in to)
        key = (graph.rank[node], here[node]) if loops else future[node]
        block[node] = known.setdefault(key, len(known))


def _future(
    graph: Closed, node: int, block: Mapping[int, int], here: Mapping[int, int]
) -> tuple[bool, frozenset[tuple[int, int]]]:
    return graph.accepts(node), frozenset(
        (terminal, ~here[to] if to in here else block[to])
        for terminal, nodes in graph.after(node).items()
        for to in nodes
    )


def trace(graph: Closed, word: Sequence[int]) -> Walk:
    """Return how a graph allows a text that it does allow."""
    layers: list[dict[int, int]] = [{graph.start: graph.start}]
    for terminal in word:
        layers.append(
            {to: node for node in layers[-1] for to in graph.after(node).get(terminal, ())}
        )
    path = [next(node for node in layers[-1] if graph.accepts(node))]
    for layer in reversed(layers[1:]):
        path.append(layer[path[-1]])
    return Walk(tuple(word), tuple(path[::-1]))
