"""How short can the rest of a text be? Shortest ways through rules, each one's in the others'.

The shortest way from a spot to the end of a rule is found in order of length (Dijkstra's search as
Knuth 1977 carried it over to grammars). What stands beside a symbol may matter for what the next
one costs, and even for whether it may stand there: that is its *seam*, and a way goes from an seam
to an seam. Where nothing matters there is one seam, 0.
"""

from collections import defaultdict
from collections.abc import Callable
from heapq import heappop, heappush

from unison.constrain.context_free.normal import Network
from unison.constrain.context_free.stacks import DONE, Stacks

Span = tuple[int, int]
Hop = tuple[int, int, int, int]  # kind, symbol or rule, seam behind it, next spot
Ways = dict[Span, tuple[int, Hop]]
Letter = tuple[int, int, int]  # seam before, symbol, seam behind
Before = Callable[[int, int], "list[tuple[int, int]]"]
_STOP, _SKIP, _STEP, _CALL = range(4)


def ways(net: Network, seams: int, before: Before) -> dict[tuple[int, int], Ways]:
    """Return the shortest ways from each spot to the end of each rule it leads to.

    Args:
        net: The rules.
        seams: How many seams there are.
        before: From a symbol and the seam behind it, pairs of an seam before it and the cost.

    Returns:
        By spot and rule: for each pair of seams between which there is a way, its cost and its
        first hop.
    """
    return _Search(net, before).run(seams)


class _Search:
    def __init__(self, net: Network, before: Before) -> None:
        self.net = net
        self.before = before
        self.found: dict[tuple[int, int], Ways] = defaultdict(dict)
        self.whole: list[Ways] = [{} for _ in net.names]
        self.into: list[dict[int, list[Span]]] = [defaultdict(list) for _ in net.names]
        self.heap: list[tuple[int, int, int, Span, Hop]] = []
        self.goals: dict[int, list[int]] = defaultdict(list)
        self.skipping: dict[int, list[int]] = defaultdict(list)
        self.stepping: dict[int, list[Span]] = defaultdict(list)
        self.calling: dict[int, list[Span]] = defaultdict(list)
        self.callers: list[list[Span]] = [[] for _ in net.names]
        for spot in range(len(net.steps)):
            for target in net.skips[spot]:
                self.skipping[target].append(spot)
            for low, _, target in net.steps[spot]:
                self.stepping[target].append((spot, low))
            for rule, target in net.calls[spot]:
                self.calling[target].append((spot, rule))
                self.callers[rule].append((spot, target))

    def run(self, seams: int) -> dict[tuple[int, int], Ways]:
        for rule, spot in enumerate(self.net.last):
            for seam in range(seams):
                heappush(self.heap, (0, spot, rule, (seam, seam), (_STOP, 0, seam, spot)))
        while self.heap:
            cost, spot, rule, span, hop = heappop(self.heap)
            known = self.found[spot, rule]
            if span in known:
                continue
            if not known:
                self.goals[spot].append(rule)
            known[span] = (cost, hop)
            self._before(cost, spot, rule, span)
            if spot in self.net.entries[rule] and span not in self.whole[rule]:
                self._returned(cost, rule, span)
        return dict(self.found)

    def _before(self, cost: int, spot: int, rule: int, span: Span) -> None:
        first, last = span
        for source in self.skipping[spot]:
            heappush(self.heap, (cost, source, rule, span, (_SKIP, 0, first, spot)))
        for source, symbol in self.stepping[spot]:
            for seam, more in self.before(symbol, first):
                hop = (_STEP, symbol, first, spot)
                heappush(self.heap, (cost + more, source, rule, (seam, last), hop))
        for source, called in self.calling[spot]:
            for seam, more in self.into[called][first]:
                hop = (_CALL, called, first, spot)
                heappush(self.heap, (cost + more, source, rule, (seam, last), hop))

    def _returned(self, cost: int, rule: int, span: Span) -> None:
        """Take a rule as a hop, now that its shortest way between two seams is known."""
        first, last = span
        self.whole[rule][span] = (cost, (_STOP, 0, 0, 0))
        self.into[rule][last].append((first, cost))
        for source, target in self.callers[rule]:
            hop = (_CALL, rule, last, target)
            for goal in self.goals[target]:
                for (near, far), (more, _) in self.found[target, goal].items():
                    if near == last:
                        heappush(self.heap, (cost + more, source, goal, (first, far), hop))


