"""What do the keywords say that hold further schemas?

JSON Schema 2020-12 applicator vocabulary; ``items`` as a list, ``additionalItems`` and
``dependencies`` of older drafts. Keywords that look at each other (``properties`` with
``additionalProperties``, ``items`` with ``prefixItems``) are one condition that names their schema.
"""

from collections.abc import Callable

from unison.constrain.sources.json_schema.conditions import Rule, count, counted, opposite
from unison.constrain.sources.json_schema.document import Claim, below, brief, refuse
from unison.constrain.sources.json_schema.formula import (
    ALWAYS,
    NEVER,
    All,
    Atom,
    Formula,
    One,
    Some,
    Spot,
)


def _listed(spot: Spot, keyword: str) -> range:
    parts = spot.schema[keyword]
    if not isinstance(parts, list) or not parts:
        refuse(below(spot.pointer, keyword), f"{keyword} is a list of at least one schema")
    return range(len(parts))


def _all(keyword: str, join: Callable[..., Formula], holds: bool) -> Callable[[Spot], Formula]:
    def read(spot: Spot) -> Formula:
        return join(tuple(spot.claim(keyword, i, holds=holds) for i in _listed(spot, keyword)))

    return read


def _one(spot: Spot) -> Formula:
    return One(tuple(below(spot.pointer, "oneOf", i) for i in _listed(spot, "oneOf")))


def _not_one(spot: Spot) -> Formula:
    """None of the schemas holds, or two do."""
    indices = _listed(spot, "oneOf")
    none = All(tuple(spot.claim("oneOf", i, holds=False) for i in indices))
    pairs = tuple(
        All((spot.claim("oneOf", i), spot.claim("oneOf", j))) for i in indices for j in range(i)
    )
    return Some((none, *pairs))


def _if(holds: bool) -> Callable[[Spot], Formula]:
    def read(spot: Spot) -> Formula:
        def then(keyword: str) -> Formula:
            if keyword in spot.schema:
                return spot.claim(keyword, holds=holds)
            return ALWAYS if holds else NEVER

        if "then" not in spot.schema and "else" not in spot.schema:
            return ALWAYS if holds else NEVER
        yes, no = spot.claim("if"), spot.claim("if", holds=False)
        return Some((All((yes, then("then"))), All((no, then("else")))))

    return read


def _reference(holds: bool) -> Callable[[Spot], Formula]:
    def read(spot: Spot) -> Formula:
        parts = []
        for keyword in REFERENCES:
            if keyword in spot.schema:
                said = spot.schema[keyword]
                if not isinstance(said, str):
                    refuse(below(spot.pointer, keyword), f"a $ref is a string, not {brief(said)}")
                parts.append(Claim(spot.document.target(spot.pointer, said), holds))
        return All(tuple(parts)) if holds else Some(tuple(parts))

    return read


def _names(spot: Spot, keyword: str, said: object) -> tuple[str, ...]:
    if not isinstance(said, list) or not all(isinstance(name, str) for name in said):
        refuse(below(spot.pointer, keyword), f"a list of names is wanted, not {brief(said)}")
    return tuple(said)


def _required(spot: Spot) -> Formula:
    said = spot.schema["required"]
    if isinstance(said, bool):  # draft-03, and a common slip: it spoke of the property itself
        return ALWAYS
    return spot.atom("required", value=_names(spot, "required", said))


def _not_required(spot: Spot) -> Formula:
    said = spot.schema["required"]
    if isinstance(said, bool):
        return NEVER
    names = _names(spot, "required", said)
    return Some(tuple(spot.atom("required", "forbidden", name) for name in names))


def _members(spot: Spot) -> Formula:
    for keyword in ("properties", "patternProperties"):
        if not isinstance(spot.schema.get(keyword, {}), dict):
            refuse(below(spot.pointer, keyword), f"{keyword} is an object of schemas")
    return Atom("members", spot.pointer, spot.pointer)


def _not_members(spot: Spot) -> Formula:
    """A property breaks its schema: a named one, one a pattern catches, or an additional one."""
    _members(spot)
    options: list[Formula] = []
    for name in spot.schema.get("properties", {}):
        broken = Atom("member", (name, spot.claim("properties", name, holds=False)), spot.pointer)
        options.append(All((spot.atom("properties", "required", (name,)), broken)))
    if spot.schema.get("additionalProperties", True) is not True:
        options.append(spot.atom("additionalProperties", "additional broken", spot.pointer))
    if spot.schema.get("patternProperties"):
        patterns = Atom("patterned", spot.pointer, below(spot.pointer, "patternProperties"))
        options.append(Atom("not", patterns, patterns.pointer))
    return Some(tuple(options))


def _elements(spot: Spot) -> Formula:
    prefix = spot.schema.get("prefixItems", [])
    if not isinstance(prefix, list):
        refuse(below(spot.pointer, "prefixItems"), "prefixItems is a list of schemas")
    return Atom("elements", spot.pointer, spot.pointer)


