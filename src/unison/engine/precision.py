"""How precisely are a language model's weights kept?"""

import importlib.util
from dataclasses import replace

from unison.engine.quantised import Precision, kernel
from unison.engine.quantised import quantised as packed
from unison.language_model import LanguageModel


def quantised(model: LanguageModel, bits: Precision = "exact") -> LanguageModel:
    """Return a model whose weights are packed into 4 or 8 bits, for evaluation.

    Args:
        model: One of unison's own networks.
        bits: "exact" takes the smallest format that changes no weight, as there is for checkpoints
            that were quantised before (GGUF Q4_1, Q8_0); "4" and "8" round to the nearest.

    Raises:
        ValueError: The network cannot be quantised, or with "exact" not without changing it.
    """
    return replace(model, network=packed(model.network, bits))


def compiled() -> bool:
    """Return whether packed weights are fast on this CPU: whether their loops can be compiled."""
    return kernel.available() and importlib.util.find_spec("numba") is not None
