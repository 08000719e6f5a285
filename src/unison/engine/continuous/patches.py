"""May several workers share one image? Each computes a patch, and hears of the others late.

DistriFusion (Li et al., 2024, arXiv:2402.19481) cuts an image into strips of rows, one for each
worker. After a few steps in which all wait for each other, each goes on at once with what the
others said ``lag`` steps before: rows beside its own for convolutions, corrected statistics for
group norms, keys and values for attention. Neighbouring steps see nearly the same events, so
little is lost, and messages travel while work goes on. PCPP (2024, arXiv:2412.02962) lets attention
see only its own patch and part of the neighbours', so that only neighbours talk (``neighbours``).

The events themselves are known to all: every worker runs the solver on the whole image, and the
answer is put together at the end of every evaluation, fresh. Workers are processes
(``ManyProcesses``), or imagined in one (``OneProcess``): the numbers and the bytes are the same, so
what a lag or a share of context costs can be measured without a second machine.

What was said is the memory of one run: ``with_memory`` makes its denoiser, as in ``remembering``.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.engine.continuous.patch_layers import on_patches
from unison.engine.continuous.patch_transport import OneProcess, Pending, Reach, Transport
from unison.engine.continuous.remembering import Bound, descended, unet_of
from unison.models.continuous.unet import UNet
from unison.types import Event, Level

_FIRST = "stem"  # the layer of a U-Net that reads the events, which are known whole


@dataclass(frozen=True)
class StaleContext:
    """What a patch knows of the others.

    Attributes:
        ratio: Of the places of other patches, the share that attention sees on either side, the
            nearest first; 1 is all of them.
        lag: How many steps old it is; 0 waits for the others in every layer.
        warm: Steps at the beginning at which it is fresh; the first one always is.
    """

    ratio: float = 1.0
    lag: int = 1
    warm: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"the ratio of context must be in [0, 1], got {self.ratio}.")
        if min(self.lag, self.warm) < 0:
            raise ValueError(
                f"lag and warm must be at least 0 steps, got {self.lag} and {self.warm}."
            )

    def with_memory(self, denoise: Bound, transport: Transport | None = None) -> "Patched":
        """Return the denoiser of one run.

        Args:
            denoise: The model, conditions bound; every process binds the same.
            transport: Who holds which patches; ``None`` imagines two in this process.

        Raises:
            ValueError: The network is no U-Net, or gradients are wanted.
        """
        if denoise.gradients:
            raise ValueError(
                "gradients do not pass between patches; use a denoiser with gradients=False."
            )
        return Patched(denoise, self, OneProcess() if transport is None else transport)


def neighbours(share: float, patches: int, lag: int = 1, warm: int = 4) -> StaleContext:
    """Return the context of PCPP: the nearest share of either neighbour, and nobody else.

    Raises:
        ValueError: The share is outside [0, 1], or there are no neighbours.
    """
    if not 0 <= share <= 1 or patches < 2:
        raise ValueError(
            f"a share of neighbours must be in [0, 1] of at least 2 patches, got {share} of "
            f"{patches}."
        )
    return StaleContext(share / (patches - 1), lag, warm)


class Said:
    """What patches said of late, layer by layer: what layers ask instead of their neighbours.

    Attributes:
        context: How late it may be.
        transport: How it comes.
        own: Patches held here.
        traffic: Bytes that arrived so far, shared with the copies ``keep`` makes: for ``rows`` of
            convolutions, ``statistics`` of norms, ``attention`` and parts of the ``answer``.
    """

    def __init__(self, context: StaleContext, transport: Transport) -> None:
        self.context, self.transport, self.own = context, transport, transport.own
        self.traffic: dict[str, int] = {}
        self._held: dict[str, deque[Pending]] = {}
        self._shown = torch.empty(0)
        self._step = -1

    def begin(self, shown: Tensor) -> None:
        """Go on to the next step, at which the network sees these events."""
        self._step, self._shown = self._step + 1, shown

    def around(self, layer: str, rows: Tensor, reach: Reach) -> tuple[Tensor, ...]:
        """Return what lies above and below each patch; of the events themselves, fresh."""
        if layer == _FIRST:
            return _framed(self._shown, self.transport, reach)
        kind = "attention" if layer.endswith("attention") else "rows"
        return self._heard(layer, kind, self.transport.around(rows, reach))

    def everyone(self, layer: str, values: Tensor) -> tuple[Tensor, ...]:
        """Return what every patch said."""
        return self._heard(layer, "statistics", self.transport.everyone(values))

    def together(self, answer: Tensor) -> Tensor:
        """Return the whole of an answer, [batch, channels, rows, columns], now."""
        pending = self.transport.everyone(answer.unflatten(0, (len(self.own), -1)))
        self._count("answer", pending)
        return torch.cat(pending.wait(), -2)

    def seen(self, rows: int) -> int:
        """Return how many places attention sees on either side."""
        return round(self.context.ratio * (self.transport.patches - 1) * rows)

    def finish(self) -> None:
        """Wait for what is still under way."""
        for held in self._held.values():
            for pending in held:
                pending.wait()

    def keep(self, rows: Tensor) -> "Said":
        """Return what was said of some rows of the batch."""
        kept = Said(self.context, self.transport)
        kept.traffic, kept._step = self.traffic, self._step
        for layer, held in self._held.items():
            chosen = (tuple(part[rows] for part in pending.wait()) for pending in held)
            kept._held[layer] = deque(map(_given, chosen), held.maxlen)
        return kept

    def _heard(self, layer: str, kind: str, pending: Pending) -> tuple[Tensor, ...]:
        self._count(kind, pending)
        empty: deque[Pending] = deque(maxlen=self.context.lag + 1)
        held = self._held.setdefault(layer, empty)
        held.append(pending)
        return held[-1 if self._step < self.context.warm else 0].wait()

    def _count(self, kind: str, pending: Pending) -> None:
        self.traffic[kind] = self.traffic.get(kind, 0) + pending.arriving


class Patched:
    """The denoiser of one run, whose patches hear of each other late.

    On several processes all of them call it, with the same events, and all get the same answer.

    Attributes:
        denoise: The model, conditions bound.
        said: What patches said of late.
    """

    def __init__(
        self, denoise: Bound, context: StaleContext, transport: Transport, said: Said | None = None
    ) -> None:
        self.denoise, self.context, self.transport = denoise, context, transport
        self.said = Said(context, transport) if said is None else said
        self._network = on_patches(unet_of(denoise), self.said)
        self._last: float = math.inf
        self._shape: tuple[int, ...] | None = None

    @property
    def span(self) -> tuple[float, float]:
        """The lowest and the highest level the model was trained on."""
        return self.denoise.span

    @property
    def traffic(self) -> Mapping[str, int]:
        """Bytes that arrived at the patches held here so far, by what they are for."""
        return self.said.traffic

    def keep(self, rows: Int[Tensor, " R"]) -> "Patched":
        """Return the denoiser of some rows, with its own copy of what was said."""
        said = self.said.keep(rows)
        kept = Patched(self.denoise.keep(rows), self.context, self.transport, said)
        kept._last = self._last
        kept._shape = None if self._shape is None else (len(rows), *self._shape[1:])
        return kept

    def finish(self) -> None:
        """Wait for what is still under way; call it before processes part."""
        self.said.finish()

    def __call__(self, x: Event, level: Level) -> Event:
        """Return the mean of the clean event.

        Raises:
            ValueError: The image cannot be cut, or rows or level are not those of the run.
        """
        now = descended(self._last, level)
        self._check(x)
        asked = _OnPatches(self._network, self.said, self.transport)
        mean = replace(self.denoise, network=asked)(x, level)
        self._last, self._shape = now, tuple(x.shape)
        return mean

    def _check(self, x: Event) -> None:
        if self._shape is not None and self._shape != tuple(x.shape):
            raise ValueError(
                f"this denoiser remembers events of shape {self._shape} and was given "
                f"{tuple(x.shape)}; make one for each run with with_memory, and keep(rows) to go "
                "on with some of its rows."
            )
        strip = self.transport.patches * self._network.factor
        if x.ndim != 4 or x.shape[2] % strip or not x.shape[2]:
            raise ValueError(
                f"{self.transport.patches} patches of this U-Net need images whose height is a "
                f"multiple of {strip}, got shape {tuple(x.shape)}; pad the images or take fewer "
                "patches."
            )


@dataclass(frozen=True)
class _OnPatches:
    """A network that is asked about the patches held here, and answers for the whole."""

    network: UNet
    said: Said
    transport: Transport

    def __call__(
        self,
        x: Event,
        noise: Level,
        label: Int[Tensor, " B"] | None = None,
        beside: Float[Tensor, "B ..."] | None = None,
    ) -> Event:
        count = len(self.transport.own)
        self.said.begin(x if beside is None else torch.cat([x, beside], 1))
        answer = self.network(
            _cut(x, self.transport),
            noise.repeat(count),
            None if label is None else label.repeat(count),
            None if beside is None else _cut(beside, self.transport),
        )
        return self.said.together(answer)


def _cut(x: Tensor, transport: Transport) -> Tensor:
    """Return the patches held here, one after the other, [own patches * batch, ...]."""
    strips = x.chunk(transport.patches, -2)
    return torch.cat([strips[patch] for patch in transport.own])


def _framed(shown: Tensor, transport: Transport, reach: Reach) -> tuple[Tensor, ...]:
    """Return what lies around the patches held here, of events that are known whole."""
    strips = torch.stack(shown.chunk(transport.patches, -2))
    parts = OneProcess(transport.patches).around(strips, reach).wait()
    return tuple(part for patch in transport.own for part in parts[2 * patch : 2 * patch + 2])


def _given(parts: tuple[Tensor, ...]) -> Pending:
    return Pending(lambda: parts, 0)
