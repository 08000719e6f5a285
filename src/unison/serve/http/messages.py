"""Who said what? Messages, as requests hold them and as templates read them."""

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from unison.serve.http.errors import Refused
from unison.serve.http.fields import Strict
from unison.serve.http.templates import Chat, Said
from unison.serve.http.tools import Tool


def _readable(content: Any) -> Any:
    """Refuse parts of a message that are no text."""
    for part in content if isinstance(content, list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind != "text":
            raise PydanticCustomError(
                "unsupported_content",
                'parts of the type "{kind}" are not read here; only those of the type "text" are',
                {"kind": kind},
            )
    return content


class TextPart(Strict):
    """A part of a message."""

    type: Literal["text"]
    text: str


_Content = Annotated[
    str | Annotated[list[TextPart], Field(min_length=1, max_length=1024)],
    BeforeValidator(_readable),
]


class SystemMessage(Strict):
    """How the model is to behave."""

    role: Literal["system", "developer"]
    content: _Content
    name: str | None = None


class UserMessage(Strict):
    """What the user says."""

    role: Literal["user"]
    content: _Content
    name: str | None = None


class CalledFunction(Strict):
    """A function and what it was called with."""

    name: str
    arguments: str = Field(description="JSON text of an object.")


class ToolCall(Strict):
    """A call the model made."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class AssistantMessage(Strict):
    """What the model said."""

    role: Literal["assistant"]
    content: _Content | None = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=64)] | None = None
    refusal: None = Field(default=None, description="Taken for compatibility; must be null.")
    audio: None = Field(default=None, description="Taken for compatibility; must be null.")
    function_call: None = Field(default=None, description="Taken for compatibility; must be null.")
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None


class ToolMessage(Strict):
    """What a call returned."""

    role: Literal["tool"]
    content: _Content
    tool_call_id: str
    name: str | None = None


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


def conversation(chat: Chat, messages: list[Message], tools: list[Tool]) -> str:
    """Return the prompt that messages make.

    Raises:
        Refused: Naming the field: a message or a tool holds the name of a special token, what a
            function was called with is no JSON object, or the template refuses the messages.
    """
    functions = [tool.model_dump(exclude_none=True) for tool in tools]
    _check_names(chat, json.dumps(functions, ensure_ascii=False), "tools")
    said = [_said(chat, message, f"messages.{i}") for i, message in enumerate(messages)]
    try:
        return chat.prompt(said, functions)
    except ValueError as error:
        raise Refused(str(error), "messages") from error


def _said(chat: Chat, message: Message, field: str) -> Said:
    content = _text(message.content)
    _check_names(chat, content, f"{field}.content")
    said: dict[str, Any] = {"role": message.role, "content": content}
    if message.role == "developer":
        said["role"] = "system"
    if isinstance(message, ToolMessage):
        said["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        _check_names(chat, message.name, f"{field}.name")
        said["name"] = message.name
    if isinstance(message, AssistantMessage) and message.tool_calls:
        said["tool_calls"] = [
            _called(chat, call, f"{field}.tool_calls.{i}.function")
            for i, call in enumerate(message.tool_calls)
        ]
    return said


def _called(chat: Chat, call: ToolCall, field: str) -> Said:
    for name in ("name", "arguments"):
        _check_names(chat, getattr(call.function, name), f"{field}.{name}")
    try:
        arguments = json.loads(call.function.arguments)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise Refused("arguments must be the JSON text of an object.", f"{field}.arguments")
    function = {"name": call.function.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def _text(content: str | list[TextPart] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content)


def _check_names(chat: Chat, text: str, field: str) -> None:
    named = chat.named(text)
    if named is not None:
        raise Refused(f"{field} holds the special token {named!r}; take it out.", field)
