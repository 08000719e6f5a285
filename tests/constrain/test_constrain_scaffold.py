"""A scaffold says what the schema says and leaves holes for the rest."""

import json
import random
import re

import pytest
from constrain.schemas import EACH_KEYWORD, accepts, texts

from unison.constrain.language import ConstraintError
from unison.constrain.sources.json_schema import json_schema
from unison.constrain.sources.scaffold import scaffold

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"const": "person"},
        "home": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "zip": {"pattern": "^[0-9]{5}$",
                                                                "type": "string"}},
            "required": ["street", "zip"],
        },
        "tags": {"type": "array", "items": {"type": "string"}},
        "state": {"enum": ["on", "off"]},
        "none": {"type": "null"},
        "sure": {"type": "boolean"},
    },
    "required": ["name", "age", "kind", "home", "tags", "state", "none", "sure"],
}  # fmt: skip


def test_literal_text_and_holes_take_turns():
    named = {"name": {"type": "string"}, "age": {"type": "integer"}}
    said = {"type": "object", "properties": named, "required": ["name", "age"]}
    assert scaffold(said, 16) == ('{"name": "', 16, '", "age": ', 8, "}")
    assert scaffold(said, spacing="compact") == ('{"name":"', 16, '","age":', 8, "}")


def test_each_sort_of_value_has_its_hole():
    assert scaffold(PERSON, 10) == (
        '{"name": "', 10, '", "age": ', 3, ', "kind": "person", "home": {"street": "', 10,
        '", "zip": "', 5, '"}, "tags": ', 40, ', "state": "', 3, '", "none": null, "sure": ', 5,
        "}",
    )  # fmt: skip


def test_holes_are_sized_by_the_pointer_of_their_value():
    parts = scaffold(PERSON, {"/home/street": 30, "/tags": 7, "/age": 2})
    assert [part for part in parts if isinstance(part, int)] == [16, 2, 30, 5, 7, 3, 5]


def test_optional_properties_are_written_by_choice():
    inner = {"type": "object", "properties": {"c": {"const": 2}}}
    said = {"type": "object", "properties": {"a": {"const": 1}, "b": inner}}
    assert scaffold(said) == ("{}",)
    assert scaffold(said, optional=True) == ('{"a": 1, "b": {"c": 2}}',)
    assert scaffold(said, optional=["/b"]) == ('{"b": {}}',)


def test_alternatives_recursion_and_counted_properties_are_one_hole():
    tree = {"type": "object", "properties": {"kid": {"$ref": "#"}, "v": {"const": 1}}}
    assert scaffold({"anyOf": [{"type": "string"}, {"type": "null"}]}) == (64,)
    assert scaffold(tree, 4, optional=True) == ('{"kid": ', 16, ', "v": 1}')
    assert scaffold({"type": "object", "properties": {"a": {}}, "minProperties": 1}, 4) == (16,)


def test_a_contradiction_is_refused():
    with pytest.raises(ConstraintError, match="at #: no number"):
        scaffold({"type": "integer", "minimum": 2, "maximum": 1})


def shape(parts):
    return re.compile("".join(".*" if isinstance(p, int) else re.escape(p) for p in parts), re.S)


@pytest.mark.parametrize("said", EACH_KEYWORD, ids=lambda s: json.dumps(s)[:60])
def test_some_text_of_the_schema_stands_in_every_scaffold(said):
    required = shape(scaffold(said))
    grammar = json_schema(said)
    shortest = texts(grammar, random.Random(1), 30) + _holes_filled(scaffold(said))
    assert any(required.fullmatch(text) and accepts(grammar, text) for text in shortest)


def _holes_filled(parts):
    """Return the scaffold with a few plain values in its holes."""
    values = [
        "0",
        "1",
        "-3",
        "x",
        "ab",
        "[]",
        "{}",
        "null",
        "true",
        '"x"',
        "[5]",
        "4",
        "9.5",
        "[0]",
    ]
    return ["".join(v if isinstance(p, int) else p for p in parts) for v in values]
