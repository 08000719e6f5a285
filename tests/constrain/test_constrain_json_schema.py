"""Every text of a schema's grammar is valid, and on small schemas every valid text is in it."""

import itertools
import json
import random
from decimal import Decimal
from fractions import Fraction

import pytest
from constrain.schemas import EACH_KEYWORD, accepts, schema, texts

from unison.constrain.language import ConstraintError, recursive
from unison.constrain.sources.json_schema import json_schema
from unison.constrain.sources.json_schema.formats import FORMATS


def judge(said):
    jsonschema = pytest.importorskip("jsonschema")
    exact = json.loads(json.dumps(said), parse_float=Decimal)
    kind = jsonschema.validators.validator_for(exact, default=jsonschema.Draft202012Validator)
    return kind(exact, format_checker=kind.FORMAT_CHECKER)


def check_valid(said, rng, count, **options):
    validator = judge(said)
    for text in texts(json_schema(said, **options), rng, count):
        value = json.loads(text, parse_float=Decimal)
        fault = next(validator.iter_errors(value), None)
        assert fault is None, f"{text} does not fit {json.dumps(said)}: {fault.message}"


@pytest.mark.parametrize("said", EACH_KEYWORD, ids=lambda s: json.dumps(s)[:60])
def test_every_text_of_every_keyword_is_valid(said):
    check_valid(said, random.Random(1), 12)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_text_of_every_format_is_valid(name):
    check_valid({"type": "string", "format": name}, random.Random(2), 20)


def _readable(said):
    try:
        json_schema(said)
    except ConstraintError:
        return False
    return True


def test_every_text_of_combined_keywords_is_valid():
    rng, read = random.Random(3), 0
    for _ in range(30):
        said = schema(rng, 1)
        if not _readable(said):
            continue
        check_valid(said, rng, 4)
        read += 1
    assert read >= 24


@pytest.mark.slow
def test_every_text_of_many_combined_keywords_is_valid():
    rng, read = random.Random(4), 0
    for _ in range(1500):
        said = schema(rng, 3)
        if not _readable(said):
            continue
        check_valid(said, rng, 6)
        read += 1
    assert read >= 1000


@pytest.mark.parametrize("spacing", ["compact", "free"])
def test_other_spacings_are_valid_too(spacing):
    for said in EACH_KEYWORD[20:50]:
        check_valid(said, random.Random(5), 3, spacing=spacing)


def test_spacing_is_that_of_json_dumps():
    said = {"type": "object", "properties": {"a": {"const": [1, 2]}, "b": {"const": {}}}}
    value = {"a": [1, 2], "b": {}}
    assert accepts(json_schema(said), json.dumps(value))
    compact = json.dumps(value, separators=(",", ":"))
    assert accepts(json_schema(said, spacing="compact"), compact)
    assert not accepts(json_schema(said), compact)
    wide = '{ "a" :\n[1,2] ,"b": {\t}}'
    assert accepts(json_schema(said, spacing="free"), wide)
    assert not accepts(json_schema(said), wide)


VALUES = [None, True, False, -1, 0, 1, 2, 3, "", "a", "b", "ab", "\t", [], [0], [1], [1, 2], [2, 1]]
VALUES += [[1, 1], [0, 1, 2], ["a"], [[]], [None, 1], {}]
VALUES += [
    dict(zip(names, said, strict=True))
    for size in (1, 2, 3)
    for names in itertools.combinations("abc", size)
    for said in itertools.product((0, 1, "a"), repeat=size)
]

