"""What do rules look like as paths? Expressions drawn as networks of spots, steps and calls.

A rule becomes a small automaton without an order of reading: from its first spot, paths of *steps*
(reading one symbol out of a range), *skips* (reading nothing) and *calls* (reading what another
rule stands for) lead to its last spot. Symbols are bytes, or lexemes where a lexer cuts the text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from unison.constrain.automaton.compiled import Regular
from unison.constrain.automaton.draft import NO_LABEL
from unison.constrain.automaton.net import spelled
from unison.constrain.automaton.utf8 import utf8
from unison.constrain.context_free.components import components
from unison.constrain.language import (
    EMPTY,
    NOTHING,
    Alt,
    Both,
    Chars,
    ConstraintError,
    Expr,
    Grammar,
    Minus,
    Ref,
    Repeat,
    Seq,
    Text,
    refs,
)

INLINED = 100  # a rule of at most so many spots that does not use itself is drawn where it is used
COPIED = 4000  # repeats of more spots than this are halved into rules instead of copied
SPOTS = 2_000_000
STATES = 50_000


@dataclass
class Draft:
    """A network while it is drawn; rules by number, spots by number.

    Attributes:
        names: Of the rules, in the order of their numbers; the first is the start.
        first: Spot each rule begins at; nothing leads to it.
        last: Spot each rule ends at; nothing leads on from it.
        steps: From each spot, ``(low, high, spot)``: any symbol from low to high leads there.
        calls: From each spot, ``(rule, spot)``.
        skips: From each spot, spots that may be taken for it.
        lost: Lexemes that rules use but no text is cut into.
    """

    names: list[str] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    steps: list[list[tuple[int, int, int]]] = field(default_factory=list)
    calls: list[list[tuple[int, int]]] = field(default_factory=list)
    skips: list[list[int]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def spot(self) -> int:
        """Add a spot."""
        self.steps.append([])
        self.calls.append([])
        self.skips.append([])
        return len(self.steps) - 1


def draft(grammar: Grammar, letters: Mapping[str, int]) -> Draft:
    """Draw the rules that the start of a grammar needs.

    Args:
        grammar: The rules.
        letters: The symbol of each lexeme that the lexer may give; others are lost.

    Raises:
        ConstraintError: A rule beside lexemes reads characters, or the network grows too large.
    """
    return _Pen(grammar, letters).draw()


class _Pen:
    """Draws rules as they turn out to be needed."""

    def __init__(self, grammar: Grammar, letters: Mapping[str, int]) -> None:
        self.about = grammar.about
        self.letters = letters
        self.lexemes = frozenset(grammar.lexemes)
        self.rules = dict(grammar.rules)
        self.start = grammar.start
        self.sizes = _sizes({n: e for n, e in self.rules.items() if n not in self.lexemes})
        self.numbers: dict[str, int] = {}
        self.draft = Draft()
        self.rule = grammar.start

    def draw(self) -> Draft:
        """Draw the start rule, then what it calls, and so on."""
        self._number(self.start)
        at = 0
        while at < len(self.draft.names):
            self.rule = self.draft.names[at]
            expr = Ref(self.rule) if self.rule in self.lexemes else self.rules[self.rule]
            self._add(expr, self.draft.first[at], self.draft.last[at])
            at += 1
        return self.draft

    def _number(self, name: str) -> int:
        if name not in self.numbers:
            self.numbers[name] = len(self.draft.names)
            self.draft.names.append(name)
            self.draft.first.append(self.draft.spot())
            self.draft.last.append(self.draft.spot())
        return self.numbers[name]

    def _spot(self) -> int:
        if len(self.draft.steps) >= SPOTS:
            raise ConstraintError(
                f"{self.about} grows beyond {SPOTS} states at rule {self.rule!r}; "
                "shorten its repeats, or split what it repeats."
            )
        return self.draft.spot()

    def _add(self, expr: Expr, here: int, there: int) -> None:
        """Draw paths for an expression: none leads back to ``here``, none on from ``there``."""
        match expr:
            case Seq(parts):
                for part in parts[:-1]:
                    between = self._spot()
                    self._add(part, here, between)
                    here = between
                self._add(parts[-1] if parts else EMPTY, here, there)
            case Alt(options):
                for option in options:
                    self._add(option, here, there)
            case Repeat():
                self._repeat(expr, here, there)
            case Ref(name):
                self._ref(name, here, there)
            case Text(""):
                self.draft.skips[here].append(there)
            case _:
                self._read(expr, here, there)

    def _ref(self, name: str, here: int, there: int) -> None:
        letter = self.letters.get(name)
        if letter is not None:
            self.draft.steps[here].append((letter, letter, there))
        elif name in self.lexemes:
            self.draft.lost += [name] if name not in self.draft.lost else []
        elif self.sizes.get(name, INLINED + 1) <= INLINED:
            self._add(self.rules[name], here, there)
        else:
            self.draft.calls[here].append((self._number(name), there))

    def _read(self, expr: Text | Chars | Both | Minus, here: int, there: int) -> None:
        if self.lexemes:
            raise ConstraintError(
                f"in {self.about}, rule {self.rule!r} reads characters, but the text is cut into "
                "lexemes first; make what it reads a lexeme of its own."
            )
        match expr:
            case Text(text):
                self._bytes(spelled(text, self.about), here, there)
            case Chars(ranges):
                self._chars(ranges, here, there)
            case _:
                self._automaton(expr, here, there)

    def _bytes(self, data: bytes, here: int, there: int) -> None:
        for byte in data[:-1]:
            between = self._spot()
            self.draft.steps[here].append((byte, byte, between))
            here = between
        self.draft.steps[here].append((data[-1], data[-1], there))

    def _repeat(self, expr: Repeat, here: int, there: int) -> None:
        copies = expr.least if expr.most is None else expr.most
        if copies > 2 and copies * _size(expr.item, self.sizes) > COPIED:
            self._add(self._halved(expr), here, there)
            return
        for _ in range(expr.least):
            between = self._spot()
            self._add(expr.item, here, between)
            here = between
        if expr.most is None:
            turn, again = self._spot(), self._spot()
            self.draft.skips[here].append(turn)
            self._add(expr.item, turn, again)
            self.draft.skips[again].append(turn)
            self.draft.skips[turn].append(there)
            return
        self.draft.skips[here].append(there)
        for _ in range(expr.most - expr.least):
            between = self._spot()
            self._add(expr.item, here, between)
            self.draft.skips[between].append(there)
            here = between

    def _halved(self, expr: Repeat) -> Expr:
        """Return a repeat as rules for halves of it: as many as the count has binary digits.

        Exactly n are two halves (and one more); up to n are either a first half and up to the
        other, or fewer than a first half, so that every count is read in one way only.
        """
        base = f"{self.rule} ({len(self.rules)})"
        self.rules[base] = expr.item

        def exactly(n: int) -> Expr:
            if n < 2:
                return Ref(base) if n else EMPTY
            name = f"{base} {n} times"
            if name not in self.rules:
                self.rules[name] = Seq((exactly(n // 2), exactly(n // 2), exactly(n % 2)))
            return Ref(name)

        def upto(n: int) -> Expr:
            if n < 1:
                return EMPTY
            name = f"{base} up to {n} times"
            if name not in self.rules:
                half = (n + 1) // 2
                self.rules[name] = NOTHING  # its place among the rules, before its parts'
                more = Seq((exactly(half), upto(n - half)))
                self.rules[name] = Alt((more, upto(half - 1)))
            return Ref(name)

        if expr.most is None:
            return Seq((exactly(expr.least), Repeat(Ref(base))))
        return Seq((exactly(expr.least), upto(expr.most - expr.least)))

    def _chars(self, ranges: tuple[tuple[int, int], ...], here: int, there: int) -> None:
        edges, count = utf8(ranges)
        spots = [here, there, *(self._spot() for _ in range(count - 2))]
        for source, low, high, target in edges:
            self.draft.steps[spots[source]].append((low, high, spots[target]))

    def _automaton(self, expr: Both | Minus, here: int, there: int) -> None:
        about = f"rule {self.rule!r} of {self.about}"
        drawn = Regular(self.rules, about, STATES).draft([expr])
        if drawn is None:
            return
        spots = [self._spot() for _ in drawn.labels]
        self.draft.skips[here].append(spots[0])
        for spot, edges, label in zip(spots, drawn.edges, drawn.labels, strict=True):
            self.draft.steps[spot] += [(low, high, spots[to]) for low, high, to in edges]
            self.draft.skips[spot] += [there] if label != NO_LABEL else []


def _sizes(rules: Mapping[str, Expr]) -> dict[str, int]:
    """Return about how many spots each rule that does not use itself takes, drawn in full."""
    names = list(rules)
    number = {name: at for at, name in enumerate(names)}
    uses = [[number[used] for used in refs(rules[name]) if used in number] for name in names]
    sizes: dict[str, int] = {}
    for group in components(uses):
        name = names[group[0]]
        if len(group) == 1 and group[0] not in uses[group[0]]:
            sizes[name] = _size(rules[name], sizes)
    return sizes


def _size(expr: Expr, sizes: Mapping[str, int]) -> int:
    """Return about how many spots an expression takes; a called rule takes one."""
    match expr:
        case Text(text):
            return len(text.encode(errors="replace"))
        case Chars(ranges):
            return 4 * len(ranges)
        case Seq(parts) | Alt(parts):
            return sum(_size(part, sizes) for part in parts) + 1
        case Repeat(item, least, most):
            return (1 + _size(item, sizes)) * max(least, most or 1)
        case Ref(name):
            size = sizes.get(name, 1)
            return size if size <= INLINED else 1
        case _:
            return INLINED
