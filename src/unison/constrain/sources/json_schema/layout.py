"""Where may spaces stand? Separators, lists and constants as JSON text."""

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from unison.constrain.language import EMPTY, NOTHING, Chars, Expr, Repeat, Text
from unison.constrain.sources.json_schema.document import Json
from unison.constrain.sources.json_schema.regular import alt, repeat, seq

Spacing = Literal["compact", "spaced", "free"]
BLANKS = Repeat(Chars(((0x09, 0x0A), (0x0D, 0x0D), (0x20, 0x20))), 0, 8)


@dataclass(frozen=True)
class Layout:
    """What stands between the parts of arrays and objects.

    Attributes:
        comma: Between items.
        colon: Between a key and its value.
        pad: Inside brackets and around the whole text.
    """

    comma: Expr
    colon: Expr
    pad: Expr


LAYOUTS: dict[Spacing, Layout] = {
    "compact": Layout(Text(","), Text(":"), EMPTY),
    "spaced": Layout(Text(", "), Text(": "), EMPTY),
    "free": Layout(seq(BLANKS, Text(","), BLANKS), seq(BLANKS, Text(":"), BLANKS), BLANKS),
}


def enclosed(layout: Layout, brackets: str, inner: Expr) -> Expr:
    """Return a list between brackets."""
    return seq(Text(brackets[0]), layout.pad, inner, layout.pad, Text(brackets[1]))


def constant(layout: Layout, value: Json) -> Expr:
    """Return the text of a value, as ``json.dumps`` writes it up to spaces."""
    match value:
        case list():
            inner = [constant(layout, item) for item in value]
            return enclosed(layout, "[]", _joined(layout, inner))
        case dict():
            inner = [
                seq(constant(layout, key), layout.colon, constant(layout, item))
                for key, item in value.items()
            ]
            return enclosed(layout, "{}", _joined(layout, inner))
        case Decimal():
            return Text(_decimal(value))
        case _:
            return Text(json.dumps(value, ensure_ascii=False))


def _decimal(value: Decimal) -> str:
    """Return a number as Python prints the nearest double if that is the same number."""
    double = repr(float(value))
    return double if double[-1].isdigit() and Decimal(double) == value else str(value)


def _joined(layout: Layout, parts: list[Expr]) -> Expr:
    return listed(layout, parts, NOTHING, len(parts), len(parts))


def listed(layout: Layout, first: list[Expr], rest: Expr, least: int, most: int | None) -> Expr:
    """Return a number of items with commas between: some of their own, then any of the rest."""
    if most is not None and most < least:
        return NOTHING
    if not first:
        return _alike(layout, rest, least, most)
    size = len(first)
    behind = None if most is None else max(most - size, 0)
    tail = repeat(seq(layout.comma, rest), max(least - size, 0), behind)
    for index in range(size - 1, -1, -1):
        comma = layout.comma if index else EMPTY
        full = most is not None and index >= most
        longer = NOTHING if full else seq(comma, first[index], tail)
        tail = alt(EMPTY if index >= least else NOTHING, longer)
    return tail


def _alike(layout: Layout, item: Expr, least: int, most: int | None) -> Expr:
    if most == 0:
        return EMPTY
    more = repeat(seq(layout.comma, item), max(least - 1, 0), None if most is None else most - 1)
    return alt(EMPTY if least == 0 else NOTHING, seq(item, more))
