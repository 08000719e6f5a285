"""How are the holes of a text filled? ``POST /v1/infill``: a canvas of given text and open tokens.

Given text stays as it is, to the letter. A hole has a fixed number of tokens; a text that needs
fewer is followed by end tokens, which no text shows. Where holes have types, the law of the model
is conditioned on the language of the whole canvas: text of the first hole's type, then the given
text, and so on. Types by which a hole could end at several places are refused, so every hole holds
text of its type.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from unison.constrain import ConstraintError
from unison.generation.ordering import Asked
from unison.language_model import LanguageModel
from unison.process import Sequential
from unison.serve.batching import Wrote
from unison.serve.http import holes
from unison.serve.http.bodies import strict_json
from unison.serve.http.controls import CONSTRAINTS, Standard, check_stream, constraint_field
from unison.serve.http.drafts import Tell
from unison.serve.http.errors import WRITES, Refused
from unison.serve.http.fields import Usage
from unison.serve.http.holes import HolePart, HoleType, Part, Span
from unison.serve.http.likelihoods import disclosed
from unison.serve.http.streaming import Begun, Delta, Done, Note, Told, streamed
from unison.serve.http.texts import pieces, text_of
from unison.serve.http.writing import Job, Wish, aside, job_of, usage, written
from unison.serve.service import Service

Said = dict[str, Any]
Canvas = Sequence[str | int | HolePart]


class InfillRequest(Standard):
    """A text with holes; or what stands before and behind a single one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"canvas": ["I am ", {"hole": {"tokens": 3, "type": "int"}}, " years old."]},
                {"prefix": "The ", "tokens": 8, "suffix": " jumps."},
            ]
        }
    )

    canvas: Annotated[list[Part], Field(min_length=1, max_length=holes.MOST)] | None = Field(
        default=None,
        description="Given texts and holes, in order; a number is a hole of so many tokens.",
    )
    prefix: str | None = Field(default=None, description="Text before the only hole.")
    suffix: str | None = Field(default=None, description="Text behind it.")
    tokens: Annotated[int, Field(ge=1, le=65_536)] | None = Field(
        default=None, description="How many tokens the only hole has; instead of a canvas."
    )
    type: HoleType | None = Field(  # pyright: ignore[reportInvalidTypeForm]
        default=None, description="What fills the only hole."
    )


class Filling(BaseModel):
    """What fills a hole."""

    name: str | None
    text: str
    ids: list[int] = Field(description="Its tokens, an end token included.")
    tokens: list[str] = Field(description="Their texts; together they are its text.")
    confidence: list[float | None] = Field(
        description="Probability of each when it was written; null where the strategy does not "
        "say, or the server tells no probabilities."
    )
    steps: list[int] = Field(description="The step, from 1, that wrote each.")


class Filled(BaseModel):
    """A canvas that was filled."""

    index: int
    text: str = Field(description="The whole text, given parts included.")
    holes: list[Filling]
    finish_reason: Literal["stop", "length"]


class Infill(BaseModel):
    """The canvases that were filled."""

    id: str
    object: Literal["infill"]
    created: int = Field(description="Unix time.")
    model: str
    choices: list[Filled]
    usage: Usage
    seed: int = Field(description="The request's, or the one drawn for it.")


@dataclass(frozen=True)
class _Answer:
    """What is known of an answer before it is written."""

    job: Job
    spans: tuple[Span, ...]
    places: tuple[tuple[int, int], ...]
    tell: Tell
    id: str
    created: int

    def head(self, kind: str) -> Said:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.job.hosted.name,
        }

    def choice(self, wrote: Wrote) -> Said:
        """Return a filled canvas as a choice."""
        parts = zip(self.spans, self.places, strict=True)
        return {
            "index": wrote.text,
            "text": wrote.sample.text,
            "holes": [self._filling(wrote, *part) for part in parts],
            "finish_reason": wrote.ended,
        }

    def _filling(self, wrote: Wrote, span: Span, place: tuple[int, int]) -> Said:
        model, sample = self.job.order.model, wrote.sample
        first, past = place
        made, ends = sample.tokens[first:past], ends_of(model)
        last = next((i for i, token in enumerate(made) if token in ends), len(made))
        text = text_of(model, sample.tokens[: first + last], first)
        shown = pieces(model, sample.tokens[: first + last], first, text)
        count = min(last + 1, len(made))
        return {
            "name": span.hole.name,
            "text": text,
            "ids": made[:count],
            "tokens": [*shown, *[""] * (count - last)],
            "confidence": [self.tell(one) for one in sample.confidence[first : first + count]],
            "steps": sample.step[first : first + count],
        }


