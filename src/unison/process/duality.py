"""How do Gaussian and uniform-state noise correspond? The duality operator T and its slope.

For w = a x + s e on the one-hot x (a^2 + s^2 = 1, e standard normal), argmax(w) is a sample of
the uniform-state process with alpha = T(a) (Sahoo et al., 2025, arXiv:2506.10892, section 3):

    T = K/(K-1) [ int phi(z - mu) Phi(z)^(K-1) dz - 1/K ],    mu = a/s = exp(-gamma/2)

with gamma = -log SNR. The integrals are trapezoid sums, exact to 1e-12 for any K; between nodes
a cubic Hermite spline uses the exact slope. No external table is needed.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import log_ndtr
from torch import Tensor

from unison.types import Time

_REACH = 9.5  # standard deviations either side of mu; the tail beyond is below 1e-20
_NODES = 800
_INTERVALS = 512

Array = np.ndarray


def survival(gamma: Array, vocab_size: int) -> tuple[Array, Array]:
    """Return T and dT/dgamma at each gamma = -log SNR, float64, by quadrature.

    Args:
        gamma: Any shape.
        vocab_size: K, at least 2.
    """
    k = vocab_size
    mu = np.exp(-np.asarray(gamma, dtype=np.float64) / 2)[..., None]
    offset, spacing = np.linspace(-_REACH, _REACH, _NODES, retstep=True)
    density = np.exp(-(offset**2) / 2) / np.sqrt(2 * np.pi) * spacing
    wins = density * np.exp((k - 1) * log_ndtr(mu + offset))
    scale = k / (k - 1)
    slope = -scale * mu[..., 0] / 2 * (wins * offset).sum(-1)
    return np.asarray(scale * (wins.sum(-1) - 1 / k)), np.asarray(slope)


def gamma_at(alpha: float, vocab_size: int) -> float:
    """Return the gamma = -log SNR whose argmax survives with probability ``alpha``."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}.")
    root, _ = brentq(
        lambda g: survival(np.array(g), vocab_size)[0] - alpha, -12.0, 40.0, full_output=True
    )
    return float(root)


@dataclass(frozen=True)
class Duality:
    """Gaussian times whose argmax visits a window of uniform-state noise levels.

    gamma runs linearly over t in [0, 1], from T = ``alpha_max`` to T = ``alpha_min``. The rule
    [0.05, 0.95] is that of arXiv:2506.10892; its printed windows hold for large vocabularies
    only, so the window is solved for each K here.

    Attributes:
        vocab_size: K.
        alpha_max: Survival at t=0.
        alpha_min: Survival at t=1.
    """

    vocab_size: int
    alpha_max: float = 0.95
    alpha_min: float = 0.05

    def __post_init__(self) -> None:
        if self.vocab_size < 2:
            raise ValueError(f"vocab_size must be at least 2, got {self.vocab_size}.")
        if not 0 < self.alpha_min < self.alpha_max < 1:
            raise ValueError(
                "0 < alpha_min < alpha_max < 1 is needed, "
                f"got {self.alpha_min} and {self.alpha_max}."
            )

    @property
    def window(self) -> tuple[float, float]:
        """Gamma at t=0 and at t=1."""
        return _window(self.vocab_size, self.alpha_max, self.alpha_min)

    def gamma(self, t: Time) -> Time:
        """Return gamma = -log SNR at t."""
        low, high = self.window
        return low + (high - low) * t

    def signal(self, t: Time) -> tuple[Time, Time]:
        """Return (a, s): the Gaussian signal and noise scales at t, a^2 + s^2 = 1."""
        gamma = self.gamma(t.double())
        return torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()

    def alpha(self, t: Time) -> tuple[Time, Time]:
        """Return T and dT/dt at t in [0, 1], float64."""
        low, high = self.window
        value, slope = (
            torch.from_numpy(x).to(t.device) for x in _table(low, high, self.vocab_size)
        )
        return _hermite(value, slope, t.double().clamp(0, 1))


@lru_cache(maxsize=64)
def _window(vocab_size: int, alpha_max: float, alpha_min: float) -> tuple[float, float]:
    return gamma_at(alpha_max, vocab_size), gamma_at(alpha_min, vocab_size)


@lru_cache(maxsize=64)
def _table(low: float, high: float, vocab_size: int) -> tuple[Array, Array]:
    """Return T and dT/dt on equally spaced t in [0, 1]."""
    value, slope = survival(np.linspace(low, high, _INTERVALS + 1), vocab_size)
    return value, slope * (high - low)


def _hermite(value: Float[Tensor, " N"], slope: Float[Tensor, " N"], t: Time) -> tuple[Time, Time]:
    """Interpolate a function of t in [0, 1] and its derivative from equally spaced nodes."""
    width = 1 / (len(value) - 1)
    index = (t / width).long().clamp(max=len(value) - 2)
    x = t / width - index
    y0, y1 = value[index], value[index + 1]
    d0, d1 = slope[index] * width, slope[index + 1] * width
    rise = y1 - y0
    curve, bend = 3 * rise - 2 * d0 - d1, d0 + d1 - 2 * rise
    y = y0 + x * (d0 + x * (curve + x * bend))
    return y, (d0 + x * (2 * curve + 3 * x * bend)) / width
