"""How does a block drafter follow a text? By keys and values of the target's streams."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from unison.drafters import attending
from unison.drafters.attending import Past
from unison.drafters.dflash_module import Flash
from unison.models.layers import Hidden
from unison.models.transformer import Transformer
from unison.speculation.parts import (
    Guess,
    Outcome,
    Plan,
    Scores,
    Target,
    Text,
    gathered,
    rows_of,
)
from unison.speculation.tree import Node, Nodes, Tree


@dataclass(frozen=True, eq=False)
class FlashDrafter:
    """A trained block drafter.

    Attributes:
        module: Its weights.
        network: The target, which lends embeddings and output layer.
        streams: Streams it reads, in order.
        block: Places read in one pass.
        from_anchor: The last token's place guesses as well.
    """

    copies: ClassVar[bool] = False
    module: Flash
    network: Transformer
    streams: tuple[int, ...]
    block: int
    from_anchor: bool

    @property
    def taps(self) -> tuple[int, ...]:
        """Streams of the target it reads."""
        return tuple(sorted(set(self.streams)))

    def open(self, target: Target, rows: int) -> "FlashDrafting":
        """Return the drafting of empty texts.

        Raises:
            ValueError: The target has other tokens.
        """
        own = self.network.config.vocab_size
        if target.vocab_size != own:
            raise ValueError(
                f"the drafter was made for {own} tokens and the target has {target.vocab_size}; "
                "train one for this target."
            )
        like = next(self.module.parameters())
        zero = torch.zeros(rows, dtype=torch.int64, device=like.device)
        pasts = [attending.empty(b.attention, rows, like) for b in self.module.blocks]  # pyright: ignore
        return FlashDrafting(self, pasts, zero)


class FlashDrafting:
    """A block drafter in the middle of a batch of texts; slot i is the target's input i."""

    def __init__(self, drafter: FlashDrafter, pasts: list[Past], length: Node) -> None:
        self.drafter, self.pasts, self.length = drafter, pasts, length
        self._longest = 0  # at least the longest row's length, on the host
        self._guesses: Hidden | None = None  # what the output layer reads, this round

    @torch.no_grad()
    def begin(self, text: Text, scores: Scores) -> None:
        """Hear the prompt."""
        if scores.hidden.shape[1]:
            self._follow(scores, text.length - 1)

    @torch.no_grad()
    def guess(self, tree: Tree, frontier: Nodes) -> Guess:
        """Return what comes after nodes of the tree.

        Nodes deeper than the block get the law of its last guess.
        """
        if self._guesses is None:
            self._guesses = self._filled(tree.tokens[:, 0])
        depth = tree.depth.gather(1, frontier).clamp(max=self._guesses.shape[1] - 1)
        hidden = gathered(self._guesses, depth)
        token = tree.tokens.gather(1, frontier)
        drafter = self.drafter
        return Guess(drafter.module.laws(drafter.network, hidden, token.clamp(min=0)))

    def texts(self, plan: Plan) -> Int[Tensor, "B K D"]:
        """Refuse: it guesses token by token.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("a block drafter guesses laws, not texts")

    def finish(self, tree: Tree) -> Tree:
        """Return the tree."""
        return tree

    @torch.no_grad()
    def observe(self, outcome: Outcome) -> None:
        """Hear what was written: the target's streams of it are remembered."""
        path, scores = outcome.path, outcome.scores
        taps = {number: gathered(tap, path) for number, tap in scores.taps.items()}
        known = Scores(None, gathered(scores.hidden, path), taps)
        self._follow(known, rows_of(outcome.count, path.device))
        self._longest = int(self.length.max()) if len(self.length) else 0

    def keep(self, rows: Int[Tensor, " R"]) -> "FlashDrafting":
        """Return the drafting of some rows."""
        pasts = [past.keep(rows) for past in self.pasts]
        kept = FlashDrafting(self.drafter, pasts, self.length[rows])
        kept._longest = self._longest
        return kept

    def _filled(self, root: Node) -> Hidden:
        """Return what the output layer reads at the guesses behind the last tokens."""
        drafter, length = self.drafter, self.length
        h = drafter.module.block_of(drafter.network.embed(root[:, None]), drafter.block)[:, 0]
        number = torch.arange(drafter.block, device=root.device)
        slots = torch.arange(self._longest, device=root.device)
        text = (slots < length[:, None])[:, None].expand(-1, drafter.block, -1)
        own = torch.ones_like(number, dtype=torch.bool).expand(len(root), drafter.block, -1)
        seen = [Past(*(part[:, :, : self._longest] for part in past)) for past in self.pasts]
        sees = torch.cat([text, own], dim=2)
        hidden = drafter.module.passed(h, length[:, None] + number, seen, sees)
        return hidden if drafter.from_anchor else hidden[:, 1:]

    def _follow(self, scores: Scores, count: Node) -> None:
        """Take in the target's streams, ``count`` of each row."""
        drafter = self.drafter
        context = drafter.module.context([scores.taps[number] for number in drafter.streams])
        number = torch.arange(context.shape[1], device=context.device)
        slots = self.length[:, None] + number
        upto = self._longest + context.shape[1]
        fresh = drafter.module.remembered(context, slots)
        self.pasts = [
            past.roomy(upto).put(new, slots) for past, new in zip(self.pasts, fresh, strict=True)
        ]
        self.length, self._longest, self._guesses = self.length + count, upto, None
