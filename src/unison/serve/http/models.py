"""Which models are served? ``GET /v1/models``, as OpenAI's, with what each can do."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from unison.generation import process_name
from unison.serve.http.errors import READS
from unison.serve.service import Hosted, Service


class ModelCard(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix time at which it was loaded.")
    owned_by: str = "unison"
    process: str = Field(description="What it undoes: absorbing, uniform or sequential.")
    max_length: int = Field(description="Tokens of its longest canvas, prompt included.")
    default_length: int = Field(description="Tokens of a canvas unless a request says otherwise.")
    strategy: str = Field(description="How it writes unless a request says otherwise.")
    vocab_size: int
    version: int = Field(description="How often it was loaded.")


class Models(BaseModel):
    """The models that are served, the default first."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["models"])

    @routes.get(
        "/v1/models", operation_id="list_models", summary="List all models", responses=READS
    )
    async def listed() -> Models:
        return Models(data=[card(service.model(name)) for name in service.names])

    @routes.get(
        "/v1/models/{model:path}",
        operation_id="get_model",
        summary="Describe a model",
        responses=READS,
    )
    async def described(model: str) -> ModelCard:
        return card(service.model(model))

    return routes


def card(hosted: Hosted) -> ModelCard:
    """Return what is told of a model."""
    model = hosted.model
    return ModelCard(
        id=hosted.name,
        created=hosted.created,
        process=process_name(model.process),
        max_length=model.max_length,
        default_length=min(model.defaults.length, model.max_length),
        strategy=model.defaults.strategy,
        vocab_size=model.tokenizer.vocab_size,
        version=hosted.version,
    )
