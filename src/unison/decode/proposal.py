"""Which token is proposed for each position, and how sure is the model of it?"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.decode.blocks import Gathered
from unison.decode.jointly import SITE_STATES, Heard
from unison.decode.sight import SITE_TARGET
from unison.decode.situation import Situation
from unison.decode.temper import Temper
from unison.prob import categorical, rng, truncation
from unison.prob.rng import Key
from unison.types import Belief


class Voice(NamedTuple):
    """What a step hears and proposes.

    Attributes:
        belief: The model's, given the constraint if there is one.
        tempered: The law candidates were drawn from.
        candidate: The token proposed for each position.
        likeliest: The tokens of the likeliest text; ``None`` for each position's likeliest.
    """

    belief: Belief
    tempered: Belief
    candidate: Int[Tensor, "B F"]
    likeliest: Int[Tensor, "B F"] | None = None


def proposed(temper: Temper, said: Belief | Heard, at: Gathered, now: Situation, key: Key) -> Voice:
    """Return a token for each position, drawn as sharply as the temper says.

    Args:
        temper: How sharply.
        said: The model's belief, or what was heard of one whose positions are tied.
        at: The positions.
        now: Where each row stands.
        key: Random streams of this step.
    """
    left, length = now.left / now.allowance.clamp(min=1), now.block.shape[1]
    if not isinstance(said, Tensor):
        u = torch.stack([rng.uniform(key, s, length) for s in (SITE_STATES, SITE_TARGET)], dim=-1)
        return _tied(temper, said, now.uniform, left, u)
    if temper.greedy:
        # Where beliefs are carried on, temperature 0 is the limit of low ones: certainty.
        sharp = truncation.temper(said, 0.0) if now.carries else said
        best = said.argmax(-1)
        return Voice(said, sharp, best, best)
    tempered = temper.shape(said, left)
    return Voice(
        said, tempered, categorical.sample(tempered, at.take(rng.uniform(key, SITE_TARGET, length)))
    )


def _tied(
    temper: Temper,
    heard: Heard,
    uniform: bool,
    left: Float[Tensor, " B"],
    u: Float[Tensor, "B L 2"],
) -> Voice:
    """Return the tokens of one text, which every part then sees.

    Whichever of them are written, the rest is still a way to go on.
    """
    plain = heard.under()
    belief = plain.marginals()
    if temper.greedy:
        best = plain.likeliest()
        # Only where nothing is decided before a block's end are beliefs carried on, as certainty.
        sharp = torch.full_like(belief, -torch.inf).scatter(-1, best[..., None], 0.0)
        return Voice(belief, sharp if uniform else belief, best, best)
    same = temper == Temper(temperature=1.0)
    tied = plain if same else heard.under(lambda said: temper.shape(said, left))
    candidate = tied.draw(u)
    # Under a process that decides nothing before a block's end, that end is one text by itself.
    best = plain.likeliest() if uniform else candidate
    return Voice(belief, belief if same else tied.marginals(), candidate, best)
