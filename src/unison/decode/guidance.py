"""How is a belief reshaped before a strategy reads it? Wrappers from denoiser to denoiser."""

import math

from unison.prob import truncation
from unison.types import Belief, Denoiser, Focus, Time, Tokens


def shaped(
    denoise: Denoiser, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0
) -> Denoiser:
    """Sharpen and truncate the belief; every strategy gets it and none mentions it.

    Temperature acts first, then top-k, then the nucleus.

    Args:
        denoise: The belief to reshape.
        temperature: 0 for the argmax, 1 for the model's own law.
        top_k: Keep this many tokens; ``None`` for all.
        top_p: Keep the smallest set of tokens with this mass.

    Raises:
        ValueError: A setting is outside its range.
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be at least 0 and finite, got {temperature}.")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}; leave it out to keep all.")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], got {top_p}.")
    if temperature == 1 and top_k is None and top_p == 1:
        return denoise

    def belief(
        xt: Tokens, t: Time, focus: Focus | None = None, earlier: Belief | None = None
    ) -> Belief:
        logp = truncation.temper(denoise(xt, t, focus, earlier), temperature)
        if top_k is not None:
            logp = truncation.top_k(logp, top_k)
        return truncation.top_p(logp, top_p)

    return belief
