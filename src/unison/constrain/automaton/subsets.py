"""Which states may a text have reached? From a net to a deterministic automaton."""

from bisect import bisect_left
from collections.abc import Iterable

from unison.constrain.automaton.draft import NO_LABEL, Draft, too_many
from unison.constrain.automaton.net import BYTE, Net

WORK = 20  # a set holds so many states of the net on average, at most

Edge = tuple[int, int]


def determinise(net: Net, about: str, limit: int) -> Draft:
    """Return the automaton whose states are the sets of states that a text may have reached."""
    jumps = Jumps(net, about, WORK * limit)
    sets = [jumps.ends[0] or jumps.follow(0)]
    numbers = {sets[0]: 0}
    seen: dict[frozenset[int], int] = {}  # by the targets before jumps
    edges: list[list[tuple[int, int, int]]] = []
    for members in sets:  # grows meanwhile
        row: list[tuple[int, int, int]] = []
        for code, targets in cut([net.edges[state] for state in members]):
            key = frozenset(targets)
            number = seen.get(key)
            if number is None:
                ends = [jumps.ends[state] or jumps.follow(state) for state in key]
                reached = ends[0] if len(ends) == 1 else frozenset().union(*ends)
                number = seen[key] = numbers.setdefault(reached, len(sets))
                if number == len(sets):
                    sets.append(reached)
                    jumps.work += len(reached)
            row.append((code // BYTE, code % BYTE, number))
        edges.append(row)
        if len(sets) > limit or jumps.work > WORK * limit:
            raise too_many(about, limit)
    final = net.labels.keys()
    labels = [
        min((net.labels[state] for state in final & members), default=NO_LABEL) for members in sets
    ]
    return Draft(edges, labels)


class Jumps:
    """What each state leads to without reading, as far as that reads on or accepts.

    Args:
        net: The automaton.
        about: What the language is called in messages.
        most: Refuse to follow more jumps.
    """

    def __init__(self, net: Net, about: str, most: int) -> None:
        self.ends: list[frozenset[int] | None] = [None] * len(net.edges)
        self.work = 0
        self._net, self._about, self._most = net, about, most

    def follow(self, state: int) -> frozenset[int]:
        """Find out where a state leads, and keep it."""
        jumps, seen, stack = self._net.jumps, {state}, [state]
        while stack:
            fresh = [to for to in jumps.get(stack.pop(), ()) if to not in seen]
            seen.update(fresh)
            stack += fresh
        self.work += len(seen)
        if self.work > self._most:
            raise too_many(self._about, self._most // WORK)
        edges, labels = self._net.edges, self._net.labels
        found = frozenset(place for place in seen if edges[place] or place in labels)
        self.ends[state] = found
        return found


def cut(rows: Iterable[list[Edge]]) -> list[tuple[int, list[int]]]:
    """Return ranges that are apart, ascending, with all their targets."""
    groups: dict[int, list[int]] = {}
    for row in rows:
        for code, target in row:
            groups.setdefault(code, []).append(target)
    codes = sorted(groups)
    last = -1
    for code in codes:
        if code // BYTE <= last:
            return _apart(codes, groups)
        last = code % BYTE
    return [(code, groups[code]) for code in codes]


def _apart(codes: list[int], groups: dict[int, list[int]]) -> list[tuple[int, list[int]]]:
    points = sorted({code // BYTE for code in codes} | {code % BYTE + 1 for code in codes})
    pieces: list[list[int]] = [[] for _ in points]
    for code in codes:
        first = bisect_left(points, code // BYTE)
        for place in range(first, bisect_left(points, code % BYTE + 1)):
            pieces[place] += groups[code]
    ends = [point - 1 for point in points[1:]]
    return [
        (low * BYTE + high, targets)
        for low, high, targets in zip(points, ends, pieces, strict=False)
        if targets
    ]
