"""Which texts are the lexemes of a grammar, and which of two is tried first?"""

from collections.abc import Iterator
from itertools import count

from unison.constrain.language import (
    ANY_CHAR,
    Alt,
    Both,
    Chars,
    Expr,
    Minus,
    Ref,
    Repeat,
    Seq,
    Text,
)
from unison.constrain.sources.ebnf.source import Source, Terminal
from unison.constrain.sources.rewriting import replaced

_MOST_USES = 10_000


def unfolded(source: Source, name: str) -> Expr:
    """Return a terminal as characters, with every terminal it uses in place.

    Raises:
        ConstraintError: It uses itself, or other terminals too often.
    """
    return _unfolded(source, name, (), count())


def _unfolded(source: Source, name: str, within: tuple[str, ...], times: Iterator[int]) -> Expr:
    terminal = source.terminals[name]
    if next(times) > _MOST_USES:
        outer = (*within, name)[0]
        raise source.reader.error(
            f"terminal {outer} uses other terminals more than {_MOST_USES} times in all",
            source.terminals[outer].at,
        )
    if name in within:
        chain = " -> ".join((*within[within.index(name) :], name))
        raise source.reader.error(f"a terminal may not use itself: {chain}", terminal.at)
    return replaced(terminal.expr, lambda used: _unfolded(source, used, (*within, name), times))


def lexeme(source: Source, name: str) -> Expr:
    """Return the texts that a terminal is cut from a longer text as.

    A pattern with lazy repetitions ends as soon as it can: of its texts, those remain that go on
    from no shorter one.

    Raises:
        ConstraintError: It matches the empty text, or has a lazy repetition before another.
    """
    expr, terminal = unfolded(source, name), source.terminals[name]
    if nullable(expr):
        raise source.reader.error(
            f"terminal {name} matches the empty text, which is no lexeme; "
            "make it match a character and let rules leave it out",
            terminal.at,
        )
    habits = _habits(source, terminal)
    if "lazy" not in habits:
        return expr
    if "greedy" in habits[habits.index("lazy") :]:
        raise source.reader.error(
            f"terminal {name} has a lazy repetition before a greedy one, so where it ends "
            "is unclear; write what may stand inside, as in [^x]*",
            terminal.at,
        )
    return Minus(expr, Seq((expr, Repeat(ANY_CHAR, 1))))


def precedence(source: Source, name: str) -> tuple[int, bool, int, int]:
    """Return what to sort terminals by: priority, strings, length of strings, place."""
    terminal = source.terminals[name]
    literal = terminal.literal
    return -terminal.priority, literal is None, -len(literal or ""), terminal.at


def twins(source: Source) -> dict[str, str]:
    """Return for each terminal without a name the first one that is written the same.

    One with a name comes first, wherever it stands.
    """
    names = sorted(source.terminals, key=lambda name: (not is_named(name), _at(source, name)))
    first: dict[Expr, str] = {}
    for name in names:
        first.setdefault(source.terminals[name].expr, name)
    return {name: name if is_named(name) else first[source.terminals[name].expr] for name in names}


def nullable(expr: Expr) -> bool:
    """Return whether an expression without rules matches the empty text."""
    match expr:
        case Text(text):
            return not text
        case Chars() | Ref():
            return False
        case Seq(parts):
            return all(map(nullable, parts))
        case Alt(options):
            return any(map(nullable, options))
        case Repeat(item, least, _):
            return least == 0 or nullable(item)
        case Both(left, right):
            return nullable(left) and nullable(right)
        case Minus(left, right):
            return nullable(left) and not nullable(right)


def is_named(name: str) -> bool:
    """Return whether a terminal has a name, not only a look."""
    return name.isidentifier()


def _at(source: Source, name: str) -> int:
    return source.terminals[name].at


def _habits(source: Source, terminal: Terminal) -> list[str]:
    flat: list[str] = []
    for habit in terminal.habits:
        known = source.terminals.get(habit)
        flat += _habits(source, known) if known else [habit]
    return flat
