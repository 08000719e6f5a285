"""What must hold of a value of one kind? Conditions, and what joins them.

Reading a schema for one kind of value at a time gives a formula of plain conditions (``Atom``) and
of claims about further schemas; ``branches`` multiplies it out.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from unison.constrain.sources.json_schema.document import Claim, Document, Json, below

Kind = Literal["null", "boolean", "number", "string", "array", "object"]
KINDS: tuple[Kind, ...] = ("null", "boolean", "number", "string", "array", "object")


@dataclass(frozen=True)
class Atom:
    """One plain condition on a value.

    Attributes:
        name: The keyword, or what it became.
        value: What the keyword says.
        pointer: Where it stands.
    """

    name: str
    value: Any
    pointer: str


@dataclass(frozen=True)
class All:
    """Every part holds."""

    parts: tuple["Formula", ...] = ()


@dataclass(frozen=True)
class Some:
    """At least one part holds."""

    parts: tuple["Formula", ...] = ()


@dataclass(frozen=True)
class One:
    """Exactly one of the schemas at these pointers holds."""

    pointers: tuple[str, ...]


Formula = Atom | Claim | All | Some | One
ALWAYS, NEVER = All(), Some()


@dataclass(frozen=True)
class Spot:
    """A schema that is being read, and the kind of value it is read for."""

    document: Document
    pointer: str
    schema: dict[str, Json]
    kind: Kind

    def atom(self, keyword: str, name: str = "", value: Any = None) -> Atom:
        """Return a condition that a keyword of this schema makes."""
        said = self.schema.get(keyword) if value is None else value
        return Atom(name or keyword, said, below(self.pointer, keyword))

    def claim(self, *keys: str | int, holds: bool = True) -> Claim:
        """Return the claim of a schema further down."""
        return Claim(below(self.pointer, *keys), holds)


def kind_of(value: Json) -> Kind:
    """Return the kind of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "number"


def canonical(value: Json) -> Any:
    """Return something hashable that is equal for equal JSON values: 1 is 1.0 and is not true."""
    match value:
        case bool() | None | str():
            return (kind_of(value), value)
        case list():
            return ("array", tuple(map(canonical, value)))
        case dict():
            return ("object", frozenset((key, canonical(item)) for key, item in value.items()))
        case _:
            return ("number", Fraction(value))
