"""How probable was each token when it was written? OpenAI's older format of log-probabilities.

What is told is the probability the strategy gave the token at the step that wrote it, under the
temper it wrote with. It is not the likelihood of the text: a diffusion model sees other tokens on
both sides of it by then. ``/v1/score`` estimates that.
"""

import math
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, Field

from unison.serve.batching import Wrote
from unison.serve.http.errors import Refused
from unison.serve.http.texts import pieces, span
from unison.serve.http.writing import Job
from unison.serve.leaks import floored_one

NEVER = -9999.0  # stands for a probability of 0: JSON has no infinity


class Likelihoods(BaseModel):
    """Log-probabilities of the tokens of a text."""

    tokens: list[str] = Field(description="Texts of the tokens; together they are the text.")
    token_logprobs: list[float | None] = Field(
        description="Log-probability of each when it was written; null where it was given, or "
        "where the strategy does not say."
    )
    top_logprobs: list[dict[str, float] | None] | None = Field(
        description="What is known of alternatives, which is the token itself."
    )
    text_offset: list[int] = Field(description="Characters of the text before each token.")


def check_logprobs(most: int, asked: int | None) -> None:
    """Refuse log-probabilities that the server does not tell.

    Args:
        most: Alternatives the server tells; 0 for no log-probabilities at all.
        asked: Alternatives asked for; ``None`` for no log-probabilities.

    Raises:
        Refused: More is asked for than is told.
    """
    if asked is None or (most > 0 and asked <= most):
        return
    if most == 0:
        raise Refused("this server tells no log-probabilities; leave logprobs out.", "logprobs")
    raise Refused(f"logprobs must be at most {most} on this server, got {asked}.", "logprobs")


def disclosed(most: int, digits: int | None) -> Callable[[float | None], float | None]:
    """Return how a probability is told: as precisely as log-probabilities are, or not at all.

    Args:
        most: Alternatives the server tells; 0 for no probabilities at all.
        digits: Decimals of log-probabilities, rounded down; ``None`` for all.
    """

    def told(probability: float | None) -> float | None:
        if probability is None or most == 0:
            return None
        if digits is None or probability <= 0:
            return probability
        return math.exp(floored_one(math.log(probability), digits))

    return told


def likelihoods(
    job: Job, wrote: Wrote, digits: int | None, asked: tuple[int, bool]
) -> dict[str, Any]:
    """Return the fields of ``Likelihoods`` for one text.

    Args:
        job: What it belongs to.
        wrote: The text.
        digits: Decimals, rounded down as ``unison.serve.leaks`` audits; ``None`` for all.
        asked: How many alternatives, and whether the prompt is told, too.
    """
    model, sample = job.order.model, wrote.sample
    start, past = span(job.order.texts[wrote.text].row)
    texts = pieces(model, sample.tokens[:past], start, wrote.answer)
    count = len(texts)
    while count and not texts[count - 1]:  # the end, and what is behind it
        count -= 1
    texts = texts[:count]
    sure = [_log(one, digits) for one in sample.confidence[start : start + count]]
    if asked[1] and start:
        prompt = model.text(sample.tokens[:start])
        before = pieces(model, sample.tokens[:start], 0, prompt)
        texts, sure = [*before, *texts], [*[None] * start, *sure]
    offsets, at = [], 0
    for text in texts:
        offsets.append(at)
        at += len(text)
    top = [None if one is None else {text: one} for text, one in zip(texts, sure, strict=True)]
    return {
        "tokens": texts,
        "token_logprobs": sure,
        "top_logprobs": top if asked[0] else None,
        "text_offset": offsets,
    }


def _log(probability: float | None, digits: int | None) -> float | None:
    if probability is None:
        return None
    return NEVER if probability <= 0 else floored_one(math.log(probability), digits)
