"""How does a causal network read a few more tokens after what it remembers?

The lean way through a ``Transformer`` for left-to-right decoding: only the new tokens pass, at
any places, seeing whatever they are told to see. A tree of drafts is such a few tokens.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.models import layers
from unison.models.layers import Hidden, LayerMemory
from unison.models.transformer import Transformer
from unison.models.view import KeyValues

OnLayer = Callable[[int, Hidden], Hidden]


class Step(NamedTuple):
    """A few tokens to read.

    Attributes:
        tokens: What is read; -1 - j for probe number j.
        places: Where in the text each stands; several may share a place.
        slots: Where in the memory its keys and values go.
        sees: Whether a token (row) may look at a slot of the memory (column), of the first N.
    """

    tokens: Int[Tensor, "B M"]
    places: Int[Tensor, "B M"]
    slots: Int[Tensor, "B M"]
    sees: Bool[Tensor, "B M N"]


def read(
    network: Transformer,
    step: Step,
    memory: KeyValues | None,
    on_layer: OnLayer | None = None,
    blocks: Collection[int] | None = None,
    probes: Float[Tensor, "P D"] | None = None,
) -> Hidden:
    """Return what the output layer reads, [batch, tokens, width]; overwrites ``memory`` at slots.

    Args:
        network: Takes no time and remembers nothing but keys and values.
        step: What is read.
        memory: Keys and values by slot; ``None`` where slot m is that of input m and nothing is
            remembered: gradients then flow.
        on_layer: Called with the number of each block and the residual stream before it, and with
            ``depth`` and the stream after the last; what it returns takes the stream's place.
        blocks: The blocks that are run, for drafts by a part of the network; ``None`` for all.
        probes: Embeddings of the probes.
    """
    h = network.embed(step.tokens.clamp(min=0))
    if probes is not None:
        probe = (-1 - step.tokens).clamp(min=0)
        h = torch.where((step.tokens < 0)[..., None], probes[probe].to(h.dtype), h)
    if network.places is not None:
        h = h + network.places(step.places)
        angles = None
    else:
        angles = layers.angles(step.places, network.config)
    mask = step.sees[:, None]
    for number, block in enumerate(network.blocks):
        h = h if on_layer is None else on_layer(number, h)
        if blocks is None or number in blocks:
            h = block(h, None, angles, mask, _remembered(memory, number, step))
    h = h if on_layer is None else on_layer(len(network.blocks), h)
    return network.norm(h)


def logits(network: Transformer, hidden: Hidden) -> Float[Tensor, "B M V"]:
    """Return what the output layer answers, float32."""
    return network.logits(hidden).float()


def grown(memory: KeyValues, room: int) -> KeyValues:
    """Return the same memory with at least ``room`` slots, twice as many as before if it grows."""
    have = memory.keys[0].shape[2]
    if have >= room:
        return memory
    more = max(room, 2 * have) - have
    return KeyValues(
        *(
            tuple(
                torch.cat([part, part.new_zeros(*part.shape[:2], more, part.shape[3])], 2)
                for part in parts
            )
            for parts in memory
        )
    )


def _remembered(memory: KeyValues | None, layer: int, step: Step) -> LayerMemory | None:
    if memory is None:
        return None
    seen = step.sees.shape[-1]
    keys, values = memory.keys[layer][:, :, :seen], memory.values[layer][:, :, :seen]
    return LayerMemory(keys, values, step.slots)
