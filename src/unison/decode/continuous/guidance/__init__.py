"""Guidance of continuous diffusion: wrappers from denoiser to denoiser, composed like functions.

``GUIDANCE`` names those that lead from one model to another, all called with (denoise, plain,
weight). To add one: copy ``classifier_free.py``, and add one line below.
"""

from unison.decode.continuous.guidance.bounds import Clipped, Thresholded
from unison.decode.continuous.guidance.classifier import Classified
from unison.decode.continuous.guidance.classifier_free import ClassifierFree
from unison.decode.continuous.guidance.dps import DPS
from unison.decode.continuous.guidance.measurement import Measurement
from unison.decode.continuous.guidance.minority import (
    SelfGuided,
    minority_score,
    quantile_classes,
)
from unison.decode.continuous.guidance.operators import (
    Blurred,
    Dense,
    Downsampled,
    Function,
    Linear,
    LinearFunction,
    Masked,
    Operator,
)
from unison.decode.continuous.guidance.pigdm import PiGDM
from unison.decode.continuous.guidance.plus import ClassifierFreePlus
from unison.decode.continuous.guidance.projected import Projected
from unison.decode.continuous.guidance.repaint import RePaint
from unison.decode.continuous.guidance.replaced import Replaced
from unison.decode.continuous.guidance.zero_star import ClassifierFreeZero

GUIDANCE: dict[str, type[ClassifierFree] | type[Projected] | type[ClassifierFreeZero]] = {
    "classifier_free": ClassifierFree,
    "projected": Projected,
    "zero_star": ClassifierFreeZero,
}

__all__ = [
    "DPS",
    "GUIDANCE",
    "Blurred",
    "Classified",
    "ClassifierFree",
    "ClassifierFreePlus",
    "ClassifierFreeZero",
    "Clipped",
    "Dense",
    "Downsampled",
    "Function",
    "Linear",
    "LinearFunction",
    "Masked",
    "Measurement",
    "Operator",
    "PiGDM",
    "Projected",
    "RePaint",
    "Replaced",
    "SelfGuided",
    "Thresholded",
    "minority_score",
    "quantile_classes",
]
