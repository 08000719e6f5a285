"""Does coverage follow exp(a k^b)? The exponentiated power law of repeated sampling.

Brown et al. 2024, arXiv 2407.21787. A description of curves, not a law of chance: a mixture of
problems gives it only roughly. :mod:`unison.evaluate.scaling.difficulty` fits the mixture itself.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import least_squares

from unison.evaluate.scaling.coverage import ScalingError, Tries, doubling, pass_table


@dataclass(frozen=True)
class PowerLaw:
    """Coverage exp(a k^b).

    Attributes:
        a: Log of pass@1, below 0.
        b: How fast its distance from 0 shrinks, below 0.
    """

    a: float
    b: float

    def __post_init__(self) -> None:
        if not (self.a < 0 and self.b < 0):
            raise ScalingError(f"a and b must be below 0, got a = {self.a} and b = {self.b}.")

    def coverage(self, k: Int[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
        """Return the probability that one of k tries is right."""
        return np.exp(self.a * k.astype(float) ** self.b)


def power_law(k: Int[np.ndarray, " K"], covered: Float[np.ndarray, " K"]) -> PowerLaw:
    """Return the power law nearest to a curve, by least squares on coverage.

    The start is the straight line of log(-log coverage) over log k, which gives the points near 1
    far too much weight to be the answer.

    Args:
        k: Numbers of tries.
        covered: Coverage at each.

    Raises:
        ScalingError: Fewer than two points lie strictly between 0 and 1, or they do not rise.
    """
    inside = (covered > 0) & (covered < 1)
    if inside.sum() < 2:
        raise ScalingError(
            "A power law needs coverage strictly between 0 and 1 at two numbers of tries at least; "
            f"here it goes from {covered.min():.3g} to {covered.max():.3g}."
        )
    x, y = np.log(k[inside]), np.log(-np.log(covered[inside]))
    slope, height = np.polyfit(x, y, 1)
    if slope > -_FLAT:
        raise ScalingError(
            "A power law needs coverage that rises with the tries; here each problem is solved "
            "always or never, so more tries bring nothing."
        )
    return _refined(k, covered, float(height), float(np.log(-slope)))


def fit_power_law(tries: Tries) -> PowerLaw:
    """Return the power law nearest to measured coverage at 1, 2, 4, ... tries.

    Doubling numbers of tries, because a curve of all of them is mostly its flat end.

    Raises:
        ScalingError: As for :func:`power_law`.
    """
    k = doubling(tries.fewest)
    return power_law(k, pass_table(tries, k).mean(0))


def _refined(
    k: Int[np.ndarray, " K"], covered: Float[np.ndarray, " K"], log_a: float, log_b: float
) -> PowerLaw:
    """Return the least squares over log(-a) and log(-b), which keep both below 0."""
    log_k = np.log(k)

    def miss(at: np.ndarray) -> np.ndarray:
        height, slope = np.clip(at, -_FAR, _FAR)  # far off, where a search may stray, all is flat
        return np.exp(-np.exp(height - np.exp(slope) * log_k)) - covered

    found = least_squares(miss, [log_a, log_b], method="lm", xtol=1e-12, ftol=1e-12)
    a, b = -np.exp(np.clip(found.x, -_FAR, _FAR))
    return PowerLaw(float(a), float(b))


_FLAT = 1e-9  # slopes below this are rounding
_FAR = 30.0  # logs beyond this are coverage of 0 or 1 to double precision
