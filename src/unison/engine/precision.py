"""How precisely are a language model's weights kept?"""

from dataclasses import replace

from unison.engine.quantised import Precision, kernel
from unison.engine.quantised import quantised as packed
from unison.language_model import LanguageModel


def quantised(model: LanguageModel, bits: Precision = "exact") -> LanguageModel:
    """Return a model whose weights take fewer bits, for evaluation.

    Args:
        model: One of unison's own networks.
        bits: "exact" takes the smallest format that changes no weight, as there is for checkpoints
            that were quantised before (GGUF Q4_1, Q8_0); "4" and "8" round to the nearest;
            "adaptive4" spends 0.16 of float32's bits where they save most error. These are fast
            for a few positions at a time; for whole canvases "dynamic8" is, which rounds
            activations too, and "bfloat16" on CPUs that multiply it.

    Raises:
        ValueError: The network cannot be quantised, or with "exact" not without changing it.
    """
    return replace(model, network=packed(model.network, bits))


def quick(bits: Precision) -> bool:
    """Return whether weights of a precision are fast here: whether their loops can be compiled.

    Those of "bfloat16" are torch's own; they are fast on CPUs that multiply it.
    """
    return bits == "bfloat16" or kernel.able()
