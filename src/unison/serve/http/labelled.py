"""Which documents did an answer need? ``POST /v1/labelled``: text with the labels it must carry."""

import asyncio
import math
import secrets
import time
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from unison.evaluate.log_likelihood import chosen
from unison.generation.ordering import Asked
from unison.language_model import LanguageModel
from unison.serve import labels
from unison.serve.batching import Answered, Question, Wrote
from unison.serve.http.bodies import strict_json
from unison.serve.http.controls import Standard, check_stream
from unison.serve.http.errors import WRITES, Refused
from unison.serve.http.fields import Strict, Usage
from unison.serve.http.writing import Job, Wish, attended, events, prepared, usage, written
from unison.serve.labels import Document, Influence, Labelled
from unison.serve.leaks import floored_one
from unison.serve.service import Service

_LABELS = 16  # different ones: each is tried without each, and every trial is scored
_Label = Annotated[str, Field(min_length=1, max_length=200)]
Tell = Callable[[float], float | None]


class LabelledDocument(Strict):
    """A text the answer may use."""

    id: str = Field(min_length=1, max_length=200, description="Its name in the answer.")
    text: str = Field(description="What the model reads, before the prompt.")
    labels: list[_Label] = Field(
        default=[], max_length=_LABELS, description="What an answer that needs it must carry."
    )


class LabelledRequest(Standard):
    """A prompt to be answered with the help of documents."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "documents": [{"id": "a", "text": "The key is 7.", "labels": ["secret"]}],
                    "prompt": "What is the key?",
                    "max_tokens": 8,
                }
            ]
        }
    )

    documents: list[LabelledDocument] = Field(
        min_length=1, max_length=32, description="The model reads them in this order."
    )
    prompt: str = Field(default="", description="What stands after them; it has no labels.")
    max_tokens: int | None = Field(default=None, ge=1, le=1 << 31, description="Tokens to write.")
    tolerance: float = Field(
        default=1.0,
        gt=0,
        le=1000,
        description="Nats by which leaving documents out may make the answer less likely.",
    )
    draws: int = Field(
        default=32,
        ge=2,
        le=256,
        description="Evaluations for each comparison, where a likelihood is estimated.",
    )


class Owed(BaseModel):
    """How much less likely an answer is without something, in nats."""

    nats: float | None = Field(description="null where the server tells no log-probabilities.")
    low: float | None = Field(description="Lower end of the interval; 95 % for all together.")
    high: float | None = Field(description="Upper end.")
    bound: bool = Field(description="Whether lower bounds of likelihoods are compared.")


class Used(BaseModel):
    """A document, and what the answer owes to it."""

    id: str
    kept: bool = Field(description="Whether the answer carries all its labels, and may need it.")
    influence: Owed | None = Field(description="Without it alone; null where not scored.")


class LabelledText(BaseModel):
    """An answer with its labels."""

    id: str
    object: Literal["labelled_text"]
    created: int = Field(description="Unix time.")
    model: str
    text: str
    finish_reason: Literal["stop", "length"]
    labels: list[str] = Field(description="What the answer carries.")
    all_labels: list[str] = Field(description="What it would carry if it needed all documents.")
    loss: Owed | None = Field(
        description="Without all documents that are not kept, together; null where it could not "
        "be scored, and carries all labels."
    )
    documents: list[Used]
    usage: Usage
    seed: int = Field(description="The request's, or the one drawn for it.")


def router(service: Service) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["writing"], dependencies=[Depends(strict_json)])

    @routes.post(
        "/v1/labelled",
        operation_id="create_labelled",
        summary="Answer from documents, and say whose labels the answer carries",
        responses=WRITES,
    )
    async def labelled(body: LabelledRequest, request: Request) -> LabelledText:
        check(body)
        hosted = service.model(body.model)
        await asyncio.to_thread(chosen, hosted.model, "auto")
        prompt = labels.composed([one.text for one in body.documents], body.prompt)
        asked = Asked(prompt=prompt, new_tokens=body.max_tokens)
        job = await prepared(service, request, Wish(hosted, asked, body))
        (wrote,) = await written(service, request, job)
        found = await attended(request, _found(service, job, body, wrote.answer))
        return _told(service, job, body, wrote, found)

    return routes


def check(body: LabelledRequest) -> None:
    """Refuse what a labelled answer cannot be.

    Raises:
        Refused: Naming the field.
    """
    check_stream(body)
    if body.stream:
        raise Refused("labels are known when all is written; leave stream out.", "stream")
    if body.n != 1:
        raise Refused(f"n must be 1: one answer is labelled at a time, got {body.n}.", "n")
    ids = [document.id for document in body.documents]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    if twice is not None:
        raise Refused(f"documents: two have the id {twice!r}; give each its own.", "documents")
    different = {label for document in body.documents for label in document.labels}
    if len(different) > _LABELS:
        raise Refused(
            f"documents: there are {len(different)} different labels, at most {_LABELS} are "
            "told apart.",
            "documents",
        )


async def _found(service: Service, job: Job, body: LabelledRequest, answer: str) -> Labelled | None:
    """Return the labels, found in the engine; ``None`` where the answer cannot be scored."""
    documents = [Document(one.id, one.text, frozenset(one.labels)) for one in body.documents]

    def question(model: LanguageModel) -> Labelled | None:
        try:
            return labels.influence(
                model,
                documents,
                body.prompt,
                answer,
                body.tolerance,
                draws=body.draws,
                seed=job.seed,
            )
        except ValueError:  # nothing was written, or what the tokenizer cannot read back
            return None

    size = len(job.order.texts[0].row.given)
    work = Question(job.hosted.model, question, size, job.write.terms)
    answers = [event.value async for event in events(service, work) if isinstance(event, Answered)]
    return answers[0]


def _told(
    service: Service, job: Job, body: LabelledRequest, wrote: Wrote, found: Labelled | None
) -> LabelledText:
    every = {label for document in body.documents for label in document.labels}
    tell = _teller(service)
    used = [
        Used(
            id=one.id,
            kept=found is None or one.id in found.kept,
            influence=None if found is None else _owed(found.influences[one.id], tell),
        )
        for one in body.documents
    ]
    return LabelledText(
        id=f"lbl-{secrets.token_hex(12)}",
        object="labelled_text",
        created=int(time.time()),
        model=job.hosted.name,
        text=wrote.answer,
        finish_reason=wrote.ended,  # pyright: ignore[reportArgumentType]
        labels=sorted(every if found is None else found.labels),
        all_labels=sorted(every),
        loss=None if found is None else _owed(found.loss, tell),
        documents=used,
        usage=Usage(**usage(job, [wrote])),
        seed=job.seed,
    )


def _teller(service: Service) -> Tell:
    """Return how a number is told: as precisely as log-probabilities are, or not at all."""
    settings = service.settings

    def tell(nats: float) -> float | None:
        if settings.logprobs == 0 or not math.isfinite(nats):
            return None
        return floored_one(nats, settings.logprob_digits)

    return tell


def _owed(influence: Influence, tell: Tell) -> Owed:
    return Owed(
        nats=tell(influence.nats.value),
        low=tell(influence.low),
        high=tell(influence.high),
        bound=influence.bound,
    )
