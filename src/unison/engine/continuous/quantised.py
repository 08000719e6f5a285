"""How does a network of events compute with 8-bit integers? Post-training quantisation.

PTQ4DM (Shang et al., 2023, arXiv:2211.15736): weights of each output channel and inputs of each
layer on even grids, the inputs' ranges calibrated along the way (``calibration``). Differs:
weights are rounded to the nearest at the scale of least squared error; no block reconstruction.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn

from unison.engine.continuous.calibration import Range, Shown
from unison.engine.continuous.geometry import layers_of
from unison.engine.continuous.layer import RoundedLayer, Weights
from unison.engine.continuous.rounding import between, weight_levels, weight_scale
from unison.types import EventDenoiser


class Fidelity(NamedTuple):
    """How near a rounded model stays to the original at one level.

    Attributes:
        level: Which level.
        error: Root of the mean squared difference of their answers.
        sqnr: Mean square of the original's answer over that of the difference, in decibels.
    """

    level: float
    error: float
    sqnr: float


def quantised(
    network: nn.Module,
    ranges: Mapping[str, Range],
    bits: int = 8,
    integers: bool = False,
) -> nn.Module:
    """Return a copy of a network whose layers compute on few-bit grids; for evaluation.

    Args:
        network: In full precision.
        ranges: Of the input of each layer that is to be rounded; others stay as they are.
        bits: Of weights and inputs.
        integers: Multiply 8-bit integers in place of their values (CPU).

    Raises:
        ValueError: A range is of no layer, or a layer or the number of bits is not supported.
    """
    made = copy.deepcopy(network)
    layers = dict(layers_of(made))
    strange = [name for name in ranges if name not in layers]
    if strange or not ranges:
        raise ValueError(
            f"{strange[0]!r} is no dense map or convolution of the network."
            if strange
            else "no ranges were given; calibrate first, with calibration.ranges_of."
        )
    for name, found in ranges.items():
        low, high = torch.tensor(found.low), torch.tensor(found.high)
        layer = layers[name]
        scale = weight_scale(layer.weight, bits)
        weights = Weights(weight_levels(layer.weight, scale, bits), scale, bits)
        rounded = RoundedLayer(layer, weights, bits, between(low, high, bits))
        rounded.integers = integers
        made.set_submodule(name, rounded)
    return made.eval()


def fidelity(
    original: EventDenoiser, rounded: EventDenoiser, cases: Sequence[Shown]
) -> tuple[Fidelity, ...]:
    """Compare two denoisers, a level at a time.

    Args:
        original: In full precision.
        rounded: The same model, rounded.
        cases: For each level, events at that level alone.

    Raises:
        ValueError: The events of a case are at several levels.
    """
    return tuple(_compared(original, rounded, case) for case in cases)


@torch.no_grad()
def _compared(original: EventDenoiser, rounded: EventDenoiser, case: Shown) -> Fidelity:
    level = case.level[0].item()
    if bool((case.level != level).any()):
        raise ValueError("the events of one case must be at one level; split them by level.")
    answer = original(case.x, case.level).double()
    noise = (rounded(case.x, case.level) - answer).square().mean()
    ratio = 10 * torch.log10(answer.square().mean() / noise)
    return Fidelity(level, noise.sqrt().item(), ratio.item())
