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
from unison.prob import categorical, rng
from unison.prob.rng import Key
from unison.types import Belief


class Voice(NamedTuple):
    """What a step hears and proposes.

    Attributes:
        said: The model's belief.
        tempered: The same, tempered; ``None`` where nobody reads it.
        candidate: The token proposed for each position.
        likeliest: The tokens of the likeliest text; ``None`` for each position's likeliest.
    """

    said: Belief
    tempered: Belief | None
    candidate: Int[Tensor, "B F"]
    likeliest: Int[Tensor, "B F"] | None = None


def proposed(
    temper: Temper,
    said: Belief | Heard,
    at: Gathered,
    now: Situation,
    key: Key,
    *,
    judged: bool = True,
) -> Voice:
    """Return a token for each position, drawn as sharply as the temper says.

    Args:
        temper: How sharply.
        said: The model's belief, or what was heard of one whose positions are tied.
        at: The positions.
        now: Where each row stands.
        key: Random streams of this step.
        judged: Whether the tempered belief is read, and not drawn from alone.
    """
    left, length = now.left / now.allowance.clamp(min=1), now.block.shape[1]
    if not isinstance(said, Tensor):
        u = torch.stack([rng.uniform(key, s, length) for s in (SITE_STATES, SITE_TARGET)], dim=-1)
        return _tied(temper, said, now.uniform, left, u)
    if temper.greedy:
        best = said.argmax(-1)
        # Where beliefs are carried on, temperature 0 is the limit of low ones: certainty.
        return Voice(said, _certain(said, best) if now.carries else said, best, best)
    u = at.take(rng.uniform(key, SITE_TARGET, length))
    if not judged and not now.carries:
        return Voice(said, None, temper.drawn(said, left, u))
    tempered = temper.shape(said, left)
    return Voice(said, tempered, categorical.sample(tempered, u))


def _tied(
    temper: Temper,
    heard: Heard,
    uniform: bool,
    left: Float[Tensor, " B"],
    u: Float[Tensor, "B L 2"],
) -> Voice:
    """Return the tokens of one text, which every part then sees.

    Whichever of them are written, the rest is still a way to go on. Parts judge by what the model
    says itself: the marginals under a constraint are surer wherever it leaves little choice, and a
    token would be written early only because few others are allowed.
    """
    said = heard.said
    if temper.greedy:
        best = heard.under().likeliest()
        # Only where nothing is decided before a block's end are beliefs carried on, as certainty.
        return Voice(said, _certain(said, best) if uniform else said, best, best)
    tempered = temper.shape(said, left)
    candidate = heard.under(lambda _: tempered).draw(u)
    # Under a process that decides nothing before a block's end, that end is one text by itself.
    best = heard.under().likeliest() if uniform else candidate
    return Voice(said, tempered, candidate, best)


def _certain(like: Belief, token: Int[Tensor, "B F"]) -> Belief:
    return torch.full_like(like, -torch.inf).scatter(-1, token[..., None], 0.0)
