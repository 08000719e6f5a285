"""Which layers of a transformer are quantised, and is it still the same model?"""

import copy
from typing import Any, Literal, get_args

from torch import Tensor, nn

from unison.engine.quantised import grid, linear, packed
from unison.engine.quantised.block import QuantisedBlock, shortens
from unison.engine.quantised.grid import Bits, Grid
from unison.engine.quantised.linear import QuantisedEmbedding, QuantisedLinear
from unison.models import Network
from unison.models.transformer import Transformer

Precision = Literal["exact", "4", "8"]

_MAPS = ("qkv", "out", "gate_up", "up", "down")  # the dense layers of attention and of an MLP


def quantised(network: Network, bits: Precision = "exact") -> Network:
    """Return a copy of a transformer with packed weights in attention, MLPs, embedding and head.

    The copy is for evaluation. Experts that are stacked, and whatever reads the noise level, stay
    as they are. A tied head and the embedding are one table in memory. It is fast on a CPU with
    llvmlite (``pip install 'unison[fast]'``), and right, though slow, everywhere.

    Args:
        network: A ``Transformer``, as ``unison.load`` makes of most checkpoints.
        bits: "exact" takes the smallest format that holds every weight of a layer as it is, so
            that a checkpoint that was quantised (GGUF Q4_1 and Q8_0) stays the same model. "4" and
            "8" round to the nearest, embedding and head to 8 bits in either case.

    Raises:
        ValueError: The network is of another class, there is no such number of bits, with "exact"
            the weights of a layer lie on no grid, or rows of weights are no multiple of 32.
    """
    if bits not in get_args(Precision):
        raise ValueError(f"bits must be one of {', '.join(get_args(Precision))}, got {bits!r}.")
    if not isinstance(network, Transformer):
        raise ValueError(
            f"a {type(network).__name__} cannot be quantised; unison's own Transformer can, which "
            "unison.load makes of every family it knows."
        )
    instead: dict[int, Any] = {}
    for name, layer in network.blocks.named_modules():
        if isinstance(layer, nn.Linear) and name.rpartition(".")[2] in _MAPS:
            instead[id(layer)] = _layer(layer, bits, f"blocks.{name}")
    finer: Precision = "8" if bits == "4" else bits
    table = _fitted(network.embed.weight, finer, "embed")
    embed = QuantisedEmbedding(packed.packed(table), table.bits, len(table.scale))
    instead[id(network.embed)] = embed
    if network.head is not None:
        instead[id(network.head)] = _layer(network.head, finer, "head")
    made: Any = copy.deepcopy(network, instead)
    if network.head is None:
        rows = network.config.vocab_size
        made.head = QuantisedLinear(embed.weights, embed.bits, rows, tied=True)
    made.blocks = nn.ModuleList(
        QuantisedBlock(block) if shortens(block) else block for block in made.blocks
    )
    return made.eval()


def _layer(layer: nn.Linear, bits: Precision, name: str) -> QuantisedLinear:
    return linear.from_grid(_fitted(layer.weight, bits, name), layer.bias)


def _fitted(weight: Tensor, bits: Precision, name: str) -> Grid:
    sizes: tuple[Bits, ...] = (4, 8) if bits == "exact" else (4,) if bits == "4" else (8,)
    off = 0
    for size in sizes:
        try:
            fitted = grid.nearest(weight, size)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        off = int((~fitted.exact).sum())
        if bits != "exact" or off == 0:
            return fitted
    raise ValueError(
        f"{name}: {off} of {weight.numel() // grid.GROUP} groups of weights lie on no grid of 4 "
        "or 8 bits, so the model would change; take bits='8' or '4' to round them."
    )
