"""How far are samples from text that people wrote? MAUVE.

MAUVE (Pillutla et al. 2021, arXiv 2102.01454) cuts the space of features into buckets and compares
two histograms P and Q: the area under the curve of (exp(-c KL(Q, R)), exp(-c KL(P, R))) as
R = w P + (1 - w) Q goes from Q to P; 1 for equal histograms, near 0 for disjoint ones. The buckets
are those of the package ``mauve-text``, and so is the number, except where equal histograms make
its curve ambiguous. It depends on the features, the number of texts and the buckets: only numbers
that share all three are compared.
"""

import contextlib
import importlib
import importlib.util
import math
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from unison.types import Estimate

EXTRA = "pip install 'unison[eval]'"
_PACKAGES = {"mauve": "mauve-text", "faiss": "faiss-cpu"}
_SCALE = 5.0
_POINTS = 25
_EDGE = 1e-6  # mixtures stay this far from P and Q, where a divergence may be infinite

Vectors = Float[np.ndarray, "_ _"]
Histogram = Num[np.ndarray, " _"]


def mauve(human: Vectors, model: Vectors, *, buckets: int | None = None, seed: int = 0) -> Estimate:
    """Return MAUVE between two sets of texts, given their features on the same axes.

    The error is the jackknife's over the texts of both sides with the buckets held fixed; it does
    not hold what other buckets would give.

    Args:
        human: Features of texts that people wrote.
        model: Features of samples.
        buckets: Cells of the histograms; a tenth of the smaller set, at least 2, if ``None``.
        seed: Of the clustering that makes the buckets.

    Raises:
        ValueError: The package is not installed, a set is empty, the axes differ, or there are
            fewer than 2 buckets or fewer texts than buckets.
    """
    compute = _compute()
    _check(human, model, buckets)
    if not np.ptp(np.concatenate([_directions(human), _directions(model)]), axis=0).any():
        return Estimate(1.0, 0.0, len(human) + len(model), "MAUVE")  # nothing tells them apart
    with _quiet():
        found = compute(
            p_features=human, q_features=model, num_buckets=buckets or "auto", seed=seed
        )
    p = np.rint(found.p_hist * len(human)).astype(np.int64)
    q = np.rint(found.q_hist * len(model)).astype(np.int64)
    value = mauve_of_histograms(p, q)
    return Estimate(value, _jackknife(p, q), len(human) + len(model), "MAUVE")


def mauve_of_histograms(
    p: Histogram, q: Histogram, *, scale: float = _SCALE, points: int = _POINTS
) -> float:
    """Return MAUVE of two histograms over the same buckets: the area under their curve.

    Args:
        p: Counts or shares.
        q: The same for the other side; the result does not depend on which is which.
        scale: c, by which divergences are multiplied.
        points: Mixtures on the curve, between its two ends.

    Raises:
        ValueError: A histogram is empty or negative, or they differ in length.
    """
    if p.shape != q.shape:
        raise ValueError(f"Histograms share their buckets: there are {len(p)} and {len(q)}.")
    for histogram in (p, q):
        if not (histogram >= 0).all() or not histogram.sum() > 0:
            raise ValueError("A histogram holds counts of at least 0, and not only zeros.")
    p, q = p / p.sum(), q / q.sum()
    mixed = np.linspace(_EDGE, 1 - _EDGE, points)[:, None]
    r = mixed * p + (1 - mixed) * q
    x = np.concatenate([[1.0], np.exp(-scale * _divergence(q, r)), [0.0]])
    y = np.concatenate([[0.0], np.exp(-scale * _divergence(p, r)), [1.0]])
    # Along the curve x falls and y rises. Sorted by x instead, points that share an x would come
    # in any order, and equal histograms score anything between 1/2 and 1.
    return 0.5 * float(np.trapezoid(x, y) - np.trapezoid(y, x))


def _divergence(
    p: Float[np.ndarray, " K"], mixtures: Float[np.ndarray, "points K"]
) -> Float[np.ndarray, " points"]:
    held = p > 0
    return (p[held] * np.log(p[held] / mixtures[:, held])).sum(axis=1)


def _jackknife(p: Histogram, q: Histogram) -> float:
    """Return the standard error: leaving out any text of one bucket gives the same number."""
    variance = 0.0
    for counts, left_out in (
        (p, lambda fewer: mauve_of_histograms(fewer, q)),
        (q, lambda fewer: mauve_of_histograms(p, fewer)),
    ):
        n = int(counts.sum())
        if n < 2:
            return math.nan
        held = np.flatnonzero(counts)
        values = np.array([left_out(counts - (np.arange(len(counts)) == k)) for k in held])
        share = counts[held] / n
        variance += (n - 1) * float(share @ (values - share @ values) ** 2)
    return math.sqrt(variance)


def _directions(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def _check(human: Vectors, model: Vectors, buckets: int | None) -> None:
    if human.shape[1] != model.shape[1]:
        raise ValueError(
            f"Both sides need the same features: there are {human.shape[1]} and {model.shape[1]}."
        )
    if len(human) == 0 or len(model) == 0:
        raise ValueError(f"MAUVE compares two sets; there are {len(human)} and {len(model)} texts.")
    total = len(human) + len(model)
    if buckets is not None and not 2 <= buckets <= total:
        raise ValueError(f"MAUVE of {total} texts needs 2 to {total} buckets, got {buckets}.")


def require() -> None:
    """Check that MAUVE can be computed here.

    Raises:
        ValueError: A package is not installed.
    """
    for module, package in _PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise ValueError(
                f"MAUVE needs the package {package!r}, which is not installed; run: {EXTRA}"
            )


def _compute() -> Any:
    require()
    with warnings.catch_warnings():
        # The binding generator's own types, met on import: nothing a user could act on.
        warnings.filterwarnings("ignore", "builtin type [Ss]wig.*", DeprecationWarning)
        return importlib.import_module("mauve").compute_mauve


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the clustering's advice on sample sizes, written by C code, off standard error."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
