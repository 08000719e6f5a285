"""How does each precision make the layers of a network? One way a precision."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from unison.engine.quantised import adaptive, dynamic, grid, halves, linear, packed
from unison.engine.quantised.grid import Bits, Grid
from unison.engine.quantised.linear import QuantisedEmbedding, QuantisedLinear
from unison.models.mlp import GeluMlp, SwiGluMlp
from unison.models.transformer import Transformer


class Way(NamedTuple):
    """What is made of the parts of a network.

    Attributes:
        layer: Of a dense layer, by its name.
        table: Of the embedding: what stands for it, and the output layer on the same memory, which
            is used where the head is tied.
        mlps: Of an MLP's two layers once they are made, by its class; others keep theirs.
    """

    layer: Callable[[nn.Linear, str], nn.Module]
    table: Callable[[Transformer], tuple[nn.Module, nn.Module | None]]
    mlps: dict[type[nn.Module], Callable[[Any, Any], nn.Module]]


def grids(sizes: Callable[[str], tuple[Bits, ...]], *, whole: bool) -> Way:
    """Return the way of packed grids.

    Args:
        sizes: Bits that a layer may have, by its name.
        whole: Take the first of them that changes no weight, and refuse a layer that has none;
            else there is one and weights are rounded.
    """

    def fitted(weight: Tensor, name: str) -> Grid:
        return _fitted(weight, sizes(name), name, whole=whole)

    return _gridded(fitted)


def _gridded(fitted: Callable[[Tensor, str], Grid]) -> Way:
    def layer(dense: nn.Linear, name: str) -> nn.Module:
        return linear.from_grid(fitted(dense.weight, name), dense.bias)

    def table(network: Transformer) -> tuple[nn.Module, nn.Module | None]:
        found = fitted(network.embed.weight, "embed")
        embed = QuantisedEmbedding(packed.packed(found), found.bits, len(found.scale))
        rows = network.config.vocab_size
        return embed, QuantisedLinear(embed.weights, embed.bits, rows, tied=True)

    return Way(layer, table, {})


def allotted(weights: Mapping[str, Tensor]) -> Way:
    """Return the way of packed grids as fine as each layer deserves; see ``adaptive``.

    Args:
        weights: Of all layers, by their names.
    """
    found = adaptive.fitted(weights)
    return _gridded(lambda _, name: found[name])


def _fitted(weight: Tensor, sizes: tuple[Bits, ...], name: str, *, whole: bool) -> Grid:
    off = 0
    for size in sizes:
        fitted = _named(name, lambda size=size: grid.nearest(weight, size))
        off = int((~fitted.exact).sum())
        if not whole or off == 0:
            return fitted
    raise ValueError(
        f"{name}: {off} of {weight.numel() // grid.GROUP} groups of weights lie on no grid of 4 "
        "or 8 bits, so the model would change; take bits='8' or '4' to round them."
    )


def bytes_of_both() -> Way:
    """Return the way of weights and activations of 8 bits."""

    def layer(dense: nn.Linear, name: str) -> nn.Module:
        return _named(name, lambda: dynamic.from_dense(dense.weight, dense.bias))

    def table(network: Transformer) -> tuple[nn.Module, nn.Module | None]:
        found = _named("embed", lambda: dynamic.nearest(network.embed.weight))
        levels, scale = (part[: network.config.vocab_size] for part in found)
        head = dynamic.DynamicLinear(levels.T, scale, tied=True)
        return dynamic.DynamicEmbedding(found), head

    mlps = {GeluMlp: dynamic.DynamicGelu, SwiGluMlp: dynamic.DynamicSwiGlu}
    return Way(layer, table, mlps)


def halved() -> Way:
    """Return the way of bfloat16; the embedding, of which no product is made, stays as it is."""

    def table(network: Transformer) -> tuple[nn.Module, nn.Module | None]:
        words = network.embed.weight[: network.config.vocab_size]
        return network.embed, halves.HalfLinear(words, tied=True)

    mlps = {GeluMlp: halves.HalfGelu, SwiGluMlp: halves.HalfSwiGlu}
    return Way(lambda dense, _: halves.HalfLinear(dense.weight, dense.bias), table, mlps)


def _named(name: str, made: Callable[[], Any]) -> Any:
    """Return what is made; an error says of which layer."""
    try:
        return made()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
