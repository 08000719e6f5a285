"""Which weights does a feature drafter have? One block of the target's family and what feeds it."""

from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unison.drafters import attending
from unison.drafters.attending import Past
from unison.models import layers
from unison.models.config import TransformerConfig
from unison.models.layers import Hidden
from unison.models.transformer import Transformer


class Parts(NamedTuple):
    """What a feature drafter is made of.

    Attributes:
        streams: Streams of the target that make a feature; 0 for what its output layer reads.
        fusion: How a token's embedding and a feature become the block's input.
        split: Whether what is spoken and what is fed back are two vectors.
    """

    streams: int = 0
    fusion: Literal["linear", "gated"] = "linear"
    split: bool = False


class Said(NamedTuple):
    """What the block answers.

    Attributes:
        spoken: What the target's output layer is to read.
        state: The guess at the next feature, which goes in with the next token.
    """

    spoken: Hidden
    state: Hidden


class Gate(nn.Module):
    """A SwiGLU whose gate the token opens (FSPAD): h + down(silu(gate(e)) up(norm(h)))."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm = layers.make_norm(config)
        self.gate = nn.Linear(config.hidden, config.mlp_width, bias=False)
        self.up = nn.Linear(config.hidden, config.mlp_width, bias=False)
        self.down = nn.Linear(config.mlp_width, config.hidden, bias=False)

    def forward(self, h: Hidden, embedding: Hidden) -> Hidden:
        """Return the stream in which the token has chosen what of the feature is meant."""
        return h + self.down(F.silu(self.gate(embedding)) * self.up(self.norm(h)))


class Doubled(nn.Module):
    """A SwiGLU that answers twice (FSPAD)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.hidden, 2 * config.mlp_width, bias=False)
        self.down = nn.Linear(config.mlp_width, 2 * config.hidden, bias=False)

    def forward(self, x: Hidden) -> Float[Tensor, "B L E"]:
        """Return both answers, one behind the other."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Feature(nn.Module):
    """From a token and the feature before it to the feature at it.

    Args:
        network: The target; only its shape is taken.
        parts: What is in it.
    """

    def __init__(self, network: Transformer, parts: Parts) -> None:
        super().__init__()
        # A drafter knows places by rotation, whatever its target does.
        config = replace(network.config, depth=1, dropout=0.0, mixture=None, positions="rotary")
        width = config.hidden
        self.config = config
        self.block = layers.Block(config)
        self.fuse = nn.Linear(2 * width, width)
        self.gate = Gate(config) if parts.fusion == "gated" else None
        self.split = parts.split
        if parts.split:
            self.block.mlp = Doubled(config)
        self.mix = self.norms = None
        if parts.streams:
            self.mix = nn.Linear(parts.streams * width, width, bias=False)
            # Of embeddings, of features, and before the output layer.
            self.norms = nn.ModuleList(layers.make_norm(config) for _ in range(3))

    def features(self, hidden: Hidden, streams: tuple[Hidden, ...]) -> Hidden:
        """Return the target's features as the block is fed them."""
        return hidden if self.mix is None else self.mix(torch.cat(streams, dim=-1))

    def entered(self, embedding: Hidden, feature: Hidden) -> Hidden:
        """Return what the block reads."""
        if self.norms is not None:
            embedding, feature = self.norms[0](embedding), self.norms[1](feature)
        h = self.fuse(torch.cat([embedding, feature], dim=-1))
        return h if self.gate is None else self.gate(h, embedding)

    def heads(self, h: Hidden, places: Int[Tensor, "B M"]) -> tuple[Float[Tensor, "B H M E"], Past]:
        """Return queries, and keys and values, of what the block reads."""
        return attending.heads_in(self.block, h, layers.angles(places, self.config))

    def left(
        self,
        h: Hidden,
        queries: Float[Tensor, "B H M E"],
        past: Past,
        sees: Bool[Tensor, "B M N"],
    ) -> Said:
        """Return what the block answers, given all that may be seen."""
        block = self.block
        h = h + attending.attended(block.attention, queries, past, sees)
        inner = block.mlp(block.mlp_norm(h))
        if self.split:
            spoken, state = (torch.cat([h, h], dim=-1) + inner).chunk(2, dim=-1)
            return Said(self._spoken(spoken), state)
        return Said(self._spoken(h + inner), h + inner)

    def _spoken(self, h: Hidden) -> Hidden:
        return h if self.norms is None else self.norms[2](h)
