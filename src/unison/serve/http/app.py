"""What does the server answer to? One application made of the routers of all endpoints."""

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from unison.serve import playground
from unison.serve.http import chat, completions, failures, health, infill, labelled, models, scoring
from unison.serve.service import Service

Guard = Callable[[ASGIApp], ASGIApp]
_ABOUT = """Text from diffusion and left-to-right language models, as OpenAI's API and beyond it.

Every field is honoured or refused: an unknown one, or one the model or the server does not support,
is answered with status 400 and an error object that names it.
"""


def create_app(service: Service, guards: Sequence[Guard] = ()) -> FastAPI:
    """Return the application that serves models over HTTP.

    Args:
        service: Models, engine and settings.
        guards: Each wraps what is inside it, the first all others: who may ask, and how much.
    """
    app = FastAPI(
        title="unison",
        description=_ABOUT,
        version="1",
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    failures.install(app, service)
    for endpoint in (completions, chat, infill, labelled, scoring, models, health):
        app.include_router(endpoint.router(service))
    if service.settings.playground:
        app.include_router(playground.router(service))
    for guard in reversed(guards):
        app.add_middleware(guard)  # pyright: ignore[reportArgumentType]
    described = app.openapi

    def openapi() -> dict[str, Any]:
        return _with_models(_without_422(described()), service.names)

    app.openapi = openapi
    return app


def _without_422(description: dict[str, Any]) -> dict[str, Any]:
    """Return a description without the status that validation never answers with here."""
    for path in description["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        description.get("components", {}).get("schemas", {}).pop(name, None)
    return description


def _with_models(description: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return a description that says which models there are, wherever one is named."""
    for schema in description["components"]["schemas"].values():
        for form in schema.get("properties", {}).get("model", {}).get("anyOf", ()):
            if form.get("type") == "string":  # the field of a request; answers have another
                form["enum"] = list(names)
    for path in description["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "model":
                    parameter["schema"]["enum"] = list(names)
    return description
