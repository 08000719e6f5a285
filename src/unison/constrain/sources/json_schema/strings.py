"""Which texts stand between the quotes? String values, and how JSON spells them (RFC 8259, 7)."""

import json
from collections.abc import Iterable

from unison.constrain.language import (
    ANY_CHAR,
    Alt,
    Both,
    Chars,
    Expr,
    Minus,
    Repeat,
    Seq,
    Text,
)
from unison.constrain.sources.json_schema.branches import Branch, of
from unison.constrain.sources.json_schema.document import Document, Node
from unison.constrain.sources.json_schema.formats import format_language
from unison.constrain.sources.json_schema.formula import Atom
from unison.constrain.sources.json_schema.patterns import pattern
from unison.constrain.sources.json_schema.regular import alt, both, minus, repeat, seq, span

SHORT = {'"': '"', "\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
QUOTE = Text('"')
BACKSLASH = Text("\\")
_SPECIAL = [(0x00, 0x1F), (0x22, 0x22), (0x5C, 0x5C)]


def _without(ranges: Iterable[tuple[int, int]], holes: list[tuple[int, int]]) -> Chars:
    """Return the characters of some ranges that are in none of the holes (ascending)."""
    kept = []
    for first, last in ranges:
        for low, high in holes:
            if low <= last and high >= first:
                if first < low:
                    kept.append((first, low - 1))
                first = high + 1
        if first <= last:
            kept.append((first, last))
    return Chars(tuple(kept))


def _one_of(characters: str) -> Chars:
    return Chars(tuple((code, code) for code in sorted(map(ord, characters))))


HEX = Chars(((0x30, 0x39), (0x41, 0x46), (0x61, 0x66)))
_RAW = _without(ANY_CHAR.ranges, _SPECIAL)
_UNPAIRED = Alt(  # \uXXXX of a character in the first plane: anything but d800 to dfff
    (
        Seq((_without(HEX.ranges, [(0x44, 0x44), (0x64, 0x64)]), Repeat(HEX, 3, 3))),
        Seq((_one_of("dD"), Chars(((0x30, 0x37),)), Repeat(HEX, 2, 2))),
    )
)
_HIGH = Seq((_one_of("dD"), _one_of("89abAB"), Repeat(HEX, 2, 2)))
_LOW = Seq((_one_of("dD"), _one_of("cdefCDEF"), Repeat(HEX, 2, 2)))
_UNICODE = Seq((Text("u"), Alt((_UNPAIRED, Seq((_HIGH, Text("\\u"), _LOW))))))
LEAN = Alt((_RAW, Seq((BACKSLASH, _one_of("".join(SHORT.values()))))))
FULL = Alt((_RAW, Seq((BACKSLASH, Alt((_one_of("".join(SHORT.values()) + "/"), _UNICODE))))))
FREE_STRING = Seq((QUOTE, Repeat(FULL), QUOTE))


def spelled(expr: Expr) -> Expr:
    """Return how JSON spells a language of values, each character in one way.

    A character that needs it has its short escape, the others stand for themselves. Control
    characters without a short escape are not written. Spelling is one to one, so it may be done
    inside ``Both`` and ``Minus``.
    """
    match expr:
        case Text(text):
            return Text(json.dumps(text, ensure_ascii=False)[1:-1])
        case Chars(ranges):
            escapes = "".join(
                short for raw, short in SHORT.items() if any(a <= ord(raw) <= b for a, b in ranges)
            )
            tail = seq(BACKSLASH, _one_of(escapes)) if escapes else Alt(())
            return alt(_without(ranges, _SPECIAL), tail)
        case Seq(parts):
            return Seq(tuple(map(spelled, parts)))
        case Alt(options):
            return Alt(tuple(map(spelled, options)))
        case Repeat(item, least, most):
            return Repeat(spelled(item), least, most)
        case Both(left, right):
            return Both(spelled(left), spelled(right))
        case Minus(left, right):
            return Minus(spelled(left), spelled(right))
        case _:
            raise TypeError(f"{expr} is no regular expression.")


def quoted(expr: Expr) -> Expr:
    """Return a language of values as JSON strings."""
    return seq(QUOTE, spelled(expr), QUOTE)


def lengths(branch: Branch) -> tuple[int, int | None]:
    """Return the least and the greatest length of an alternative, ``None`` for no bound."""
    least = max((a.value for a in branch if a.name == "minLength"), default=0)
    return least, min((a.value for a in branch if a.name == "maxLength"), default=None)


def value_language(branch: Branch) -> Expr:
    """Return the string values of an alternative, nothing escaped."""
    least, most = lengths(branch)
    wanted: Expr | None = None
    unwanted: list[Expr] = []
    for atom in branch:
        match atom.name:
            case "not":
                unwanted.append(_condition(atom.value, wide=True) or Repeat(ANY_CHAR))
            case "exclude":
                unwanted += map(Text, atom.value)
            case "enum":
                wanted = _narrow(wanted, alt(*map(Text, atom.value)))
            case _:
                wanted = _narrow(wanted, _condition(atom))
    sized = repeat(ANY_CHAR, least, most)
    if wanted is None:
        wanted = sized
    elif not _implied(span(wanted), least, most):
        wanted = both(wanted, sized)
    return minus(wanted, alt(*unwanted))


def _implied(known: tuple[int, int | None], least: int, most: int | None) -> bool:
    shortest, longest = known
    return shortest >= least and (most is None or (longest is not None and longest <= most))


def _narrow(wanted: Expr | None, more: Expr | None) -> Expr | None:
    if wanted is None or more is None:
        return more if wanted is None else wanted
    return both(wanted, more)


def _condition(atom: Atom, *, wide: bool = False) -> Expr | None:
    """Return the values a pattern or format allows, ``None`` for every value."""
    if atom.name == "pattern":
        return pattern(atom.pointer, atom.value, wide=wide)
    return format_language(atom.pointer, atom.value) if atom.name == "format" else None


def language(document: Document, node: Node) -> Expr:
    """Return the string values that meet some claims, nothing escaped."""
    return alt(*(value_language(branch) for branch in of(document, node, "string")))


def string(branch: Branch) -> Expr:
    """Return the JSON strings of an alternative.

    One that only bounds the length spells its characters in any short way; one that bounds
    nothing spells them in any way.
    """
    if all(atom.name in ("minLength", "maxLength") for atom in branch):
        least, most = lengths(branch)
        item = FULL if most is None else LEAN
        return seq(QUOTE, repeat(item, least, most), QUOTE)
    return quoted(value_language(branch))
