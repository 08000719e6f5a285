"""Can one checkpoint draft a block by diffusion and verify it left to right?

It can where its network, read with every place seeing itself and what came before, says a law of
the next token. That reading is its left-to-right mode; whether it is a good one is up to training.

    attention      answers           left-to-right mode
    causal         shifted           its own outputs, as they stand
    block causal   shifted           the same, read with blocks of one (Fast-dLLM v2)
    causal         unshifted         the output at a mask behind the text
    block causal   unshifted         the same, read with blocks of one (SDAR, TraDo, A2D in blocks)
    bidirectional  any               none: what a place says depends on what follows it, so each
                                     token would take an evaluation of its own (LLaDA, Dream)

Networks that are told the noise level (MDLM, Duo, BD3-LM) have none either.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from unison.decode import Strategy
from unison.drafters.block_diffusion import BlockDiffusion
from unison.engine.reading import NetworkReading, NetworkTarget
from unison.language_model import LanguageModel
from unison.models.transformer import Transformer
from unison.process import Absorbing
from unison.speculation.parts import Scores, Target
from unison.speculation.tree import How, Level, Node, Tree, grown, planted, sized


def self_speculation(
    model: LanguageModel, block: int = 8, strategy: Strategy | None = None
) -> tuple[Target, BlockDiffusion]:
    """Return a model as a target, and as the drafter of that target.

    Args:
        model: A diffusion model that has a left-to-right mode.
        block: Places to draft.
        strategy: How they are filled; ``None`` for one evaluation.

    Raises:
        ValueError: It has no such mode, or does not go with the strategy.
    """
    return left_to_right(model), BlockDiffusion.of(model, None, block, strategy)


def left_to_right(model: LanguageModel, begin: int | None = None) -> Target:
    """Return the left-to-right mode of a diffusion model.

    Args:
        model: The model.
        begin: What stands before a text; ``None`` for its end token, as between two texts.

    Raises:
        ValueError: It has no such mode; the message says why.
    """
    network = model.network
    reason = _lacking(model)
    if reason is not None or not isinstance(network, Transformer):
        raise ValueError(
            f"this model has no left-to-right mode: {reason or 'it is no transformer of ours'}. "
            "It can draft for an autoregressive model of the same tokens instead."
        )
    config = replace(network.config, attention="causal", block_length=None, shifted=False)
    alike = copy.copy(network)  # the same weights
    alike.config = config
    inner = NetworkTarget(alike, model.eos_ids[0] if begin is None else begin)
    if network.config.shifted:
        return inner
    assert isinstance(model.process, Absorbing)
    return MaskReader(inner, model.process.mask_id)


def _lacking(model: LanguageModel) -> str | None:
    """Return why a model cannot be read left to right, or ``None``."""
    config = model.network.config
    if config.time != "none":
        return "its network is told how noisy the text is, and a clean prefix is no such state"
    if config.attention == "bidirectional":
        return (
            "its places see what follows them, so that every next token would take an evaluation "
            "of its own"
        )
    if config.self_conditioning:
        return "its network reads its own earlier belief"
    if not isinstance(model.process, Absorbing):
        return f"a {type(model.process).__name__} process has no mask to ask about a place with"
    return None


@dataclass(frozen=True)
class MaskReader:
    """A causal network that says what stands at a masked place, as a target.

    The law behind a token is what the network says at a mask that follows it: each node of a tree
    is read together with such a mask, which no node sees. What its output layer read is told of
    the masks, its streams of the nodes.

    Attributes:
        network: The network.
        mask_id: The mask.
    """

    network: NetworkTarget
    mask_id: int

    @property
    def branches(self) -> bool:
        """Whether it can read trees: it can."""
        return True

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.network.vocab_size

    @property
    def max_length(self) -> int:
        """Most inputs."""
        return self.network.max_length

    @property
    def begin(self) -> int:
        """Its begin token."""
        return self.network.begin

    def open(self, rows: int, taps: Sequence[int] = ()) -> "MaskReading":
        """Return a reading of empty texts."""
        return MaskReading(self.network.open(rows, taps), self.mask_id)


@dataclass(frozen=True)
class MaskReading:
    """Such a network in the middle of a batch of texts.

    Attributes:
        inner: Its reading of what is written.
        mask_id: The mask.
    """

    inner: NetworkReading
    mask_id: int

    def read(self, tokens: Int[Tensor, "B M"], count: Node, logits: bool = False) -> Scores:
        """See ``Reading``."""
        if not logits or not tokens.shape[1]:
            return self.inner.read(tokens, count, logits)
        number = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        scores = self.score(_chain(tokens, self.inner.target.vocab_size))
        self.inner.commit(torch.where(number < count[:, None], number, -1))
        return scores

    def score(self, tree: Tree, since: int = 0) -> Scores:
        """See ``Reading``."""
        node = torch.arange(since, tree.tokens.shape[1], device=tree.tokens.device)
        node = node.expand(len(tree.tokens), -1)
        zero, real = torch.zeros_like(node), torch.zeros(node.shape, device=node.device)
        mask, how = torch.full_like(node, self.mask_id), torch.full_like(node, How.PROBE)
        live = tree.live.gather(1, node)
        masks = Level(mask, node, zero, how, real, real + 1, live)
        logits, hidden, taps = self.inner.score(grown(tree, masks), since)
        count = node.shape[1]
        assert logits is not None
        taps = {number: tap[:, :count] for number, tap in taps.items()}
        return Scores(logits[:, count:], hidden[:, count:], taps)

    def commit(self, path: Int[Tensor, "B D"]) -> None:
        """See ``Reading``."""
        self.inner.commit(path)

    def cut(self, length: Node) -> None:
        """See ``Reading``."""
        self.inner.cut(length)

    def keep(self, rows: Int[Tensor, " R"]) -> "MaskReading":
        """See ``Reading``."""
        return replace(self, inner=self.inner.keep(rows))


def _chain(tokens: Int[Tensor, "B M"], vocab_size: int) -> Tree:
    """Return texts as trees."""
    root = planted(tokens[:, 0], vocab_size)
    rest = tokens[:, 1:]
    before = torch.arange(rest.shape[1], device=tokens.device).expand_as(rest)
    zero, real = torch.zeros_like(rest), torch.zeros(rest.shape, device=tokens.device)
    level = Level(rest, before, zero, zero, real, real + 1, rest == rest)
    return sized(grown(root, level, before + 1), 1, rest.shape[1])
