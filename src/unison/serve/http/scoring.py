"""How likely is a text? ``POST /v1/score``: log p with its interval, or the likeliest of choices.

The numbers are those of ``unison.log_likelihood`` and ``unison.choose`` for the same seed, to the
last bit: what the server does meanwhile does not change them.
"""

import asyncio
import contextlib
import math
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from unison.evaluate.choosing import Choice, choose
from unison.evaluate.estimators import ESTIMATORS
from unison.evaluate.log_likelihood import Likelihood, chosen, log_likelihood
from unison.evaluate.windows import encoded
from unison.language_model import LanguageModel
from unison.serve.batching import Answered, Question, Terms
from unison.serve.http.bodies import strict_json
from unison.serve.http.errors import WRITES, Refused, refusal
from unison.serve.http.fields import Strict, one_of
from unison.serve.http.writing import attended, events
from unison.serve.service import Hosted, Service
from unison.types import Estimate

MOST_TEXTS = 128
MOST_DRAWS = 65_536
_AT_ONCE = 16  # questions of one request that the engine hears of; the others wait here
_Method = one_of("method", ("auto", *ESTIMATORS))
_Draws = Annotated[int, Field(ge=1, le=MOST_DRAWS)]
_Text = Annotated[str, Field(min_length=1)]


class ScoreRequest(Strict):
    """Texts to be scored, or choices to be compared."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"input": "Once upon a time", "draws": 8}]}
    )

    model: str | None = Field(
        default=None, max_length=1000, description="Which model; the server's first if left out."
    )
    input: _Text | Annotated[list[_Text], Field(min_length=1, max_length=MOST_TEXTS)] | None = (
        Field(default=None, description="Texts, each scored by itself.")
    )
    choices: Annotated[list[_Text], Field(min_length=2, max_length=MOST_TEXTS)] | None = Field(
        default=None,
        description="Continuations of the context, instead of input: which is the likeliest?",
    )
    context: str | Annotated[list[str], Field(max_length=MOST_TEXTS)] | None = Field(
        default=None, description="What stands before the texts: one for all, or one for each."
    )
    method: _Method = Field(  # pyright: ignore[reportInvalidTypeForm]
        default="auto", description="Estimator; the model's own if left out."
    )
    precision: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="Go on until the 95 % interval is this many bits per byte to either side.",
    )
    draws: _Draws = Field(default=32, description="Network evaluations per text at least.")
    max_draws: _Draws | None = Field(
        default=None,
        description="Network evaluations per text at most, of a window with rolling; 4096, or "
        "draws where these are more, if left out.",
    )
    rolling: bool = Field(
        default=False, description="Cut texts that are too long for the model into windows."
    )
    normalise: Literal["none", "tokens", "bytes"] = Field(
        default="none", description="What the log p of a choice is divided by."
    )
    seed: int = Field(default=0, ge=-(1 << 63), lt=1 << 63, description="Names the noise.")
    priority: int = Field(
        default=0, ge=-10, le=10, description="Requests of higher priority go first."
    )
    deadline: float | None = Field(
        default=None,
        gt=0,
        le=86_400,
        description="Seconds after which nobody waits for the answer any more.",
    )
    user: str | None = Field(
        default=None, max_length=1000, description="Taken for compatibility; changes nothing."
    )


class Measured(BaseModel):
    """A number with its error."""

    value: float | None = Field(description="The estimate; null for a probability of 0.")
    stderr: float | None = Field(description="Its standard error; 0 where exact.")
    n: int = Field(description="Independent observations behind it.")
    unit: str


class Score(BaseModel):
    """What is known of one text."""

    index: int
    log_p: Measured
    interval: Annotated[list[float | None], Field(min_length=2, max_length=2)] = Field(
        description="The 95 % interval of log_p."
    )
    bits_per_byte: Measured
    method: str
    bound: bool = Field(description="Whether log_p is a lower bound.")
    tokens: int = Field(description="Scored tokens.")
    bytes: int = Field(description="Of the text.")
    evaluations: int = Field(description="Network rows evaluated.")
    gain: float | None = Field(
        description="Variance of plain Monte Carlo over this estimate's; null where exact."
    )
    reached: bool = Field(description="Whether the precision asked for was reached.")


class Chosen(BaseModel):
    """Which choice is the likeliest."""

    best: int
    scores: list[Measured]
    probability: float = Field(description="That the best is the best, given the errors.")
    evaluations: int


class ScoreUsage(BaseModel):
    """What a request took."""

    prompt_tokens: int = Field(description="Scored tokens and those of their contexts.")
    completion_tokens: Literal[0] = 0
    total_tokens: int
    nfe: int = Field(description="Evaluations of the network, summed over all texts.")


class Scores(BaseModel):
    """The texts' scores, or the comparison of the choices."""

    id: str
    object: Literal["score"]
    created: int = Field(description="Unix time.")
    model: str
    results: list[Score] | None
    choice: Chosen | None
    usage: ScoreUsage
    seed: int


