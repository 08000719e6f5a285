"""What is minimised over continuous data? One objective a file; each returns a sum and a count.

To add one: write a module next to this file and add one line below.
"""

from unison.objectives.continuous.ambient import Ambient
from unison.objectives.continuous.batch import Bind, EventBatch, EventLoss, Squares
from unison.objectives.continuous.denoising import Denoising
from unison.objectives.continuous.flow_matching import FlowMatching
from unison.objectives.continuous.levels import (
    LEVELS,
    LevelLaw,
    LogitNormalTime,
    LogNormal,
    UniformTime,
)
from unison.objectives.continuous.residual import Restoring
from unison.objectives.continuous.weights import WEIGHTS, Weight

EVENT_OBJECTIVES: dict[str, type[EventLoss]] = {
    "ambient": Ambient,
    "denoising": Denoising,
    "flow_matching": FlowMatching,
    "restoring": Restoring,
}

__all__ = [
    "EVENT_OBJECTIVES",
    "LEVELS",
    "WEIGHTS",
    "Ambient",
    "Bind",
    "Denoising",
    "EventBatch",
    "EventLoss",
    "FlowMatching",
    "LevelLaw",
    "LogNormal",
    "LogitNormalTime",
    "Restoring",
    "Squares",
    "UniformTime",
    "Weight",
]
