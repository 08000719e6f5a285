"""How good is a compressed model beside the original? The same text under the same noise."""

from typing import NamedTuple

import torch

from unison.evaluate import likelihood
from unison.evaluate.likelihood import Scored
from unison.language_model import LanguageModel
from unison.types import Estimate, Mask, Tokens


class Held(NamedTuple):
    """Text that a model is judged on.

    Attributes:
        tokens: Rows.
        valid: Which tokens are real.
        bits: Bits per byte that one nat per token amounts to.
        passes: Noise draws per row.
        seed: Names the noise.
    """

    tokens: Tokens
    valid: Mask
    bits: float
    passes: int = 2
    seed: int = 0


class Quality(NamedTuple):
    """How well a model predicts the text.

    Attributes:
        bound: Bits per byte; an upper bound, exact for left-to-right models.
        change: Rise over the original, under the same noise: its error is that of the difference.
        relative: The rise as a share of the original's bound.
    """

    bound: Estimate
    change: Estimate
    relative: float


def scored(model: LanguageModel, held: Held, batch_size: int = 16) -> Scored:
    """Return the losses of the text."""
    device = model.device
    return likelihood.score(
        model.process,
        model.network,
        (held.tokens.to(device), held.valid.to(device)),
        seed=held.seed,
        passes=held.passes,
        batch_size=batch_size,
    )


def quality(original: Scored, model: Scored, held: Held) -> Quality:
    """Return a model's quality from its losses and the original's on the same text."""
    bound = _bits(model, held)
    rise = _bits(model._replace(nats=model.nats - original.nats), held)
    whole = _bits(original, held).value
    return Quality(bound, rise, rise.value / whole if whole else float(torch.nan))


def _bits(some: Scored, held: Held) -> Estimate:
    return likelihood.rescale(likelihood.per_token(some), held.bits, "bits/byte")
