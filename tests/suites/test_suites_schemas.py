"""JSON schemas: what a schema allows is right, and where it is not is said."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from unison.suites import SuiteError
from unison.suites.given.instances import instance
from unison.suites.given.schemas import Schemas


def test_without_jsonschema_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps({"schema": {"type": "integer"}}), encoding="utf-8")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SuiteError, match=r"run: pip install 'unison\[eval\]'"):
        Schemas(path).problems(1, 0)


def _schema(tmp_path: Path, schema, **fields):
    pytest.importorskip("jsonschema")
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps({"json_schema": schema} | fields), encoding="utf-8")
    task = Schemas(path)
    return task, task.problems(1, 0)[0]


def test_json_is_right_where_the_schema_allows_it(tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer", "minimum": 3}, "who": {"$ref": "#/$defs/who"}},
        "required": ["age"],
        "additionalProperties": False,
        "$defs": {"who": {"enum": ["a", "b"]}},
    }
    task, problem = _schema(tmp_path, json.dumps(schema), prompt="Tell your age.")
    assert "\n\nTell your age.\nSchema: {" in problem.prompt
    assert problem.answer == ' {"age": 3}'
    for text in ('{"age": 3}', 'Sure: ```json\n{"who": "b", "age": 40}\n``` and {', '{"age": 4.0}'):
        assert task.grade(problem, text).score == 1.0
    wrong = {
        '{"age": 2}': "$.age: 2 is less than the minimum of 3",
        '{"age": "3"}': "$.age: '3' is not of type 'integer'",
        '{"age": true}': "$.age: True is not of type 'integer'",
        "{}": "$: 'age' is a required property",
        '{"age": 3, "who": "c"}': "$.who: 'c' is not one of ['a', 'b']",
        "[]": "$: [] is not of type 'object'",
        '{"age": 3, "x": 1}': "$: Additional properties are not allowed ('x' was unexpected)",
        '{"age": 3': "invalid JSON: Expecting ',' delimiter",
        "no": "invalid JSON: Expecting value",
    }
    for text, why in wrong.items():
        grade = task.grade(problem, text)
        assert (grade.score, grade.why) == (0.0, why)


def test_values_that_are_no_objects_are_read_from_the_start(tmp_path: Path) -> None:
    task, problem = _schema(tmp_path, {"type": "integer", "multipleOf": 7})
    assert task.grade(problem, " 49\n50").score == 1.0
    assert task.grade(problem, "50").why == "$: 50 is not a multiple of 7"


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"$ref": "http://example.invalid/x.json"}, "refers to what it does not hold: http://exam"),
        ({"$ref": "#/$defs/nowhere"}, "refers to what it does not hold"),
        ({"$ref": "#"}, "too deep or too large"),
    ],
)
def test_a_schema_that_cannot_be_followed_is_a_reason_and_nothing_is_fetched(
    tmp_path: Path, schema, why: str
) -> None:
    task, problem = _schema(tmp_path, schema)
    grade = task.grade(problem, "{}")
    assert grade.score == 0.0
    assert why in grade.why


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "x"}, "has no field 'schema', only prompt"),
        ({"schema": 5}, "has a whole number as 'schema', not text"),
        ({"schema": "{"}, "has a 'schema' that is not JSON"),
        ({"schema": {"type": "whole"}}, "has a 'schema' that is no JSON schema ('whole'"),
        ({"json_schema": {"minimum": "3"}}, "has a 'json_schema' that is no JSON schema"),
        ({"schema": {"type": "null"}, "instance": 3}, "'instance' that its schema does not allow"),
        ({"schema": {}, "prompt": 3}, "has a whole number as 'prompt', not text"),
    ],
)
def test_a_line_without_a_schema_that_can_be_used_is_named(tmp_path: Path, row, says: str) -> None:
    pytest.importorskip("jsonschema")
    path = tmp_path / "test.jsonl"
    path.write_text("\n" + json.dumps(row), encoding="utf-8")
    with pytest.raises(SuiteError, match=re.escape(f"{path}:2 ")) as caught:
        Schemas(path).problems(1, 0)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (True, {}),
        ({"const": 5}, 5),
        ({"enum": ["b", "a"]}, "b"),
        ({"type": "string", "minLength": 6, "maxLength": 8}, "textxx"),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"type": "string", "minLength": 10**9}, "text" + "x" * 996),
        ({"type": ["null", "string"]}, None),
        ({"type": "integer", "minimum": 4}, 4),
        ({"type": "integer", "maximum": -4}, -4),
        ({"type": "number", "exclusiveMinimum": 4}, 5),
        ({"items": {"type": "boolean"}, "minItems": 2}, [True, True]),
        ({"type": "array", "minItems": 10**9}, [{}] * 20),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, 1),
        (
            {
                "allOf": [{"$ref": "#/definitions/a~1b"}, {"required": ["y"]}],
                "properties": {"y": {"const": 2}},
                "definitions": {
                    "a/b": {"properties": {"x": {"type": "integer"}}, "required": ["x"]}
                },
            },
            {"x": 1, "y": 2},
        ),
        ({"required": True, "properties": {"a": {"type": "null"}}}, {"a": None}),
        ({"type": "any"}, None),
    ],
)
def test_a_value_is_made_from_a_schema(schema, value) -> None:
    made = instance(schema)
    assert (made, type(made)) == (value, type(value)) or sorted(made) == sorted(value)


def test_a_schema_that_holds_itself_makes_an_end(tmp_path: Path) -> None:
    branch = {"$ref": "#"}
    tree = {"type": "object", "properties": {"l": branch, "r": branch}, "required": ["l", "r"]}
    assert json.dumps(instance(tree)).count('"l"') == 63  # six floors
    assert instance({"allOf": [branch, branch, branch]}) == {}
