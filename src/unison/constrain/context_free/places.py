"""Where in a rule may the reader be? Places: sets of spots, found as they are needed.

The paths of a rule are followed all at once (the subset construction), so within a rule each symbol
and each call leads to one place.
"""

from unison.constrain.context_free.normal import Network, closure

Route = tuple[int, tuple[tuple[int, int], ...]]
NOWHERE = -1
LOOPS = 32


class Places:
    """Places of a network, by number.

    Attributes:
        final: By place: whether the rule may end there.
        tail: By place: whether the rule can only end there.
    """

    def __init__(self, net: Network) -> None:
        self.net = net
        self.final: list[bool] = []
        self.tail: list[bool] = []
        self.members: list[tuple[int, frozenset[int]]] = []  # wanted rule, spots
        self._numbers: dict[tuple[int, frozenset[int], bool], int] = {}
        self._calls: list[tuple[tuple[int, int, int], ...]] = []  # rule, place, first symbols
        self._routes: list[dict[int, Route]] = []
        self._starts: dict[int, int] = {}
        self._firsts: dict[int, int] = {}
        self._loops: dict[int, bool] = {}
        self._closures: dict[int, list[int]] = {}

    def start(self, rule: int) -> int:
        """Return the place a rule begins at."""
        found = self._starts.get(rule)
        if found is None:
            found = self._starts[rule] = self._place(rule, self.net.entries[rule])
        return found

    def route(self, place: int, symbol: int) -> Route:
        """Return the next place, and each rule that may read the symbol with the place after it."""
        known = self._routes[place].get(symbol)
        if known is None:
            rule, spots = self.members[place]
            steps = self.net.steps
            ahead = [to for spot in spots for a, b, to in steps[spot] if a <= symbol <= b]
            calls = self._called(place)
            entered = tuple((called, to) for called, to, first in calls if first >> symbol & 1)
            known = (self._place(rule, ahead), entered)
            self._routes[place][symbol] = known
        return known

    def first(self, place: int) -> int:
        """Return the symbols that may be read next within the rule, as bits."""
        found = self._firsts.get(place)
        if found is None:
            found = 0
            for spot in self.members[place][1]:
                for low, high, _ in self.net.steps[spot]:
                    found |= (2 << high) - (1 << low)
            for _, _, symbols in self._called(place):
                found |= symbols
            self._firsts[place] = found
        return found

    def loops(self, place: int) -> bool:
        """Return whether what may be read from a place to the end of its rule twice is so once.

        Sufficient: the place itself is the only end that can be reached from it.
        """
        found = self._loops.get(place)
        if found is None:
            found = self._loops[place] = self.final[place] and self._only_end(place)
        return found

    def _only_end(self, place: int) -> bool:
        seen = {place}
        todo = [place]
        while todo:
            for target in self._targets(todo.pop()) - seen:
                if self.final[target] or len(seen) == LOOPS:
                    return False
                seen.add(target)
                todo.append(target)
        return True

    def _targets(self, place: int) -> set[int]:
        found = {to for _, to, _ in self._called(place)}
        spots = self.members[place][1]
        bounds = {
            cut
            for spot in spots
            for low, high, _ in self.net.steps[spot]
            for cut in (low, high + 1)
        }
        found.update(self.route(place, symbol)[0] for symbol in bounds)
        return found - {NOWHERE}

    def _called(self, place: int) -> tuple[tuple[int, int, int], ...]:
        known = self._calls[place]
        rule, spots = self.members[place]
        if not known and any(self.net.calls[spot] for spot in spots):
            targets: dict[int, list[int]] = {}
            for spot in spots:
                for called, target in self.net.calls[spot]:
                    targets.setdefault(called, []).append(target)
            known = tuple(
                (called, self._place(rule, found), self.first(self.start(called)))
                for called, found in targets.items()
            )
            self._calls[place] = known
        return known

    def _place(self, rule: int, spots: "list[int] | tuple[int, ...]") -> int:
        """Return the place of some spots and all they may be taken for."""
        if not spots:
            return NOWHERE
        useful, last = self.net.useful[rule], self.net.last[rule]
        around = {spot for one in spots for spot in self._around(one)}
        final = last in around
        moving = frozenset(
            spot
            for spot in around
            if (useful is None or spot in useful) and (self.net.steps[spot] or self.net.calls[spot])
        )
        if not moving and not final:
            return NOWHERE
        key = (rule if moving else NOWHERE, moving, final)
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.members)
            self.members.append((rule, moving))
            self.final.append(final)
            self.tail.append(final and not moving)
            self._calls.append(())
            self._routes.append({})
        return found

    def _around(self, spot: int) -> list[int]:
        found = self._closures.get(spot)
        if found is None:
            found = self._closures[spot] = closure(spot, self.net.skips)
        return found
