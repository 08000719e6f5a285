"""How does a model learn to think? A thought is worth what it saves on the tokens after it.

Quiet-STaR (Zelikman et al., 2024, arXiv:2403.09629): thoughts are drawn, not shown; those that made
the next few tokens likelier than the other thoughts of the same text did become likelier.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from unison.models.transformer import Transformer
from unison.prob import rng
from unison.prob.rng import Key
from unison.thoughts.mind import Mind, said
from unison.thoughts.parallel import ponder, think


@dataclass(frozen=True)
class Schooling:
    """What is minimised; the defaults are the published ones.

    Attributes:
        talk: Tokens after a thought that it is credited for.
        passes: Thoughts that are drawn after each token and compared.
        base: Weight of the loss without thoughts.
        mixed: Weight of the loss with them.
        policy: Weight of what makes good thoughts likelier.
        temperature: Of the log-probabilities of thoughts in that part. It is 3 in the published
            programs, which draw with 1; with the temperature of the draws the gradient is that
            of the expected reward.
        baseline: What a thought is compared with: the mean over all passes, its own among them,
            or over the others alone, which makes the gradient unbiased.
        clamp: Only learn from thoughts that were better than that.

    Raises:
        ValueError: A setting is out of range.
    """

    talk: int = 4
    passes: int = 2
    base: float = 0.5
    mixed: float = 0.5
    policy: float = 1e6
    temperature: float = 3.0
    baseline: Literal["mean", "others"] = "mean"
    clamp: bool = True

    def __post_init__(self) -> None:
        for name, least in (("talk", 1), ("passes", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}.")
        for name in ("base", "mixed", "policy"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}.")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}.")


class Told(NamedTuple):
    """What thoughts did to a text, in nats; places are those of the inputs but the last.

    Attributes:
        without: Loss of the token j + 1 places on, without thought.
        within: The same with the thought at this place.
        counted: Whether there is such a token.
        logp: Log-probability of each thought.
    """

    without: Float[Tensor, "B K M"]
    within: Float[Tensor, "B K M"]
    counted: Bool[Tensor, "B K M"]
    logp: Float[Tensor, "B M"]

    @property
    def reward(self) -> Float[Tensor, "B M"]:
        """What each thought saved on the tokens it is credited for; a number, not to be learnt."""
        saved = (self.without - self.within).detach()
        return torch.where(self.counted, saved, 0).sum(1)


class Taught(NamedTuple):
    """What a batch taught, means over places.

    Attributes:
        loss: What is minimised.
        base: Loss of the next token without thought.
        mixed: Loss of the next token with it.
        reward: What a thought saved.
        places: How many there were.
    """

    loss: Float[Tensor, ""]
    base: Float[Tensor, ""]
    mixed: Float[Tensor, ""]
    reward: Float[Tensor, ""]
    places: Int[Tensor, ""]


def tell(
    network: Transformer,
    mind: Mind,
    inputs: Int[Tensor, "B L"],
    thoughts: Int[Tensor, "B T L"],
    schooling: Schooling,
    valid: Bool[Tensor, "B L"] | None = None,
) -> Told:
    """Return what given thoughts do to a text; differentiable.

    Args:
        network: Reads.
        mind: Mixes.
        inputs: Begin tokens first.
        thoughts: After each.
        schooling: Settings.
        valid: False at padding, which stands last.

    Raises:
        ValueError: The texts have no token to predict.
    """
    if inputs.shape[1] < 2:
        raise ValueError("a text needs a token after its first input, got none; give longer ones.")
    seen = ponder(network, mind, inputs, thoughts, schooling.talk, schooling.temperature)
    last = inputs.shape[1] - 1
    own = torch.arange(last, device=inputs.device)
    at = own + torch.arange(schooling.talk, device=inputs.device)[:, None]  # place of the input
    real = torch.ones_like(inputs, dtype=torch.bool) if valid is None else valid
    counted = (at < last) & real[:, (at + 1).clamp(max=last)]
    at = at.clamp(max=last - 1)
    target = inputs[:, at + 1]
    before = seen.before[:, at]
    within = mind.mixed(network, before, seen.after[:, :, :last])
    without = said(network, seen.before[:, :last])
    nats = F.cross_entropy(without.transpose(1, 2), inputs[:, 1:], reduction="none")[:, at]
    mixed = F.cross_entropy(within.movedim(-1, 1), target, reduction="none")
    return Told(nats, mixed, counted, seen.logp[:, :, :last].sum(1))


def school(
    network: Transformer,
    mind: Mind,
    inputs: Int[Tensor, "B L"],
    key: Key,
    schooling: Schooling,
    valid: Bool[Tensor, "B L"] | None = None,
) -> Taught:
    """Draw thoughts and return what they teach; differentiable.

    Args:
        network: Reads.
        mind: Thinks and mixes.
        inputs: Begin tokens first.
        key: Draws the thoughts; each pass has a stream of its own.
        schooling: Settings.
        valid: False at padding, which stands last.
    """
    passes = schooling.passes
    seeds = torch.stack([rng.derived(key.seed, number) for number in range(passes)], dim=1)
    texts = inputs.repeat_interleave(passes, 0)
    thoughts = think(network, mind, texts, Key(seeds.flatten(), key.step))
    real = None if valid is None else valid.repeat_interleave(passes, 0)
    told = tell(network, mind, texts, thoughts, schooling, real)
    here = told.counted[:, 0]
    places = here.sum()
    base = (told.without[:, 0] * here).sum() / places.clamp(min=1)
    mixed = (told.within * told.counted).sum() / told.counted.sum().clamp(min=1)
    surrogate = (reinforced(told, schooling) * here).sum() / places.clamp(min=1)
    loss = schooling.base * base + schooling.mixed * mixed + schooling.policy * surrogate
    reward = (told.reward * here).sum() / places.clamp(min=1)
    soon = (told.within[:, 0].detach() * here).sum() / places.clamp(min=1)
    return Taught(loss, base.detach(), soon, reward, places)


def reinforced(told: Told, schooling: Schooling) -> Float[Tensor, "B M"]:
    """Return what to minimise so that better thoughts become likelier, at each place (REINFORCE).

    Args:
        told: The passes of a text stand in rows next to each other.
        schooling: Settings.
    """
    passes = schooling.passes
    reward = told.reward.unflatten(0, (-1, passes))
    gain = reward - reward.mean(1, keepdim=True)
    if schooling.baseline == "others":
        gain = gain * (passes / (passes - 1))
    gain = gain.clamp(min=0) if schooling.clamp else gain
    return -gain.flatten(0, 1) * told.logp
