"""How does a causal network read trees of drafts? Keys and values by slot, kept or forgotten."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from unison.language_model import LanguageModel
from unison.models import KeyValues, remember, stepping
from unison.models.layers import Hidden
from unison.models.stepping import Step
from unison.models.transformer import Transformer
from unison.process import Sequential
from unison.speculation import tree as trees
from unison.speculation.parts import Scores
from unison.speculation.tree import Node, Tree

ROOM = 256  # slots at first; doubled when they are used up
Insert = Callable[[int, Hidden, Tree], Hidden]


@dataclass(frozen=True)
class NetworkTarget:
    """A causal transformer of ours as a target.

    Attributes:
        network: Takes no time; each place sees itself and what came before.
        begin: Its begin token.
        probes: Embeddings of probes by number, for drafters that put some into the tree.
        insert: Called before each block, and after the last, with its number, the stream and the
            tree; what it returns takes the stream's place.
        blocks: The blocks that are run; ``None`` for all.

    Raises:
        ValueError: The network is not causal, takes time, or is none of ours.
    """

    network: Transformer
    begin: int
    probes: Tensor | None = None
    insert: Insert | None = None
    blocks: Collection[int] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.network, Transformer):
            raise ValueError(
                f"a {type(self.network).__name__} cannot read trees of drafts; speculation needs "
                "a causal transformer of unison's own (Llama, SmolLM2, Qwen, GPT-2 and the like)."
            )
        config = self.network.config
        if config.attention != "causal" or config.time != "none" or config.shifted:
            raise ValueError(
                "a target of speculation is a causal network without a noise level, got attention="
                f"{config.attention!r}, time={config.time!r}, shifted={config.shifted}; a "
                "diffusion model can draft for one."
            )

    @property
    def branches(self) -> bool:
        """Whether it can read trees: it can."""
        return True

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.network.config.vocab_size

    @property
    def max_length(self) -> int:
        """Most inputs."""
        return self.network.config.max_length

    def open(self, rows: int, taps: Sequence[int] = ()) -> "NetworkReading":
        """Return a reading of empty texts.

        Raises:
            ValueError: A tap is no block.
        """
        depth = self.network.config.depth
        strange = [tap for tap in taps if not 0 <= tap <= depth]
        if strange:
            raise ValueError(
                f"there is no stream before block {strange[0]}: the network has {depth} blocks; "
                f"{depth} names the stream after the last."
            )
        like = next(self.network.parameters())
        memory = remember(self.network.config, rows, ROOM, like)
        length = torch.zeros(rows, dtype=torch.int64, device=like.device)
        return NetworkReading(self, tuple(taps), memory, length)


def target_of(model: LanguageModel) -> NetworkTarget:
    """Return an autoregressive model as a target.

    Raises:
        ValueError: It is not autoregressive, or its network cannot read trees.
    """
    if not isinstance(model.process, Sequential):
        raise ValueError(
            f"a target of speculation is autoregressive, and this model undoes the "
            f"{type(model.process).__name__} process; it can draft for one."
        )
    return NetworkTarget(model.network, model.process.bos_id)  # pyright: ignore


class NetworkReading:
    """A network in the middle of a batch of texts."""

    def __init__(
        self, target: NetworkTarget, taps: tuple[int, ...], memory: KeyValues, length: Node
    ) -> None:
        self.target, self.taps, self.memory, self.length = target, taps, memory, length
        self._longest = 0  # at least the longest row's length, on the host
        self._straight = True
        self._nodes = 0

    @torch.inference_mode()
    def read(self, tokens: Int[Tensor, "B M"], count: Node, logits: bool = False) -> Scores:
        """Read on, and remember: the first ``count`` of the tokens of each row."""
        number = torch.arange(tokens.shape[1], device=tokens.device)
        slots = self.length[:, None] + number
        upto = self._longest + tokens.shape[1]
        sees = torch.arange(upto, device=tokens.device) <= slots[..., None]
        step = Step(tokens, slots, slots, sees)
        scores = self._scores(step, None, logits)
        self.length = self.length + count
        self._longest = upto
        return scores

    @torch.inference_mode()
    def score(self, tree: Tree, since: int = 0) -> Scores:
        """Read the nodes from ``since`` on after the text; those before it were read already."""
        nodes = tree.tokens.shape[1]
        upto = self._longest + nodes
        slot = torch.arange(upto, device=tree.tokens.device)
        number = slot - self.length[:, None]  # node that a slot belongs to, where it does
        way = trees.ancestors(tree)[:, since:]
        inside = (number >= 0) & (number < nodes)
        at = number.clamp(0, nodes - 1)[:, None].expand(-1, nodes - since, -1)
        sees = torch.where(inside[:, None], way.gather(2, at), (number < 0)[:, None])
        own = torch.arange(since, nodes, device=slot.device) + self.length[:, None]
        # Padding may be said to lie deeper than there are places: it stands where the root does.
        depth = torch.where(tree.live, tree.depth, 0)[:, since:]
        places = self.length[:, None] + depth
        scores = self._scores(Step(tree.tokens[:, since:], places, own, sees), tree, True)
        self._straight, self._nodes = tree.straight, nodes
        return scores

    @torch.inference_mode()
    def commit(self, path: Int[Tensor, "B D"]) -> None:
        """Keep these nodes of the tree just scored, root first, -1 behind the last."""
        if not self._straight:
            number = torch.arange(path.shape[1], device=path.device)
            source = self.length[:, None] + torch.where(path < 0, number, path)
            self._moved(source, self.length[:, None] + number)
        kept = (path >= 0).sum(1)
        self.length = self.length + kept
        # Waits for the device; the driver has just done so.
        self._longest = int(self.length.max()) if len(kept) else 0

    def cut(self, length: Node) -> None:
        """Forget all but the first inputs of each row; a row with fewer keeps what it has."""
        self.length = torch.minimum(self.length, length)
        self._longest = int(self.length.max()) if len(length) else 0

    def keep(self, rows: Int[Tensor, " R"]) -> "NetworkReading":
        """Return the reading of some rows, by number; this one is used up."""
        memory = KeyValues(*(tuple(part[rows] for part in parts) for parts in self.memory))
        kept = NetworkReading(self.target, self.taps, memory, self.length[rows])
        kept._longest = self._longest
        return kept

    def _scores(self, step: Step, tree: Tree | None, logits: bool) -> Scores:
        """Return what the network says, and write its keys and values."""
        self.memory = stepping.grown(self.memory, step.sees.shape[-1])
        taps: dict[int, Tensor] = {}

        def on_layer(number: int, h: Hidden) -> Hidden:
            if self.target.insert is not None and tree is not None:
                h = self.target.insert(number, h, tree)
            if number in self.taps:
                taps[number] = h
            return h

        watched = on_layer if self.taps or self.target.insert is not None else None
        network = self.target.network
        hidden = stepping.read(
            network, step, self.memory, watched, self.target.blocks, self.target.probes
        )
        said = stepping.logits(network, hidden) if logits else None
        return Scores(said, hidden, taps)

    def _moved(self, source: Int[Tensor, "B D"], goal: Int[Tensor, "B D"]) -> None:
        """Copy keys and values from slots to slots; goals lie at or before their sources."""
        for part in (*self.memory.keys, *self.memory.values):
            shape = (-1, part.shape[1], -1, part.shape[3])
            rows = part.gather(2, source[:, None, :, None].expand(shape))
            part.scatter_(2, goal[:, None, :, None].expand(shape), rows)
