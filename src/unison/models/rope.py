"""How fast does each pair of a head rotate? Frequencies, and their stretch to longer texts."""

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from unison.models.config import RopeScaling, TransformerConfig

Rates = Float[Tensor, " R"]


def frequencies(config: TransformerConfig, device: torch.device) -> tuple[Rates, float]:
    """Return radians per position of every rotating pair, float64, and the factor on cos and sin.

    Base rates as in RoPE (Su et al., 2021, arXiv:2104.09864).
    """
    width = config.rope_dim
    exponent = torch.arange(0, width, 2, dtype=torch.float64, device=device) / width
    rates = config.rope_base**-exponent
    scaling = config.rope_scaling
    if scaling is None:
        return rates, 1.0
    return _STRETCHES[scaling.kind](rates, scaling, config.rope_base), _factor(scaling)


def _linear(rates: Rates, scaling: RopeScaling, base: float) -> Rates:
    """Position interpolation (Chen et al., 2023, arXiv:2306.15595)."""
    del base
    return rates / scaling.factor


def _llama3(rates: Rates, scaling: RopeScaling, base: float) -> Rates:
    """Slow pairs are stretched, fast ones are not, those between by a straight line.

    As Llama 3.1 (Grattafiori et al., 2024, arXiv:2407.21783) is published.
    """
    del base
    turns = rates * scaling.original_length / (2 * math.pi)
    share = ((turns - scaling.low) / (scaling.high - scaling.low)).clamp(0, 1)
    return rates * (share + (1 - share) / scaling.factor)


def _yarn(rates: Rates, scaling: RopeScaling, base: float) -> Rates:
    """As llama3, but the line runs over pair numbers, between whole ones (arXiv:2309.00071)."""
    pairs = len(rates)

    def pair(turns: float) -> float:
        return pairs * math.log(scaling.original_length / (turns * 2 * math.pi)) / math.log(base)

    first = max(math.floor(pair(scaling.high)), 0)
    last = min(math.ceil(pair(scaling.low)), 2 * pairs - 1)
    number = torch.arange(pairs, dtype=rates.dtype, device=rates.device)
    slow = ((number - first) / max(last - first, 0.001)).clamp(0, 1)
    return rates * (1 - slow + slow / scaling.factor)


def _factor(scaling: RopeScaling) -> float:
    """Return what YaRN multiplies cos and sin by: queries and keys, so logits by its square."""
    if scaling.kind != "yarn":
        return 1.0
    if scaling.attention is not None:
        return scaling.attention
    return 0.1 * math.log(scaling.factor) + 1


_STRETCHES: Mapping[str, Callable[[Rates, RopeScaling, float], Rates]] = {
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}