def router(service: Service) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["scoring"], dependencies=[Depends(strict_json)])

    @routes.post(
        "/v1/score",
        operation_id="create_score",
        summary="Say how likely texts are",
        responses={200: {"model": Scores, "description": "The scores."}, **WRITES},
    )
    async def score(body: ScoreRequest, request: Request) -> Response:
        check(body)
        hosted = service.model(body.model)
        sizes = await asyncio.to_thread(_sizes, service, hosted.model, body)
        terms = _terms(service, body, getattr(request.state, "client", ""))
        asked = [
            Question(hosted.model, answer, size, terms)
            for answer, size in zip(_answers(body), _at_once(sizes, body), strict=True)
        ]
        try:
            found = await attended(request, _all(service, asked))
        except ValueError as error:
            raise refusal(error, ScoreRequest.model_fields) from error
        return JSONResponse(_told(body, hosted, sizes, found))

    return routes


def check(body: ScoreRequest) -> None:
    """Refuse what contradicts itself.

    Raises:
        Refused: Naming the field.
    """
    if (body.input is None) == (body.choices is None):
        raise Refused("give either input, texts to score, or choices to compare.", "input")
    if body.max_draws is not None and body.max_draws < body.draws:
        raise Refused(
            f"max_draws must be at least draws={body.draws}, got {body.max_draws}.", "max_draws"
        )
    texts = 1 if isinstance(body.input, str) else len(body.input or ())
    if body.choices is None and isinstance(body.context, list) and len(body.context) != texts:
        raise Refused(
            f"there are {texts} texts and {len(body.context)} contexts; give one for all, or one "
            "for each.",
            "context",
        )
    if body.choices is None and body.normalise != "none":
        raise Refused("normalise speaks of choices; leave it out.", "normalise")
    _check_choices(body)


def _check_choices(body: ScoreRequest) -> None:
    if body.choices is None:
        return
    if isinstance(body.context, list):
        raise Refused("choices continue a single context, not a list of them.", "context")
    for name in ("precision", "max_draws"):
        if getattr(body, name) is not None:
            raise Refused(f"{name} speaks of input; choices take as many draws as said.", name)
    if body.rolling:
        raise Refused("rolling speaks of input; choices are read whole.", "rolling")


def _texts(body: ScoreRequest) -> list[tuple[str, str]]:
    """Return contexts with their texts."""
    texts = body.choices or ([body.input] if isinstance(body.input, str) else body.input or [])
    context = body.context or ""
    contexts = [context] * len(texts) if isinstance(context, str) else context
    return list(zip(contexts, texts, strict=True))


def _sizes(service: Service, model: LanguageModel, body: ScoreRequest) -> list[int]:
    """Return the tokens of each text with its context.

    Raises:
        Refused: Naming the field: one is too long, or has letters the tokenizer does not know; or
            the model cannot be scored so.
    """
    field = "input" if body.choices is None else "choices"
    try:
        chosen(model, body.method)
    except ValueError as error:
        raise Refused(str(error), "method") from error
    sizes = []
    most = service.settings.prompt_tokens
    for before, text in _texts(body):
        try:
            sizes.append(sum(map(len, encoded(model, before, text))))
        except ValueError as error:
            raise Refused(str(error), field) from error
        if most is not None and sizes[-1] > most:
            raise Refused(
                f"a text and its context have {sizes[-1]} tokens, more than the {most} this "
                "server reads.",
                field,
            )
        if sizes[-1] > model.max_length and not body.rolling:
            raise Refused(
                f"a text and its context have {sizes[-1]} tokens and the model reads "
                f"{model.max_length}; shorten them, or set rolling to score in windows.",
                field,
            )
    return sizes


