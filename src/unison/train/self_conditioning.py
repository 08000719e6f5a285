"""How does a network learn to read its own earlier belief? Half of the rows see it, half do not.

Self-conditioning (Chen et al., 2022, arXiv:2208.04202, section 3).
"""

import torch

from unison.models import Network as Answering
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Logits, Mask, Network, SoftTokens, Time, Tokens

_SITE = 64  # beyond the sites of objectives and distillations


def self_conditioned(network: Answering, key: Key) -> Network:
    """Return a network that answers twice; the second time half of its rows see the first answer.

    No gradient flows through the first answer.

    Args:
        network: Made with ``self_conditioning``.
        key: Decides which rows see it.
    """
    seen = (rng.uniform(key, _SITE, 1) < 0.5)[..., None]

    def answer(inputs: Tokens | SoftTokens, sigma: Time, valid: Mask | None = None) -> Logits:
        with torch.no_grad():
            earlier = network(inputs, sigma, valid).softmax(-1)
        return network(inputs, sigma, valid, earlier.where(seen, 0.0))

    return answer
