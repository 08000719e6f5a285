"""How does a smaller network come from a larger one? The kept rows and columns, a plain shape."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from unison.compress.calibration import Moments
from unison.compress.pruning.choosing import Kept
from unison.compress.pruning.solving import Affine, refitted
from unison.models import Transformer, TransformerConfig

State = dict[str, Tensor]


def cut(
    network: Transformer, kept: Sequence[Kept], moments: Mapping[str, Moments] | None
) -> Transformer:
    """Return the dense network of the kept units.

    Args:
        network: Is not changed.
        kept: Of every layer, as many as of any other.
        moments: What ``out`` and ``down`` of every layer read: they are refitted to it. ``None``
            leaves weights as they are.
    """
    config, first = network.config, kept[0]
    smaller = replace(
        config,
        heads=len(first.heads),
        kv_heads=len(first.shared),
        head_width=config.head_dim,
        mlp_hidden=len(first.mlp),
    )
    state = dict(network.state_dict())
    for number, own in enumerate(kept):
        columns = {"attention.out": _wide(own.heads, config.head_dim), "mlp.down": own.mlp}
        state |= _inward(state, f"blocks.{number}.", own, config)
        for name, some in columns.items():
            known = None if moments is None else moments[f"blocks.{number}.{name}"]
            state |= _outward(state, f"blocks.{number}.{name}", some, known)
    return built(smaller, state)


def without(network: Transformer, layer: int) -> Transformer:
    """Return the network without one layer; weights are shared, not copied."""
    state = {}
    for name, weight in network.state_dict().items():
        start, _, rest = name.partition(".")
        if start == "blocks":
            number, _, part = rest.partition(".")
            if int(number) == layer:
                continue
            name = f"blocks.{int(number) - (int(number) > layer)}.{part}"
        state[name] = weight
    return built(replace(network.config, depth=network.config.depth - 1), state)


def built(config: TransformerConfig, state: State) -> Transformer:
    """Return a network of a shape with these weights."""
    with torch.device("meta"):
        network = Transformer(config)
    network.load_state_dict(state, assign=True)
    return network.eval()


def _inward(state: State, at: str, own: Kept, config: TransformerConfig) -> State:
    """Return the weights of the layers that make the units."""
    wide, groups = config.head_dim, config.num_kv_heads
    first = config.heads
    heads = torch.cat([own.heads, first + own.shared, first + groups + own.shared])
    rows = {"attention.qkv": _wide(heads, wide)}
    if config.mlp == "swiglu":
        rows["mlp.gate_up"] = torch.cat([own.mlp, config.mlp_width + own.mlp])
    else:
        rows["mlp.up"] = own.mlp
    return {
        f"{at}{name}.{part}": state[f"{at}{name}.{part}"][some]
        for name, some in rows.items()
        for part in ("weight", "bias")
        if f"{at}{name}.{part}" in state
    }


def _outward(state: State, name: str, kept: Int[Tensor, " K"], known: Moments | None) -> State:
    """Return the weights of a layer that reads units."""
    layer = Affine(state[f"{name}.weight"], state.get(f"{name}.bias"))
    smaller = Affine(layer.weight[:, kept], layer.bias)
    if known is not None and len(kept) < layer.weight.shape[1]:
        smaller = refitted(layer, known, kept)
    named = {f"{name}.weight": smaller.weight.contiguous()}
    return named if smaller.bias is None else named | {f"{name}.bias": smaller.bias}


def _wide(heads: Int[Tensor, " H"], width: int) -> Int[Tensor, " K"]:
    """Return the rows or columns of heads."""
    return (heads[:, None] * width + torch.arange(width, device=heads.device)).flatten()
