"""How are the rules of a grammar written with at most two symbols on the right?

Every rule becomes A -> a, A -> B, A -> B C or A -> nothing (Lange and Leiß 2009; empty and single
bodies are kept, since removing them may square the grammar). Sequences and repetitions nest to the
left: equal beginnings are shared, and a text is read with one fact for each place in it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int32
from numpy import ndarray

from unison.constrain.automaton.compiled import Regular
from unison.constrain.automaton.draft import NO_LABEL
from unison.constrain.automaton.minimal import minimal
from unison.constrain.automaton.net import spelled
from unison.constrain.automaton.utf8 import END, Edge, utf8
from unison.constrain.language import (
    Alt,
    Chars,
    ConstraintError,
    Expr,
    Grammar,
    Ref,
    Repeat,
    Seq,
    Text,
)

Body = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Binary:
    """Short rules over numbered symbols and terminals.

    Attributes:
        start: The symbol of whole texts.
        empty: Symbols with an empty body.
        spelt: By terminal: symbols it is a text of.
        single: By symbol: those for which it may stand alone.
        first: By symbol: those it may begin, each with the symbol of the rest.
        begins: By symbol: those its bodies begin with.
        terminal: Terminal of each byte, -1 where no text holds it; ``None`` where terminals are
            the lexemes of the grammar in their order.
    """

    start: int
    empty: frozenset[int]
    spelt: tuple[tuple[int, ...], ...]
    single: tuple[tuple[int, ...], ...]
    first: tuple[tuple[tuple[int, int], ...], ...]
    begins: tuple[tuple[int, ...], ...]
    terminal: Int32[ndarray, "256"] | None


@dataclass
class _Rule:
    """What one symbol may be: one of some terminals (bits of a number), or one of some bodies."""

    letters: int = 0
    bodies: set[Body] = field(default_factory=set)


_Rules = dict[int, _Rule]


def binary(grammar: Grammar) -> Binary:
    """Return the rules a grammar needs, in short; a language of no text has no rules."""
    writer = _Writer(grammar)
    start = writer.rule(grammar.start)
    writer.finish()
    rules = _useful(start, writer.rules)
    _replace_aliases(start, rules)
    _inline(start, rules)
    return _numbered(start, rules, len(grammar.lexemes))


class _Writer:
    """Rules of a grammar as they are reached, equal ones written once."""

    def __init__(self, grammar: Grammar) -> None:
        self.rules: _Rules = {}
        self._grammar = grammar
        self._lexemes = {name: i for i, name in enumerate(grammar.lexemes)}
        self._known: dict[object, int] = {}
        self._left: list[str] = []

    def rule(self, name: str) -> int:
        """Return the symbol of a rule of the grammar, or of a lexeme."""
        if name in self._lexemes:
            return self._letters(1 << self._lexemes[name])
        key = ("rule", name)
        if key not in self._known:
            self._left.append(name)
        return self._symbol(key)

    def finish(self) -> None:
        """Write the rules met so far, and those that they need."""
        while self._left:
            name = self._left.pop()
            body = self._expr(self._grammar.rules[name])
            self.rules[self.rule(name)].bodies.add((body,))

    def _expr(self, expr: Expr) -> int:
        match expr:
            case Ref(name):
                return self.rule(name)
            case Seq(parts):
                return self._chain(self._expr(part) for part in parts)
            case Alt(options):
                return self._choice({self._expr(option) for option in options})
            case Repeat(item, least, most):
                return self._repeat(self._expr(item), least, most)
            case Text(text) if not self._lexemes or not text:
                data = spelled(text, self._grammar.about)
                return self._chain(self._letters(1 << byte) for byte in data)
            case Chars(ranges) if not self._lexemes:
                return self._chars(ranges)
            case _:
                return self._regular(expr)

    def _symbol(self, key: object, letters: int = 0, bodies: Iterable[Body] = ()) -> int:
        if key not in self._known:
            self._known[key] = len(self.rules)
            self.rules[len(self.rules)] = _Rule(letters, set(bodies))
        return self._known[key]

    def _letters(self, letters: int) -> int:
        return self._symbol(("letters", letters), letters)

    def _pair(self, left: int, right: int) -> int:
        return self._symbol((left, right), 0, ((left, right),))

    def _chain(self, symbols: Iterable[int]) -> int:
        whole = None
        for symbol in symbols:
            whole = symbol if whole is None else self._pair(whole, symbol)
        return self._symbol("empty", 0, ((),)) if whole is None else whole

    def _choice(self, options: set[int]) -> int:
        if len(options) == 1:
            return options.pop()
        return self._symbol(frozenset(options), 0, ((option,) for option in options))

    def _repeat(self, item: int, least: int, most: int | None) -> int:
        some = self._chain([item] * least)
        if most is None:
            more = self._symbol(("more", some, item), 0, ((some,),))
            self.rules[more].bodies.add((more, item))
            return more
        options = {some} if most >= least else set()
        for count in range(least, most):
            some = self._pair(some, item) if count else item
            options.add(some)
        return self._choice(options)

    def _chars(self, ranges: tuple[tuple[int, int], ...]) -> int:
        edges, _ = utf8(ranges)
        return self._automaton(("chars", ranges), edges, {END})

    def _regular(self, expr: Expr) -> int:
        """Return the symbol of an expression that only an automaton can read."""
        if self._lexemes:
            raise ConstraintError(
                f"in {self._grammar.about}, which has lexemes, {expr!r} stands in a rule that is "
                "no lexeme. Make it a lexeme and refer to that."
            )
        draft = Regular(self._grammar.rules, self._grammar.about).draft([expr])
        if draft is None:
            return self._choice(set())
        small = minimal(draft)
        edges = [(q, *edge) for q, row in enumerate(small.edges) for edge in row]
        ends = {q for q, label in enumerate(small.labels) if label != NO_LABEL}
        return self._automaton(("regular", expr), edges, ends)

    def _automaton(self, key: object, edges: Iterable[Edge], ends: set[int]) -> int:
        """Return the symbol of the texts that lead from state 0 to an end: one symbol a state."""
        if key in self._known:
            return self._known[key]
        letters: defaultdict[tuple[int, int], int] = defaultdict(int)
        for state, first, last, to in edges:
            letters[state, to] |= (2 << last) - (1 << first)
        for (state, to), some in letters.items():
            before, byte = self._symbol((key, state)), self._letters(some)
            self.rules[self._symbol((key, to))].bodies.add((before, byte))
        self.rules[self._symbol((key, 0))].bodies.add(())
        return self._symbol(key, 0, ((self._symbol((key, end)),) for end in ends))


def _useful(start: int, rules: _Rules) -> _Rules:
    """Return what some text of the language can be made with."""
    full = _with_texts(rules)
    kept: _Rules = {}
    stack = [start]
    while stack:
        symbol = stack.pop()
        if symbol not in kept:
            bodies = {body for body in rules[symbol].bodies if full.issuperset(body)}
            kept[symbol] = _Rule(rules[symbol].letters, bodies)
            stack += (used for body in bodies for used in body)
    return kept


def _with_texts(rules: _Rules) -> set[int]:
    users: defaultdict[int, list[tuple[int, Body]]] = defaultdict(list)
    for symbol, rule in rules.items():
        for body in rule.bodies:
            for used in set(body):
                users[used].append((symbol, body))
    found = {symbol for symbol, rule in rules.items() if rule.letters or () in rule.bodies}
    stack = list(found)
    while stack:
        for symbol, body in users[stack.pop()]:
            if symbol not in found and found.issuperset(body):
                found.add(symbol)
                stack.append(symbol)
    return found


def _replace_aliases(start: int, rules: _Rules) -> None:
    """Replace symbols that stand for one other, or for nothing, wherever they are used."""
    while True:
        same = {
            symbol: body
            for symbol, rule in rules.items()
            if symbol != start and not rule.letters and len(rule.bodies) == 1
            for body in rule.bodies
            if len(body) < 2
        }
        if not same:
            return
        for symbol in same:
            del rules[symbol]
        for symbol, rule in rules.items():
            bodies = {tuple(_resolved(body, same)) for body in rule.bodies}
            rule.bodies = bodies - {(symbol,)}


def _resolved(body: Body, same: dict[int, Body]) -> Iterator[int]:
    for used in body:
        instead = (used,)
        while instead and instead[0] in same:
            instead = same[instead[0]]
        yield from instead


def _inline(start: int, rules: _Rules) -> None:
    """Merge symbols that are used once, alone, into the symbol that uses them."""
    uses = Counter(used for rule in rules.values() for body in rule.bodies for used in body)
    for symbol in list(rules):
        rule = rules.get(symbol, _Rule())
        while True:
            once = next(
                (b for b in rule.bodies if len(b) == 1 and uses[b[0]] == 1 and b[0] != start), None
            )
            if once is None:
                break
            merged = rules.pop(once[0])
            rule.letters |= merged.letters
            rule.bodies = (rule.bodies - {once}) | merged.bodies


def _numbered(start: int, rules: _Rules, lexemes: int) -> Binary:
    number = {symbol: i for i, symbol in enumerate(rules)}
    letters = {number[symbol]: rule.letters for symbol, rule in rules.items()}
    single: list[list[int]] = [[] for _ in rules]
    first: list[list[tuple[int, int]]] = [[] for _ in rules]
    begins: list[set[int]] = [set() for _ in rules]
    for symbol, rule in rules.items():
        for body in rule.bodies:
            match [number[used] for used in body]:
                case [one]:
                    single[one].append(number[symbol])
                    begins[number[symbol]].add(one)
                case [left, right]:
                    first[left].append((number[symbol], right))
                    begins[number[symbol]].add(left)
    terminal, samples = (None, range(lexemes)) if lexemes else _classes(set(letters.values()))
    return Binary(
        start=number[start],
        empty=frozenset(number[symbol] for symbol, rule in rules.items() if () in rule.bodies),
        spelt=tuple(tuple(a for a, some in letters.items() if some >> i & 1) for i in samples),
        single=tuple(map(tuple, single)),
        first=tuple(map(tuple, first)),
        begins=tuple(map(tuple, begins)),
        terminal=terminal,
    )


def _classes(letters: set[int]) -> tuple[Int32[ndarray, "256"], list[int]]:
    """Number the bytes by the sets they are in, and return one of each number."""
    known: dict[tuple[int, ...], int] = {}
    samples: list[int] = []
    terminal = np.full(256, -1, np.int32)
    for byte in range(256):
        inside = tuple(some for some in letters if some >> byte & 1)
        if not inside:
            continue
        if inside not in known:
            known[inside] = len(samples)
            samples.append(byte)
        terminal[byte] = known[inside]
    return terminal, samples
