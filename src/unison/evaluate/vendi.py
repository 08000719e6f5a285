"""How many different texts are there in effect? The Vendi scores, of every order.

The score of order q is the Hill number (Hill 1973, doi 10.2307/1934352) of the eigenvalues of the
kernel over the number of texts: exp of the Renyi entropy of order q, so 1 where all texts are
alike and n where all n have nothing in common. Order 1 is Friedman and Dieng (2022, arXiv
2210.02410), the others Pasarkar and Dieng (2023, arXiv 2310.12952): small orders count rare kinds
as much as common ones, large orders see only what is common. All of it in float64.

The score grows with the number of texts until every kind has been seen: compare sets of one size.
Its error is the infinitesimal jackknife's over texts (Jaeckel 1972; Efron 1982, chapter 6), which
says how the score would vary between sets of this size, not how far it is from the score of all
texts that could be written. Orders 0 and infinity count and pick eigenvalues, have no derivative
where these tie, and come without an error (nan).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num
from scipy.sparse import csr_array

from unison.evaluate.features import Vectors, cosine, unit_rows
from unison.types import Estimate

Matrix = Float[np.ndarray, "_ _"]
Counts = Num[np.ndarray, " _"] | Sequence[int] | None

# Kernels are products of rounded numbers: so far may a diagonal be from 1, an entry from its
# mirror image, an eigenvalue below 0.
_ROUNDING = 1e-8
# Between these distances from order 1, sums of powers lose digits; Tsallis' form does not.
_NEAR_ONE = 0.5


class Spectrum(NamedTuple):
    """The eigenvalues of the mean of x x^T over texts, and who they come from.

    Attributes:
        values: Positive eigenvalues; they sum to 1. What rounding alone could have left is 0 and
            not listed.
        shares: (x . u)^2 / value for each distinct text x and unit eigenvector u; the mean over
            texts is 1.
        counts: How often each distinct text occurs.
    """

    values: Float[np.ndarray, " R"]
    shares: Float[np.ndarray, "N R"]
    counts: Float[np.ndarray, " N"]


def spectrum(kernel: Matrix, counts: Counts = None) -> Spectrum:
    """Return the spectrum of a kernel matrix.

    Args:
        kernel: Similarities of distinct texts: symmetric, ones on the diagonal, positive
            semidefinite.
        counts: How often each text occurs; once if ``None``. The spectrum is that of the kernel
            with every text written out as often.

    Raises:
        ValueError: The kernel is not such a matrix, or the counts do not fit it.
    """
    _check_kernel(kernel)
    weights = _weights(counts, len(kernel))
    p = weights / weights.sum()
    root = np.sqrt(p)
    values, axes = np.linalg.eigh(kernel * root[:, None] * root[None, :])
    if values[0] < -_ROUNDING:
        raise ValueError(
            f"The kernel has the eigenvalue {values[0] * len(kernel):.3g}: it is not positive "
            "semidefinite, so there is no Vendi score. Inner products, Gaussians and the Jaccard "
            "index are allowed kernels."
        )
    kept = values > _noise(values)
    return Spectrum(values[kept], axes[:, kept] ** 2 / p[:, None], weights)


def spectrum_of(vectors: Vectors | csr_array, counts: Counts = None) -> Spectrum:
    """Return the spectrum of the cosine kernel of vectors, by the smaller of the two matrices.

    Args:
        vectors: One row per distinct text; scaled to length 1 here.
        counts: How often each text occurs; once if ``None``.

    Raises:
        ValueError: A vector is zero, or the counts do not fit.
    """
    if isinstance(vectors, csr_array) or vectors.shape[1] >= len(vectors):
        return spectrum(cosine(vectors), counts)
    scaled = unit_rows(vectors)
    weights = _weights(counts, len(scaled))
    p = weights / weights.sum()
    values, axes = np.linalg.eigh((scaled * p[:, None]).T @ scaled)
    kept = values > _noise(values)
    return Spectrum(values[kept], (scaled @ axes[:, kept]) ** 2 / values[kept], weights)


def vendi(of: Spectrum, q: float = 1.0) -> Estimate:
    """Return the Vendi score of order ``q``, in [0, infinity].

    Raises:
        ValueError: The order is negative or not a number.
    """
    if not q >= 0:
        raise ValueError(f"The order of a Vendi score is in [0, inf], got {q}.")
    n = int(of.counts.sum())
    if q == 0:
        return Estimate(float(len(of.values)), math.nan, n, "texts")
    if math.isinf(q):
        return Estimate(1 / float(of.values.max()), math.nan, n, "texts")
    entropy, slopes = _renyi(of.values, q)
    score = math.exp(entropy)
    return Estimate(score, _stderr(score * q * (of.shares @ slopes), of.counts), n, "texts")


def vendi_two(kernel: Matrix, counts: Counts = None) -> Estimate:
    """Return the score of order 2, which needs no eigenvalues: 1 / mean of squared similarities.

    Time and memory are those of reading the kernel once.

    Raises:
        ValueError: The kernel is not square and symmetric with ones on its diagonal, or the
            counts do not fit it.
    """
    _check_kernel(kernel)
    weights = _weights(counts, len(kernel))
    p = weights / weights.sum()
    return _second(kernel**2 @ p, weights)


def vendi_two_of(vectors: Vectors, counts: Counts = None) -> Estimate:
    """Return the score of order 2 from vectors, in time linear in the number of texts.

    Raises:
        ValueError: A vector is zero, or the counts do not fit.
    """
    scaled = unit_rows(vectors)
    weights = _weights(counts, len(scaled))
    mean = (scaled * (weights / weights.sum())[:, None]).T @ scaled
    return _second(np.einsum("nd,nd->n", scaled @ mean, scaled), weights)


def _second(mean_square: Float[np.ndarray, " N"], weights: Float[np.ndarray, " N"]) -> Estimate:
    """Return the score, given each text's mean squared similarity to all."""
    overall = float(mean_square @ weights / weights.sum())
    slopes = -2 / overall**2 * (mean_square - overall)
    return Estimate(1 / overall, _stderr(slopes, weights), int(weights.sum()), "texts")


