"""Which weights does a block drafter have? Blocks that also look at the target's streams."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unison.drafters import attending
from unison.drafters.attending import Past
from unison.models import layers
from unison.models.layers import Block, Hidden
from unison.models.transformer import Transformer


class Shape(NamedTuple):
    """What a block drafter is made of.

    Attributes:
        layers: Blocks.
        streams: Streams of the target.
        markov: Rank of the Markov head; 0 for none.
    """

    layers: int
    streams: int
    markov: int


class Flash(nn.Module):
    """Fills masks behind a token.

    Args:
        network: The target; only its shape is taken.
        shape: What is in it.
    """

    def __init__(self, network: Transformer, shape: Shape) -> None:
        super().__init__()
        # A drafter knows places by rotation, whatever its target does.
        config = replace(
            network.config, depth=shape.layers, dropout=0.0, mixture=None, positions="rotary"
        )
        self.config = config
        self.mix = nn.Linear(shape.streams * config.hidden, config.hidden, bias=False)
        self.mix_norm, self.norm = layers.make_norm(config), layers.make_norm(config)
        self.mask = nn.Parameter(torch.empty(config.hidden))
        nn.init.uniform_(self.mask, -(config.hidden**-0.5), config.hidden**-0.5)
        self.blocks = nn.ModuleList(Block(config) for _ in range(shape.layers))
        self.before = self.after = None
        if shape.markov:
            self.before = nn.Embedding(config.num_states, shape.markov)
            self.after = nn.Linear(shape.markov, config.vocab_size, bias=False)
            nn.init.zeros_(self.after.weight)

    def context(self, streams: Sequence[Hidden]) -> Hidden:
        """Return what keys and values of earlier places are made of."""
        return self.mix_norm(self.mix(torch.cat(list(streams), dim=-1)))

    def block_of(self, anchor: Float[Tensor, "B M D"], length: int) -> Float[Tensor, "B M N D"]:
        """Return what is read: the embedding of a token, and masks."""
        masks = self.mask.to(anchor.dtype).expand(*anchor.shape[:-1], length - 1, -1)
        return torch.cat([anchor[..., None, :], masks], dim=-2)

    def remembered(self, context: Hidden, places: Int[Tensor, "B M"]) -> list[Past]:
        """Return keys and values of earlier places, for every block."""
        angles = layers.angles(places, self.config)
        return [attending.heads_of(b.attention, context, angles)[1] for b in self._blocks()]

    def passed(
        self,
        h: Hidden,
        places: Int[Tensor, "B M"],
        pasts: Sequence[Past],
        sees: Bool[Tensor, "B M N"],
    ) -> Hidden:
        """Return what the target's output layer is to read.

        Args:
            h: What is read.
            places: Where it stands.
            pasts: Keys and values of earlier places, for every block.
            sees: Which of them, and behind them which of what is read, each sees.
        """
        angles = layers.angles(places, self.config)
        for block, past in zip(self._blocks(), pasts, strict=True):
            queries, own = attending.heads_in(block, h, angles)
            seen = attending.joined(past, own)
            h = h + attending.attended(block.attention, queries, seen, sees)
            h = h + block.mlp(block.mlp_norm(h))
        return self.norm(h)

    def laws(
        self,
        network: Transformer,
        hidden: Float[Tensor, "B M D"],
        before: Int[Tensor, "B M"],
    ) -> Float[Tensor, "B M V"]:
        """Return log-probabilities of the guesses, given the token before each."""
        logits = network.logits(hidden).float()
        if self.before is not None and self.after is not None:
            logits = logits + self.after(self.before(before)).float()
        return logits.log_softmax(-1)

    def _blocks(self) -> list[Block]:
        return list(self.blocks)  # pyright: ignore[reportReturnType]
