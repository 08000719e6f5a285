"""How are guesses of the next few places compared with what the target thinks there?

A text is cut at random places. What a drafter guesses there, one token and more ahead of the
target's own prediction, is held against what the target thinks once it has read that far.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unison.drafters.kind import Lesson
from unison.models import stepping
from unison.models.layers import Hidden
from unison.models.transformer import Transformer
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Nats

SITE_CUTS = 56
Learns = Literal["law", "choice", "text"]


class Futures(NamedTuple):
    """What is thought at P places of each text about K places ahead.

    Attributes:
        guesses: Logits of the drafter. Differentiable in its weights alone.
        truth: Logits of the target, which has read all that comes before. No gradient.
        text: What stands there.
    """

    guesses: Float[Tensor, "B P K V"]
    truth: Float[Tensor, "B P K V"]
    text: Int[Tensor, "B P K"]


@runtime_checkable
class Foreseeing(Protocol):
    """A kind of drafter that guesses places side by side."""

    def futures(
        self, module: nn.Module, network: Transformer, inputs: Int[Tensor, "B L"], key: Key
    ) -> Futures:
        """Return its guesses at random places of texts, begin tokens first."""
        ...


@contextmanager
def still(network: nn.Module) -> Iterator[None]:
    """What is computed inside has no gradient in the network's weights."""
    moving = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in moving:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in moving:
            weight.requires_grad_(True)


def cuts(inputs: Int[Tensor, "B L"], places: int, ahead: int, key: Key) -> Int[Tensor, "B P"]:
    """Return different random places of each text that have ``ahead`` more and a token behind.

    Args:
        inputs: The texts.
        places: How many, or all that there are.
        ahead: K.
        key: One random stream for each text.

    Raises:
        ValueError: The texts are too short.
    """
    room = inputs.shape[1] - ahead - 1
    if room < 1:
        raise ValueError(
            f"to guess {ahead} places ahead takes texts of at least {ahead + 1} tokens, got "
            f"{inputs.shape[1] - 1}; use longer ones, or guess less far."
        )
    chosen = rng.uniform(key, SITE_CUTS, room).topk(min(places, room), dim=1)
    return chosen.indices.sort(dim=1).values


def compared(
    network: Transformer,
    hidden: Hidden,
    guesses: Float[Tensor, "B P K V"],
    inputs: Int[Tensor, "B L"],
    places: Int[Tensor, "B P"],
) -> Futures:
    """Return guesses beside what the target thinks.

    Args:
        network: The target.
        hidden: What its output layer reads, of the whole texts.
        guesses: Of the places that are 2, 3 ... after the cuts.
        inputs: The texts.
        places: The cuts.
    """
    rows, count, ahead, _ = guesses.shape
    further = (places[..., None] + torch.arange(1, ahead + 1, device=places.device)).flatten(1)
    with torch.no_grad():
        read = hidden.gather(1, further[..., None].expand(-1, -1, hidden.shape[-1]))
        truth = stepping.logits(network, read).unflatten(1, (count, ahead))
    return Futures(guesses, truth, inputs.gather(1, further + 1).reshape(rows, count, ahead))


def taught(futures: Futures, learns: Learns, decay: float) -> Lesson:
    """Return what guesses teach.

    Args:
        futures: The guesses.
        learns: From the target's law, by Kullback-Leibler divergence; from its likeliest token,
            or from the text's, by cross-entropy.
        decay: Weight of each depth, relative to the one before.
    """
    guesses, truth, text = futures
    logq = guesses.log_softmax(-1)
    choice = truth.argmax(-1)
    if learns == "law":
        losses = F.kl_div(logq, truth.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    else:
        wanted = choice if learns == "choice" else text
        losses = -logq.gather(-1, wanted[..., None])[..., 0]
    rows, count, ahead = text.shape
    weight = decay ** torch.arange(ahead, device=text.device)
    total = (losses * (weight / weight.sum())).sum()
    hits = (guesses.argmax(-1) == choice).sum((0, 1)).float()
    seen = torch.full_like(hits, rows * count)
    return Lesson(Nats(total, torch.tensor(rows * count, device=text.device)), hits, seen)


def ranked(futures: Futures, ranks: int) -> Float[Tensor, "K R"]:
    """Return how often the drafter's guess of each rank was the target's likeliest token.

    No guess counts for more than a likelier one, as where there are few observations it might.
    """
    best = futures.guesses.topk(ranks, dim=-1).indices
    right = (best == futures.truth.argmax(-1)[..., None]).double().mean((0, 1))
    return right.cummin(-1).values


def check_decay(name: str, decay: float) -> None:
    """Refuse weights of depths that make no sense.

    Raises:
        ValueError: ``decay`` is no number in (0, 1].
    """
    if not 0 < decay <= 1:
        raise ValueError(f"{name}.decay must be in (0, 1], got {decay}; 1 weighs depths alike.")
