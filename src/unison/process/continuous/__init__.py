"""Processes of continuous data, by name.

To add one: copy the nearest file and add one line below. Those of ``GAUSSIAN`` are solved in the
frame y = x_t / alpha, s = sigma / alpha by any solver of ``decode.continuous``. Those of
``RESIDUAL`` start from a degraded event: ``posterior_step`` and ``centred`` undo them.
"""

from unison.process.continuous.gaussian import (
    EDM,
    Cosine,
    FlowMatching,
    GaussianProcess,
    VarianceExploding,
    VariancePreserving,
)
from unison.process.continuous.ouve import OUVE
from unison.process.continuous.resfusion import Resfusion
from unison.process.continuous.residual import ResidualProcess
from unison.process.continuous.resshift import ResShift
from unison.process.continuous.sbve import SBVE

GAUSSIAN: dict[str, type[GaussianProcess]] = {
    "cosine": Cosine,
    "edm": EDM,
    "flow": FlowMatching,
    "ve": VarianceExploding,
    "vp": VariancePreserving,
}

RESIDUAL: dict[str, type[ResidualProcess]] = {
    "ouve": OUVE,
    "resfusion": Resfusion,
    "resshift": ResShift,
    "sbve": SBVE,
}

__all__ = [
    "EDM",
    "GAUSSIAN",
    "OUVE",
    "RESIDUAL",
    "SBVE",
    "Cosine",
    "FlowMatching",
    "GaussianProcess",
    "ResShift",
    "Resfusion",
    "ResidualProcess",
    "VarianceExploding",
    "VariancePreserving",
]