def _at_once(sizes: Sequence[int], body: ScoreRequest) -> list[int]:
    """Return the positions that each question evaluates at once."""
    rows = [min(body.draws, 64) * size for size in sizes]
    return rows if body.choices is None else [max(rows)]


def _terms(service: Service, body: ScoreRequest, client: str) -> Terms:
    longest = service.settings.timeout
    deadline = longest if body.deadline is None else min(body.deadline, longest)
    return Terms(client, body.priority, deadline)


def _answers(body: ScoreRequest) -> list[Callable[[LanguageModel], Any]]:
    """Return what the model is asked, a question for each text or one for all choices."""
    if body.choices is not None:
        return [_choosing(body, body.choices)]
    return [_scoring(body, *pair) for pair in _texts(body)]


def _choosing(body: ScoreRequest, choices: list[str]) -> Callable[[LanguageModel], Choice]:
    context = body.context or ""
    assert isinstance(context, str)  # ``check`` has seen to it

    def answer(model: LanguageModel) -> Choice:
        return choose(
            model,
            context,
            choices,
            normalise=body.normalise,
            method=body.method,
            draws=body.draws,
            seed=body.seed,
        )

    return answer


def _scoring(body: ScoreRequest, before: str, text: str) -> Callable[[LanguageModel], Likelihood]:
    def answer(model: LanguageModel) -> Likelihood:
        return log_likelihood(
            model,
            [text],
            before,
            method=body.method,
            precision=body.precision,
            draws=body.draws,
            max_draws=body.max_draws or max(4096, body.draws),
            rolling=body.rolling,
            seed=body.seed,
        )[0]

    return answer


async def _all(service: Service, questions: Sequence[Question]) -> list[Any]:
    """Return the answers to questions that the engine hears together, up to a number.

    One that fails ends the others.
    """
    room = asyncio.Semaphore(_AT_ONCE)

    async def ask(question: Question) -> Any:
        async with room, contextlib.aclosing(events(service, question)) as told:
            answers = [event.value async for event in told if isinstance(event, Answered)]
        return answers[0]

    tasks = [asyncio.ensure_future(ask(question)) for question in questions]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _told(
    body: ScoreRequest, hosted: Hosted, sizes: Sequence[int], found: Sequence[Any]
) -> dict[str, Any]:
    chosen_ = _chosen(found[0]) if body.choices is not None else None
    results = [_score(i, one) for i, one in enumerate(found)] if body.choices is None else None
    return {
        "id": f"score-{secrets.token_hex(12)}",
        "object": "score",
        "created": int(time.time()),
        "model": hosted.name,
        "results": results,
        "choice": chosen_,
        "usage": {
            "prompt_tokens": sum(sizes),
            "completion_tokens": 0,
            "total_tokens": sum(sizes),
            "nfe": sum(one.evaluations for one in found),
        },
        "seed": body.seed,
    }


def _score(index: int, found: Likelihood) -> dict[str, Any]:
    return {
        "index": index,
        "log_p": _measured(found.log_p),
        "interval": [_finite(end) for end in found.interval],
        "bits_per_byte": _measured(found.bits_per_byte),
        "method": found.method,
        "bound": found.bound,
        "tokens": found.num_tokens,
        "bytes": found.num_bytes,
        "evaluations": found.evaluations,
        "gain": _finite(found.gain),
        "reached": found.reached,
    }


def _chosen(found: Choice) -> dict[str, Any]:
    return {**found._asdict(), "scores": [_measured(score) for score in found.scores]}


def _measured(estimate: Estimate) -> dict[str, Any]:
    value, stderr = _finite(estimate.value), _finite(estimate.stderr)
    return {**estimate._asdict(), "value": value, "stderr": stderr}


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
