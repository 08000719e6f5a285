"""How much do texts repeat one another? What a compressor makes of them.

Bytes in over bytes out of all texts together (Shaib et al. 2024, arXiv 2403.00553): high where
phrases come again. It grows with the number of bytes, so sets are compared at one size; the
relative form cuts the reference to the size of the samples.
"""

import lzma
import math
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from unison.types import Estimate

# zlib sees the last 32 KiB only: what repeats at a greater distance counts as new.
COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    "lzma": lzma.compress,
    "zlib": lambda data: zlib.compress(data, 9),
}
_GROUPS = 10


def compression_ratio(texts: Sequence[str], *, by: str = "lzma") -> Estimate:
    """Return bytes in over bytes out of all texts, one per line.

    The standard error is the jackknife's, leaving out a tenth of the texts at a time: every tenth
    text makes a group, of texts that are no neighbours.

    Args:
        texts: In UTF-8.
        by: ``lzma``, which sees the whole set, or ``zlib``.

    Raises:
        ValueError: The texts are empty, or there is no such compressor.
    """
    if by not in COMPRESSORS:
        raise ValueError(f"There is no compressor {by!r}; allowed are {', '.join(COMPRESSORS)}.")
    return _jackknifed(texts, lambda some: _ratio(_bytes(some), by))


def relative_compression(
    texts: Sequence[str], reference: Sequence[str], *, by: str = "lzma"
) -> Estimate:
    """Return the ratio of the texts over the ratio of a reference, cut to the same size.

    1 means they repeat themselves as much as the reference, more means more. The reference is
    taken as it is: the error is that of the texts alone.

    Raises:
        ValueError: Texts or reference are empty, or the reference is shorter than the texts.
    """
    size, whole = len(_bytes(texts)), _bytes(reference)
    if len(whole) < size:
        raise ValueError(
            f"The reference has {len(whole)} bytes and the texts {size}: ratios are compared at "
            "one size. Give a longer reference, or fewer texts."
        )
    ratio = compression_ratio(texts, by=by)
    expected = _ratio(whole[:size], by)
    return Estimate(ratio.value / expected, ratio.stderr / expected, ratio.n, "x reference")


def _jackknifed(texts: Sequence[str], measure: Callable[[Sequence[str]], float]) -> Estimate:
    value, groups = measure(texts), min(_GROUPS, len(texts))
    if groups < 2:
        return Estimate(value, math.nan, len(texts), "bytes/byte")
    rests = [[t for i, t in enumerate(texts) if i % groups != g] for g in range(groups)]
    if not all(any(rest) for rest in rests):
        return Estimate(value, math.nan, len(texts), "bytes/byte")
    left_out = np.array([measure(rest) for rest in rests])
    stderr = math.sqrt((groups - 1) * float(left_out.var()))
    return Estimate(value, stderr, len(texts), "bytes/byte")


def _bytes(texts: Sequence[str]) -> bytes:
    if not any(texts):
        raise ValueError("There is nothing to compress: all texts are empty.")
    return "\n".join(texts).encode("utf-8", "surrogatepass")


def _ratio(data: bytes, by: str) -> float:
    return len(data) / len(COMPRESSORS[by](data))
