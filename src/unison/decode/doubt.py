"""How undecided is a belief, position by position?"""

import torch
from jaxtyping import Float
from torch import Tensor

from unison.decode.sight import certainty
from unison.prob import kernels
from unison.prob.tiles import tiled


def lead(belief: Float[Tensor, "B F V"]) -> Float[Tensor, "B F"]:
    """Return by how much the likeliest token's probability exceeds the next one's, float64."""
    if kernels.fits(belief):
        from unison.prob.kernels.doubt import doubt  # needs Triton

        said = doubt(belief)
        return said.best.exp() - said.next.exp()
    best = belief.argmax(-1)
    second = belief.scatter(-1, best[..., None], -torch.inf).amax(-1)
    return certainty(belief, best) - second.double().exp()


def entropy(belief: Float[Tensor, "B F V"]) -> Float[Tensor, "B F"]:
    """Return the entropy at each position in nats, float64."""
    if kernels.fits(belief):
        from unison.prob.kernels.doubt import doubt  # needs Triton

        return doubt(belief).entropy
    return tiled(_entropy, belief)


def _entropy(belief: Float[Tensor, "*N V"]) -> Float[Tensor, "*N"]:
    # Softmax is exp here, and fast where that underflows; the clamp takes away infinities alone.
    terms = belief.softmax(-1) * belief.clamp(min=-200)
    return -terms.sum(-1, dtype=torch.float64)