def router(service: Service) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["writing"], dependencies=[Depends(strict_json)])

    @routes.post(
        "/v1/infill",
        operation_id="create_infill",
        summary="Fill the holes of a text",
        responses={
            200: {
                "model": Infill,
                "description": "The texts; with `stream`, what stands between the first open "
                "token and the last as it settles, in server-sent events.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            **WRITES,
        },
    )
    async def fill(body: InfillRequest, request: Request) -> Response:
        check(body)
        client = getattr(request.state, "client", "")
        heavy = _typed(body) or constraint_field(body) is not None
        answer = await aside(heavy, lambda: _ready(service, body, client))
        if body.stream:
            chunks = _chunks(answer, body)
            return await streamed(service, request, answer.job, chunks, drafts=body.drafts)
        texts = await written(service, request, answer.job)
        choices = [answer.choice(one) for one in texts]
        used = usage(answer.job, texts)
        return JSONResponse(
            {**answer.head("infill"), "choices": choices, "usage": used, "seed": answer.job.seed}
        )

    return routes


def check(body: InfillRequest) -> None:
    """Refuse what contradicts itself.

    Raises:
        Refused: Naming the field.
    """
    check_stream(body)
    if (body.canvas is None) == (body.tokens is None):
        raise Refused(
            "say the canvas in parts, or the tokens of the only hole between prefix and suffix: "
            "one of both.",
            "canvas" if body.canvas is None else "tokens",
        )
    for name in ("prefix", "suffix", "type"):
        if body.canvas is not None and getattr(body, name) is not None:
            raise Refused(f"{name} goes with tokens; the canvas says all of it.", name)
    if body.stops:
        raise Refused("stop would cut given text off; leave it out.", "stop")
    if body.length is not None:
        raise Refused("length is what the parts add up to; leave it out.", "length")


def _typed(body: InfillRequest) -> bool:
    parts = [part for part in body.canvas or () if isinstance(part, HolePart)]
    return body.type is not None or any(part.hole.type is not None for part in parts)


def ends_of(model: LanguageModel) -> set[int]:
    """Return the tokens that end what fills a hole."""
    process = model.process
    own = isinstance(process, Sequential) and process.holes is not None
    return {*model.eos_ids, *([process.holes.end_id] if own else [])}  # pyright: ignore


def _ready(service: Service, body: InfillRequest, client: str) -> _Answer:
    """Return work that was looked at.

    Raises:
        ValueError: It cannot be done; a ``Refused`` names the field.
    """
    hosted = service.model(body.model)
    canvas = _canvas(body)
    found = holes.spans(canvas)
    _check_seen(hosted.model, canvas)
    whole = holes.languages(found)
    said = next((name for name in CONSTRAINTS if getattr(body, name) is not None), None)
    if whole is not None and said is not None:
        raise Refused(f"{said} and the types of holes both say what text is allowed.", said)
    parts = [part.hole.tokens if isinstance(part, HolePart) else part for part in canvas]
    asked = Asked(parts=parts, constraint=whole)
    try:
        job = job_of(service, Wish(hosted, asked, body), client)
    except Refused as error:
        about = "canvas" if body.canvas is not None else "tokens"
        mine = isinstance(error.__cause__, ConstraintError) and whole is not None
        parts_of_it = (None, "canvas", "prompt", "suffix")
        field = about if mine or error.field in parts_of_it else error.field
        raise Refused(str(error), field, error.code) from error
    settings = service.settings
    return _Answer(
        job,
        tuple(found),
        _places(hosted.model, parts),
        disclosed(settings.logprobs, settings.logprob_digits),
        f"infill-{secrets.token_hex(12)}",
        int(time.time()),
    )


def _canvas(body: InfillRequest) -> Canvas:
    if body.canvas is not None:
        return body.canvas
    assert body.tokens is not None  # ``check`` has seen to it
    hole = HolePart(hole=holes.Hole(tokens=body.tokens, type=body.type))
    return [part for part in (body.prefix, hole, body.suffix) if part]


def _check_seen(model: LanguageModel, canvas: Canvas) -> None:
    """Refuse text behind a hole where the model would not see it.

    Raises:
        Refused: Naming the canvas.
    """
    process = model.process
    last = max(i for i, part in enumerate(canvas) if not isinstance(part, str))
    if isinstance(process, Sequential) and process.holes is None and last < len(canvas) - 1:
        raise Refused(
            "this left-to-right model does not see the text behind a hole; leave it out, or use a "
            "diffusion model, or one trained to infill.",
            "canvas",
        )


def _places(model: LanguageModel, parts: Sequence[str | int]) -> tuple[tuple[int, int], ...]:
    """Return where each hole begins and ends, in tokens."""
    found, at = [], 0
    for part in parts:
        size = part if isinstance(part, int) else len(model.tokenizer.encode(part))
        if isinstance(part, int):
            found.append((at, at + size))
        at += size
    return tuple(found)


def _chunks(answer: _Answer, body: InfillRequest) -> Callable[[Told], Iterable[Said]]:
    """Return how what is told becomes chunks; the last of each canvas holds all of it."""
    options = body.stream_options
    counted = options is not None and options.include_usage
    head = answer.head("infill.chunk")
    usual = {**head, **({"usage": None} if counted else {})}

    def chunk(delta: Delta) -> Said:
        grown = {"index": delta.index, "delta": delta.text, "finish_reason": None}
        if delta.wrote is not None:
            grown = {**answer.choice(delta.wrote), "delta": delta.text}
        return {**usual, "choices": [grown], "seed": answer.job.seed}

    def chunks(told: Told) -> Iterable[Said]:
        match told:
            case Delta():
                return [chunk(told)]
            case Note(_, said):
                return [{**usual, "choices": [], "unison": said}]
            case Done(texts) if counted:
                return [{**head, "choices": [], "usage": usage(answer.job, texts)}]
            case Begun() | Done():
                return []

    return chunks
