"""Random texts of a grammar, and the cutting of texts into lexemes, straight from what they mean.

Written after the definitions in ``unison.constrain.language`` alone, to check machines with.
"""

import random
from collections.abc import Mapping, Sequence
from functools import cache, cached_property

from unison.constrain.language import Alt, Chars, Expr, Grammar, Ref, Repeat, Seq, Text

_LIKELY = [*range(32, 127)]
_OFTEN = 0.9
_TRIES = 60
_MORE = 0.55


@cache
def _likely(ranges: tuple[tuple[int, int], ...]) -> list[int]:
    return [code for code in _LIKELY if any(low <= code <= high for low, high in ranges)]


class Lexer:
    """All lexemes of a grammar at once, read character by character as sets of places."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.moves: list[list[tuple[tuple[tuple[int, int], ...], int]]] = []
        self.skips: list[list[int]] = []
        ends = []
        begin = self._new()
        for name in grammar.lexemes:
            first, last = self._new(), self._new()
            self.skips[begin].append(first)
            self._draw(grammar.rules[name], first, last)
            ends.append(last)
        self.ends = ends
        self.begin = self._closed({begin})
        self._known: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def step(self, places: frozenset[int], char: str) -> frozenset[int]:
        known = self._known.get((places, char))
        if known is None:
            code = ord(char)
            reached = {
                to
                for place in places
                for ranges, to in self.moves[place]
                if any(low <= code <= high for low, high in ranges)
            }
            known = self._known[places, char] = self._closed(reached)
        return known

    def label(self, places: frozenset[int]) -> str | None:
        """Return the first lexeme that may end here."""
        names = zip(self.grammar.lexemes, self.ends, strict=True)
        return next((name for name, end in names if end in places), None)

    def read(self, text: str) -> frozenset[int]:
        places = self.begin
        for char in text:
            places = self.step(places, char)
        return places

    def cut(self, text: str) -> list[tuple[str, str]] | None:
        """Return the lexemes of a text, ignored ones too; ``None`` if it is made of no lexemes."""
        cut, places, begun = [], self.begin, 0
        for at, char in enumerate(text):
            further = self.step(places, char)
            if not further:
                name = self.label(places)
                further = self.step(self.begin, char)
                if name is None or not further:
                    return None
                cut.append((name, text[begun:at]))
                begun = at
            places = further
        if begun == len(text):
            return cut
        name = self.label(places)
        return None if name is None else [*cut, (name, text[begun:])]

    def _new(self) -> int:
        self.moves.append([])
        self.skips.append([])
        return len(self.moves) - 1

    def _draw(self, expr: Expr, first: int, last: int) -> None:
        match expr:
            case Text(text):
                self._chain([Chars(((ord(char), ord(char)),)) for char in text], first, last)
            case Chars(ranges):
                self.moves[first].append((ranges, last))
            case Ref(name):
                self._draw(self.grammar.rules[name], first, last)
            case Seq(parts):
                self._chain(parts, first, last)
            case Alt(options):
                for option in options:
                    self._draw(option, first, last)
            case Repeat(item, least, most):
                self._repeat(item, (least, most), first, last)
            case _:
                raise NotImplementedError(expr)

    def _chain(self, parts: Sequence[Expr], first: int, last: int) -> None:
        for part in parts:
            after = self._new()
            self._draw(part, first, after)
            first = after
        self.skips[first].append(last)

    def _repeat(self, item: Expr, times: tuple[int, int | None], first: int, last: int) -> None:
        least, most = times
        for done in range(least if most is None else most):
            if done >= least:
                self.skips[first].append(last)
            after = self._new()
            self._draw(item, first, after)
            first = after
        if most is None:
            turn, after = self._new(), self._new()
            self.skips[first].append(turn)
            self._draw(item, turn, after)
            self.skips[after].append(turn)
            first = turn
        self.skips[first].append(last)

    def _closed(self, places: set[int]) -> frozenset[int]:
        found, todo = set(places), list(places)
        while todo:
            for place in self.skips[todo.pop()]:
                if place not in found:
                    found.add(place)
                    todo.append(place)
        return frozenset(found)


class Sentences:
    """Random texts of a grammar.

    Each has about ``budget`` lexemes or characters: beyond that, the shortest way out is taken.
    """

    def __init__(
        self, grammar: Grammar, seed: int, favoured: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.grammar = grammar
        self.random = random.Random(seed)
        self.favoured = favoured
        self.lexer = Lexer(grammar)
        self.left = 0

    def draw(self, budget: int) -> str:
        """Return a text."""
        while True:
            self.left = budget
            parts = self._drawn(Ref(self.grammar.start))
            if not self.grammar.lexemes:
                return "".join(parts)
            text = self._spelt(parts)
            if text is not None:
                return text

    @cached_property
    def costs(self) -> dict[str, float]:
        """The fewest lexemes or characters of each rule."""
        costs = dict.fromkeys(self.grammar.rules, float("inf"))
        costs |= dict.fromkeys(self.grammar.lexemes, 1.0)
        changed = True
        while changed:
            changed = False
            for name, rule in self.grammar.rules.items():
                if name not in self.grammar.lexemes and self.cost(rule, costs) < costs[name]:
                    costs[name] = self.cost(rule, costs)
                    changed = True
        return costs

    def cost(self, expr: Expr, costs: Mapping[str, float]) -> float:
        match expr:
            case Text(text):
                return len(text)
            case Ref(name):
                return costs[name]
            case Seq(parts):
                return sum(self.cost(part, costs) for part in parts)
            case Alt(options):
                return min((self.cost(option, costs) for option in options), default=float("inf"))
            case Repeat(item, least, _):
                return least * self.cost(item, costs) if least else 0.0
        return 1.0

    def _drawn(self, expr: Expr) -> list[str]:
        """Return the characters, or lexemes, of a text of an expression."""
        match expr:
            case Text(text):
                self.left -= len(text)
                return list(text)
            case Chars(ranges):
                self.left -= 1
                return [self._character(ranges)]
            case Ref(name) if name in self.grammar.lexemes:
                self.left -= 1
                return [name]
            case Ref(name):
                return self._drawn(self.grammar.rules[name])
            case Seq(parts):
                return [piece for part in parts for piece in self._drawn(part)]
            case Alt(options):
                return self._drawn(self._option(options))
            case Repeat(item, least, most):
                return self._repeated(item, least, most)
        raise NotImplementedError(expr)

    def _option(self, options: tuple[Expr, ...]) -> Expr:
        costs = [self.cost(option, self.costs) for option in options]
        most = min(costs) if self.left <= 0 else max(min(costs), self.left)
        return self.random.choice([o for o, c in zip(options, costs, strict=True) if c <= most])

    def _repeated(self, item: Expr, least: int, most: int | None) -> list[str]:
        drawn, times = [], 0
        if most != 0 and self.cost(item, self.costs) == float("inf"):
            most = 0
        while times < least or (
            (most is None or times < most) and self.left > 0 and self.random.random() < _MORE
        ):
            drawn += self._drawn(item)
            times += 1
        return drawn

    def _character(self, ranges: tuple[tuple[int, int], ...]) -> str:
        likely = _likely(ranges)
        if likely and self.random.random() < _OFTEN:
            return chr(self.random.choice(likely))
        low, high = self.random.choice(ranges)
        code = self.random.randint(low, high)
        return chr(low) if 0xD800 <= code <= 0xDFFF else chr(code)

    def _spelt(self, names: list[str]) -> str | None:
        """Return a text that is cut into these lexemes; ``None`` if none was found."""
        text, last = "", ""
        for name in names:
            for _ in range(_TRIES):
                spelling = self._spelling(name)
                between = self._between() if self.grammar.ignored else ""
                if self._meets(last, between, spelling):
                    break
            else:
                return None
            text, last = text + between + spelling, spelling
        return text

    def _spelling(self, name: str) -> str:
        while True:
            if name in self.favoured and self.random.random() < _OFTEN:
                spelling = self.random.choice(self.favoured[name])
            else:
                self.left = 12
                spelling = "".join(self._drawn(self.grammar.rules[name]))
            if self.lexer.label(self.lexer.read(spelling)) == name:
                return spelling

    def _between(self) -> str:
        return self._spelling(
            self.random.choice(sorted(self.grammar.ignored))
        ) * self.random.choice((0, 1, 1))

    def _meets(self, last: str, between: str, spelling: str) -> bool:
        cut = self.lexer.cut(last + between + spelling)
        pieces = [piece for _, piece in cut or []]
        return pieces == [piece for piece in (last, between, spelling) if piece]
