"""What comes next, a whole block in one pass, from the streams of the target itself."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unison.drafters.dflash_drafting import FlashDrafter
from unison.drafters.dflash_module import Flash, Shape
from unison.drafters.kind import Lesson, watched
from unison.models import stepping
from unison.models.transformer import Transformer
from unison.prob import rng
from unison.prob.rng import Key
from unison.speculation.parts import Drafter, Scores
from unison.types import Nats

SITE_ANCHORS = 97


@dataclass(frozen=True)
class DFlash:
    """Fill a block of masks behind the last token, seeing the target's streams of all before it.

    DFlash (2026, arXiv:2602.06036): a few blocks of the target's family without embedding or
    output layer of their own. They read the embedding of the last token and trained masks; in
    each, keys and values come from what was read and from the target's streams, joined, projected
    and normalised, at every earlier place. One pass guesses the laws of all masks, each by itself.

    ``dspark`` (2026, arXiv:2607.05147): the last token's place guesses too, and a Markov head adds
    to each law what the token before says, W2 W1[x], so that guesses are conditional.

    Attributes:
        layers: Blocks.
        streams: Streams of the target, evenly spaced from the input of block 1 to that of the
            last but two.
        block: Places read in one pass.
        from_anchor: The last token's place guesses as well: ``block`` guesses instead of one less.
        markov: Rank of the Markov head; 0 for none.
        anchors: Places of a text that a step learns to go on from.
        gamma: Loss of the k-th guess weighs exp(-(k - 1) / gamma).
        soft: Share of the loss that is the cross-entropy against the target's law instead of the
            text's token. Differs: the published loss takes the text, which the target wrote.
    """

    name: ClassVar[str] = "dflash"
    layers: int = 5
    streams: int = 5
    block: int = 8
    from_anchor: bool = False
    markov: int = 0
    anchors: int = 16
    gamma: float = 4.0
    soft: float = 0.0

    def __post_init__(self) -> None:
        least = {"layers": 1, "streams": 1, "block": 2, "markov": 0, "anchors": 1}
        for setting, low in least.items():
            if getattr(self, setting) < low:
                raise ValueError(f"{setting} must be at least {low}, got {getattr(self, setting)}.")
        if not self.gamma > 0:
            raise ValueError(f"gamma must be above 0, got {self.gamma}; inf weighs all alike.")
        if not 0 <= self.soft <= 1:
            raise ValueError(f"soft must be in [0, 1], got {self.soft}.")

    @property
    def guesses(self) -> int:
        """Tokens guessed in one pass."""
        return self.block if self.from_anchor else self.block - 1

    def module(self, network: Transformer) -> Flash:
        """Return fresh weights."""
        return Flash(network, Shape(self.layers, self.streams, self.markov))

    def lesson(
        self, module: nn.Module, network: Transformer, inputs: Int[Tensor, "B L"], key: Key
    ) -> Lesson:
        """Return what a batch of texts teaches.

        Raises:
            ValueError: The texts are shorter than a block and the token before it.
        """
        assert isinstance(module, Flash)
        length = inputs.shape[1]
        if length < self.guesses + 2:
            raise ValueError(
                f"texts of {length} tokens hold no block of {self.block} behind a token and the "
                "begin token; take longer texts or a smaller block."
            )
        taps = taps_of(self, network)
        scores = watched(network, inputs, taps)
        anchor = self._anchors(length, key)
        number = torch.arange(self.guesses, device=inputs.device)
        # The place before each guess, block after block.
        before = (anchor[..., None] + number).flatten(1)
        hidden = self._filled(module, network, inputs, scores, anchor)
        logq = module.laws(network, hidden, _picked(inputs, before))
        with torch.no_grad():
            truth = stepping.logits(network, _picked(scores.hidden, before))
        loss = self._loss(logq, truth, _picked(inputs, before + 1))
        # Weights sum to one: the loss is a mean over a block.
        weight = torch.softmax(-number / self.gamma, 0).repeat(anchor.shape[1])
        hit = (logq.argmax(-1) == truth.argmax(-1)).unflatten(1, anchor.shape[1:] + number.shape)
        places = torch.full_like(number, anchor.numel(), dtype=torch.float32)
        total = (loss * weight).sum()
        return Lesson(Nats(total, places[0].long()), hit.sum((0, 1)).float(), places)

    def drafter(self, module: nn.Module, network: Transformer) -> Drafter:
        """Return the drafter."""
        assert isinstance(module, Flash)
        return FlashDrafter(module, network, taps_of(self, network), self.block, self.from_anchor)

    def _anchors(self, length: int, key: Key) -> Int[Tensor, "B A"]:
        """Return random places, each with a text before it and a block of text behind it."""
        places = length - self.guesses - 1  # 1 .. length - guesses - 1
        u = rng.uniform(key, SITE_ANCHORS, places)
        return 1 + u.argsort(1)[:, : min(self.anchors, places)]

    def _filled(
        self,
        module: Flash,
        network: Transformer,
        inputs: Int[Tensor, "B L"],
        scores: Scores,
        anchor: Int[Tensor, "B A"],
    ) -> Float[Tensor, "B M D"]:
        """Return what the output layer reads at the guesses of every block, one by one."""
        rows, blocks = anchor.shape
        context = module.context(tuple(scores.taps[n] for n in taps_of(self, network)))
        before = torch.arange(inputs.shape[1], device=inputs.device).expand_as(inputs)
        h = module.block_of(network.embed(_picked(inputs, anchor)), self.block)
        place = anchor[..., None] + torch.arange(self.block, device=anchor.device)
        place = place.flatten(1)
        number = torch.arange(blocks, device=anchor.device).repeat_interleave(self.block)
        text = before[:, None] < anchor.repeat_interleave(self.block, 1)[..., None]
        own = (number[:, None] == number).expand(rows, -1, -1)
        sees = torch.cat([text, own], dim=2)
        pasts = module.remembered(context, before)
        hidden = module.passed(h.flatten(1, 2), place, pasts, sees)
        apart = hidden.unflatten(1, (blocks, self.block))
        return apart[:, :, self.block - self.guesses :].flatten(1, 2)

    def _loss(
        self,
        logq: Float[Tensor, "B M V"],
        truth: Float[Tensor, "B M V"],
        told: Int[Tensor, "B M"],
    ) -> Float[Tensor, "B M"]:
        hard = -logq.gather(-1, told[..., None])[..., 0]
        if not self.soft:
            return hard
        return (1 - self.soft) * hard - self.soft * (truth.softmax(-1) * logq).sum(-1)


def dspark() -> DFlash:
    """Return DSpark's drafter; its confidence head and scheduler are no part of it."""
    return DFlash(block=7, from_anchor=True, markov=64)


def taps_of(kind: DFlash, network: Transformer) -> tuple[int, ...]:
    """Return the streams a drafter reads; a small network lends one more than once."""
    depth = network.config.depth
    low, high = min(1, depth), max(depth - 3, min(1, depth))
    if kind.streams == 1:
        return (high,)
    step = (high - low) / (kind.streams - 1)
    return tuple(round(low + step * i) for i in range(kind.streams))


def _picked(values: Tensor, at: Int[Tensor, "B M"]) -> Tensor:
    """Return what stands at places of each row: [B, M, ...]."""
    rest = values.shape[2:]
    where = at.reshape(*at.shape, *[1] * len(rest))
    return values.gather(1, where.expand(*at.shape, *rest))
