"""What is someone told whose request cannot be done? One error object, and a status that fits."""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from fastapi import Response
from pydantic import BaseModel, Field

from unison.serve.batching import Full
from unison.serve.service import UnknownModel

_RETRY = {"Retry-After": "2"}
_FINAL = {"x-should-retry": "false"}  # the openai client would ask again for nothing
_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    408: "timeout_error",
    429: "rate_limit_error",
}
_ELSEWHERE = {"new_tokens": "max_tokens", "num": "n"}  # what the engine calls fields of requests
_NAME = 200  # letters of a field's name that are told
_PROSE = {"model", "n", "stop", "user", "stream", "trace"}  # fields that are words, too


class ErrorBody(BaseModel):
    """What went wrong."""

    message: str = Field(description="One or two sentences: what was wrong, and what to do.")
    type: str = Field(description="Kind of error, such as invalid_request_error.")
    param: str | None = Field(description="The field it is about, where that is known.")
    code: str | None = Field(description="A word for programs, such as model_not_found.")


class Problem(BaseModel):
    """The answer to every request that cannot be done."""

    error: ErrorBody


class Refused(ValueError):  # noqa: N818  # told as 400
    """What was asked cannot be done.

    Attributes:
        field: Of the request that is to blame; ``None`` where that is not known.
        code: A word for programs.
    """

    def __init__(self, message: str, field: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.field, self.code = field, code


_MEANINGS = {
    400: "The request is malformed, or asks for what cannot be done; `param` names the field.",
    401: "An API key is missing, or is not known here.",
    403: "The API key does not allow this.",
    404: "There is no such route or model.",
    405: "The route does not take this method.",
    408: "It was not done within its deadline, or the request came too slowly.",
    413: "The body is larger than the server takes.",
    415: "The body is not of the type application/json.",
    429: "Too much is waiting, or a limit of the key is reached; come again after `Retry-After`.",
    500: "A defect of the server.",
    503: "The server is going down or not ready.",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route that may answer with these statuses besides its own."""
    return {
        status: {"model": Problem, "description": _MEANINGS[status]} for status in sorted(statuses)
    }


WRITES = documented(400, 401, 403, 404, 405, 408, 413, 415, 429, 500, 503)
READS = documented(400, 401, 403, 404, 405, 429, 500)


def error_object(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """Return the JSON object of an error."""
    usual = "server_error" if status >= 500 else "invalid_request_error"
    kind = _KINDS.get(status, usual)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def problem(
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the answer to a request that cannot be done."""
    # Escaped, so that a message may quote whatever was sent; of what is long, its ends.
    said = error_object(status, _clipped(message), param and _clipped(param, _NAME), code)
    body = json.dumps(said)
    head = None if headers is None else dict(headers)
    return Response(body, status, head, media_type="application/json")


def _clipped(text: str, most: int = 2000) -> str:
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} ... {text[-half:]}"


def answer_to(error: Exception, *, alive: bool = True) -> Response:
    """Return what is answered where an exception ended a request.

    Args:
        error: What was raised; anything unexpected is answered without its message.
        alive: Whether the engine takes work; a server that goes down is not full.
    """
    if isinstance(error, UnknownModel):
        return problem(404, str(error.args[0]), "model", "model_not_found")
    if isinstance(error, Full) and alive:
        return problem(429, str(error), code="overloaded", headers=_RETRY)
    if isinstance(error, Full | InterruptedError):
        return problem(503, str(error), code="going_down", headers=_RETRY)
    if isinstance(error, TimeoutError):
        return problem(408, str(error), "deadline", "deadline_exceeded", _FINAL)
    if isinstance(error, ValueError):
        field, code = getattr(error, "field", None), getattr(error, "code", None)
        return problem(400, str(error), field, code)
    return problem(500, "the server made a mistake; it is logged there.", code="defect")


def refusal(error: ValueError, fields: Collection[str], otherwise: str | None = None) -> Refused:
    """Return an engine's refusal in the words of a request, with the field it speaks of.

    Args:
        error: The engine's.
        fields: Of the request.
        otherwise: The field to blame where the message names none.
    """
    if isinstance(error, Refused):
        return error
    own = {theirs: ours for theirs, ours in _ELSEWHERE.items() if ours in fields}
    message = str(error)
    for theirs, ours in own.items():
        message = re.sub(rf"\b{theirs}\b", ours, message)
    return Refused(message, _field_in(message, fields) or otherwise)


def _field_in(message: str, fields: Collection[str]) -> str | None:
    """Return the field a message begins with or quotes, or else the first it mentions."""
    patterns = (r"^(?:unknown )?([a-z_]+)\b", r"\b([a-z_]+)=", r"\b([a-z_]+)\b")
    for number, pattern in enumerate(patterns):
        for word in re.findall(pattern, message):
            if word in fields and (number < 2 or word not in _PROSE):
                return word
    return None
