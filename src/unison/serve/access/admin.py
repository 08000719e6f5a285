"""How does a server take another version of a model while it runs?"""

import asyncio

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from unison.serve.access.account import Names
from unison.serve.access.logs import Log
from unison.serve.http.bodies import strict_json
from unison.serve.http.errors import WRITES
from unison.serve.service import Hosted, Service


class Reload(BaseModel):
    """Which model to load anew."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = Field(None, description="Its name; all that can be if left out.")


class Reloaded(BaseModel):
    """What is served now."""

    models: dict[str, int] = Field(description="How often each model was loaded, by name.")


def router(service: Service, names: Names, log: Log) -> APIRouter:
    """Return the administrator's routes."""
    routes = APIRouter(tags=["operations"], prefix="/admin")

    @routes.post(
        "/reload",
        operation_id="reload",
        summary="Load models anew",
        responses=WRITES,
        dependencies=[Depends(strict_json)],
    )
    async def reload(body: Reload) -> Reloaded:
        """Load a model anew; requests that run keep the one they have."""
        wanted = loadable(service) if body.model is None else (body.model,)
        for name in wanted:
            await asyncio.to_thread(reloaded, service, name, names, log)
        return Reloaded(models={name: service.model(name).version for name in service.names})

    return routes


def loadable(service: Service) -> tuple[str, ...]:
    """Return the names of the models that can be loaded anew."""
    return tuple(name for name in service.names if service.model(name).load is not None)


def reloaded(service: Service, name: str, names: Names, log: Log) -> Hosted:
    """Load a model anew and write down whether that went well.

    Raises:
        UnknownModel: There is none of that name.
        ValueError: It cannot be loaded; the one that was served stays.
    """
    names.refresh()
    try:
        fresh = service.reload(name)
    except (ValueError, OSError) as error:
        log({"event": "reload", "model": name, "status": "failed", "error": str(error)})
        raise ValueError(f"{name!r} could not be loaded, the old one stays: {error}") from error
    log({"event": "reload", "model": name, "status": "done", "version": fresh.version})
    return fresh
