"""Processes of continuous data, by name.

To add one: copy the nearest file and add one line below. Those of ``GAUSSIAN`` are solved in the
frame y = x_t / alpha, s = sigma / alpha by any solver of ``decode.continuous``.
"""

from unison.process.continuous.gaussian import (
    EDM,
    Cosine,
    FlowMatching,
    GaussianProcess,
    VarianceExploding,
    VariancePreserving,
)

GAUSSIAN: dict[str, type[GaussianProcess]] = {
    "cosine": Cosine,
    "edm": EDM,
    "flow": FlowMatching,
    "ve": VarianceExploding,
    "vp": VariancePreserving,
}

__all__ = [
    "EDM",
    "GAUSSIAN",
    "Cosine",
    "FlowMatching",
    "GaussianProcess",
    "VarianceExploding",
    "VariancePreserving",
]
