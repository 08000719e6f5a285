"""How does a model call a function? By a JSON object that cannot but fit the function's schema.

A call is ``{"name": ..., "arguments": {...}}``, one at a time. Where a call is ``required``, or a
function is named, the language of the answer is that of the calls. With ``auto`` it is the calls
and all texts whose first character behind white space is no ``{``: the model's own law decides
between them, and what looks like a call is one.
"""

import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from pydantic import Field

from unison.constrain import ConstraintError, Grammar, template
from unison.constrain.language import ANY_CHAR, EMPTY, Alt, Chars, Repeat, Seq
from unison.serve.http.bounds import small
from unison.serve.http.errors import Refused
from unison.serve.http.fields import Strict
from unison.serve.http.joining import either
from unison.serve.http.response_format import schema_language
from unison.suggest import nearest

MOST = 64  # functions of one request
_NOTHING = {"type": "object", "additionalProperties": False}
_SPACES = "\t\n\r "
_OPEN = "{"
_ARGUMENTS = ', "arguments": '


class Function(Strict):
    """A function that may be called.

    Attributes:
        name: What it is called by.
        description: What it does, for the model to read.
        parameters: The JSON schema of its arguments, an object; none if left out.
        strict: ``false`` takes keywords that no draft knows for annotations; otherwise they are
            refused, since they may be misspelt.
    """

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict):
    """Something the model may use: a function."""

    type: Literal["function"]
    function: Function


class FunctionName(Strict):
    """A function by name."""

    name: str


class NamedTool(Strict):
    """The one function that is to be called."""

    type: Literal["function"]
    function: FunctionName


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class Call(NamedTuple):
    """A call that a model wrote.

    Attributes:
        name: The function's.
        arguments: JSON text that its schema accepts.
    """

    name: str
    arguments: str


def calls(tools: Sequence[Tool] | None, choice: ToolChoice | None) -> Grammar | None:
    """Return the language of an answer that may, or must, be a call; ``None`` where it cannot be.

    Args:
        tools: Functions that may be called.
        choice: Whether one must be, and which; ``auto`` if there are tools and nobody says.

    Raises:
        Refused: A function is there twice or not at all, or its schema cannot be met.
    """
    if not tools:
        if choice not in (None, "none"):
            raise Refused("there are no tools to choose from; give tools.", "tool_choice")
        return None
    names = _names(tools)
    if choice == "none":
        return None
    wanted = choice.function.name if isinstance(choice, NamedTool) else None
    if wanted is not None and wanted not in names:
        raise Refused(
            f"there is no tool {wanted!r}{nearest(wanted, names)}; known: {', '.join(names)}.",
            "tool_choice",
        )
    each = [
        _call(tool.function, f"tools.{i}.function.parameters")
        for i, tool in enumerate(tools)
        if wanted in (None, tool.function.name)
    ]
    free = [_talk()] if choice in (None, "auto") else []
    whole = either([*each, *free])
    try:
        return small(whole)
    except ConstraintError as error:
        raise Refused(str(error), "tools") from error


def is_call(answer: str) -> bool:
    """Return whether an answer is a call, or begins one."""
    return answer.startswith(_OPEN)


def read(answer: str) -> Call:
    """Return the call that an answer is."""
    name = json.loads(answer)["name"]
    return Call(name, answer.removeprefix(_between(name)).removesuffix("}"))


def begun(answer: str) -> Call | None:
    """Return the call that an answer begins, as far as it goes; ``None`` before its name ends.

    The brace that closes the call is no part of the arguments, so a last one is held back.
    """
    head, found, after = answer.partition(_ARGUMENTS)
    if not found:
        return None
    return Call(json.loads(head + "}")["name"], after.removesuffix("}"))


def _names(tools: Sequence[Tool]) -> list[str]:
    if len(tools) > MOST:
        raise Refused(f"there are {len(tools)} tools; at most {MOST} are served.", "tools")
    names = [tool.function.name for tool in tools]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise Refused(f"there are two tools called {name!r}.", f"tools.{i}.function.name")
    return names


def _call(function: Function, field: str) -> Grammar:
    schema = _NOTHING if function.parameters is None else function.parameters
    if schema.get("type") != "object":
        raise Refused(f'must be a schema of type "object", got type {schema.get("type")!r}.', field)
    try:
        arguments = schema_language(
            schema, f"the arguments of {function.name!r}", loose=function.strict is False
        )
        literal = _between(function.name).replace("{", "{{")
        return template(
            literal + "{arguments}}}", {"arguments": arguments}, f"a call of {function.name!r}"
        )
    except ConstraintError as error:
        raise Refused(str(error), field) from error


def _between(name: str) -> str:
    """Return what a call begins with, up to its arguments."""
    return f'{{"name": "{name}"{_ARGUMENTS}'


def _talk() -> Grammar:
    """Return all texts whose first visible character is no opening brace."""
    taken = sorted(map(ord, [*_SPACES, _OPEN]))
    ends = [-1, *taken]
    ranges = [(a + 1, b - 1) for a, b in zip(ends, taken, strict=False) if a + 1 <= b - 1]
    assert isinstance(ANY_CHAR, Chars)
    first, last = ANY_CHAR.ranges
    other = Chars((*ranges, (taken[-1] + 1, first[1]), last))
    spaces = Repeat(Chars(tuple((ord(c), ord(c)) for c in sorted(_SPACES))))
    said = Seq((spaces, Alt((EMPTY, Seq((other, Repeat(ANY_CHAR)))))))
    return Grammar({"talk": said}, "talk", about="an answer without a call")
