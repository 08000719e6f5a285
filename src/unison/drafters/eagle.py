"""What comes next, guessed feature by feature with one more block of the target's own kind."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unison.drafters import attending
from unison.drafters.eagle_drafting import EagleDrafter, bypassed
from unison.drafters.eagle_module import Feature, Parts, Said
from unison.drafters.kind import Lesson, watched
from unison.models import stepping
from unison.models.layers import Hidden
from unison.models.transformer import Transformer
from unison.prob import rng
from unison.prob.rng import Key
from unison.speculation.parts import Drafter, Scores
from unison.types import Nats

SITE_NOISE = 96


@dataclass(frozen=True)
class Eagle:
    """Guess the target's next feature from its last one and the token drawn since.

    A block of the target's family reads fc([embedding of x_(i+1); feature at x_i]) and answers the
    feature at x_(i+1), which the target's own output layer turns into a law of x_(i+2). EAGLE (Li
    et al., 2024, arXiv:2401.15077, 2406.16858): a feature is what that output layer reads.

    Three variants are settings of the same thing:

    * ``eagle3`` (Li et al., 2025, arXiv:2503.01840): three streams of the target, mixed, are a
      feature; nothing is regressed; training feeds the block its own answers, ``unroll`` times.
      Differs: embedding and feature are joined to the width of one before the block, and the
      output layer is the target's, with all its tokens.
    * ``fspad`` (Gui et al., 2024, arXiv:2408.15562): a gated fusion, and two answers, one spoken
      and one fed back.
    * ``msd`` (arXiv:2505.14260): visual tokens are not fused with the feature before them.

    Attributes:
        streams: 0, or streams of the target that make a feature: the inputs of block 2, of the
            middle one, and of the last but two (one of the last of a small network).
        fusion: ``gated`` lets the token choose what of the feature is meant.
        split: The block answers twice: what is spoken, and what is fed back.
        bypass: A visual token (a negative number, a probe of the target) goes in by its
            embedding alone.
        regress: Weight of the feature's smooth L1 error.
        speak: Weight of the cross-entropy against the target's law.
        unroll: Steps that are trained, each fed with the answer before.
        decay: Weight of a step over that of the one before.
        noise: Width of the uniform noise on features in training. Differs: not scaled by the
            text's length.
        measured: Depths that agreement is told of.
    """

    name: ClassVar[str] = "eagle"
    streams: Literal[0, 3] = 0
    fusion: Literal["linear", "gated"] = "linear"
    split: bool = False
    bypass: bool = False
    regress: float = 1.0
    speak: float = 0.1
    unroll: int = 1
    decay: float = 0.8
    noise: float = 0.2
    measured: int = 4

    def __post_init__(self) -> None:
        for setting in ("unroll", "measured"):
            if getattr(self, setting) < 1:
                raise ValueError(f"{setting} must be at least 1, got {getattr(self, setting)}.")
        for setting in ("regress", "speak", "noise"):
            if getattr(self, setting) < 0:
                raise ValueError(f"{setting} must be at least 0, got {getattr(self, setting)}.")
        if self.regress == self.speak == 0:
            raise ValueError("regress and speak are both 0: nothing would be learnt.")
        if self.streams and self.regress:
            raise ValueError(
                f"regress={self.regress} needs streams=0: a mixture that is learnt itself cannot "
                "be regressed; set regress to 0."
            )
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay must be in (0, 1], got {self.decay}.")

    def module(self, network: Transformer) -> Feature:
        """Return fresh weights."""
        return Feature(network, Parts(self.streams, self.fusion, self.split))

    def lesson(
        self, module: nn.Module, network: Transformer, inputs: Int[Tensor, "B L"], key: Key
    ) -> Lesson:
        """Return what a batch of texts teaches."""
        scores = watched(network, inputs, taps_of(self, network))
        return self.lesson_of(module, network, inputs, scores, key)

    def lesson_of(
        self,
        module: nn.Module,
        network: Transformer,
        inputs: Int[Tensor, "B L"],
        scores: Scores,
        key: Key,
        shown: Float[Tensor, "P D"] | None = None,
    ) -> Lesson:
        """Return what texts teach of which the target's view is known.

        Args:
            module: The drafter's weights.
            network: The target.
            inputs: Begin tokens first; -1 - j at visual token j.
            scores: What the target thought of them.
            key: Draws the noise.
            shown: Embeddings of visual tokens.
        """
        assert isinstance(module, Feature)
        learns = torch.is_grad_enabled()
        steps = self.unroll if learns else max(self.unroll, self.measured)
        chains = _Chains(module, network, inputs, shown if self.bypass else None)
        taps = tuple(scores.taps[number] for number in taps_of(self, network))
        feature = module.features(scores.hidden, taps)
        state = feature + self._noise(feature, key) if learns else feature
        total = inputs.new_zeros((), dtype=torch.float32)
        hits, places = [], []
        for step in range(min(steps, inputs.shape[1] - 1)):
            said = chains.stepped(state[:, : inputs.shape[1] - 1 - step])
            told = _Told(self, network, said, scores.hidden[:, step + 1 :])
            counted = inputs[:, step + 1 :] >= 0
            if step < self.unroll:
                total = total + self.decay**step * (told.loss * counted).sum()
            hits.append((told.hit & counted).sum())
            places.append(counted.sum())
            state = said.state
        loss = Nats(total, places[0])
        return Lesson(loss, torch.stack(hits).float(), torch.stack(places).float())

    def drafter(self, module: nn.Module, network: Transformer) -> Drafter:
        """Return the drafter."""
        assert isinstance(module, Feature)
        return EagleDrafter(module, network, taps_of(self, network), self.bypass)

    def _noise(self, feature: Hidden, key: Key) -> Tensor:
        _, length, width = feature.shape
        u = rng.uniform(key, SITE_NOISE, length * width).view(-1, length, width)
        return ((u - 0.5) * self.noise).to(feature.dtype)


def eagle3() -> Eagle:
    """Return EAGLE-3."""
    return Eagle(streams=3, regress=0.0, speak=1.0, unroll=4, noise=0.0)


def fspad() -> Eagle:
    """Return FSPAD."""
    return Eagle(fusion="gated", split=True)


def msd() -> Eagle:
    """Return MSD."""
    return Eagle(bypass=True)


def two_stage(step: int, steps: int) -> float:
    """Return the share of multimodal texts that MSD trains on at a step.

    None in the first half, then growing linearly to all of them.
    """
    return max(0.0, 2 * step / max(1, steps) - 1)


def taps_of(kind: Eagle, network: Transformer) -> tuple[int, ...]:
    """Return the streams that make a feature, in order; a small network lends one twice."""
    if not kind.streams:
        return ()
    depth = network.config.depth
    return (min(2, depth), depth // 2, max(depth - 3, 0))


class _Chains:
    """Drafts from every place of a text at once: that of place i sees true features up to i.

    Row i of step k holds x_(i+1+k) and stands at place i + k, as when drafting.
    """

    def __init__(
        self,
        module: Feature,
        network: Transformer,
        inputs: Int[Tensor, "B L"],
        shown: Float[Tensor, "P D"] | None,
    ) -> None:
        self.module, self.network, self.inputs, self.shown = module, network, inputs, shown
        self.past = attending.empty(module.block.attention, len(inputs), next(network.parameters()))
        self.sees: list[Bool[Tensor, "L M"]] = []

    def stepped(self, state: Float[Tensor, "B M D"]) -> Said:
        """Return the answers of the next step of every chain that is still inside the text."""
        step, rows = len(self.sees), state.shape[1]
        tokens = self.inputs[:, step + 1 :]
        h = self.module.entered(self.network.embed(tokens.clamp(min=0)), state)
        h = bypassed(h, tokens, self.shown)
        number = torch.arange(rows, device=h.device)
        queries, fresh = self.module.heads(h, (number + step).expand_as(tokens))
        self.past = attending.joined(self.past, fresh)
        own = number[:, None] >= number if not step else number[:, None] == number
        self.sees = [*self.sees, own]
        sees = torch.cat([part[:rows] for part in self.sees], dim=1)
        return self.module.left(h, queries, self.past, sees.expand(len(h), -1, -1))


class _Told:
    """How answers compare with the target's features and laws."""

    def __init__(
        self, kind: Eagle, network: Transformer, said: Said, truth: Float[Tensor, "B M D"]
    ) -> None:
        logq = stepping.logits(network, said.spoken).log_softmax(-1)
        with torch.no_grad():
            p = stepping.logits(network, truth).softmax(-1)
        self.hit = logq.argmax(-1) == p.argmax(-1)
        self.loss = kind.speak * -(p * logq).sum(-1)
        if kind.regress:
            apart = F.smooth_l1_loss(said.state, truth, reduction="none").mean(-1)
            self.loss = self.loss + kind.regress * apart
