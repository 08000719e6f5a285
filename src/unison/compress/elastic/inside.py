"""How is a network of a large one evaluated, and cut out of it? Its weights are views of the large.

A view lives on the weights of the large network: gradients flow to them, and a step moves both. A
cut is a copy, an ordinary model; both answer the same to the last bit.
"""

import dataclasses

import torch
from torch import Tensor, nn

from unison.compress.elastic.space import Choice, layers_of, shape_of
from unison.language_model import LanguageModel
from unison.models import Transformer, TransformerConfig
from unison.models.layers import Attention, Block
from unison.models.mlp import GeluMlp, SwiGluMlp

_AROUND = ("embed", "places", "time", "norm", "modulation", "head", "earlier", "pooled")


def view(network: Transformer, choice: Choice) -> Transformer:
    """Return a network that lies in a large one, on the large one's weights.

    Args:
        network: The large one.
        choice: The sizes.

    Raises:
        ValueError: The large one does not hold such a network.
    """
    config = network.config
    with torch.device("meta"):
        made = Transformer(shape_of(config, choice))
    for name in _AROUND:
        setattr(made, name, getattr(network, name))
    for block, layer in zip(made.blocks, layers_of(config.depth, choice.depth), strict=True):
        _look(block, network.blocks[layer], config, choice)  # pyright: ignore[reportArgumentType]
    return made.train(network.training)


def cut(model: LanguageModel, choice: Choice) -> LanguageModel:
    """Return a network of a large one as a model of its own, which saves and loads as any other.

    Args:
        model: The large one.
        choice: The sizes.

    Raises:
        ValueError: It is not unison's own transformer, or does not hold such a network.
    """
    network = own(model)
    seen = view(network, choice)
    with torch.device("meta"):
        made = Transformer(seen.config)
    weights = {name: _at(seen, name).detach().clone() for name in made.state_dict()}
    made.load_state_dict(weights, assign=True)
    notes = {**model.notes, "cut": choice._asdict()}
    return dataclasses.replace(
        model, network=made.train(network.training), notes=notes, format="unison", blueprint=None
    )


def own(model: LanguageModel) -> Transformer:
    """Return the network of a model.

    Raises:
        ValueError: It runs inside another library.
    """
    if not isinstance(model.network, Transformer):
        raise ValueError(
            f"a {type(model.network).__name__} cannot be made elastic; only unison's own "
            "transformer can."
        )
    return model.network


def _at(network: nn.Module, name: str) -> Tensor:
    path, _, last = name.rpartition(".")
    return getattr(network.get_submodule(path), last)


def _look(block: Block, whole: Block, config: TransformerConfig, choice: Choice) -> None:
    """Put the parts of a block of the large network into one of the small."""
    for name in ("attention_norm", "mlp_norm", "modulation", "dropout"):
        setattr(block, name, getattr(whole, name))
    if choice.heads == config.heads:
        block.attention = whole.attention
    else:
        _attention(block.attention, whole.attention, choice.heads)
    if choice.mlp == config.mlp_width:
        block.mlp = whole.mlp
    else:
        _mlp(block.mlp, whole.mlp, choice.mlp)


def _attention(small: Attention, whole: Attention, heads: int) -> None:
    small.q_norm, small.k_norm = whole.q_norm, whole.k_norm
    width = whole.head_dim
    sizes = [whole.heads * width, whole.kv_heads * width, whole.kv_heads * width]
    kept = [small.heads * width, small.kv_heads * width, small.kv_heads * width]
    _put(small.qkv, _rows(whole.qkv.weight, sizes, kept), _rows(whole.qkv.bias, sizes, kept))
    _put(small.out, whole.out.weight[:, : heads * width], whole.out.bias)


def _mlp(small: nn.Module, whole: nn.Module, width: int) -> None:
    if isinstance(whole, SwiGluMlp) and isinstance(small, SwiGluMlp):
        half = whole.down.weight.shape[1]
        both = _rows(whole.gate_up.weight, [half, half], [width, width])
        _put(small.gate_up, both, None)
        _put(small.down, whole.down.weight[:, :width], None)
    elif isinstance(whole, GeluMlp) and isinstance(small, GeluMlp):
        _put(small.up, whole.up.weight[:width], whole.up.bias[:width])
        _put(small.down, whole.down.weight[:, :width], whole.down.bias)


def _rows(weight: Tensor | None, sizes: list[int], kept: list[int]) -> Tensor | None:
    """Return the first rows of every part of a fused weight."""
    if weight is None:
        return None
    parts = weight.split(sizes)
    return torch.cat([part[:size] for part, size in zip(parts, kept, strict=True)])


def _put(linear: nn.Module, weight: Tensor | None, bias: Tensor | None) -> None:
    """Let a linear map read tensors that are no parameters of its own."""
    for name, value in (("weight", weight), ("bias", bias)):
        delattr(linear, name)
        setattr(linear, name, value)
