"""How many of the texts have a twin among the others?"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array

from unison.evaluate.features import gram_counts, presence
from unison.types import Estimate

_ROWS = 256  # texts compared with all others at once


def distinct(texts: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the different texts in order of appearance, and how often each occurs."""
    counts = Counter(texts)
    return list(counts), list(counts.values())


def duplicates(texts: Sequence[str]) -> Estimate:
    """Return the share of texts that another text equals, character by character.

    Raises:
        ValueError: There are no texts.
    """
    if not texts:
        raise ValueError("There are no texts to compare.")
    counts = Counter(texts)
    twins = np.array([counts[text] - 1 for text in texts], dtype=np.float64)
    # Without one of a pair, the other has no twin left.
    lost = np.where(twins == 1, 1.0, 0.0)
    return _share(twins, lost)


def near_duplicates(texts: Sequence[str], *, threshold: float = 0.8, n: int = 5) -> Estimate:
    """Return the share of texts whose character n-grams some other text mostly shares.

    Every pair is compared exactly, by the Jaccard index of their sets of n-grams; time grows with
    the square of the number of texts, memory with the number.

    Args:
        texts: To compare.
        threshold: Shared over all n-grams from which on two texts are near-duplicates; 1 demands
            the same set of n-grams.
        n: Length of a gram; the default forgives one changed word in about ten.

    Raises:
        ValueError: There are no texts, or a setting is out of range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"The threshold of near-duplicates is in (0, 1], got {threshold}.")
    present = presence(gram_counts(texts, n))
    sizes = np.asarray(present.sum(axis=1)).ravel()
    twins, only = np.zeros(len(texts)), np.zeros(len(texts), dtype=np.int64)
    for first in range(0, len(texts), _ROWS):
        near = _near(present, sizes, slice(first, first + _ROWS), threshold)
        twins[first : first + _ROWS] = near.sum(axis=1)
        only[first : first + _ROWS] = near.argmax(axis=1)
    lost = np.bincount(only[twins == 1], minlength=len(texts))
    return _share(twins, lost.astype(np.float64))


def _near(
    present: csr_array, sizes: Float[np.ndarray, " N"], rows: slice, threshold: float
) -> np.ndarray:
    """Return which texts are near-duplicates of the given rows, never of themselves."""
    shared = (present[rows] @ present.T).toarray()
    near = shared >= threshold * (sizes[rows, None] + sizes[None, :] - shared)
    places = np.arange(len(near))
    near[places, rows.start + places] = False
    return near


def _share(twins: Float[np.ndarray, " N"], lost: Float[np.ndarray, " N"]) -> Estimate:
    """Return the share of texts with a twin; the error is the jackknife's, leaving one text out.

    Args:
        twins: Of each text.
        lost: How many other texts lose their only twin when this one goes.
    """
    n, having = len(twins), twins > 0
    value = float(having.mean())
    if n < 2:
        return Estimate(value, math.nan, n, "share")
    left_out = (having.sum() - having - lost) / (n - 1)
    return Estimate(value, math.sqrt((n - 1) * float(left_out.var())), n, "share")
