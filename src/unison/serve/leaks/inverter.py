"""How much of a hidden prompt does an attacker get that must learn? A small network, trained here.

It reads, of every token heard, the D numbers that what is told of it comes down to (see
``subspace``) and the token, and answers with a law over each place of the prompt. The idea, the
compressed log-probabilities of several tokens, is that of Nazir et al. (2025, arXiv:2506.17090);
the network is our own: two layers over all tokens at once, each place of the prompt by itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from unison.prob import rng
from unison.prob.rng import Key
from unison.serve.leaks.knobs import Knobs, floored, told
from unison.serve.leaks.subspace import Head, rebuild
from unison.serve.leaks.talk import Talk, Turn

SITE_LAYER, SITE_BATCH = 0x7FFFFE03, 0x7FFFFE04


@dataclass(frozen=True)
class Training:
    """How the inverter learns.

    Attributes:
        width: Of its hidden layer.
        steps: Of Adam.
        batch: Conversations of one step.
        lr: Rate at the beginning; it falls to 0 on a cosine.
        seed: Names weights and batches.
    """

    width: int = 128
    steps: int = 300
    batch: int = 512
    lr: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.width, self.steps, self.batch) < 1 or not self.lr > 0:
            raise ValueError(
                "width, steps and batch must be at least 1 and lr above 0, got "
                f"{self.width}, {self.steps}, {self.batch} and {self.lr}."
            )


class Heard(NamedTuple):
    """What the inverter reads of all conversations; each is a prompt and a text.

    Attributes:
        place: Of every turn, the numbers of what is told, by prompt and text so far.
        own: And of the token's own number, by prompt and text.
        turns: Which text so far, and which token.
        joint: How likely each conversation is, all turns together.
    """

    place: tuple[Float[Tensor, "X P E"], ...]
    own: tuple[Float[Tensor, "X Y"], ...]
    turns: tuple[Turn, ...]
    joint: Float[Tensor, "X Y"]


Weights = tuple[Tensor, Tensor, Tensor, Tensor]


class Inverted(NamedTuple):
    """How well an inverter does, over all conversations by their probability.

    Attributes:
        turns: Tokens it has heard.
        prompts: How often its guess is the whole prompt.
        tokens: How often its guess of a token is right.
    """

    turns: int
    prompts: float
    tokens: float


def inverted(
    talk: Talk, knobs: Knobs, prompts: Int[Tensor, "X L"], head: Head, training: Training
) -> Inverted:
    """Train an inverter on what is told of all turns and return how well it does.

    Args:
        talk: What is said, listed whole.
        knobs: What is told of it.
        prompts: The prompts' tokens.
        head: The model's output layer.
        training: How.

    Raises:
        ValueError: The texts were drawn: the inverter's success is summed over all of them.
    """
    if talk.drawn:
        raise ValueError("an inverter is measured on all texts there are; list them.")
    said = _heard(talk, knobs, head)
    weights = _trained(said, prompts, training)
    return _measured(said, prompts, weights, len(talk.turns))


def _heard(talk: Talk, knobs: Knobs, head: Head) -> Heard:
    log_text = torch.zeros(talk.turns[0].belief.shape[:2], dtype=torch.float64)
    places, owns = [], []
    for turn in talk.turns:
        log_text = log_text[:, turn.parent] + turn.own
        places.append(_numbers(turn, knobs, head))
        own = floored(turn.own, knobs.digits).float()
        owns.append(own if knobs.own else torch.zeros_like(own))
    joint = (log_text + talk.prior.log()[:, None]).exp()
    return Heard(tuple(places), tuple(owns), talk.turns, joint)


def _numbers(turn: Turn, knobs: Knobs, head: Head) -> Float[Tensor, "X P E"]:
    """Return the D numbers of what is told, of about unit size, and the probabilities told."""
    rows = told(turn.belief.flatten(0, 1), knobs.top_k, knobs.digits)
    hidden = rebuild(rows, head).hidden
    scaled = hidden / hidden.square().mean().sqrt().clamp(min=1e-6)
    shares = hidden.new_zeros(len(hidden), len(head.weight)).scatter(
        1, *rows._replace(logp=rows.logp.exp())
    )
    both = torch.cat([scaled, shares], dim=-1).float()
    return both.unflatten(0, turn.belief.shape[:2])


def _read(said: Heard, x: Int[Tensor, " N"], y: Int[Tensor, " N"]) -> Float[Tensor, "N R"]:
    """Return the inputs of some conversations, by prompt and whole text."""
    parts, text = [], y
    for place, own, turn in zip(*(reversed(each) for each in said[:3]), strict=True):
        token = F.one_hot(turn.token[text], turn.belief.shape[-1])
        number = own[x, text]
        text = turn.parent[text]
        parts += [place[x, text], token.float(), number[:, None]]
    return torch.cat(parts, dim=1)


def _trained(said: Heard, prompts: Int[Tensor, "X L"], training: Training) -> Weights:
    """Return the weights after Adam on the cross-entropy of every place of the prompt."""
    vocab, length = int(prompts.max()) + 1, prompts.shape[1]
    first = torch.zeros(1, dtype=torch.long)
    weights = _begun(_read(said, first, first).shape[1], vocab * length, training)
    adam = torch.optim.Adam(weights, lr=training.lr)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, training.steps)
    for x, y in _batches(said.joint, training):
        answer = _answered(weights, _read(said, x, y)).unflatten(1, (length, vocab))
        loss = F.cross_entropy(answer.flatten(0, 1), prompts[x].flatten())
        adam.zero_grad()
        loss.backward()
        adam.step()
        falling.step()
    return weights


def _begun(inputs: int, outputs: int, training: Training) -> Weights:
    made = []
    sizes = ((training.width, inputs), (outputs, training.width))
    for number, (rows, columns) in enumerate(sizes):
        key = Key(rng.rows(training.seed, number, 1))
        values = rng.normal(key, SITE_LAYER, rows * columns).reshape(rows, columns)
        made += [(values * (2 / columns) ** 0.5).float(), torch.zeros(rows)]
    return tuple(each.requires_grad_() for each in made)  # pyright: ignore[reportReturnType]


def _answered(weights: Weights, inputs: Float[Tensor, "N R"]) -> Float[Tensor, "N O"]:
    first, bias, second, last = weights
    return F.linear(F.gelu(F.linear(inputs, first, bias)), second, last)


def _batches(joint: Float[Tensor, "X Y"], training: Training) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield conversations drawn by their probability."""
    below = joint.flatten().cumsum(0)
    seed = rng.rows(training.seed, 2, 1)
    for step in range(training.steps):
        u = rng.uniform(Key(seed, step), SITE_BATCH, training.batch)[0] * below[-1]
        drawn = torch.searchsorted(below, u).clamp(max=len(below) - 1)
        yield drawn // joint.shape[1], drawn % joint.shape[1]


@torch.no_grad()
def _measured(said: Heard, prompts: Int[Tensor, "X L"], weights: Weights, turns: int) -> Inverted:
    """Return how often guesses are right, summed over all conversations."""
    vocab, length = int(prompts.max()) + 1, prompts.shape[1]
    whole = tokens = 0.0
    for x, row in enumerate(said.joint):
        y = torch.arange(len(row))
        answer = _answered(weights, _read(said, torch.full_like(y, x), y))
        right = answer.unflatten(1, (length, vocab)).argmax(-1) == prompts[x]
        whole += float(row[right.all(1)].sum())
        tokens += float((row[:, None] * right).sum()) / length
    return Inverted(turns, whole, tokens)