def _not_elements(spot: Spot) -> Formula:
    keyword = "items" if "items" in spot.schema else "prefixItems"
    options: list[Formula] = [Atom("not", _elements(spot), below(spot.pointer, keyword))]
    for i, pointer in enumerate(prefix_of(spot.schema, spot.pointer)):
        options.append(_broken(spot, i, pointer))
    rest = rest_of(spot.schema, spot.pointer)
    if rest is not None:
        options.append(_broken(spot, len(prefix_of(spot.schema, spot.pointer)), rest))
    return Some(tuple(options))


def _broken(spot: Spot, index: int, pointer: str) -> Formula:
    there = Atom("minItems", index + 1, pointer)
    return All((there, Atom("element", (index, Claim(pointer, False)), spot.pointer)))


def prefix_of(schema: dict, pointer: str) -> list[str]:
    """Return the pointers of the schemas of the first items."""
    for keyword in ("prefixItems", "items"):
        if isinstance(schema.get(keyword), list):
            return [below(pointer, keyword, i) for i in range(len(schema[keyword]))]
    return []


def rest_of(schema: dict, pointer: str) -> str | None:
    """Return the pointer of the schema of the items behind the first ones, if there is one."""
    if "items" in schema and not isinstance(schema["items"], list):
        return below(pointer, "items")
    tuples = isinstance(schema.get("items"), list)
    return below(pointer, "additionalItems") if tuples and "additionalItems" in schema else None


def _contains(spot: Spot) -> Formula:
    least = count(spot, "minContains") if "minContains" in spot.schema else 1
    most = count(spot, "maxContains") if "maxContains" in spot.schema else None
    if least == 0 and most is None:
        return ALWAYS
    return spot.atom("contains", value=(below(spot.pointer, "contains"), least, most))


def _not_contains(spot: Spot) -> Formula:
    said = _contains(spot)
    match said:
        case Atom(_, (_, 1, None), _):
            return spot.atom("contains", "every", spot.claim("contains", holds=False))
        case _:
            return opposite(said)


def _unique(spot: Spot) -> Formula:
    return spot.atom("uniqueItems") if spot.schema["uniqueItems"] is True else ALWAYS


def _dependent(keyword: str, holds: bool) -> Callable[[Spot], Formula]:
    """Read ``dependentRequired``, ``dependentSchemas`` or ``dependencies``, which is either."""

    def read(spot: Spot) -> Formula:
        said = spot.schema[keyword]
        if not isinstance(said, dict):
            refuse(below(spot.pointer, keyword), f"{keyword} is an object")
        parts = tuple(one(spot, name) for name in said)
        return All(parts) if holds else Some(parts)

    def one(spot: Spot, name: str) -> Formula:
        wanted = spot.schema[keyword][name]
        absent = spot.atom(keyword, "forbidden", name)
        present = spot.atom(keyword, "required", (name,))
        if isinstance(wanted, bool | dict):
            claim = spot.claim(keyword, name, holds=holds)
            return Some((absent, claim)) if holds else All((present, claim))
        others = _names(spot, keyword, [wanted] if isinstance(wanted, str) else wanted)
        if holds:
            return Some((absent, spot.atom(keyword, "required", (name, *others))))
        missing = Some(tuple(spot.atom(keyword, "forbidden", other) for other in others))
        return All((present, missing))

    return read


def _property_names(spot: Spot) -> Formula:
    return spot.atom("propertyNames", value=below(spot.pointer, "propertyNames"))


REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
APPLICATORS = (
    Rule(REFERENCES, None, _reference(True), _reference(False)),
    Rule(("allOf",), None, _all("allOf", All, True), _all("allOf", Some, False)),
    Rule(("anyOf",), None, _all("anyOf", Some, True), _all("anyOf", All, False)),
    Rule(("oneOf",), None, _one, _not_one),
    Rule(("not",), None, lambda s: s.claim("not", holds=False), lambda s: s.claim("not")),
    Rule(("if",), None, _if(True), _if(False)),
    Rule(("required",), "object", _required, _not_required),
    Rule(
        ("properties", "patternProperties", "additionalProperties"),
        "object",
        _members,
        _not_members,
    ),
    Rule(("propertyNames",), "object", _property_names),
    *counted("minProperties", "maxProperties", "object"),
    *(
        Rule((keyword,), "object", _dependent(keyword, True), _dependent(keyword, False))
        for keyword in ("dependentRequired", "dependentSchemas", "dependencies")
    ),
    Rule(("prefixItems", "items", "additionalItems"), "array", _elements, _not_elements),
    *counted("minItems", "maxItems", "array"),
    Rule(("contains",), "array", _contains, _not_contains),
    Rule(("uniqueItems",), "array", _unique),
)
