"""Small grammars over lexemes by brute force: every text is cut, then its lexemes are looked up.

A lexeme is an expression of ``oracle.grammars`` over ``LETTERS``; rules are expressions over
capitals, one for each lexeme in order.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from re import escape, fullmatch

from oracle.grammars import Node, belongs, fits, random_expr, spelt, words

LETTERS = "ab "


@dataclass(frozen=True, eq=False)
class Lexed:
    """Lexemes, those that are ignored by number, and rules; the first rule is the start."""

    lexemes: Sequence[Node]
    ignored: frozenset[int]
    rules: dict[str, Node]

    def accepted(self, longest: int) -> set[str]:
        """Return all texts up to a length."""
        language = words(self.rules, longest)[next(iter(self.rules))]
        texts = ("".join(t) for n in range(longest + 1) for t in product(LETTERS, repeat=n))
        return {text for text in texts if self.cut(text) in language}

    def holds(self, text: str) -> bool:
        """Return whether one text, however long, is cut into lexemes that the rules take."""
        labels = self.cut(text)
        return labels is not None and belongs(self.rules, next(iter(self.rules)), labels)

    def label(self, piece: str) -> int | None:
        """Return the first lexeme that a piece is."""
        found = (i for i, lexeme in enumerate(self.lexemes) if fullmatch(pattern(lexeme), piece))
        return next(found, None)

    def cut(self, text: str) -> str | None:
        """Return the capitals of a text's lexemes that are not ignored; ``None`` if it has none."""
        labels, pending = [], ""
        for letter in [*text, None]:
            if letter is not None and begins(self.lexemes, pending + letter):
                pending += letter
                continue
            if pending:
                label = self.label(pending)
                if label is None:
                    return None
                labels += [] if label in self.ignored else [chr(ord("A") + label)]
            if letter is not None and not begins(self.lexemes, letter):
                return None
            pending = letter or ""
        return "".join(labels)


def begins(options: Sequence[Node], piece: str) -> bool:
    """Return whether a text of one of the expressions begins with a piece."""
    return any(_begins(option, piece) for option in options)


def _begins(node: Node, piece: str) -> bool:
    kind, *args = node
    match kind:
        case "text":
            return args[0].startswith(piece)
        case "chars":
            return piece in ("", *args[0])
        case "alt":
            return begins(args, piece)
        case "seq":
            parts = args
        case _:
            parts = [args[0]] * (args[1] + len(piece))
    rests = {piece}
    for part in parts:
        if any(_begins(part, rest) for rest in rests):
            return True
        rests = {rest[n:] for rest in rests for n in fits(part, rest, 0, {})}
    return False


def pattern(node: Node) -> str:
    """Return a regular expression for a lexeme."""
    kind, *args = node
    match kind:
        case "text":
            return escape(args[0])
        case "chars":
            return f"[{args[0]}]"
        case "repeat":
            return f"(?:{pattern(args[0])}){{{args[1]},}}"
        case _:
            return "(?:" + ("|" if kind == "alt" else "").join(map(pattern, args)) + ")"


def random_lexed(seed: int) -> Lexed:
    """Return random lexemes and rules, among them pairs that no text can part."""
    rng = random.Random(seed)
    lexemes: list[Node] = []
    while len(lexemes) < rng.randint(2, 4):
        lexeme = _lexeme(rng, 2)
        short = spelt(lexeme, {}, 4)
        if short and "" not in short:
            lexemes.append(lexeme)
    ignored = {i for i in range(len(lexemes)) if rng.random() < 0.2}
    capitals = "".join(chr(ord("A") + i) for i in range(len(lexemes)))
    names = [f"r{i}" for i in range(rng.randint(1, 3))]
    rules = {
        name: _over(random_expr(rng, names, rng.randint(1, 3)), capitals, rng) for name in names
    }
    return Lexed(lexemes, frozenset(ignored), rules)


def _lexeme(rng: random.Random, depth: int) -> Node:
    kind = rng.choice(["text", "text", "chars", *["seq", "alt", "repeat"] * depth])
    match kind:
        case "text":
            return ("text", rng.choice(["a", "b", " ", "ab", "aa", "ba", "a b"]))
        case "chars":
            return ("chars", rng.choice(["ab", "a", "a ", "ab "]))
        case "repeat":
            return ("repeat", _lexeme(rng, 0), rng.randint(1, 2), None)
        case _:
            return (kind, _lexeme(rng, depth - 1), _lexeme(rng, depth - 1))


def _over(node: Node, capitals: str, rng: random.Random) -> Node:
    """Return an expression with random capitals for its letters."""
    kind, *args = node
    match kind:
        case "text" | "chars":
            picked = [("text", rng.choice(capitals)) for _ in args[0]]
            return ("seq" if kind == "text" else "alt", *picked)
        case "both" | "minus":  # regular expressions over characters alone
            return _over(args[0], capitals, rng)
        case "ref":
            return node
        case "repeat":
            return ("repeat", _over(args[0], capitals, rng), args[1], args[2])
        case _:
            return (kind, *(_over(arg, capitals, rng) for arg in args))
