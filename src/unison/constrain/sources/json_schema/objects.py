"""Which properties may an object have, in which order, and what must each be?"""

from collections.abc import Iterable
from dataclasses import dataclass

from unison.constrain.language import ANY_CHAR, Expr, Repeat, Text
from unison.constrain.sources.json_schema.branches import Branch
from unison.constrain.sources.json_schema.document import IMPOSSIBLE, Claim, Document, Node, below
from unison.constrain.sources.json_schema.formula import Atom
from unison.constrain.sources.json_schema.nodes import node
from unison.constrain.sources.json_schema.patterns import pattern, search
from unison.constrain.sources.json_schema.regular import alt, both, minus

ANY_TEXT = Repeat(ANY_CHAR)


@dataclass(frozen=True)
class Member:
    """A property that may be written.

    Attributes:
        name: Its key.
        node: What its value has to meet.
        required: Whether it may not be left out.
    """

    name: str
    node: Node
    required: bool


@dataclass(frozen=True)
class Unnamed:
    """Further properties.

    Attributes:
        keys: The keys they may have, as values (nothing is escaped).
        node: What their values have to meet.
    """

    keys: Expr
    node: Node


def names(document: Document, branch: Branch) -> tuple[str, ...]:
    """Return the keys an alternative speaks of: those of ``properties`` in order, then others."""
    found: dict[str, None] = {}
    for atom in branch:
        if atom.name == "members":
            found.update(dict.fromkeys(_schema(document, atom.value).get("properties", {})))
    for atom in branch:
        if atom.name == "required":
            found.update(dict.fromkeys(atom.value))
    return tuple(found)


def members(document: Document, branch: Branch) -> tuple[Member, ...]:
    """Return the properties of an alternative in the order in which they are written."""
    needed = {name for atom in branch if atom.name == "required" for name in atom.value}
    return tuple(
        Member(name, node(document, *claims(document, branch, name)), name in needed)
        for name in names(document, branch)
    )


def claims(document: Document, branch: Branch, name: str) -> Iterable[Claim]:
    """Yield what the property of a name has to meet."""
    from unison.constrain.sources.json_schema.holding import fits

    for atom in branch:
        match atom.name, atom.value:
            case "members", pointer:
                yield from _by_schema(document, pointer, name)
            case "member", (str() as mine, claim) if mine == name:
                yield claim
            case "forbidden", str() as mine if mine == name:
                yield IMPOSSIBLE
            case "propertyNames", pointer if not fits(document, Claim(pointer), name):
                yield IMPOSSIBLE
            case "unevaluatedProperties", (pointer, seen) if not _evaluated(document, seen, name):
                yield Claim(below(pointer, "unevaluatedProperties"))


def named_by(document: Document, pointer: str, name: str) -> bool:
    """Return whether ``properties`` or ``patternProperties`` of a schema catch a key."""
    schema = _schema(document, pointer)
    return name in schema.get("properties", {}) or any(
        search(document, below(pointer, "patternProperties", p), p, name)
        for p in schema.get("patternProperties", {})
    )


def unnamed(document: Document, branch: Branch) -> tuple[Unnamed, ...]:
    """Return the further properties an alternative allows, by which pattern their keys match.

    Keys that several patterns match are not written.
    """
    patterns: dict[str, Expr] = {}
    caught: dict[str, Expr] = {}
    for atom in branch:
        if atom.name == "members":
            for p in _schema(document, atom.value).get("patternProperties", {}):
                where = below(atom.value, "patternProperties", p)
                patterns[p], caught[p] = pattern(where, p), pattern(where, p, wide=True)
    known = alt(*(Text(name) for name in names(document, branch)), *_forbidden(branch))
    allowed = _key_language(document, branch)
    found = []
    for mine, keys in [*patterns.items(), (None, ANY_TEXT)]:
        others = alt(known, *(other for p, other in caught.items() if p != mine))
        wanted = node(document, *_abstract_claims(document, branch, mine))
        found.append(Unnamed(minus(both(allowed, keys), others), wanted))
    return tuple(found)


def _forbidden(branch: Branch) -> Iterable[Expr]:
    return (Text(atom.value) for atom in branch if atom.name == "forbidden")


def _key_language(document: Document, branch: Branch) -> Expr:
    from unison.constrain.sources.json_schema.strings import language

    keys: Expr = ANY_TEXT
    for atom in branch:
        if atom.name == "propertyNames":
            keys = both(keys, language(document, (Claim(atom.value),)))
    return keys if keys == ANY_TEXT else both(ANY_TEXT, keys)


def _abstract_claims(document: Document, branch: Branch, mine: str | None) -> Iterable[Claim]:
    """Yield what a property has to meet whose key one pattern catches, or none."""
    for atom in branch:
        match atom.name, atom.value:
            case "members", pointer:
                schema = _schema(document, pointer)
                if mine is not None and mine in schema.get("patternProperties", {}):
                    yield Claim(below(pointer, "patternProperties", mine))
                elif "additionalProperties" in schema:
                    yield Claim(below(pointer, "additionalProperties"))
            case "unevaluatedProperties", (pointer, seen):
                if not any(_catches(document, other, mine) for other in seen):
                    yield Claim(below(pointer, "unevaluatedProperties"))


def _catches(document: Document, atom: Atom, mine: str | None) -> bool:
    if atom.name != "members":
        return atom.name == "unevaluatedProperties"
    schema = _schema(document, atom.value)
    return "additionalProperties" in schema or mine in schema.get("patternProperties", {})


def _by_schema(document: Document, pointer: str, name: str) -> Iterable[Claim]:
    schema = _schema(document, pointer)
    if name in schema.get("properties", {}):
        yield Claim(below(pointer, "properties", name))
    for p in schema.get("patternProperties", {}):
        if search(document, below(pointer, "patternProperties", p), p, name):
            yield Claim(below(pointer, "patternProperties", p))
    if "additionalProperties" in schema and not named_by(document, pointer, name):
        yield Claim(below(pointer, "additionalProperties"))


def _evaluated(document: Document, seen: Branch, name: str) -> bool:
    """Return whether a schema beside ``unevaluatedProperties`` has looked at a property."""
    for atom in seen:
        if atom.name == "unevaluatedProperties":
            return True
        if atom.name == "members":
            schema = _schema(document, atom.value)
            if "additionalProperties" in schema or named_by(document, atom.value, name):
                return True
    return False


def _schema(document: Document, pointer: str) -> dict:
    schema = document.schema(pointer)
    return schema if isinstance(schema, dict) else {}
