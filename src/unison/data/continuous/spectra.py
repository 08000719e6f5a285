"""How do waves become events a network learns well? Compressed complex spectra, and back.

The front end of SGMSE+ (Richter et al., 2023, arXiv:2208.05830): the short-time Fourier transform
with amplitudes raised to a power, so that loud and soft parts of speech are of one size. Real and
imaginary parts of all bins are channels over the frames.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

Waves = Float[Tensor, "B N"]
Bins = Complex[Tensor, "B F T"]
Channels = Float[Tensor, "B C T"]


@dataclass(frozen=True)
class Spectra:
    """Periodic Hann windows, half overlapping by default, and compressed amplitudes.

    Attributes:
        window: Samples of a frame; half of it and one bins.
        hop: Samples from frame to frame.
        power: Exponent of amplitudes.
        scale: Factor on them, to bring events to a spread near 0.5.
    """

    window: int = 126
    hop: int = 63
    power: float = 0.5
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.hop <= self.window // 2:
            raise ValueError(
                f"hop must be from 1 to half of the window, got {self.hop} and {self.window}."
            )
        if not (self.power > 0 and self.scale > 0):
            raise ValueError(f"power and scale must be above 0, got {self.power} and {self.scale}.")

    @property
    def bins(self) -> int:
        """Frequencies of a frame."""
        return self.window // 2 + 1

    def length(self, frames: int) -> int:
        """Return how many samples give that many frames and nothing else."""
        return self.hop * (frames - 1)

    def transformed(self, waves: Waves) -> Bins:
        """Return the transform itself, linear."""
        return torch.stft(
            waves,
            self.window,
            self.hop,
            window=self._window(waves),
            pad_mode="constant",
            return_complex=True,
        )

    def compressed(self, bins: Bins) -> Channels:
        """Return real parts of all bins, then imaginary ones, of compressed amplitudes."""
        small = self.scale * torch.polar(bins.abs() ** self.power, bins.angle())
        return torch.cat([small.real, small.imag], 1)

    def expanded(self, events: Channels) -> Bins:
        """Undo ``compressed``."""
        real, imaginary = (events / self.scale).chunk(2, 1)
        small = torch.complex(real.contiguous(), imaginary.contiguous())
        return torch.polar(small.abs() ** (1 / self.power), small.angle())

    def seen(self, waves: Waves) -> Channels:
        """Return waves as events."""
        return self.compressed(self.transformed(waves))

    def heard(self, events: Channels) -> Waves:
        """Return events as waves: of all waves the one whose spectra are nearest."""
        bins = self.expanded(events)
        length = self.length(bins.shape[-1])
        return torch.istft(
            bins, self.window, self.hop, window=self._window(bins.real), length=length
        )

    def _window(self, like: Tensor) -> Tensor:
        return torch.hann_window(self.window, dtype=like.dtype, device=like.device)
