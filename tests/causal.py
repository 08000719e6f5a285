"""Small causal transformers with random weights, for tests of speculation."""

import torch

from unison.engine.reading import NetworkTarget
from unison.models import Transformer, TransformerConfig

BEGIN = 0


def network(seed: int = 0, vocab: int = 7, **changes) -> Transformer:
    """Return a causal transformer whose weights are all random: none is left at zero."""
    settings = {
        "vocab_size": vocab,
        "num_states": vocab,
        "hidden": 16,
        "depth": 3,
        "heads": 4,
        "kv_heads": 2,
        "max_length": 64,
        "attention": "causal",
        "time": "none",
        "norm": "rms",
        "mlp": "swiglu",
        "mlp_ratio": 2.0,
        "tied": False,
        "head_bias": False,
    }
    made = Transformer(TransformerConfig(**settings | changes))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in made.parameters():
            wide = 1.0 if weight.ndim > 1 else 0.2
            weight.copy_(
                torch.randn(weight.shape, generator=draw) * wide * weight.shape[-1] ** -0.5
            )
            if weight.ndim == 1:
                weight.add_(1.0)
        made.embed.weight.mul_(4)
        if made.head is not None:
            made.head.weight.mul_(6)
    return made.eval()


def target(seed: int = 0, vocab: int = 7, **changes) -> NetworkTarget:
    """Return such a transformer as a target."""
    return NetworkTarget(network(seed, vocab, **changes), BEGIN)


def logits(made: Transformer, inputs: list[int]) -> torch.Tensor:
    """Return what a transformer says after each of the inputs, by its own plain forward."""
    with torch.no_grad():
        return made(torch.tensor([inputs]), torch.zeros(1))[0].double()


def greedy(
    made: Transformer, inputs: list[int], count: int, ends: tuple[int, ...] = ()
) -> list[int]:
    """Return the plain greedy continuation, each token by a whole forward."""
    text = list(inputs)
    for _ in range(count):
        text.append(int(logits(made, text)[-1].argmax()))
        if text[-1] in ends:
            break
    return text[len(inputs) :]
