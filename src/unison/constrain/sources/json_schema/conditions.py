"""What do the keywords of plain values say, and what do their opposites say?

JSON Schema 2020-12 validation vocabulary, and the spellings of draft-04 to draft-07.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from unison.constrain.sources.json_schema.document import below, brief, refuse
from unison.constrain.sources.json_schema.formula import (
    ALWAYS,
    KINDS,
    NEVER,
    All,
    Atom,
    Formula,
    Kind,
    Some,
    Spot,
    kind_of,
)
from unison.suggest import nearest

TYPES = (*KINDS, "integer")
Reading = Callable[[Spot], Formula]


@dataclass(frozen=True)
class Rule:
    """How keywords that belong together are read.

    Attributes:
        keywords: The rule applies where one of them stands.
        kind: The kind of values they speak of; ``None`` for all.
        holds: What they say.
        fails: What their opposite says; ``None`` where only "not" of each condition can be said.
    """

    keywords: tuple[str, ...]
    kind: Kind | None
    holds: Reading
    fails: Reading | None = None

    def read(self, spot: Spot, holds: bool) -> Formula:
        """Return what the keywords, or their opposite, say of the spot's kind of values."""
        if self.kind not in (None, spot.kind):
            return ALWAYS if holds else NEVER
        if holds:
            return self.holds(spot)
        return self.fails(spot) if self.fails is not None else opposite(self.holds(spot))


def opposite(formula: Formula) -> Formula:
    """Return "not" of a conjunction of conditions."""
    match formula:
        case All(parts):
            return Some(tuple(map(opposite, parts)))
        case Atom(_, _, pointer):
            return Atom("not", formula, pointer)
        case _:
            raise TypeError(f"{formula} is no conjunction of conditions.")


def _types(spot: Spot) -> list[str]:
    said = spot.schema["type"]
    named = said if isinstance(said, list) else [said]
    for name in named:
        if name == "any" and spot.document.old:
            return list(TYPES)
        if name not in TYPES:
            hint = nearest(name, TYPES) if isinstance(name, str) else ""
            refuse(below(spot.pointer, "type"), f"{brief(name)} is no type{hint}")
    return named


def _type(spot: Spot) -> Formula:
    named = _types(spot)
    if spot.kind in named:
        return ALWAYS
    whole = spot.kind == "number" and "integer" in named
    return spot.atom("type", "integer", True) if whole else NEVER


def _not_type(spot: Spot) -> Formula:
    named = _types(spot)
    if spot.kind in named:
        return NEVER
    whole = spot.kind == "number" and "integer" in named
    return spot.atom("type", "fraction", True) if whole else ALWAYS


def _enum(spot: Spot) -> list[Any]:
    listed = spot.schema["enum"]
    if not isinstance(listed, list):
        refuse(below(spot.pointer, "enum"), f"an enum is a list; {brief(listed)} is none")
    return listed


def _finite(keyword: str, listed: Callable[[Spot], list[Any]]) -> Rule:
    def mine(spot: Spot) -> list[Any]:
        return [value for value in listed(spot) if kind_of(value) == spot.kind]

    def holds(spot: Spot) -> Formula:
        return spot.atom(keyword, "enum", values) if (values := mine(spot)) else NEVER

    def fails(spot: Spot) -> Formula:
        return spot.atom(keyword, "exclude", values) if (values := mine(spot)) else ALWAYS

    return Rule((keyword,), None, holds, fails)


def number(spot: Spot, keyword: str) -> Fraction:
    """Return the number a keyword gives."""
    value = spot.schema[keyword]
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        refuse(below(spot.pointer, keyword), f"{keyword} is a number; {brief(value)} is none")
    return Fraction(value)


def count(spot: Spot, keyword: str) -> int:
    """Return the natural number a keyword gives."""
    value = number(spot, keyword)
    if value < 0 or value.denominator != 1:
        refuse(
            below(spot.pointer, keyword),
            f"{keyword} is a whole number of at least 0, not {brief(spot.schema[keyword])}",
        )
    return int(value)


def _bounds(spot: Spot, plain: str, strict: str) -> list[tuple[str, Fraction, bool]]:
    """Return keyword, bound and strictness of one side; draft-04 makes strictness a boolean."""
    marked = spot.schema.get(strict)
    found = []
    if plain in spot.schema:
        found.append((plain, number(spot, plain), marked is True))
    if strict in spot.schema and not isinstance(marked, bool):
        found.append((strict, number(spot, strict), True))
    return found


def _side(plain: str, strict: str, name: str, other: str) -> Rule:
    def holds(spot: Spot) -> Formula:
        said = _bounds(spot, plain, strict)
        return All(tuple(spot.atom(k, name, (bound, is_open)) for k, bound, is_open in said))

    def fails(spot: Spot) -> Formula:
        said = _bounds(spot, plain, strict)
        return Some(tuple(spot.atom(k, other, (bound, not is_open)) for k, bound, is_open in said))

    return Rule((plain, strict), "number", holds, fails)


def _multiple(spot: Spot) -> Formula:
    step = number(spot, "multipleOf")
    if step <= 0:
        refuse(below(spot.pointer, "multipleOf"), "multipleOf is above 0")
    return spot.atom("multipleOf", value=step)


def counted(least: str, most: str, kind: Kind) -> tuple[Rule, Rule]:
    """Return the rules of a pair of keywords that bound a count from both sides."""

    def at_least(spot: Spot) -> Formula:
        return spot.atom(least, value=count(spot, least))

    def fewer(spot: Spot) -> Formula:
        wanted = count(spot, least)
        return spot.atom(least, most, wanted - 1) if wanted else NEVER

    def at_most(spot: Spot) -> Formula:
        return spot.atom(most, value=count(spot, most))

    def more(spot: Spot) -> Formula:
        return spot.atom(most, least, count(spot, most) + 1)

    return Rule((least,), kind, at_least, fewer), Rule((most,), kind, at_most, more)


def _text(keyword: str) -> Rule:
    def holds(spot: Spot) -> Formula:
        value = spot.schema[keyword]
        if not isinstance(value, str):
            refuse(below(spot.pointer, keyword), f"{keyword} is a string; {brief(value)} is none")
        return spot.atom(keyword)

    return Rule((keyword,), "string", holds)


OPENAPI = {"int32": 31, "int64": 63}


def _number_format(spot: Spot) -> Formula:
    """Read OpenAPI's sizes of integers as bounds; other formats say nothing of numbers."""
    bits = OPENAPI.get(str(spot.schema["format"]))
    if bits is None:
        return ALWAYS
    low, high = Fraction(-(2**bits)), Fraction(2**bits - 1)
    return All(
        (spot.atom("format", "low", (low, False)), spot.atom("format", "high", (high, False)))
    )


CONDITIONS = (
    Rule(("type",), None, _type, _not_type),
    _finite("enum", _enum),
    _finite("const", lambda spot: [spot.schema["const"]]),
    _side("minimum", "exclusiveMinimum", "low", "high"),
    _side("maximum", "exclusiveMaximum", "high", "low"),
    Rule(("multipleOf",), "number", _multiple),
    Rule(("format",), "number", _number_format, lambda _: NEVER),
    _text("pattern"),
    _text("format"),
    *counted("minLength", "maxLength", "string"),
)
