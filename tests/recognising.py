"""Is a text in a language? The slowest answer, straight from the definitions in `language`.

Rules read characters by growing the sets of places where each rule may end until nothing is added.
Lexemes are cut by Brzozowski derivatives (1964) of their expressions. Shares no code with the
machines it is compared with.
"""

from collections.abc import Sequence
from functools import cache

from unison.constrain.language import (
    EMPTY,
    LAST_CODE,
    NOTHING,
    SURROGATES,
    Alt,
    Both,
    Chars,
    Expr,
    Grammar,
    Minus,
    Ref,
    Repeat,
    Seq,
    Text,
)


def accepted(grammar: Grammar, text: str) -> bool:
    """Whether the text is one of the grammar's."""
    items: Sequence[str] | None = text
    if grammar.lexemes:
        items = cut(grammar, text)
    if items is None:
        return False
    return len(items) in _Ends(grammar, items).solve(Ref(grammar.start), 0)


def cut(grammar: Grammar, text: str) -> tuple[str, ...] | None:
    """The lexemes of a text without those that are ignored; None if it cannot be cut."""
    names, at = [], 0
    inlined = {name: _inlined(grammar, Ref(name)) for name in grammar.lexemes}
    while at < len(text):
        live = inlined
        while at < len(text):
            after = {name: derivative(expr, text[at]) for name, expr in live.items()}
            after = {name: expr for name, expr in after.items() if nonempty(expr)}
            if not after:
                break
            live, at = after, at + 1
        name = next((name for name, expr in live.items() if nullable(expr)), None)
        if live is inlined or name is None:
            return None
        if name not in grammar.ignored:
            names.append(name)
    return tuple(names)


class _Ends:
    """Where each rule may end from each place it may start, as far as known."""

    def __init__(self, grammar: Grammar, items: Sequence[str]) -> None:
        self.grammar, self.items = grammar, items
        self.known: dict[tuple[str, int], set[int]] = {}

    def solve(self, expr: Expr, at: int) -> set[int]:
        while True:
            before = {key: set(ends) for key, ends in self.known.items()}
            found = self.ends(expr, at)
            for name, start in list(self.known):
                self.known[name, start] |= self.ends(self.grammar.rules[name], start)
            if before == self.known:
                return found

    def ends(self, expr: Expr, at: int) -> set[int]:
        match expr:
            case Ref(name):
                return self.ruled(name, at)
            case Text() | Chars():
                return self.read(expr, at)
            case Seq(parts):
                places = {at}
                for part in parts:
                    places = {end for start in places for end in self.ends(part, start)}
                return places
            case Alt(options):
                return {end for option in options for end in self.ends(option, at)}
            case Repeat(item, least, most):
                return self.repeated(item, least, most, at)
            case Both(left, right) | Minus(left, right):
                first, second = self.alone(left, at), self.alone(right, at)
                return first & second if isinstance(expr, Both) else first - second

    def ruled(self, name: str, at: int) -> set[int]:
        if name in self.grammar.lexemes:
            return {at + 1} if self.items[at : at + 1] == (name,) else set()
        return set(self.known.setdefault((name, at), set()))

    def read(self, expr: Text | Chars, at: int) -> set[int]:
        if isinstance(expr, Text):
            same = "".join(self.items[at : at + len(expr.text)]) == expr.text
            return {at + len(expr.text)} if same else set()
        code = ord(self.items[at]) if at < len(self.items) else -1
        return {at + 1} if any(a <= code <= b for a, b in expr.ranges) else set()

    def repeated(self, item: Expr, least: int, most: int | None, at: int) -> set[int]:
        places, reached = {at}, set()
        for times in range((len(self.items) + least if most is None else most) + 1):
            if times >= least:
                if places <= reached and times > least:
                    break
                reached |= places
            places = {end for start in places for end in self.ends(item, start)}
        return reached

    def alone(self, expr: Expr, at: int) -> set[int]:
        """Ends that are complete, as what is subtracted must be."""
        return _Ends(self.grammar, self.items).solve(expr, at)


