"""Which strings occur in a text, and how often? All of them, read token by token."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

BREAK = -1  # stands between two texts; part of no guess


class Match(NamedTuple):
    """A string found in an automaton.

    Attributes:
        state: The state it leads to.
        size: Its length.
    """

    state: int
    size: int


NOWHERE = Match(0, 0)


class Automaton:
    """The suffix automaton of a text that grows (Blumer et al., 1985), with counts.

    At most two states a token. Each state stands for the strings that end at the same places;
    its link is the state of its longest suffix that ends at more. Reading a token takes amortised
    constant time, and counting it at most ``reach`` steps more.

    Args:
        reach: Longest string that is looked for; what follows one is counted.
    """

    def __init__(self, reach: int = 24) -> None:
        self.reach = reach
        self.next: list[dict[int, int]] = [{}]
        self.link = [-1]
        self.size = [0]  # of the longest string of a state
        self.count = [0]  # places where the strings of a state end, if no longer than ``reach`` + 1
        self.end = NOWHERE  # the last ``reach`` tokens
        self._last = 0

    @staticmethod
    def of(texts: Iterable[Iterable[int]], reach: int = 24) -> "Automaton":
        """Return the automaton of several texts."""
        automaton = Automaton(reach)
        for text in texts:
            automaton.add(text)
        return automaton

    def add(self, text: Iterable[int]) -> None:
        """Read another text, that has nothing to do with the one before."""
        if self._last:
            self.read(BREAK)
        for token in text:
            self.read(token)

    def read(self, token: int) -> None:
        """Read on."""
        self._extend(token)
        whole = self._followed(self.end, token)
        for state in self.suffixes(whole):
            self.count[state] += 1
        self.end = self._settled(Match(whole.state, min(whole.size, self.reach)))

    def moved(self, match: Match, token: int) -> Match:
        """Return the longest suffix of a string and a token behind it, up to ``reach``."""
        whole = self._followed(match, token)
        return self._settled(Match(whole.state, min(whole.size, self.reach)))

    def suffixes(self, match: Match) -> Iterator[int]:
        """Yield the states of a string's suffixes, longest first, without the empty one."""
        state = self._settled(match).state
        while state:
            yield state
            state = self.link[state]

    def _followed(self, match: Match, token: int) -> Match:
        """Return the longest suffix of a string and a token behind it, of any length."""
        state, size = self._settled(match)
        while state and token not in self.next[state]:
            state = self.link[state]
            size = self.size[state]
        if token not in self.next[state]:
            return NOWHERE
        return self._settled(Match(self.next[state][token], size + 1))

    def _settled(self, match: Match) -> Match:
        """Return the match with its string's own state: states split as the text grows."""
        state = match.state
        while state and match.size <= self.size[self.link[state]]:
            state = self.link[state]
        return Match(state, match.size)

    def _extend(self, token: int) -> None:
        new = self._state({}, 0, self.size[self._last] + 1, 0)
        state, self._last = self._last, new
        while state >= 0 and token not in self.next[state]:
            self.next[state][token] = new
            state = self.link[state]
        if state < 0:
            return
        after = self.next[state][token]
        if self.size[after] == self.size[state] + 1:
            self.link[new] = after
            return
        # The shorter strings of ``after`` now end at one place more: they get their own state.
        size = self.size[state] + 1
        split = self._state(dict(self.next[after]), self.link[after], size, self.count[after])
        self.link[after] = self.link[new] = split
        while state >= 0 and self.next[state].get(token) == after:
            self.next[state][token] = split
            state = self.link[state]

    def _state(self, following: dict[int, int], link: int, size: int, count: int) -> int:
        self.next.append(following)
        self.link.append(link)
        self.size.append(size)
        self.count.append(count)
        return len(self.size) - 1
