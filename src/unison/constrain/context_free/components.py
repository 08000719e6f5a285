"""Which things lead to each other in circles? Strongly connected components, callees first."""

from collections.abc import Iterator, Sequence


def components(edges: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the strongly connected components of a graph, each after all it leads to.

    Source: Tarjan (1972), with a stack of its own, so that depth is no limit.
    """
    walk = _Walk(edges)
    for root in range(len(edges)):
        if root not in walk.order:
            walk.visit(root)
    return walk.found


class _Walk:
    def __init__(self, edges: Sequence[Sequence[int]]) -> None:
        self.edges = edges
        self.order: dict[int, int] = {}
        self.low: dict[int, int] = {}
        self.open: dict[int, None] = {}  # in the order of their visits
        self.path: list[tuple[int, Iterator[int]]] = []
        self.found: list[list[int]] = []

    def visit(self, root: int) -> None:
        """Walk all that a root leads to."""
        self._enter(root)
        while self.path:
            node, rest = self.path[-1]
            for other in rest:
                if other not in self.order:
                    self._enter(other)
                    break
                if other in self.open:
                    self.low[node] = min(self.low[node], self.order[other])
            else:
                self._leave(node)

    def _enter(self, node: int) -> None:
        self.order[node] = self.low[node] = len(self.order)
        self.open[node] = None
        self.path.append((node, iter(self.edges[node])))

    def _leave(self, node: int) -> None:
        self.path.pop()
        if self.path:
            caller = self.path[-1][0]
            self.low[caller] = min(self.low[caller], self.low[node])
        if self.low[node] == self.order[node]:
            group = [self.open.popitem()[0]]
            while group[-1] != node:
                group.append(self.open.popitem()[0])
            self.found.append(group[::-1])
