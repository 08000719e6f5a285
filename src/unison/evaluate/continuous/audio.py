"""How close is a restored sound to the true one? Two distances, one of waves and one of spectra.

The scale-invariant signal-to-distortion ratio is that of Le Roux et al., 2019 (arXiv:1811.02508):
what of the estimate is no multiple of the truth counts as distortion. It hears every error of
phase and no error of loudness; the log-spectral distance hears the reverse.
"""

from jaxtyping import Float
from torch import Tensor

from unison.data.continuous.spectra import Spectra

Waves = Float[Tensor, "B N"]
PerRow = Float[Tensor, " B"]

_QUIET = 1e-8  # power below which a spectrum is silent: 80 dB under a power of 1


def si_sdr(estimate: Waves, truth: Waves) -> PerRow:
    """Return 10 log10(|a s|^2 / |a s - estimate|^2) in dB, with a s the truth's share in it.

    Means are taken out first. An estimate without error has infinity, one at right angles to the
    truth minus infinity.

    Raises:
        ValueError: A true wave is constant: there is nothing to compare with.
    """
    s, found = (wave.double() - wave.double().mean(-1, keepdim=True) for wave in (truth, estimate))
    power = s.square().sum(-1)
    if (power == 0).any():
        row = int((power == 0).nonzero()[0])
        raise ValueError(f"the true wave number {row} is silent; leave it out.")
    share = ((found * s).sum(-1) / power)[:, None] * s
    off = (share - found).square().sum(-1)
    return 10 * (share.square().sum(-1) / off).log10()


def log_spectral_distance(estimate: Waves, truth: Waves, spectra: Spectra | None = None) -> PerRow:
    """Return the mean over frames of the RMS over bins of the difference of log10 powers.

    In units of log10: a factor g on the amplitude is 2 |log10 g| away. Powers below 1e-8 count
    as 1e-8, so that digital silence has a finite distance from nearly silence.

    Args:
        estimate: What was restored.
        truth: What it should be.
        spectra: The transform whose powers are compared.
    """
    how = Spectra() if spectra is None else spectra
    first, second = (
        how.transformed(wave.double()).abs().square().clamp(min=_QUIET).log10()
        for wave in (estimate, truth)
    )
    return (first - second).square().mean(-2).sqrt().mean(-1)
