"""How is a prompt continued? ``POST /v1/completions``, as OpenAI's, with a suffix and controls."""

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from unison.generation.ordering import Asked
from unison.language_model import LanguageModel
from unison.serve.batching import Wrote
from unison.serve.http.bodies import strict_json
from unison.serve.http.controls import Standard, check_stream, constraint_field
from unison.serve.http.errors import WRITES, Refused
from unison.serve.http.fields import Usage
from unison.serve.http.likelihoods import Likelihoods, check_logprobs, likelihoods
from unison.serve.http.streaming import Begun, Chunks, Delta, Done, Note, Told, streamed
from unison.serve.http.texts import span
from unison.serve.http.writing import Job, Wish, aside, job_of, usage, written
from unison.serve.service import Service

# Fast to fail: to tell a fault of each of a million items takes far longer than to find it.
_Ids = Annotated[list[Annotated[int, Field(ge=0, lt=1 << 31)]], Field(min_length=1, fail_fast=True)]
_Texts = Annotated[list[str], Field(min_length=1, max_length=1024, fail_fast=True)]
_Lists = Annotated[list[_Ids], Field(min_length=1, max_length=1024, fail_fast=True)]


class CompletionRequest(Standard):
    """A prompt to be continued."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "Once upon a time", "max_tokens": 16}]}
    )

    prompt: str | _Texts | _Ids | _Lists = Field(
        default="",
        description="Text at the left; several for an answer to each; or token ids, where they are "
        "how the model's tokenizer writes their text.",
    )
    suffix: str | None = Field(default=None, description="Text at the right.")
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        le=1 << 31,
        description="Tokens to write. If left out, as many as the model's usual canvas holds.",
    )
    best_of: int | None = Field(
        default=None, ge=1, le=1024, description="Must be n: no text is thrown away."
    )
    logprobs: int | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Tell the log-probability each token had when it was written. Only the token "
        "itself is ever among the alternatives of `top_logprobs`; 0 leaves these out.",
    )
    echo: bool = Field(
        default=False,
        description="Whether the text begins with the prompt, as the model reads it; its "
        "log-probabilities are null.",
    )


class Choice(BaseModel):
    """One text."""

    index: int = Field(description="All texts of the first prompt, then those of the next.")
    text: str
    logprobs: Likelihoods | None
    finish_reason: Literal["stop", "length"] | None = Field(
        description="stop at an end token or a stop string, length where the canvas was full."
    )


class Completion(BaseModel):
    """The texts that were written."""

    id: str
    object: Literal["text_completion"]
    created: int = Field(description="Unix time.")
    model: str
    choices: list[Choice]
    usage: Usage
    seed: int = Field(description="The request's, or the one drawn for it.")


@dataclass(frozen=True)
class _Answer:
    """What every chunk of one answer begins with, and how its texts are told."""

    body: CompletionRequest
    job: Job
    digits: int | None
    id: str
    created: int

    @property
    def head(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.job.hosted.name,
        }

    def choice(self, wrote: Wrote, text: str) -> dict[str, Any]:
        """Return a finished text as a choice, its text given."""
        told = None
        if self.body.logprobs is not None:
            told = likelihoods(self.job, wrote, self.digits, self._asked)
        return {"index": wrote.text, "text": text, "logprobs": told, "finish_reason": wrote.ended}

    @property
    def _asked(self) -> tuple[int, bool]:
        return self.body.logprobs or 0, self.body.echo

    def echoed(self, number: int) -> str:
        """Return the prompt of a text where it is to be told."""
        if not self.body.echo:
            return ""
        row = self.job.order.texts[number].row
        return self.job.order.model.text(row.tokens[: span(row)[0]])


def router(service: Service) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["writing"], dependencies=[Depends(strict_json)])

    @routes.post(
        "/v1/completions",
        operation_id="create_completion",
        summary="Continue a prompt",
        responses={
            200: {
                "model": Completion,
                "description": "The texts; with `stream`, chunks of them as server-sent events.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            **WRITES,
        },
    )
    async def complete(body: CompletionRequest, request: Request) -> Response:
        check(service, body)
        client = getattr(request.state, "client", "")
        heavy = constraint_field(body) is not None
        job = await aside(heavy, lambda: _job(service, body, client))
        answer = _Answer(
            body,
            job,
            service.settings.logprob_digits,
            f"cmpl-{secrets.token_hex(12)}",
            int(time.time()),
        )
        if body.stream:
            return await streamed(service, request, job, _chunks(answer), drafts=body.drafts)
        texts = await written(service, request, job)
        choices = [answer.choice(one, answer.echoed(one.text) + one.answer) for one in texts]
        return JSONResponse(
            {**answer.head, "choices": choices, "usage": usage(job, texts), "seed": job.seed}
        )

    return routes


def _job(service: Service, body: CompletionRequest, client: str) -> Job:
    """Return work that was looked at.

    Raises:
        ValueError: It cannot be done; a ``Refused`` names the field.
    """
    hosted = service.model(body.model)
    asked = Asked(
        prompt=prompts(hosted.model, body.prompt),
        suffix=body.suffix or "",
        new_tokens=body.max_tokens,
    )
    return job_of(service, Wish(hosted, asked, body), client)


def check(service: Service, body: CompletionRequest) -> None:
    """Refuse what contradicts itself, or the server's settings.

    Raises:
        Refused: Naming the field.
    """
    check_stream(body)
    check_logprobs(service.settings.logprobs, body.logprobs)
    if body.best_of is not None and body.best_of != body.n:
        raise Refused(
            f"best_of={body.best_of} would throw texts away, which is not supported; leave it out "
            f"or set it to n={body.n}.",
            "best_of",
        )


def prompts(model: LanguageModel, said: str | list[Any]) -> str | list[str]:
    """Return prompts as texts, token ids read.

    Raises:
        Refused: Ids are none of the tokenizer's, or not how it writes their text.
    """
    if isinstance(said, str):
        return said
    if isinstance(said[0], int):
        return _read(model, said)
    return [one if isinstance(one, str) else _read(model, one) for one in said]


def _read(model: LanguageModel, ids: list[int]) -> str:
    size = model.tokenizer.vocab_size
    foreign = next((i for i in ids if i >= size), None)
    if foreign is not None:
        raise Refused(
            f"prompt: token {foreign} is not in the vocabulary 0 .. {size - 1}.", "prompt"
        )
    text = model.tokenizer.decode(ids)
    if model.tokenizer.encode(text) != ids:
        raise Refused(
            "prompt: these token ids are not how the model's tokenizer writes their text; send "
            "the text.",
            "prompt",
        )
    return text


def _chunks(answer: _Answer) -> Chunks:
    """Return how what is told becomes chunks."""
    options = answer.body.stream_options
    counted = options is not None and options.include_usage
    head = {**answer.head, **({"usage": None} if counted else {})}
    tell: dict[type, Callable[[Any], list[dict[str, Any]]]] = {
        Begun: lambda begun: [
            {**head, "choices": [_grown(number, echoed)]}
            for number in range(begun.texts)
            if (echoed := answer.echoed(number))
        ],
        Delta: lambda delta: [
            {**head, "choices": [_grown(delta.index, delta.text)], "seed": answer.job.seed}
            if delta.wrote is None
            else {
                **head,
                "choices": [answer.choice(delta.wrote, delta.text)],
                "seed": answer.job.seed,
            }
        ],
        Note: lambda note: [{**head, "choices": [], "unison": note.said}],
        Done: lambda done: (
            [{**answer.head, "choices": [], "usage": usage(answer.job, done.texts)}]
            if counted
            else []
        ),
    }

    def chunks(told: Told) -> Iterable[dict[str, Any]]:
        return tell[type(told)](told)

    return chunks


def _grown(index: int, text: str) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": None}
