"""How are the weights of a whole model rounded, and which noise levels suffer?

Block after block, each calibrated on what it reads behind blocks that are rounded already.
"""

import copy
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unison.compress import calibration, rounding
from unison.compress.beside import divergences
from unison.compress.calibration import Weighting, transformer
from unison.compress.levels import CompressError, Levels, mean_losses
from unison.engine.quantised import grid
from unison.engine.quantised.grid import Bits
from unison.language_model import LanguageModel
from unison.models import Transformer
from unison.types import Tokens

MAPS = ("qkv", "out", "gate_up", "up", "down")  # what engine.quantised packs in a block


@dataclass(frozen=True)
class Quantise:
    """How weights are rounded.

    Attributes:
        bits: Of the weights in blocks; embedding and head have 8.
        weighting: Which positions count; see ``calibration.moments``.
        damping: Added to what a layer reads, as a share of its mean square.
        levels: Rows of text and their noise.
    """

    bits: Bits = 8
    weighting: Weighting = "time"
    damping: float = rounding.DAMPING
    levels: Levels = field(default_factory=Levels)

    def __post_init__(self) -> None:
        if self.bits not in (4, 8):
            raise CompressError(f"weights are rounded to 4 or 8 bits, got {self.bits}.")
        if not self.damping > 0:
            raise CompressError(f"damping must be above 0, got {self.damping}.")


class Layer(NamedTuple):
    """What rounding did to one layer; errors are of its output, relative, on the calibrated text.

    Attributes:
        name: In the network.
        bits: Of its weights.
        nearest: Error if every weight went to the nearest level.
        error: Error as it is.
    """

    name: str
    bits: Bits
    nearest: float
    error: float


class Suffering(NamedTuple):
    """What rounding does at each noise level, from the least noise to the most, on other text.

    Attributes:
        outputs: Relative error of a layer's output, the mean over layers.
        divergence: KL(before || after) of the beliefs, nats per position.
        before: The bound's integrand there, nats per token.
        after: The same of the rounded model, under the same noise.
    """

    outputs: Float[Tensor, " T"]
    divergence: Float[Tensor, " T"]
    before: Float[Tensor, " T"]
    after: Float[Tensor, " T"]


@torch.no_grad()
def quantised(
    model: LanguageModel, text: Tokens, how: Quantise
) -> tuple[LanguageModel, list[Layer]]:
    """Return the model with weights on the grid of ``unison.engine.quantised``, float32.

    ``engine.quantised`` packs it as "exact", without a change. Norms, biases and what reads the
    noise level stay; so do experts.

    Args:
        model: One of unison's own networks; is not changed.
        text: Whole rows to calibrate on.
        how: Bits and calibration.

    Raises:
        CompressError: The network is another library's, or a layer's rows are no multiple of 32.
    """
    network: Transformer = copy.deepcopy(transformer(model.network)).float().eval()
    layers: list[Layer] = []
    for names in _groups(network):
        some = calibration.moments(network, model.process, text, names, how.levels, how.weighting)
        for name, moments in some.items():
            bits = 8 if name == "head" else how.bits
            layers.append(_rounded(network, name, moments.second, bits, how.damping))
    network.embed.weight.copy_(rounding.dense(grid.nearest(network.embed.weight, 8)))
    notes = {**model.notes, "quantised": {"bits": how.bits, "weighting": how.weighting}}
    rounded = replace(model, network=network, notes=notes, format="unison", blueprint=None)
    return rounded, layers


def checked(network: Transformer) -> None:
    """Refuse a network with a layer that no grid fits, before any work.

    Raises:
        CompressError: A layer's rows are no multiple of 32.
    """
    names = ["embed", *(name for some in _groups(network) for name in some)]
    for name in names:
        width = network.get_submodule(name).weight.shape[1]  # pyright: ignore
        if width % grid.GROUP:
            raise CompressError(
                f"{name} has rows of {width} weights, which is no number of groups of "
                f"{grid.GROUP}; this model cannot be quantised."
            )


def suffering(
    before: LanguageModel, after: LanguageModel, text: Tokens, levels: Levels
) -> Suffering:
    """Return what rounding did at each level, on text that was not calibrated on.

    Args:
        before: The model as it was.
        after: Its rounded copy, of the same shape.
        text: Whole rows.
        levels: Rows and noise.
    """
    was, now = transformer(before.network), transformer(after.network)
    names = [name for some in _groups(was) for name in some]
    changes = {name: _weight(now, name).detach() - _weight(was, name).detach() for name in names}
    errors = calibration.output_errors(was, before.process, text, changes, levels)
    return Suffering(
        torch.stack(list(errors.values())).mean(0),
        divergences(levels, before.process, (was, now), text),
        *(mean_losses(levels, before.process, one, text) for one in (was, now)),
    )


def _rounded(network: Transformer, name: str, second: Tensor, bits: Bits, damping: float) -> Layer:
    """Round one layer in place; say what it cost."""
    weight = _weight(network, name)
    values = rounding.rounded(weight, second, bits, damping)
    whole = rounding.error(weight, second).clamp(min=torch.finfo(torch.float64).tiny)
    nearest, own = (
        float(rounding.error(one - weight, second) / whole)
        for one in (rounding.dense(grid.nearest(weight, bits)), values)
    )
    weight.copy_(values)
    return Layer(name, bits, nearest, own)


def _weight(network: Transformer, name: str) -> Tensor:
    return network.get_submodule(name).weight  # pyright: ignore[reportReturnType]


def _groups(network: Transformer) -> list[list[str]]:
    """Return the names of the layers that are rounded, those calibrated together side by side."""
    groups = [
        [
            f"blocks.{i}.{name}"
            for name, layer in block.named_modules()
            if isinstance(layer, nn.Linear) and name.rpartition(".")[2] in MAPS
        ]
        for i, block in enumerate(network.blocks)
    ]
    return groups if network.head is None else [*groups, ["head"]]
