"""What does a value that a schema allows look like, roughly? To know how much room it takes."""

from collections.abc import Mapping
from typing import Any

_DEEPEST = 6  # schemas within schemas: one that holds itself grows with a power of this
_MANY = 20  # items at most
_LETTERS = 1000  # of a text at most


def instance(schema: Any) -> Any:
    """Return a value made from types, required properties and bounds.

    A guess: patterns, formats, conditions and negations are not looked at.
    """
    return _instance(schema, schema, _DEEPEST)


def _instance(schema: Any, root: Any, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth == 0:
        return {}
    if "const" in schema:
        return schema["const"]
    for name in ("enum", "examples"):
        for value in _several(schema, name):
            return value
    whole = _merged(schema, root, depth)
    kind = whole.get("type", "array" if "items" in whole else "object")
    make = _MAKERS.get(kind[0] if isinstance(kind, list) and kind else str(kind))
    return make(whole, root, depth) if make else None


def _merged(schema: Mapping[str, Any], root: Any, depth: int) -> dict[str, Any]:
    """Return a schema with what it refers to, all of ``allOf``, and the first of its choices."""
    chosen = [part for name in ("anyOf", "oneOf") for part in _several(schema, name)[:1]]
    parts = [_at(root, schema.get("$ref")), *_several(schema, "allOf"), *chosen]
    whole = dict(schema)
    for part in parts:
        if isinstance(part, Mapping) and depth > 0:
            merged = _merged(part, root, depth - 1)
            for name, value in merged.items():
                whole[name] = _joined(whole.get(name), value)
    return whole


def _several(schema: Mapping[str, Any], name: str) -> list[Any]:
    """Return a list in a schema; old drafts hold other things under the same names."""
    value = schema.get(name)
    return value if isinstance(value, list) else []


def _joined(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return {**other, **one}
    if isinstance(one, list) and isinstance(other, list):
        return one + [item for item in other if item not in one]
    return other if one is None else one


def _at(root: Any, reference: Any) -> Any:
    """Return the part of the whole schema that ``#/a/b`` names, or nothing."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found = root
    for name in reference[1:].split("/")[1:]:
        key = name.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping):
            return None
        found = found.get(key)
    return found


def _object(schema: Mapping[str, Any], root: Any, depth: int) -> dict[str, Any]:
    known = schema.get("properties", {})
    names = _several(schema, "required") or list(known)[:1]
    return {name: _instance(known.get(name, {}), root, depth - 1) for name in names}


def _array(schema: Mapping[str, Any], root: Any, depth: int) -> list[Any]:
    count = min(int(schema.get("minItems", 1)), _MANY)
    return [_instance(schema.get("items", {}), root, depth - 1) for _ in range(count)]


def _string(schema: Mapping[str, Any], root: Any, depth: int) -> str:
    least = min(int(schema.get("minLength", 0)), _LETTERS)
    return "text"[: int(schema.get("maxLength", _LETTERS))].ljust(least, "x")


def _number(schema: Mapping[str, Any], root: Any, depth: int) -> Any:
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema and type(schema["exclusiveMinimum"]) is not bool:
        low = schema["exclusiveMinimum"] + 1
    return low if low is not None else min(1, 1 if high is None else high)


_MAKERS = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _number,
    "number": _number,
    "boolean": lambda schema, root, depth: True,
    "null": lambda schema, root, depth: None,
}