COMPLETE = [
    {"type": ["null", "boolean"]},
    {"type": "integer", "minimum": -1, "maximum": 2},
    {"enum": [1, "a", [1, 2], {"a": 0}]},
    {"type": "string", "pattern": "^a?b?$"},
    {"type": "string", "maxLength": 1},
    {"type": "array", "items": {"type": "integer"}, "maxItems": 2},
    {"type": "array", "prefixItems": [{"type": "integer"}], "minItems": 1},
    {"type": "object", "properties": {k: {"enum": [0, "a"]} for k in "abc"},
     "additionalProperties": False},
    {"type": "object", "properties": {k: {"enum": [0, 1, "a"]} for k in "abc"}, "required": ["b"]},
    {"type": "object", "properties": {k: {"enum": [0, 1]} for k in "abc"}, "minProperties": 2},
    {"type": "object", "properties": {k: {"enum": [0, 1]} for k in "abc"}, "maxProperties": 1},
    {"type": "object", "properties": {k: {"enum": [0, 1, "a"]} for k in "abc"},
     "additionalProperties": False, "dependentRequired": {"a": ["c"]}},
    {"oneOf": [{"type": "integer", "minimum": 1}, {"enum": [0, 1, 2, "a"]}]},
    {"type": "object", "properties": {k: {"enum": [0, 1, "a"]} for k in "abc"},
     "additionalProperties": False, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
    {"type": "object", "properties": {k: {"enum": [0, 1, "a"]} for k in "abc"},
     "additionalProperties": False, "if": {"properties": {"a": {"const": 0}}, "required": ["a"]},
     "then": {"required": ["b"]}, "else": {"required": ["c"]}},
    {"not": {"type": ["string", "array", "object"]}, "type": ["string", "integer", "null"],
     "maximum": 9, "minimum": -9},
    {"type": "object", "properties": {k: {"enum": [0, 1, "a"]} for k in "abc"},
     "additionalProperties": False, "not": {"properties": {"a": {"const": 1}}, "required": ["a"]}},
    {"type": "object", "properties": {k: {"enum": [0, 1, "a"]} for k in "abc"},
     "additionalProperties": False, "anyOf": [{"properties": {"a": {"type": "string"}}},
                                              {"minProperties": 3}]},
]  # fmt: skip


@pytest.mark.parametrize("said", COMPLETE, ids=lambda s: json.dumps(s)[:60])
def test_exactly_the_valid_values_of_small_schemas_are_accepted(said):
    validator, grammar = judge(said), json_schema(said)
    valid = [value for value in VALUES if validator.is_valid(value)]
    assert valid
    for value in VALUES:
        assert accepts(grammar, json.dumps(value)) == (value in valid and _listed(value, valid))


def _listed(value, valid):
    return any(json.dumps(value) == json.dumps(other) for other in valid)


def test_integers_between_bounds_are_exact():
    whole = range(-130, 131)
    for low, high in itertools.product([None, -120, -11, -1, 0, 3, 10, 99], repeat=2):
        if low is not None and high is not None and low > high:
            continue
        bounds = {"minimum": low, "maximum": high}
        said = {"type": "integer"} | {k: v for k, v in bounds.items() if v is not None}
        grammar = json_schema(said)
        wanted = [n for n in whole if (low is None or n >= low) and (high is None or n <= high)]
        assert [n for n in whole if accepts(grammar, str(n))] == wanted, said
        assert not accepts(grammar, "-0")
        assert not accepts(grammar, "01")


@pytest.mark.parametrize("step", [2, 3, 4, 5, 6, 7, 12, 15, 25, 60, 100])
def test_multiples_are_exact(step):
    grammar = json_schema({"type": "integer", "multipleOf": step})
    wanted = [n for n in range(-130, 400) if n % step == 0]
    assert [n for n in range(-130, 400) if accepts(grammar, str(n))] == wanted


@pytest.mark.parametrize(
    "said",
    [
        {"minimum": -0.3, "maximum": 1.25},
        {"exclusiveMinimum": -1.2, "exclusiveMaximum": 0},
        {"exclusiveMinimum": 0, "maximum": 0.5},
        {"minimum": 0.05},
        {"exclusiveMaximum": 1.1},
        {"multipleOf": 0.25, "maximum": 1},
        {"multipleOf": 0.1},
        {"exclusiveMinimum": 1, "exclusiveMaximum": 2, "multipleOf": 0.5},
        {"minimum": 1, "maximum": 1},
    ],
)
def test_decimals_between_bounds_are_exact(said):
    grammar = json_schema({"type": "number"} | said)
    exact = {key: Fraction(str(value)) for key, value in said.items()}
    for hundredths in range(-150, 261):
        value = Fraction(hundredths, 100)
        fits = (
            value >= exact.get("minimum", value)
            and value <= exact.get("maximum", value)
            and ("exclusiveMinimum" not in exact or value > exact["exclusiveMinimum"])
            and ("exclusiveMaximum" not in exact or value < exact["exclusiveMaximum"])
            and (value / exact.get("multipleOf", Fraction(1, 100))).denominator == 1
        )
        for places in (0, 1, 2, 3):
            text = f"{hundredths / 100:.{places}f}"
            if Fraction(text) == value and not (value == 0 and text.startswith("-")):
                assert accepts(grammar, text) == fits, (text, said)


REFUSED = [
    ({"properties": {"a": {"frobnicate": 1}}}, "#/properties/a/frobnicate", "frobnicate"),
    ({"properties": {"a": {"requird": ["b"]}}}, "#/properties/a/requird", "required"),
    ({"type": "strin"}, "#/type", "string"),
    ({"type": "string", "format": "dat"}, "#/format", "date"),
    ({"type": "string", "pattern": "(a"}, "#/pattern", "pattern"),
    ({"$ref": "http://elsewhere.test/x.json"}, "#/$ref", "document"),
    ({"$ref": "#/$defs/none"}, "#/$defs/none", "nothing stands there"),
    ({"$ref": "#none"}, "#/$ref", "none"),
    ({"anyOf": [{"$ref": "#"}]}, "#", "itself"),
    ({"anyOf": []}, "#/anyOf", "at least one"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "#", "maximum and minimum"),
    ({"type": "string", "minLength": 3, "maxLength": 2}, "#", "maxLength and minLength"),
    ({"type": "string", "pattern": "^abc$", "maxLength": 2}, "#", "maxLength and pattern"),
    ({"type": "array", "minItems": 3, "maxItems": 2}, "#", "minItems 3"),
    ({"type": "array", "items": False, "minItems": 1}, "#/items", "item 0"),
    ({"enum": [1, 2], "type": "string"}, "#", "type"),
    ({"enum": [1, 2], "minimum": 3}, "#/enum", "[1, 2]"),
    ({"type": "object", "required": ["x"], "additionalProperties": False}, "#", "'x'"),
    ({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer", "minimum": 2,
      "maximum": 1}}}, "#/properties/a", "'a'"),
    ({"type": "object", "required": ["a", "b"], "maxProperties": 1}, "#", "maxProperties"),
    ({"type": "object", "properties": {"a": {}}, "additionalProperties": False,
      "minProperties": 2}, "#", "minProperties"),
    ({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}}, "#", "inside"),
    ({"type": "array", "uniqueItems": True, "items": {"type": "string"}}, "#/uniqueItems",
      "unique"),
    ({"type": "object", "minProperties": 2}, "#", "minProperties"),
    ({"type": "object", "not": {"unevaluatedProperties": False}}, "#/not/unevaluatedProperties",
     "opposite"),
    ({"multipleOf": 0, "type": "number"}, "#/multipleOf", "above 0"),
    ({"minLength": -1, "type": "string"}, "#/minLength", "-1"),
    ({"minimum": "1", "type": "number"}, "#/minimum", "number"),
    ({"required": "a", "type": "object"}, "#/required", "list of names"),
    ({"properties": {"a": 3}, "type": "object"}, "#/properties/a", "3"),
    ({"type": "array", "not": {"items": {"type": "integer"}}, "maxItems": 0}, "#/not/items",
      "items"),
    (False, "#", "no value"),
    ("{", "the schema is not JSON", ""),
]  # fmt: skip


