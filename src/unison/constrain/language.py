"""What is a set of texts? Expressions over characters, and rules that may use each other.

Every notation (regular expressions, JSON schemas, grammars, templates) becomes a ``Grammar``;
everything that decides membership starts from one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

LAST_CODE = 0x10FFFF
SURROGATES = (0xD800, 0xDFFF)


class ConstraintError(ValueError):
    """A constraint that cannot be read, cannot be met, or does not fit a tokenizer or a canvas."""


@dataclass(frozen=True)
class Text:
    """Exactly these characters; the empty text if there are none."""

    text: str


@dataclass(frozen=True)
class Chars:
    """One character out of a set.

    Attributes:
        ranges: First and last code point of each range, ascending and apart; surrogates, which no
            UTF-8 text holds, never match. No range at all is the empty language.
    """

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Seq:
    """One after the other."""

    parts: tuple["Expr", ...]


@dataclass(frozen=True)
class Alt:
    """One of several; none of none, which is the empty language."""

    options: tuple["Expr", ...]


@dataclass(frozen=True)
class Repeat:
    """Some number of times.

    Attributes:
        item: What is repeated.
        least: At least so often.
        most: At most so often; ``None`` for any number.
    """

    item: "Expr"
    least: int = 0
    most: int | None = None


@dataclass(frozen=True)
class Ref:
    """What a rule of the grammar stands for."""

    name: str


@dataclass(frozen=True)
class Both:
    """Texts of both; each must be regular (no rule that uses itself)."""

    left: "Expr"
    right: "Expr"


@dataclass(frozen=True)
class Minus:
    """Texts of the left that are none of the right; each must be regular."""

    left: "Expr"
    right: "Expr"


Expr = Text | Chars | Seq | Alt | Repeat | Ref | Both | Minus
EMPTY = Text("")
NOTHING = Alt(())
ANY_CHAR = Chars(((0, SURROGATES[0] - 1), (SURROGATES[1] + 1, LAST_CODE)))


@dataclass(frozen=True)
class Grammar:
    """Rules, one of which describes whole texts.

    Attributes:
        rules: What each name stands for.
        start: The rule of whole texts.
        lexemes: Rules (regular ones) that the text is cut into before the other rules read it, the
            first wins where several match. Empty: there is no cutting, rules read characters.
            With lexemes, every other rule is made of ``Ref``s to lexemes and rules alone, and a
            lexeme ends where no lexeme could go on with the next character (so one that could go
            on, must). No lexeme may be empty.
        ignored: Lexemes that may stand anywhere between others and that no rule sees.
        about: What the language is called in messages.
    """

    rules: Mapping[str, Expr]
    start: str
    lexemes: tuple[str, ...] = ()
    ignored: frozenset[str] = field(default_factory=frozenset)
    about: str = "the grammar"

    def __post_init__(self) -> None:
        if self.start not in self.rules:
            raise ConstraintError(f"{self.about} has no rule {self.start!r} to start from.")
        for name, rule in self.rules.items():
            missing = next((used for used in refs(rule) if used not in self.rules), None)
            if missing is not None:
                raise ConstraintError(
                    f"in {self.about}, rule {name!r} uses {missing!r}, which is not defined."
                )


def refs(expr: Expr) -> Iterator[str]:
    """Yield the names of the rules an expression uses, each time it does."""
    stack = [expr]
    while stack:
        match stack.pop():
            case Ref(name):
                yield name
            case Seq(parts) | Alt(parts):
                stack += parts
            case Repeat(item, _, _):
                stack.append(item)
            case Both(left, right) | Minus(left, right):
                stack += (left, right)
            case _:
                pass


def recursive(grammar: Grammar) -> bool:
    """Return whether a rule that the start needs uses itself."""
    under_way, done = [(grammar.start, refs(grammar.rules[grammar.start]))], set()
    path = {grammar.start}
    while under_way:
        name, uses = under_way[-1]
        used = next((other for other in uses if other not in done), None)
        if used in path:
            return True
        if used is None:
            under_way.pop()
            path.discard(name)
            done.add(name)
        else:
            path.add(used)
            under_way.append((used, refs(grammar.rules[used])))
    return False
