"""How does a model decode with what another told it? Its memory of the prompt is rewritten."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unison.engine.reading import NetworkReading, NetworkTarget
from unison.fusion.alignment import NONE
from unison.fusion.fuser import Fuser
from unison.models import KeyValues
from unison.speculation.parts import Scores
from unison.speculation.tree import Node, Tree


@dataclass(frozen=True, eq=False)
class FusedTarget:
    """A receiver that listens to a sharer (Cache-to-Cache; Fu et al., 2025, arXiv:2510.03215).

    The prompt but for its last token, which is what is read first, is read by both; what the
    receiver remembers of it is rewritten. From there on the receiver is alone.

    Attributes:
        receiver: Decodes.
        sharer: Tells what it thinks of the prompt.
        fuser: Rewrites.
        table: The sharer's token for each of the receiver's; ``None`` where they are the same.

    Raises:
        ValueError: The fuser does not fit the two.
    """

    receiver: NetworkTarget
    sharer: NetworkTarget
    fuser: Fuser
    table: Int[Tensor, " S"] | None = None

    def __post_init__(self) -> None:
        has = (len(self.fuser.gates), self.fuser.depth)
        needs = (self.receiver.network.config.depth, self.sharer.network.config.depth)
        if has != needs:
            raise ValueError(
                f"this fuser is for networks of {has[0]} and {has[1]} blocks, got {needs[0]} and "
                f"{needs[1]}; give the two it was trained for, the receiver first."
            )

    @property
    def branches(self) -> bool:
        """Whether it can read trees."""
        return self.receiver.branches

    @property
    def vocab_size(self) -> int:
        """V, the receiver's."""
        return self.receiver.vocab_size

    @property
    def max_length(self) -> int:
        """Most inputs."""
        return self.receiver.max_length

    @property
    def begin(self) -> int:
        """The receiver's begin token."""
        return self.receiver.begin

    def open(self, rows: int, taps: Sequence[int] = ()) -> "FusedReading":
        """Return a reading of empty texts."""
        return FusedReading(self, self.receiver.open(rows, taps), fresh=True)

    def shared(self, tokens: Int[Tensor, "B M"]) -> tuple[Int[Tensor, "B M"], Bool[Tensor, "B M"]]:
        """Return what the sharer reads in place of the receiver's inputs, and what it says of them.

        Inputs without counterpart are read as the sharer's begin token and not listened to.
        """
        return aligned(tokens, self.table, (self.receiver.begin, self.sharer.begin))


class FusedReading:
    """A receiver in the middle of a batch of texts."""

    def __init__(self, target: FusedTarget, own: NetworkReading, fresh: bool) -> None:
        self.target, self.own, self.fresh = target, own, fresh

    def read(self, tokens: Int[Tensor, "B M"], count: Node, logits: bool = False) -> Scores:
        """Read on, and remember; what is read first is rewritten, the scores told are from before.

        Raises:
            ValueError: The prompt is longer than the sharer can read.
        """
        scores = self.own.read(tokens, count, logits)
        if self.fresh and tokens.shape[1]:
            self._listen(tokens, count)
        self.fresh = False
        return scores

    def score(self, tree: Tree, since: int = 0) -> Scores:
        """Read the nodes from ``since`` on after the text."""
        return self.own.score(tree, since)

    def commit(self, path: Int[Tensor, "B D"]) -> None:
        """Keep these nodes of the tree just scored."""
        self.own.commit(path)

    def cut(self, length: Node) -> None:
        """Forget all but the first inputs of each row."""
        self.own.cut(length)

    def keep(self, rows: Int[Tensor, " R"]) -> "FusedReading":
        """Return the reading of some rows, by number; this one is used up."""
        return FusedReading(self.target, self.own.keep(rows), self.fresh)

    @torch.inference_mode()
    def _listen(self, tokens: Int[Tensor, "B M"], count: Node) -> None:
        rows, many = tokens.shape
        sharer = self.target.sharer
        if many > sharer.max_length:
            raise ValueError(
                f"the prompt has {many} inputs and the sharer reads {sharer.max_length}; shorten "
                "it, or decode with the receiver alone."
            )
        read, known = self.target.shared(tokens)
        there = sharer.open(rows)
        there.read(read, count)
        where = known & (torch.arange(many, device=tokens.device) < count[:, None])
        own = first(self.own.memory, many)
        fresh = self.target.fuser.fused(own, first(there.memory, many), where, None)
        for kept, made in zip((*own.keys, *own.values), (*fresh.keys, *fresh.values), strict=True):
            kept.copy_(made)


def first(memory: KeyValues, slots: int) -> KeyValues:
    """Return the first slots of a memory: views, not copies."""
    return KeyValues(*(tuple(part[:, :, :slots] for part in parts) for parts in memory))


def aligned(
    tokens: Int[Tensor, "B M"], table: Int[Tensor, " S"] | None, begins: tuple[int, int]
) -> tuple[Int[Tensor, "B M"], Bool[Tensor, "B M"]]:
    """Return the sharer's token for each of the receiver's, and where there is one.

    Args:
        tokens: The receiver's inputs, its begin token first.
        table: See ``alignment``.
        begins: The begin tokens of receiver and sharer, which go together at place 0.
    """
    read = tokens if table is None else table.to(tokens.device)[tokens]
    start = torch.arange(tokens.shape[1], device=tokens.device) == 0
    read = torch.where(start & (tokens == begins[0]), begins[1], read)
    known = read != NONE
    return torch.where(known, read, begins[1]), known
