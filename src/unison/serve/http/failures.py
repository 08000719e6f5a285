"""Which answer belongs to which failure? One error object, whoever refuses: routes or framework."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from unison.serve.batching import Full
from unison.serve.http.bodies import parsed
from unison.serve.http.errors import Refused, answer_to, problem
from unison.serve.service import Service, UnknownModel


def install(app: FastAPI, service: Service) -> None:
    """Let an application answer every failure with an error object."""

    async def failed(request: Request, error: Exception) -> Response:
        return answer_to(error, alive=service.engine.alive)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        message, field, code = explained(error)
        return problem(400, message, field, code)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 400 and error.detail == _UNREAD:
            return answer_to(await _unread(request))
        said = _ROUTING.get(error.status_code) if error.detail in _STANDARD else None
        return problem(error.status_code, said or error.detail, headers=error.headers)

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=_GONE)

    for kind in (ValueError, UnknownModel, Full, TimeoutError, InterruptedError, Exception):
        app.add_exception_handler(kind, failed)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


async def _unread(request: Request) -> Refused:
    """Return why a body could not be read, which the framework does not say."""
    try:
        parsed(await request.body())
    except Refused as error:
        return error
    return Refused("the body could not be read.", code="invalid_json")


_UNREAD = "There was an error parsing the body"  # as FastAPI says it
_GONE = 499  # nobody is there to read it; it only marks the line in a log
_STANDARD = ("Not Found", "Method Not Allowed")
_ROUTING = {
    404: "there is no such route here; /docs lists all of them.",
    405: "this route does not take this method; the header Allow names those it takes.",
}


def explained(error: RequestValidationError) -> tuple[str, str | None, str | None]:
    """Return what is wrong with a request, the field to blame, and a code."""
    faults = error.errors()
    first = faults[0]
    if first["type"] == "json_invalid":
        return f"the body is not JSON: {first['ctx']['error']}.", None, "invalid_json"
    if first["type"] == "missing" and len(first["loc"]) == 1:
        return "the request has no body; send a JSON object.", None, "missing"
    # Of alternatives that a value might have been, those that go deepest into it say most.
    same = [fault for fault in faults if fault["loc"][:2] == first["loc"][:2]]
    first = max(same, key=lambda fault: len(_path(fault, error.body)))
    path = _path(first, error.body)
    said: list[str] = []
    for fault in same:
        message = _message(fault)
        if _path(fault, error.body) == path and message not in said:
            said.append(message)
    if first["type"] == "unknown_field":
        return said[0], ".".join((*path, first["ctx"]["name"])), "unknown_field"
    field = ".".join(path)
    lead = f"{field}: " if field else "the body: "
    return lead + "; or ".join(said) + ".", field or None, first["type"]


def _path(fault: Mapping[str, Any], body: Any) -> tuple[str, ...]:
    """Return where in the body a fault is; names of alternatives of a type are no places."""
    path: list[str] = []
    at, places = body, fault["loc"][1:]
    for number, place in enumerate(places):
        inside = (isinstance(at, dict) and place in at) or (
            isinstance(at, list) and isinstance(place, int) and place < len(at)
        )
        if inside:
            path.append(str(place))
            at = at[place]
        elif fault["type"] == "missing" and number == len(places) - 1:
            path.append(str(place))
    return tuple(path)


def _message(fault: Mapping[str, Any]) -> str:
    message = fault["msg"].removeprefix("Value error, ").rstrip(".")
    return message[:1].lower() + message[1:]