def _inlined(grammar: Grammar, expr: Expr) -> Expr:
    match expr:
        case Ref(name):
            return _inlined(grammar, grammar.rules[name])
        case Seq(parts):
            return Seq(tuple(_inlined(grammar, part) for part in parts))
        case Alt(options):
            return Alt(tuple(_inlined(grammar, option) for option in options))
        case Repeat(item, least, most):
            return Repeat(_inlined(grammar, item), least, most)
        case Both(left, right):
            return Both(_inlined(grammar, left), _inlined(grammar, right))
        case Minus(left, right):
            return Minus(_inlined(grammar, left), _inlined(grammar, right))
    return expr


@cache
def nullable(expr: Expr) -> bool:
    match expr:
        case Text(text):
            return not text
        case Seq(parts):
            return all(nullable(part) for part in parts)
        case Alt(options):
            return any(nullable(option) for option in options)
        case Repeat(item, least, _):
            return not least or nullable(item)
        case Both(left, right):
            return nullable(left) and nullable(right)
        case Minus(left, right):
            return nullable(left) and not nullable(right)
    return False


@cache
def derivative(expr: Expr, char: str) -> Expr:
    """What may follow the character."""
    match expr:
        case Text(text):
            return Text(text[1:]) if text[:1] == char else NOTHING
        case Chars(ranges):
            return EMPTY if any(a <= ord(char) <= b for a, b in ranges) else NOTHING
        case Seq(parts):
            return _after(parts, char)
        case Alt(options):
            return _union(*(derivative(option, char) for option in options))
        case Repeat(_, _, 0):
            return NOTHING
        case Repeat(item, least, most):
            fewer = Repeat(item, max(least - 1, 0), None if most is None else most - 1)
            return _joined(derivative(item, char), fewer)
        case Both(left, right) | Minus(left, right):
            return type(expr)(derivative(left, char), derivative(right, char))
    raise AssertionError(expr)


def _after(parts: tuple[Expr, ...], char: str) -> Expr:
    if not parts:
        return NOTHING
    rest = Seq(parts[1:])
    after = _joined(derivative(parts[0], char), rest)
    return _union(after, derivative(rest, char)) if nullable(parts[0]) else after


def _joined(first: Expr, then: Expr) -> Expr:
    if first == NOTHING:
        return NOTHING
    if first == EMPTY or first == Seq(()):
        return then
    if then == Seq(()):
        return first
    head = first.parts if isinstance(first, Seq) else (first,)
    tail = then.parts if isinstance(then, Seq) else (then,)
    return Seq((*head, *tail))


def _union(*options: Expr) -> Expr:
    flat: dict[Expr, None] = {}
    for option in options:
        flat |= dict.fromkeys(option.options if isinstance(option, Alt) else (option,))
    ordered = tuple(sorted(flat, key=repr))
    return ordered[0] if len(ordered) == 1 else Alt(ordered)


@cache
def nonempty(expr: Expr) -> bool:
    """Whether some text matches."""
    seen, pending = {expr}, [expr]
    chars = [chr(code) for code in sorted(_edges(expr)) if not _surrogate(code)]
    while pending:
        here = pending.pop()
        if nullable(here):
            return True
        new = {derivative(here, char) for char in chars} - seen
        seen |= new
        pending += new
    return False


@cache
def _edges(expr: Expr) -> frozenset[int]:
    """One code point of each class that the expression does not tell apart."""
    match expr:
        case Text(text):
            ranges = tuple((ord(char), ord(char)) for char in text)
        case Chars(ranges):
            pass
        case Seq(inner) | Alt(inner):
            return frozenset({0}).union(*map(_edges, inner))
        case Repeat(item, _, _):
            return _edges(item)
        case Both(left, right) | Minus(left, right):
            return _edges(left) | _edges(right)
        case _:
            raise AssertionError(expr)
    edges = {0, *(a for a, _ in ranges), *(b + 1 for _, b in ranges)}
    return frozenset(edge for edge in edges if edge <= LAST_CODE)


def _surrogate(code: int) -> bool:
    return SURROGATES[0] <= code <= SURROGATES[1]