def _renyi(values: Float[np.ndarray, " R"], q: float) -> tuple[float, Float[np.ndarray, " R"]]:
    """Return the Renyi entropy in nats, and (tilted - plain share) / (1 - q) of each eigenvalue.

    The tilted share is value^q over the sum of those. q times the second, weighted by the relative
    changes of the eigenvalues, is the change of the entropy.
    """
    logs = np.log(values)
    if abs(q - 1) >= _NEAR_ONE:
        peak = q * float(logs.max())
        total = peak + math.log(float(np.exp(q * logs - peak).sum()))
        return total / (1 - q), (np.exp(q * logs - total) - values) / (1 - q)
    surprise = -logs if q == 1 else np.expm1((q - 1) * logs) / (1 - q)
    tsallis = float(values @ surprise)
    slopes = values * (surprise - tsallis) / (1 + (1 - q) * tsallis)
    return (tsallis if q == 1 else math.log1p((1 - q) * tsallis) / (1 - q)), slopes


def _stderr(influence: Float[np.ndarray, " N"], counts: Float[np.ndarray, " N"]) -> float:
    n = float(counts.sum())
    if n <= 1:
        return math.nan
    about = influence - influence @ counts / n
    return math.sqrt(float(counts @ about**2) / (n * (n - 1)))


def _noise(values: Float[np.ndarray, " R"]) -> float:
    """Return the largest eigenvalue that rounding can make out of 0, as ranks are counted."""
    return float(values.max()) * len(values) * float(np.finfo(np.float64).eps)


def _weights(counts: Counts, rows: int) -> Float[np.ndarray, " N"]:
    weights = np.ones(rows) if counts is None else np.asarray(counts, dtype=np.float64)
    if rows == 0:
        raise ValueError("There are no texts to measure.")
    if len(weights) != rows or not (weights > 0).all() or not np.isfinite(weights).all():
        raise ValueError(
            f"Counts are positive, one for each of {rows} texts; got {len(weights)} of them, the "
            f"smallest {weights.min(initial=math.inf)}."
        )
    return weights


def _check_kernel(kernel: Matrix) -> None:
    if kernel.shape[0] != kernel.shape[1]:
        raise ValueError(f"A kernel is a square matrix, got shape {kernel.shape}.")
    if not np.isfinite(kernel).all() or np.abs(kernel - kernel.T).max(initial=0) > _ROUNDING:
        raise ValueError("A kernel is finite and symmetric; this one is not.")
    if np.abs(np.diagonal(kernel) - 1).max(initial=0) > _ROUNDING:
        raise ValueError(
            "Each text is like itself by 1, but the kernel's diagonal is not all ones; divide "
            "each entry by the roots of its two diagonal entries."
        )
