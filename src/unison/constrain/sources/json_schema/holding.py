"""Does a given value fit? The validator behind enumerations, property names and opposites."""

from collections.abc import Callable
from fractions import Fraction

from unison.constrain.sources.json_schema.arrays import item_claims
from unison.constrain.sources.json_schema.branches import Branch, of
from unison.constrain.sources.json_schema.document import Claim, Document, Json, below
from unison.constrain.sources.json_schema.formats import format_language
from unison.constrain.sources.json_schema.formula import Atom, canonical, kind_of
from unison.constrain.sources.json_schema.objects import claims, named_by
from unison.constrain.sources.json_schema.patterns import search
from unison.constrain.sources.json_schema.regular import matches


def fits(document: Document, claim: Claim, value: Json) -> bool:
    """Return whether a value meets a claim."""
    branches = of(document, (claim,), kind_of(value))
    return any(meets(document, branch, value) for branch in branches)


def meets(document: Document, branch: Branch, value: Json) -> bool:
    """Return whether a value meets an alternative of its kind."""
    return all(HOLDS[atom.name](document, atom, value) for atom in branch)


def finite(document: Document, branch: Branch) -> list[Json] | None:
    """Return the values of an alternative with an enumeration, each once; ``None`` without."""
    listed = next((atom.value for atom in branch if atom.name == "enum"), None)
    if listed is None:
        return None
    kept = {canonical(v): v for v in listed if meets(document, branch, v)}
    return list(kept.values())


def _same(value: Json, others: list[Json]) -> bool:
    return canonical(value) in {canonical(other) for other in others}


def _within_low(_: Document, atom: Atom, value: Json) -> bool:
    bound, is_open = atom.value
    return Fraction(value) > bound if is_open else Fraction(value) >= bound


def _within_high(_: Document, atom: Atom, value: Json) -> bool:
    bound, is_open = atom.value
    return Fraction(value) < bound if is_open else Fraction(value) <= bound


def _formatted(_: Document, atom: Atom, value: Json) -> bool:
    language = format_language(atom.pointer, atom.value)
    return language is None or matches(language, value)


def _members(document: Document, atom: Atom, value: Json) -> bool:
    branch = (atom,)
    return all(
        fits(document, claim, item)
        for name, item in value.items()
        for claim in claims(document, branch, name)
    )


def _member(document: Document, atom: Atom, value: Json) -> bool:
    name, claim = atom.value
    return name not in value or fits(document, claim, value[name])


def _additional(document: Document, atom: Atom, value: Json) -> bool:
    claim = Claim(below(atom.value, "additionalProperties"))
    return all(
        named_by(document, atom.value, name) or fits(document, claim, item)
        for name, item in value.items()
    )


def _patterned(document: Document, atom: Atom, value: Json) -> bool:
    patterns = document.schema(atom.value)["patternProperties"]  # type: ignore[index]
    where = below(atom.value, "patternProperties")
    return all(
        fits(document, Claim(below(where, p)), item)
        for p in patterns
        for name, item in value.items()
        if search(document, below(where, p), p, name)
    )


def _elements(document: Document, atom: Atom, value: Json) -> bool:
    return all(
        fits(document, claim, item)
        for index, item in enumerate(value)
        for claim in item_claims(document, (atom,), index)
    )


def _contains(document: Document, atom: Atom, value: Json) -> bool:
    pointer, least, most = atom.value
    found = sum(fits(document, Claim(pointer), item) for item in value)
    return found >= least and (most is None or found <= most)


def _names(document: Document, atom: Atom, value: Json) -> bool:
    return all(fits(document, Claim(atom.value), name) for name in value)


def _unique(_: Document, __: Atom, value: Json) -> bool:
    return len(set(map(canonical, value))) == len(value)


def _fails(document: Document, atom: Atom, value: Json) -> bool:
    return not HOLDS[atom.value.name](document, atom.value, value)


Holding = Callable[[Document, Atom, Json], bool]
HOLDS: dict[str, Holding] = {
    "integer": lambda _, __, value: Fraction(value).denominator == 1,
    "fraction": lambda _, __, value: Fraction(value).denominator != 1,
    "enum": lambda _, atom, value: _same(value, atom.value),
    "exclude": lambda _, atom, value: not _same(value, atom.value),
    "low": _within_low,
    "high": _within_high,
    "multipleOf": lambda _, atom, value: (Fraction(value) / atom.value).denominator == 1,
    "pattern": lambda doc, atom, value: search(doc, atom.pointer, atom.value, value),
    "format": _formatted,
    "minLength": lambda _, atom, value: len(value) >= atom.value,
    "maxLength": lambda _, atom, value: len(value) <= atom.value,
    "required": lambda _, atom, value: all(name in value for name in atom.value),
    "forbidden": lambda _, atom, value: atom.value not in value,
    "members": _members,
    "member": _member,
    "additional": _additional,
    "patterned": _patterned,
    "propertyNames": _names,
    "minProperties": lambda _, atom, value: len(value) >= atom.value,
    "maxProperties": lambda _, atom, value: len(value) <= atom.value,
    "unevaluatedProperties": _members,
    "elements": _elements,
    "element": _elements,
    "every": _elements,
    "unevaluatedItems": _elements,
    "contains": _contains,
    "minItems": lambda _, atom, value: len(value) >= atom.value,
    "maxItems": lambda _, atom, value: len(value) <= atom.value,
    "uniqueItems": _unique,
    "not": _fails,
}
