"""Which weights think? Two marks around a thought, and a head that says how much it counts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unison.models.transformer import Transformer
from unison.prob import categorical, rng, truncation
from unison.prob.rng import Key

SITE_THOUGHT = 1 << 12  # token s of a thought at SITE_THOUGHT + s


@dataclass(frozen=True)
class Thinking:
    """How a model thinks; the defaults are those of Quiet-STaR (Zelikman et al., 2024).

    Attributes:
        tokens: Tokens of a thought, its two marks not counted.
        mix: What is mixed: hidden states before the output layer, as in the published programs,
            or log-probabilities, as in the paper.
        temperature: What thoughts are drawn with; 0 for the likeliest tokens.
        scale: Factor between the weights of the marks and their embeddings: how much faster
            they learn.

    Raises:
        ValueError: A setting is out of range.
    """

    tokens: int = 12
    mix: Literal["hidden", "logp"] = "hidden"
    temperature: float = 1.0
    scale: float = 100.0

    def __post_init__(self) -> None:
        if self.tokens < 0:
            raise ValueError(f"tokens must be at least 0, got {self.tokens}.")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be at least 0 and finite, got {self.temperature}.")
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be above 0 and finite, got {self.scale}.")


class Mind(nn.Module):
    """The weights beside a network that let it think (arXiv:2403.09629).

    Differs: the last layer of the mixing head starts at zero, so that at first no thought counts
    and the model is its base.

    Args:
        thinking: Settings.
        network: What it thinks with; not part of this module.
        marks: Tokens whose mean embedding both marks start as; the mean of all where empty.
    """

    def __init__(self, thinking: Thinking, network: Transformer, marks: Sequence[int] = ()) -> None:
        super().__init__()
        width = network.config.hidden
        words = network.embed.weight.detach()
        words = words[list(marks)] if marks else words
        self.thinking = thinking
        self.marks = nn.Parameter(words.mean(0).repeat(2, 1) / thinking.scale)
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(
            nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), last
        ).to(words)

    @property
    def embeddings(self) -> Float[Tensor, "2 D"]:
        """What the network reads at the start and at the end of a thought."""
        return self.marks * self.thinking.scale

    def weight(
        self, before: Float[Tensor, "*N D"], after: Float[Tensor, "*N D"]
    ) -> Float[Tensor, "*N 1"]:
        """Return how much a thought counts: 0 for not at all; any number is possible."""
        return self.head(torch.cat([before, after], dim=-1))

    def mixed(
        self, network: Transformer, before: Float[Tensor, "B *M D"], after: Float[Tensor, "B *M D"]
    ) -> Float[Tensor, "B *M V"]:
        """Return logits of the token after each place, with the thought.

        Args:
            network: Its output layer answers.
            before: What that layer read without the thought.
            after: What it read at the thought's end.
        """
        weight = self.weight(before, after)
        if self.thinking.mix == "hidden":
            return said(network, (1 - weight) * before + weight * after)
        without, within = (said(network, h).log_softmax(-1) for h in (before, after))
        weight = weight.to(without.dtype)
        return (1 - weight) * without + weight * within

    def drawn(
        self, logits: Float[Tensor, "B M V"], key: Key, number: int, places: Int[Tensor, "B M"]
    ) -> Int[Tensor, "B M"]:
        """Return token ``number`` of thoughts: a row's stream names it by the thought's place."""
        u = rng.uniform_at(key, SITE_THOUGHT + number, places)
        logp = truncation.temper(logits.log_softmax(-1), self.thinking.temperature)
        return categorical.sample(logp, u)


def said(network: Transformer, h: Float[Tensor, "B *M D"]) -> Float[Tensor, "B *M V"]:
    """Return what the output layer answers, in at least 32 bits."""
    logits = network.logits(h.flatten(1, -2)).reshape(*h.shape[:-1], network.config.vocab_size)
    return logits.float() if logits.dtype.itemsize < torch.float32.itemsize else logits