class Lengths:
    """Shortest continuations of sets of stacks.

    Attributes:
        stacks: The sets.
    """

    def __init__(self, stacks: Stacks, seams: int, before: Before) -> None:
        self.stacks = stacks
        self.net = stacks.places.net
        self.ways = ways(self.net, seams, before)
        everywhere = {seam: (0, 0, -1, seam) for seam in range(seams)}
        # by node and seam before what follows: cost, rank of the stack's top, spot, seam behind it
        self._rest: dict[int, dict[int, tuple[int, int, int, int]]] = {DONE: everywhere}

    def cost(self, node: int, seam: int) -> int | None:
        """Return the least cost of a continuation behind an seam; ``None`` if there is none."""
        best = self._of(node).get(seam)
        return None if best is None else best[0]

    def letters(self, node: int, seam: int) -> list[Letter]:
        """Return a continuation of the least cost behind an seam, one at least existing."""
        found: list[Letter] = []
        while node != DONE:
            _, rank, spot, behind = self._of(node)[seam]
            place, below = self.stacks.nodes[node][rank]
            if spot >= 0:
                self._spell(spot, self.stacks.places.members[place][0], (seam, behind), found)
            node, seam = (below, behind) if place >= 0 else (DONE, behind)
        return found

    def _of(self, node: int) -> dict[int, tuple[int, int, int, int]]:
        if node not in self._rest:
            needed, todo = {node}, [node]
            while todo:
                fresh = {below for place, below in self.stacks.nodes[todo.pop()] if place >= 0}
                fresh -= needed | self._rest.keys()
                needed |= fresh
                todo += fresh
            for one in sorted(needed):  # what lies below a node has a smaller number
                self._rest[one] = self._best(one)
        return self._rest[node]

    def _best(self, node: int) -> dict[int, tuple[int, int, int, int]]:
        best: dict[int, tuple[int, int, int, int]] = {}
        for rank, (place, below) in enumerate(self.stacks.nodes[node]):
            rest = self._rest[below if place >= 0 else DONE]
            for seam, behind, cost, spot in self._through(place, rest):
                found = (cost + rest[behind][0], rank, spot, behind)
                best[seam] = min(best.get(seam, found), found)
        return best

    def _through(self, place: int, rest: dict[int, tuple[int, int, int, int]]) -> list[Hop]:
        """Return ways from a place to the end of its rule: seam before, behind, cost, spot."""
        places = self.stacks.places
        free = place < 0 or places.final[place]
        found = [(seam, seam, 0, -1) for seam in rest] if free else []
        if place < 0:
            return found
        rule, spots = places.members[place]
        for spot in spots:
            for (seam, behind), (cost, _) in self.ways.get((spot, rule), {}).items():
                if behind in rest:
                    found.append((seam, behind, cost, spot))
        return found

    def _spell(self, spot: int, rule: int, span: Span, found: list[Letter]) -> None:
        """Append the symbols of a shortest way to the end of a rule."""
        todo = [(spot, rule, span)]
        while todo:
            spot, rule, (first, last) = todo.pop()
            _, (kind, symbol, behind, target) = self.ways[spot, rule][first, last]
            if kind == _STOP:
                continue
            todo.append((target, rule, (behind, last)))
            if kind == _STEP:
                found.append((first, symbol, behind))
            elif kind == _CALL:
                entries = self.net.entries[symbol]
                inner = (first, behind)
                able = [one for one in entries if inner in self.ways.get((one, symbol), {})]
                entry = min(able, key=lambda one: self.ways[one, symbol][inner][0])
                todo.append((entry, symbol, inner))
