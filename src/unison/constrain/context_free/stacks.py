"""What may follow what was read? Sets of stacks of places, equal ones under one number.

A stack says where the reader is in a rule, where that rule goes back to, and so on down. A set of
stacks is a *node*: by its top places, the node of what lies below each. Equal nodes have equal
numbers, so a set that many stacks share takes little room, and reading is a table look-up once done
(after the graph-structured stacks of Tomita 1986, here shared across texts).
Nothing is pushed where a rule could only end on return, so repeats and right recursion keep stacks
short; nor onto itself where twice is as good as once, which does the same for ambiguous rules such
as sums of sums.
"""

from unison.constrain.context_free.places import NOWHERE, Places

NONE, DONE = 0, 1  # the node without stacks; that of the stack without places
_END = -1  # stands for a place in DONE


class Stacks:
    """Nodes by number, growing as texts are read.

    Attributes:
        places: The rules they are about.
        start: The node of the empty text.
        nodes: By node: pairs of a top place and the node below it, in order of places.
        ends: By node: whether the text may end here.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        self.nodes: list[tuple[tuple[int, int], ...]] = [(), ((_END, NONE),)]
        self.ends = [False, True]
        self._numbers = {node: number for number, node in enumerate(self.nodes)}
        self._unions: dict[tuple[int, int], int] = {}
        self._steps: dict[tuple[int, int], int] = {}
        self._firsts: dict[int, int] = {}
        begun = self._push(places.start(0), DONE)
        self.start = self._union(begun, DONE) if places.net.empty else begun

    def step(self, node: int, symbol: int) -> int:
        """Return the node after one more symbol; ``NONE`` if no text goes on like this."""
        known = self._steps.get((node, symbol))
        if known is None:
            known = self._steps[node, symbol] = self._step(node, symbol)
        return known

    def first(self, node: int) -> int:
        """Return the symbols that may be read next, as bits."""
        found = self._firsts.get(node)
        if found is None:
            found = 0
            for place, _ in self._returns(node):
                found |= self.places.first(place)
            self._firsts[node] = found
        return found

    def _returns(self, node: int) -> list[tuple[int, int]]:
        """Return top places with what is below, also after rules that may end have ended."""
        final, found, seen = self.places.final, [], {node}
        todo = [node]
        while todo:
            for place, below in self.nodes[todo.pop()]:
                if place == _END:
                    continue
                found.append((place, below))
                if final[place] and below not in seen:
                    seen.add(below)
                    todo.append(below)
        return found

    def _step(self, node: int, symbol: int) -> int:
        order = self.places.net.order
        waiting: dict[int, int] = {}  # rules to enter, with the node below each
        reached = NONE
        for place, below in self._returns(node):
            reached = self._take(place, below, symbol, reached, waiting)
        while (
            waiting
        ):  # callers first, so that all that is below a rule is known when it is entered
            rule = min(waiting, key=order.__getitem__)
            below = waiting.pop(rule)
            reached = self._take(self.places.start(rule), below, symbol, reached, waiting)
        return reached

    def _take(
        self, place: int, below: int, symbol: int, reached: int, waiting: dict[int, int]
    ) -> int:
        ahead, calls = self.places.route(place, symbol)
        for rule, after in calls:
            waiting[rule] = self._union(waiting.get(rule, NONE), self._push(after, below))
        return self._union(reached, self._push(ahead, below))

    def _push(self, place: int, below: int) -> int:
        """Return the node of a place over a node."""
        if place == NOWHERE:
            return NONE
        if self.places.tail[place]:
            return below
        deeper = dict(self.nodes[below])
        same = deeper.pop(place, None)
        if same is None or not self.places.loops(place):
            return self._number({place: below})
        once = self._number({place: same})
        return self._union(self._number({place: self._number(deeper)}), once) if deeper else once

    def _number(self, entries: dict[int, int]) -> int:
        node = tuple(sorted(entries.items()))
        found = self._numbers.get(node)
        if found is None:
            found = self._numbers[node] = len(self.nodes)
            self.nodes.append(node)
            final = self.places.final
            self.ends.append(any(p == _END or (final[p] and self.ends[b]) for p, b in node))
        return found

    def _union(self, left: int, right: int) -> int:
        """Return the node of the stacks of either; what lies below is united first."""
        if left == right or right == NONE:
            return left
        if left == NONE:
            return right
        whole = (min(left, right), max(left, right))
        todo = [] if whole in self._unions else [whole]
        while todo:
            pair = todo[-1]
            entries = dict(self.nodes[pair[0]])
            missing = []
            for place, below in self.nodes[pair[1]]:
                other = entries.setdefault(place, below)
                if other != below:
                    both = (min(other, below), max(other, below))
                    entries[place] = self._unions.get(both, NONE)
                    missing += [both] if both not in self._unions else []
            if missing:
                todo += missing
            else:
                self._unions[todo.pop()] = self._number(entries)
        return self._unions[whole]
