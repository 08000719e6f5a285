"""Which noise is speech heard in? Coloured noise, and other people talking, at a stated ratio.

A degradation of compressed spectra (``spectra.py``): the transform is linear, so that a mixture of
waves is a sum of bins. Its fields are numbers and a path; it has no line in ``DEGRADATIONS``,
because only events that are spectra can be mixed so.
"""

import functools
import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unison.data.continuous.degrading import Pair
from unison.data.continuous.reading import Reading, read
from unison.data.continuous.spectra import Spectra
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event

SITE_RATIO, SITE_KIND, SITE_COLOUR, SITE_VOICES = 50, 51, 52, 53
RMS = 0.1  # of every clean wave

Waves = Float[Tensor, "B N"]
Kind = Literal["coloured", "babble", "either"]
Side = Literal["learnt", "held_out"]


@dataclass(frozen=True)
class Mixed:
    """Clean waves of root mean square ``RMS``, seen as spectra, with noise added.

    Attributes:
        spectra: How the events were made of waves.
        kind: Noise whose power falls as 1/f^c with c from 0 (white) to 2 (brown), the sum of
            clips of other talkers, or one of the two for each row.
        low: Least ratio of powers of clean wave and noise, in dB.
        high: Greatest; each row draws its own between the two.
        voices: How many clips make babble.
        bank: File or folder of those clips; needed for babble.
        side: Which of them.
    """

    spectra: Spectra = field(default_factory=Spectra)
    kind: Kind = "coloured"
    low: float = 0.0
    high: float = 10.0
    voices: int = 3
    bank: str = ""
    side: Side = "learnt"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and self.low <= self.high < math.inf):
            raise ValueError(f"low <= high is needed, in dB, got {self.low} and {self.high}.")
        if self.kind != "coloured" and not (self.bank and self.voices >= 1):
            raise ValueError(
                "babble is made of clips: name a bank of them, and at least one voice; or choose "
                "kind 'coloured'."
            )

    def __call__(self, clean: Event, key: Key) -> Pair:
        """Add noise."""
        length = self.spectra.length(clean.shape[-1])
        noise = self._noise(length, key)
        decibels = self.low + (self.high - self.low) * rng.uniform(key, SITE_RATIO, 1)
        target = RMS * 10 ** (-decibels / 20)
        noise = noise * target / noise.square().mean(1, keepdim=True).sqrt()
        added = self.spectra.transformed(noise.to(clean))
        worse = self.spectra.compressed(self.spectra.expanded(clean) + added)
        return Pair(clean, worse, torch.ones_like(clean))

    def _noise(self, length: int, key: Key) -> Waves:
        if self.kind == "coloured":
            return coloured(key, length)
        babble = self._babble(length, key)
        if self.kind == "babble":
            return babble
        talking = rng.uniform(key, SITE_KIND, 1) < 0.5
        return torch.where(talking, babble, coloured(key, length))

    def _babble(self, length: int, key: Key) -> Waves:
        clips = _bank(self.bank, self.side, length).to(key.seed.device)
        u = rng.uniform(key, SITE_VOICES, self.voices)
        return clips[(u * len(clips)).long()].sum(1)


def coloured(key: Key, length: int) -> Waves:
    """Return noise of power 1/f^c, c uniform in [0, 2] for each row, without a constant part."""
    exponent = 2 * rng.uniform(key, SITE_COLOUR, 1)
    bins = torch.fft.rfft(rng.normal(key, SITE_COLOUR + 100, length))
    frequency = torch.arange(bins.shape[1], device=bins.device).clamp(min=1)
    shaped = bins * frequency.double() ** (-exponent / 2)
    shaped[:, 0] = 0
    return torch.fft.irfft(shaped, length)


def levelled(waves: Waves) -> Waves:
    """Return waves of mean 0 and root mean square ``RMS``; silence stays silence."""
    away = waves - waves.mean(1, keepdim=True)
    size = away.square().mean(1, keepdim=True).sqrt()
    return RMS * away / size.where(size > 0, 1.0)


@functools.lru_cache(maxsize=4)
def _bank(path: str, side: Side, length: int) -> Waves:
    events = read(path, Reading(length=length))
    chosen = events.learnt if side == "learnt" else events.kept
    return levelled(chosen.values[:, 0].double())
