"""How does a feature drafter follow a text? True features where they are known, guesses beyond."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.drafters import attending
from unison.drafters.attending import Past
from unison.drafters.eagle_module import Feature, Said
from unison.engine.reading import NetworkTarget
from unison.models import stepping
from unison.models.layers import Hidden
from unison.models.transformer import Transformer
from unison.speculation import tree as trees
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
class EagleDrafter:
    """A trained feature drafter.

    Attributes:
        module: Its weights.
        network: The target, which lends embeddings and output layer.
        streams: Streams that make a feature, in order; none for what the output layer reads.
        bypass: Visual tokens, the target's probes, go in by their embeddings alone.
    """

    copies: ClassVar[bool] = False
    module: Feature
    network: Transformer
    streams: tuple[int, ...] = ()
    bypass: bool = False

    @property
    def taps(self) -> tuple[int, ...]:
        """Streams of the target it reads."""
        return tuple(sorted(set(self.streams)))

    def open(self, target: Target, rows: int) -> "EagleDrafting":
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
        past = attending.empty(self.module.block.attention, rows, like)
        root = like.new_zeros(rows, 1, self.network.config.hidden)
        shown = target.probes if self.bypass and isinstance(target, NetworkTarget) else None
        return EagleDrafting(self, past, zero, Said(root, root), shown)


class EagleDrafting:
    """A feature drafter in the middle of a batch of texts.

    Slot i of its memory pairs the target's feature at input i with the token after it; drafts go
    behind, node v of a tree at slot ``length + v``.
    """

    def __init__(
        self,
        drafter: EagleDrafter,
        past: Past,
        length: Node,
        root: Said,
        shown: Float[Tensor, "P D"] | None = None,
    ) -> None:
        self.drafter, self.past, self.length, self.root = drafter, past, length, root
        self.shown = shown
        self._longest = 0  # at least the longest row's length, on the host
        self._nodes = root

    @torch.no_grad()
    def begin(self, text: Text, scores: Scores) -> None:
        """Hear the prompt."""
        if scores.hidden.shape[1]:
            self._follow(scores, text.tokens[:, 1:], text.length - 1)

    @torch.no_grad()
    def guess(self, tree: Tree, frontier: Nodes) -> Guess:
        """Return what comes after nodes of the tree."""
        nodes = tree.tokens.shape[1]
        if nodes == 1:
            return self._guess(gathered(self.root.spoken, frontier))
        upto = self._longest + nodes
        self.past = self.past.roomy(upto)
        said = self._room_for(nodes)
        token = tree.tokens.gather(1, frontier)
        before = gathered(said.state, tree.parent.gather(1, frontier).clamp(min=0))
        depth = tree.depth.gather(1, frontier)
        own = self.length[:, None] + frontier
        sees = self._sees(trees.ancestors(tree), frontier, upto)
        places = (self.length[:, None] + depth - 1).clamp(min=0)
        fresh = self._passed(token, before, places, own, sees)
        at_root = (frontier == 0)[..., None]
        fresh = Said(
            *(torch.where(at_root, root, one) for root, one in zip(self.root, fresh, strict=True))
        )
        where = frontier[..., None].expand_as(fresh.state)
        self._nodes = Said(
            *(old.scatter(1, where, new) for old, new in zip(said, fresh, strict=True))
        )
        return self._guess(fresh.spoken)

    def texts(self, plan: Plan) -> Int[Tensor, "B K D"]:
        """Refuse: it guesses token by token.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("a feature drafter guesses token by token")

    def finish(self, tree: Tree) -> Tree:
        """Return the tree."""
        return tree

    @torch.no_grad()
    def observe(self, outcome: Outcome) -> None:
        """Hear what was written: the target's features take the place of the guesses."""
        path, scores = outcome.path, outcome.scores
        taps = {number: gathered(tap, path) for number, tap in scores.taps.items()}
        known = Scores(None, gathered(scores.hidden, path), taps)
        self._follow(known, outcome.tokens, rows_of(outcome.count, path.device))
        self._longest = int(self.length.max()) if len(self.length) else 0

    def keep(self, rows: Int[Tensor, " R"]) -> "EagleDrafting":
        """Return the drafting of some rows."""
        root = Said(*(part[rows] for part in self.root))
        kept = EagleDrafting(
            self.drafter, self.past.keep(rows), self.length[rows], root, self.shown
        )
        kept._longest = self._longest
        return kept

    def _guess(self, spoken: Hidden) -> Guess:
        return Guess(stepping.logits(self.drafter.network, spoken).log_softmax(-1))

    def _follow(self, scores: Scores, tokens: Int[Tensor, "B M"], count: Node) -> None:
        """Take in true features, each with the token after it; ``count`` of each row."""
        drafter = self.drafter
        streams = tuple(scores.taps[number] for number in drafter.streams)
        feature = drafter.module.features(scores.hidden, streams)
        number = torch.arange(tokens.shape[1], device=tokens.device)
        slots = self.length[:, None] + number
        upto = self._longest + tokens.shape[1]
        self.past = self.past.roomy(upto)
        sees = torch.arange(upto, device=tokens.device) <= slots[..., None]
        said = self._passed(tokens, feature, slots, slots, sees)
        last = (count - 1).clamp(min=0)[:, None]
        known = (count > 0)[:, None, None]
        self.root = Said(
            *(
                torch.where(known, gathered(new, last), old)
                for new, old in zip(said, self.root, strict=True)
            )
        )
        self.length, self._longest, self._nodes = self.length + count, upto, self.root

    def _passed(
        self,
        tokens: Int[Tensor, "B M"],
        feature: Hidden,
        places: Int[Tensor, "B M"],
        slots: Int[Tensor, "B M"],
        sees: Bool[Tensor, "B M N"],
    ) -> Said:
        """Return the block's answers, and remember its keys and values."""
        module = self.drafter.module
        embedding = self.drafter.network.embed(tokens.clamp(min=0))
        h = bypassed(module.entered(embedding, feature), tokens, self.shown)
        queries, fresh = module.heads(h, places)
        self.past = self.past.put(fresh, slots)
        seen = Past(*(part[:, :, : sees.shape[-1]] for part in self.past))
        return module.left(h, queries, seen, sees)

    def _sees(self, way: Bool[Tensor, "B N N"], frontier: Nodes, upto: int) -> Tensor:
        """Return which slots nodes see: the text, what they come from, and themselves."""
        nodes = way.shape[1]
        number = torch.arange(upto, device=way.device) - self.length[:, None]
        ways = way.gather(1, frontier[..., None].expand(-1, -1, nodes))
        at = number.clamp(0, nodes - 1)[:, None].expand(-1, frontier.shape[1], -1)
        drafted = ((number > 0) & (number < nodes))[:, None] & ways.gather(2, at)
        # What goes in for the root is forgotten, but it has to look at something.
        itself = number[:, None] == frontier[..., None]
        return drafted | (number < 0)[:, None] | itself

    def _room_for(self, nodes: int) -> Said:
        """Return what was said at every node, the root's included, with room for more."""
        more = nodes - self._nodes.state.shape[1]
        if more <= 0:
            return self._nodes
        return Said(
            *(
                torch.cat([part, part.new_zeros(len(part), more, part.shape[2])], dim=1)
                for part in self._nodes
            )
        )


def bypassed(h: Hidden, tokens: Int[Tensor, "B M"], shown: Float[Tensor, "P D"] | None) -> Hidden:
    """Return what the block reads, with the embeddings of visual tokens in their places."""
    if shown is None:
        return h
    visual = shown[(-1 - tokens).clamp(min=0, max=len(shown) - 1)]
    return torch.where((tokens < 0)[..., None], visual.to(h.dtype), h)
