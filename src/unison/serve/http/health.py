"""Is the server there, and can it write? ``GET /health`` and ``GET /ready``."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from unison.serve.http.errors import documented, problem
from unison.serve.service import Service


class Health(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """Models are loaded and the engine takes work."""

    status: Literal["ready"] = "ready"
    models: list[str]


def router(service: Service) -> APIRouter:
    """Return the routes; neither needs a key."""
    routes = APIRouter(tags=["health"])

    @routes.get(
        "/health",
        operation_id="health",
        summary="Whether the process answers",
        responses=documented(405, 500),
    )
    async def health() -> Health:
        return Health()

    @routes.get(
        "/ready",
        operation_id="ready",
        summary="Whether it takes work",
        response_model=Ready,
        responses=documented(405, 500, 503),
    )
    async def ready() -> Ready | Response:
        if not service.engine.alive:
            return problem(503, "the engine takes no work.", code="not_ready")
        return Ready(models=list(service.names))

    return routes
