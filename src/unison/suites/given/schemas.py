"""JSON that fits a schema: schemas are read from a file, answers are validated.

The form of JSONSchemaBench (Geng et al. 2025, arXiv 2501.10868) and its like: one schema per line,
as an object or as text.
"""

import importlib
import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from unison.suites.given.instances import instance
from unison.suites.given.jsonl import Record, drawn, found, records
from unison.suites.task import Grade, Problem, SuiteError
from unison.suites.text.first_json import first_value

_EXPECTED = '{"schema": {"type": "object", ...}}, and if known "instance" and "prompt"'
_FILES = ("test.jsonl", "schemas.jsonl", "jsonschemabench.jsonl")
_NAMES = ("schema", "json_schema")
_LONGEST = 160  # letters of a reason

_BUILT_IN = (
    ({"type": "object", "properties": {"age": {"type": "integer"}}}, {"age": 41}),
    ({"type": "array", "items": {"enum": ["red", "blue"]}, "minItems": 2}, ["blue", "red"]),
)


@dataclass(frozen=True)
class Schemas:
    """Write a JSON value that a schema allows.

    Formats (``"format": "date"``) are not checked, and a schema never fetches another.

    Attributes:
        path: Of a file with one schema per line, as ``schema`` or ``json_schema``; ``instance`` is
            a right answer, ``prompt`` says what to write. Or of the folder that holds it.
        shots: Built-in examples before the question, at most two.
    """

    about: ClassVar[str] = "JSON that a schema allows (path=FILE)"
    executes: ClassVar[bool] = False

    path: Path | None = None
    shots: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.shots <= len(_BUILT_IN):
            raise ValueError(f"shots must be from 0 to {len(_BUILT_IN)}, got {self.shots}.")

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` problems, or all there are.

        Where a line has no ``instance``, the answer is a value made from the schema. It shows how
        much room an answer takes; schemas with patterns and the like may not allow it.

        Raises:
            SuiteError: The file cannot be used, the message naming the line; or jsonschema is not
                installed.
        """
        path = found("json-schema", self.path, _FILES)
        _require()
        shots = "".join(f"{_asked('', *pair)}\n\n" for pair in _BUILT_IN[: self.shots])
        lines = drawn(records(path, _EXPECTED), count, "json-schema", seed)
        return [_problem(shots, record) for record in lines]

    def grade(self, problem: Problem, answer: str) -> Grade:
        """Return 1 if the first JSON value of the answer is valid, else where it is not."""
        try:
            said = first_value(answer)
        except ValueError as error:
            return Grade(0.0, "", str(error))
        why = _fault(problem.facts["schema"], said.value)
        return Grade.of(not why, said.text, why)


def _require() -> None:
    if importlib.util.find_spec("jsonschema") is None:
        raise SuiteError(
            "json-schema needs the package 'jsonschema', which is not installed; "
            "run: pip install 'unison[eval]'"
        )


def _problem(shots: str, record: Record) -> Problem:
    schema = _schema(record)
    given = "instance" in record.content
    answer = record.content["instance"] if given else instance(schema)
    fault = _fault(schema, answer) if given else ""
    if fault:
        raise record.wrong(f"has an 'instance' that its schema does not allow ({fault})")
    prompt = record.text("prompt").strip() if "prompt" in record.content else ""
    return Problem(
        f"json-schema/{record.line.number:05}",
        shots + _asked(prompt, schema),
        f" {json.dumps(answer)}",
        facts={"schema": schema},
    )


def _asked(prompt: str, schema: Any, answer: Any = None) -> str:
    said = "" if answer is None else f" {json.dumps(answer)}"
    task = prompt or "Write a JSON value that fits the schema."
    return f"{task}\nSchema: {json.dumps(schema)}\nJSON:{said}"


def _schema(record: Record) -> Any:
    name = next((name for name in _NAMES if name in record.content), _NAMES[0])
    schema = record.content.get(name)
    if not isinstance(schema, dict | bool):
        try:
            schema = json.loads(record.text(name))
        except (ValueError, RecursionError) as error:
            if isinstance(error, SuiteError):
                raise
            raise record.wrong(f"has a {name!r} that is not JSON ({error})") from None
    try:
        _validator_type(schema).check_schema(schema)
    except importlib.import_module("jsonschema").SchemaError as error:
        raise record.wrong(f"has a {name!r} that is no JSON schema ({error.message})") from None
    return schema


def _validator_type(schema: Any) -> Any:
    module = importlib.import_module("jsonschema")
    return module.validators.validator_for(schema, default=module.Draft202012Validator)


def _fault(schema: Any, value: Any) -> str:
    """Return the most telling reason why a schema does not allow a value, or nothing."""
    missing = importlib.import_module("referencing.exceptions").Unresolvable
    known = importlib.import_module("jsonschema_specifications").REGISTRY  # fetches nothing
    validator = _validator_type(schema)(schema, registry=known)
    try:
        best = importlib.import_module("jsonschema.exceptions").best_match
        error = best(validator.iter_errors(value))
    except missing as reason:
        return f"the schema refers to what it does not hold: {reason.ref}"[:_LONGEST]
    except re.error as reason:
        return f"the schema has a pattern that cannot be read: {reason}"[:_LONGEST]
    except (RecursionError, ArithmeticError):
        return "the value is too deep or too large to validate"
    return "" if error is None else ascii(f"{error.json_path}: {error.message}")[1:-1][:_LONGEST]
