"""What would more tries bring than were made? A fitted law, refitted to resampled problems."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from unison.evaluate.scaling.coverage import LEVEL, Band, ScalingError, Tries


@runtime_checkable
class CoverageLaw(Protocol):
    """Coverage for any number of tries: a frozen dataclass whose fields are its parameters."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def coverage(self, k: Int[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
        """Return the probability that one of k tries is right."""
        ...


class Extrapolation(NamedTuple):
    """A law fitted to tries, with what the choice of problems leaves open.

    The intervals hold chance, not whether the law is right: beyond the tries made nothing tests it.

    Attributes:
        law: Fitted to all problems.
        band: Its coverage, with interval.
        parameters: 95 % interval of each.
        refused: Share of resamples to which the law could not be fitted; they are left out.
        resampled: The law fitted to each of the others, for intervals of what else follows from it.
    """

    law: CoverageLaw
    band: Band
    parameters: Mapping[str, tuple[float, float]]
    refused: float
    resampled: Sequence[CoverageLaw]


def extrapolate(
    tries: Tries,
    fit: Callable[[Tries], CoverageLaw],
    k: Int[np.ndarray, " K"],
    *,
    rng: np.random.Generator,
    resamples: int = 200,
) -> Extrapolation:
    """Return coverage under a law, for any number of tries, with bootstrap intervals over problems.

    Args:
        tries: Of every problem.
        fit: :func:`fit_power_law`, :func:`fit_beta` or :func:`fit_beta_with_never`.
        k: Numbers of tries, also beyond those made.
        rng: For the bootstrap.
        resamples: Of the problems.

    Raises:
        ScalingError: The law cannot be fitted, or not to most resamples of so few problems.
    """
    law = fit(tries)
    drawn = [
        _fitted(tries.take(rng.integers(len(tries), size=len(tries))), fit)
        for _ in range(resamples)
    ]
    laws = [other for other in drawn if other is not None]
    if len(laws) < max(2, resamples / 2):
        raise ScalingError(
            f"{resamples - len(laws)} of {resamples} resamples of these {len(tries)} problems "
            "cannot be fitted; the interval needs more problems with right and wrong tries."
        )
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile([other.coverage(k) for other in laws], tails, axis=0)
    parameters = {
        name: tuple(np.quantile([getattr(other, name) for other in laws], tails).tolist())
        for name in (field.name for field in dataclasses.fields(law))
    }
    refused = 1 - len(laws) / resamples
    return Extrapolation(law, Band(k, law.coverage(k), low, high), parameters, refused, laws)


def _fitted(tries: Tries, fit: Callable[[Tries], CoverageLaw]) -> CoverageLaw | None:
    try:
        return fit(tries)
    except ScalingError:
        return None