@pytest.mark.parametrize(("said", "pointer", "word"), REFUSED, ids=lambda v: str(v)[:40])
def test_what_cannot_be_read_or_met_is_refused_with_its_pointer(said, pointer, word):
    with pytest.raises(ConstraintError) as caught:
        json_schema(said)
    message = str(caught.value)
    assert f"at {pointer}: " in message or message.startswith(pointer)
    assert word in message


def test_optional_parts_that_nothing_fits_are_never_written():
    grammar = json_schema({"type": "object", "properties": {
        "a": {"type": "integer", "minimum": 2, "maximum": 1}, "b": {"const": 1}}})  # fmt: skip
    assert accepts(grammar, '{"b": 1}')
    assert not any('"a"' in text for text in texts(grammar, random.Random(6), 20))


def test_unknown_keywords_are_ignored_on_demand():
    assert accepts(json_schema({"const": 1, "requird": ["b"]}, unknown="ignore"), "1")


def test_properties_nobody_names_are_written_on_demand_under_other_keys():
    said = {
        "type": "object",
        "properties": {"a": {"const": 1}},
        "additionalProperties": {"const": 2},
    }
    assert not accepts(json_schema(said), '{"a": 1, "z": 2}')
    grammar = json_schema(said, extra=True)
    assert accepts(grammar, '{"a": 1, "z": 2}')
    assert accepts(grammar, '{"z": 2}')
    assert not accepts(grammar, '{"a": 2}')
    assert not accepts(grammar, '{"a": 1, "z": 1}')


def test_only_a_schema_that_uses_itself_is_recursive():
    shared = {"$defs": {"n": {"type": "integer"}}, "type": "object",
              "properties": {"a": {"$ref": "#/$defs/n"}, "b": {"$ref": "#/$defs/n"}}}  # fmt: skip
    assert not recursive(json_schema(shared))
    assert recursive(json_schema({"type": "array", "items": {"$ref": "#"}}))


def test_many_optional_properties_stay_linear():
    def size(count):
        said = {"type": "object", "properties": {f"p{i}": {"const": i} for i in range(count)}}
        return sum(len(repr(rule)) for rule in json_schema(said).rules.values())

    assert size(200) < 2.5 * size(100)


def test_strings_spell_what_json_escapes():
    grammar = json_schema({"type": "string", "pattern": '^["\\\\\n]{3}$'})
    assert accepts(grammar, json.dumps('"\\\n'))
    assert not accepts(grammar, '""\\\n"')
    free = json_schema({"type": "string"})
    assert accepts(free, '"\\ud83d\\ude00\\u00e9\\/"')
    assert not accepts(free, '"\\ud83d"')
    assert not accepts(free, '"\\ude00\\ud83d"')
    assert not accepts(free, '"\t"')


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"patternProperties": {"^.+$": {"type": "object"}}}, {"a\rb": 1}),
        ({"patternProperties": {"^a$": {"type": "object"}}}, {"a\n": 1}),
        ({"type": "string", "not": {"pattern": r"^a.$"}}, "a\r"),
        ({"type": "string", "not": {"pattern": r"^\w$"}}, "é"),
        ({"type": "string", "not": {"pattern": r"^\W$"}}, "é"),
        ({"type": "string", "not": {"pattern": r"^[^\s]$"}}, "\x1c"),
    ],
)
def test_what_only_some_libraries_find_is_kept_away_from(schema, value):
    assert not accepts(json_schema(schema), json.dumps(value, ensure_ascii=False))
    assert not accepts(json_schema(schema), json.dumps(value))
