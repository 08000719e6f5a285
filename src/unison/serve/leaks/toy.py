"""On what small model is everything known? A causal transformer of random weights, made at once.

Its prompts are few enough to try them all, and its weights differ enough for each to say something
else: what leaks is what the numbers carry, not what the model forgot.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.models import Transformer, TransformerConfig
from unison.prob import rng
from unison.prob.rng import Key

SITE_WEIGHTS = 0x7FFFFE02


@dataclass(frozen=True)
class Toy:
    """Sizes of the toy.

    Attributes:
        vocab: Tokens.
        prompt: Tokens of the hidden prompt.
        width: D, what the output layer reads; even.
        strength: Of the random weights: how much the prompt decides.
        seed: Names the weights.
    """

    vocab: int = 8
    prompt: int = 3
    width: int = 4
    strength: float = 1.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.vocab < 2 or self.prompt < 1 or self.width < 2 or self.width % 2:
            raise ValueError(
                "the toy needs at least 2 tokens, 1 token of prompt and an even width, got "
                f"vocab={self.vocab}, prompt={self.prompt}, width={self.width}."
            )

    @property
    def prompts(self) -> Int[Tensor, "X L"]:
        """All prompts there are."""
        axes = [torch.arange(self.vocab)] * self.prompt
        return torch.cartesian_prod(*axes).reshape(-1, self.prompt)

    def network(self) -> Transformer:
        """Return the model."""
        made = Transformer(
            TransformerConfig(
                vocab_size=self.vocab,
                num_states=self.vocab,
                hidden=self.width,
                depth=2,
                heads=1,
                max_length=64,
                attention="causal",
                time="none",
                norm="rms",
                mlp="swiglu",
                tied=False,
                head_bias=False,
            )
        )
        _randomise(made, self)
        return made.eval()


@torch.no_grad()
def _randomise(network: Transformer, toy: Toy) -> None:
    """Draw every weight anew; torch's own draws would depend on what was drawn before."""
    for number, weight in enumerate(network.parameters()):
        if weight.ndim < 2:
            continue  # gains of norms stay at 1
        key = Key(rng.rows(toy.seed, number, 1))
        values = rng.normal(key, SITE_WEIGHTS, weight.numel()).reshape(weight.shape)
        weight.copy_(values * toy.strength / math.sqrt(weight.shape[-1]))
    network.embed.weight.mul_(math.sqrt(toy.width))


@torch.no_grad()
def following(network: Transformer, tokens: Int[Tensor, "N L"]) -> Float[Tensor, "N V"]:
    """Return the log-probabilities of what follows some tokens."""
    parts = tokens.split(1 << 14)
    return torch.cat(
        [network(part, torch.zeros(len(part)))[:, -1].log_softmax(-1) for part in parts]
    )
