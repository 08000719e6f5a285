"""Which layers of a transformer are quantised, and is it still the same model?"""

import copy
from collections.abc import Callable
from typing import Any, Literal, cast, get_args

from torch import Tensor, nn

from unison.engine.quantised import ways
from unison.engine.quantised.block import QuantisedBlock, shortens
from unison.engine.quantised.grid import Bits
from unison.engine.quantised.ways import Way
from unison.models import Network
from unison.models.mlp import GeluMlp, SwiGluMlp
from unison.models.transformer import Transformer

Precision = Literal["exact", "4", "8", "adaptive4", "dynamic8", "bfloat16"]

_MAPS = ("qkv", "out", "gate_up", "up", "down")  # the dense layers of attention and of an MLP
_TABLES = ("embed", "head")


def quantised(network: Network, bits: Precision = "exact") -> Network:
    """Return a copy of a transformer of less precise attention, MLPs, embedding and head.

    The copy is for evaluation. Experts that are stacked, and whatever reads the noise level, stay
    as they are. A tied head and the embedding are one table in memory. It is fast on a CPU with
    numba (``pip install 'unison[fast]'``), and right, though slow, everywhere.

    Args:
        network: A ``Transformer``, as ``unison.load`` makes of most checkpoints.
        bits: Fast for a few positions at a time, since fewer bytes of weights are read: "exact"
            takes the smallest format that holds every weight of a layer as it is, so that a
            checkpoint that was quantised (GGUF Q4_1 and Q8_0) stays the same model; "4" and "8"
            round to the nearest, embedding and head to 8 bits in either case; "adaptive4" spends
            0.16 of float32's bits where they save most error. Fast for many positions: "dynamic8"
            rounds weights and activations to 8 bits, "bfloat16" both to its own.

    Raises:
        ValueError: The network is of another class, there is no such precision, with "exact"
            the weights of a layer lie on no grid, or grids ("exact", "4", "8", "adaptive4") rows of
            weights are no multiple of 32.
    """
    named(bits)
    if not isinstance(network, Transformer):
        raise ValueError(
            f"a {type(network).__name__} cannot be quantised; unison's own Transformer can, which "
            "unison.load makes of every family it knows."
        )
    made = _rebuilt(network, _WAYS[bits](network))
    made.blocks = nn.ModuleList(
        QuantisedBlock(block) if shortens(block) else block for block in made.blocks
    )
    return made.eval()


def named(bits: str) -> Precision:
    """Return a precision by its name.

    Raises:
        ValueError: There is none of that name.
    """
    if bits not in get_args(Precision):
        raise ValueError(f"bits must be one of {', '.join(get_args(Precision))}, got {bits!r}.")
    return cast(Precision, bits)


def _rebuilt(network: Transformer, way: Way) -> Any:
    """Return a copy whose layers are made anew; what is not keeps its weights in a copy."""
    instead: dict[int, Any] = {
        id(layer): way.layer(layer, name) for name, layer in _maps(network).items()
    }
    for mlp in network.blocks.modules():
        if type(mlp) in way.mlps:
            assert isinstance(mlp, GeluMlp | SwiGluMlp)
            first = mlp.up if isinstance(mlp, GeluMlp) else mlp.gate_up
            instead[id(mlp)] = way.mlps[type(mlp)](instead[id(first)], instead[id(mlp.down)])
    embed, head = way.table(network)
    if embed is not network.embed:
        instead[id(network.embed)] = embed
    head = head if network.head is None else instead[id(network.head)]
    made: Any = copy.deepcopy(network, instead)
    made.head = head
    return made


def _maps(network: Transformer) -> dict[str, nn.Linear]:
    """Return the dense layers that are made anew, by their names."""
    found = {
        f"blocks.{name}": layer
        for name, layer in network.blocks.named_modules()
        if isinstance(layer, nn.Linear) and name.rpartition(".")[2] in _MAPS
    }
    return found if network.head is None else found | {"head": network.head}


def _weights(network: Transformer) -> dict[str, Tensor]:
    found = {name: layer.weight for name, layer in _maps(network).items()}
    return found | {"embed": network.embed.weight}


def _eight(name: str) -> tuple[Bits, ...]:
    return (8,)


def _four(name: str) -> tuple[Bits, ...]:
    return (8,) if name in _TABLES else (4,)


def _any(name: str) -> tuple[Bits, ...]:
    return (4, 8)


_WAYS: dict[str, Callable[[Transformer], Way]] = {
    "exact": lambda _: ways.grids(_any, whole=True),
    "4": lambda _: ways.grids(_four, whole=False),
    "8": lambda _: ways.grids(_eight, whole=False),
    "adaptive4": lambda network: ways.allotted(_weights(network)),
    "dynamic8": lambda _: ways.bytes_of_both(),
    "bfloat16": lambda _: ways.halved(),
}
