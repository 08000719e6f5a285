"""How much of the samples is new, and how much was copied from the training text?

The share of n-grams that the training text does not hold (McCoy et al. 2023, arXiv 2111.09509),
and the longest span of each sample that it does. Both are exact: n-grams get names, not hashes.

The samples are what is indexed; the training text only passes by. A gram of l + 1 units is the
name of the gram of l units before it and its last unit, so one pass looks up each place of the
training text at lengths 1, 2, ... as long as some sample holds what stands there. Memory is a few
numbers per unit of the samples and one small number per unit of the training text, and while words
are told apart those of the largest document; time is about one look-up per unit of the training
text and length, until few places are left. One passage that the training text holds many times
over makes samples that copy it slow to follow.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

from unison.evaluate.features import Unit, units
from unison.types import Estimate

Whole = Integer[np.ndarray, " _"]

_END = -1  # behind every text, and in place of units that no sample holds
_BLOCK = 1 << 22  # places of the training text looked up together
_CODE_POINTS = 0x110000


def novelty(
    texts: Sequence[str],
    training: Sequence[str],
    *,
    unit: Unit = "words",
    largest: int = 8,
    span: int = 8,
) -> dict[str, Estimate]:
    """Compare samples with the text a model was trained on.

    Args:
        texts: Samples.
        training: Documents; no span crosses from one to the next.
        unit: What grams and spans are made of: words between white space, or characters.
        largest: Novel n-grams are counted for n from 1 to this.
        span: Units from which on a copied span counts as copying.

    Returns:
        ``novel_1`` to ``novel_<largest>``: share of n-grams of all samples that the training text
        lacks, nan where there are none; ``longest_copy``: units of the longest copied span, mean
        over samples; ``longest_copy_max``: the longest of all, an observation without an error;
        ``copied``: share of samples with a copied span of at least ``span``.

    Raises:
        ValueError: Samples or training text are missing, or a setting is below 1.
    """
    for name, value in (("largest", largest), ("span", span)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    if not texts:
        raise ValueError("There are no samples to measure.")
    if not any(training):
        raise ValueError("There is no training text to compare the samples with.")
    overlap = _overlap(*_encoded(texts, training, unit), largest)
    shares = {
        f"novel_{n}": _share(lacking, grams)
        for n, (lacking, grams) in enumerate(zip(overlap.lacking, overlap.grams, strict=True), 1)
    }
    longest = overlap.longest
    copies = {
        "longest_copy": _mean(longest, unit),
        "longest_copy_max": Estimate(float(longest.max()), math.nan, len(texts), unit),
        "copied": _mean((longest >= span).astype(np.float64), "share"),
    }
    return shares | copies


class _Overlap(NamedTuple):
    """Per sample and length: grams, grams the training text lacks; per sample: longest copy."""

    grams: list[Float[np.ndarray, " N"]]
    lacking: list[Float[np.ndarray, " N"]]
    longest: Float[np.ndarray, " N"]


class _Reached(NamedTuple):
    """Grams of the samples at one length, and where the training text holds them."""

    length: int
    level: "_Level"
    seen: Bool[np.ndarray, " _"]
    places: Whole
    names: Whole


class _Level(NamedTuple):
    """All grams of one length in the samples.

    Attributes:
        codes: Sorted: name of the gram without its last unit, times the number of units, plus it.
        places: Where in the samples grams begin.
        names: Which code stands at each place.
    """

    codes: Whole
    places: Whole
    names: Whole


def _overlap(samples: Whole, training: Whole, width: int, largest: int) -> _Overlap:
    owner = np.cumsum(samples == _END) - (samples == _END)
    count = int(owner[-1]) + 1
    places = np.flatnonzero(samples != _END)
    levels = [_Level(np.arange(width), places, samples[places])]
    for length in range(1, largest):
        levels.append(_longer(levels[-1], samples, length, width))
    seen = [np.zeros(len(level.codes), dtype=np.bool_) for level in levels]
    left = _pass_by(training, levels, seen, width)

    def per_sample(at: Whole) -> Float[np.ndarray, " N"]:
        return np.bincount(owner[at], minlength=count).astype(np.float64)

    found = [
        per_sample(level.places[s[level.names]]) for level, s in zip(levels, seen, strict=True)
    ]
    grams = [per_sample(level.places) for level in levels]
    longest = np.sum([f > 0 for f in found], axis=0).astype(np.float64)
    reached = _Reached(largest, levels[-1], seen[-1], *left)
    for length, copied in _follow(samples, training, reached, width):
        longest[owner[copied]] = length
    return _Overlap(grams, [g - f for g, f in zip(grams, found, strict=True)], longest)


def _pass_by(
    training: Whole, levels: Sequence[_Level], seen: Sequence[Bool[np.ndarray, " _"]], width: int
) -> tuple[Whole, Whole]:
    """Mark in ``seen`` which grams the training text holds; return what holds at full length."""
    places_left, names_left = [], []
    for first in range(0, len(training), _BLOCK):
        places = first + np.flatnonzero(training[first : first + _BLOCK] != _END)
        names = training[places]
        seen[0][names] = True
        for length, level in enumerate(levels[1:], 1):
            places, codes = _extended(training, places, names, length, width)
            places, names = _known(level.codes, places, codes)
            seen[length][names] = True
        places_left.append(places)
        names_left.append(names.astype(np.int32))
    return np.concatenate(places_left), np.concatenate(names_left)


def _follow(
    samples: Whole, training: Whole, reached: _Reached, width: int
) -> Iterator[tuple[int, Whole]]:
    """Yield lengths beyond the one reached, and where in the samples copies of it begin."""
    length, level, seen, places, names = reached
    while len(places):
        kept = seen[level.names]
        copied = level._replace(places=level.places[kept], names=level.names[kept])
        level = _longer(copied, samples, length, width)
        places, codes = _extended(training, places, names, length, width)
        places, names = _known(level.codes, places, codes)
        length += 1
        seen = np.zeros(len(level.codes), dtype=np.bool_)
        seen[names] = True
        yield length, level.places[seen[level.names]]


def _longer(level: _Level, samples: Whole, length: int, width: int) -> _Level:
    places, codes = _extended(samples, level.places, level.names, length, width)
    kinds, names = np.unique(codes, return_inverse=True)
    return _Level(kinds, places, names)


def _extended(
    text: Whole, places: Whole, names: Whole, length: int, width: int
) -> tuple[Whole, Whole]:
    """Return the places whose gram of ``length`` units is followed by another, and their codes."""
    following = text[places + length]
    inside = following != _END
    return places[inside], names[inside].astype(np.int64) * width + following[inside]


def _known(codes: Whole, places: Whole, wanted: Whole) -> tuple[Whole, Whole]:
    """Return the places whose code is among ``codes``, and its rank there."""
    if len(codes) == 0:
        return places[:0], wanted[:0]
    rank = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    found = codes[rank] == wanted
    return places[found], rank[found]


def _encoded(texts: Sequence[str], training: Sequence[str], unit: Unit) -> tuple[Whole, Whole, int]:
    """Return samples and training text end to end, as ranks among the units of the samples."""
    number = _by_code_point(texts) if unit == "chars" else _by_word(texts)
    samples = _joined(number(text) for text in texts)
    return samples, _joined(number(text) for text in training), int(samples.max()) + 2


def _by_word(texts: Sequence[str]) -> Callable[[str], Whole]:
    ranks: dict[str, int] = {}
    for text in texts:
        for word in units(text, "words"):
            ranks.setdefault(word, len(ranks))
    return lambda text: np.array([ranks.get(w, _END) for w in units(text, "words")], np.int32)


def _by_code_point(texts: Sequence[str]) -> Callable[[str], Whole]:
    held = np.unique(np.concatenate([_code_points(text) for text in texts]))
    # Half the memory wherever texts have fewer than 32 768 different characters.
    ranks = np.full(
        _CODE_POINTS, _END, np.int16 if len(held) < np.iinfo(np.int16).max else np.int32
    )
    ranks[held] = np.arange(len(held))
    return lambda text: ranks[_code_points(text)]


def _code_points(text: str) -> Whole:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _joined(texts: Iterator[Whole]) -> Whole:
    parts: list[Whole] = []
    for text in texts:
        parts += [text, np.full(1, _END, text.dtype)]
    return np.concatenate(parts)


def _share(parts: Float[np.ndarray, " N"], wholes: Float[np.ndarray, " N"]) -> Estimate:
    """Return the ratio of two sums over samples, with the error of its linearisation."""
    total, n = wholes.sum(), int((wholes > 0).sum())
    if total == 0:
        return Estimate(math.nan, math.nan, 0, "share")
    share = float(parts.sum() / total)
    if n == 1:
        return Estimate(share, math.nan, 1, "share")
    residuals = parts - share * wholes
    spread = math.sqrt(n / (n - 1) * float((residuals**2).sum()))
    return Estimate(share, spread / float(total), n, "share")


def _mean(values: Float[np.ndarray, " N"], unit: str) -> Estimate:
    n = len(values)
    stderr = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return Estimate(float(values.mean()), stderr, n, unit)
