"""How surprising is a text to an interpolated n-gram model of bytes?

Witten-Bell smoothing (Witten and Bell 1991, doi 10.1109/18.87000; in the interpolated form of Chen
and Goodman 1998, TR-10-98): p(w | h) = (c(hw) + T(h) p(w | h')) / (c(h) + T(h)), where T(h) is the
number of distinct symbols seen after h and h' is h without its oldest symbol. The recursion ends
at the uniform law, so every string has a positive probability and the law is normalised exactly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

END = 256
SYMBOLS = 257
_START = 257
_BASE = 258

Symbols = Int[np.ndarray, " P"]


class Level(NamedTuple):
    """Counts after all contexts of one length.

    A context is named by its place in ``contexts``; its code is the name of the context one symbol
    shorter, times 258, plus its oldest symbol. Names, not hashes, so any order fits 64 bits.

    Attributes:
        contexts: Sorted codes of the contexts that were seen.
        grams: Sorted codes (context, times 258, plus the symbol that followed).
        counts: How often each gram was seen.
        totals: Per context, how many symbols followed.
        kinds: Per context, how many distinct symbols followed.
    """

    contexts: Int[np.ndarray, " contexts"]
    grams: Int[np.ndarray, " grams"]
    counts: Int[np.ndarray, " grams"]
    totals: Float[np.ndarray, " contexts"]
    kinds: Int[np.ndarray, " contexts"]


@dataclass(frozen=True)
class NGram:
    """A law over texts: each byte, and the end of the text, given up to ``order - 1`` bytes.

    Attributes:
        levels: Counts after contexts of 0, 1, ... ``order - 1`` symbols.
    """

    levels: tuple[Level, ...]

    @classmethod
    def fit(cls, texts: Sequence[str], order: int = 6) -> "NGram":
        """Count the n-grams of ``texts``; the needed memory is about 90 bytes per byte of text.

        Args:
            texts: Whole documents; each begins after a start symbol and closes with the end.
            order: Longest n-gram; 1 ignores the context.

        Raises:
            ValueError: There is no text, or the order is below 1.
        """
        if order < 1:
            raise ValueError(f"The order of an n-gram model is at least 1, got {order}.")
        if not any(texts):
            raise ValueError("An n-gram model needs text to count; the texts given are empty.")
        flat = _flatten(texts)
        node = np.zeros(len(flat.symbols), dtype=np.int64)
        levels = []
        for distance in range(order):
            contexts = np.zeros(1, dtype=np.int64)
            if distance:
                contexts, node = np.unique(
                    node * _BASE + flat.before(distance), return_inverse=True
                )
            grams, counts = np.unique(node * _BASE + flat.symbols, return_counts=True)
            owner = grams // _BASE
            totals = np.bincount(owner, weights=counts)
            levels.append(Level(contexts, grams, counts, totals, np.bincount(owner)))
        return cls(tuple(levels))

    @property
    def order(self) -> int:
        """Length of the longest n-gram."""
        return len(self.levels)

    def distribution(self, text: str | bytes) -> Float[np.ndarray, "257"]:
        """Return the probabilities of the 256 bytes and of the end, after ``text`` so far."""
        seen = text.encode() if isinstance(text, str) else text

        def before(distance: int) -> Symbols:
            symbol = seen[-distance] if distance <= len(seen) else _START
            return np.full(SYMBOLS, symbol, dtype=np.int64)

        return self._probabilities(np.arange(SYMBOLS), before)

    def nats(self, text: str, *, end: bool = True) -> float:
        """Return -log p(text), natural log.

        Args:
            text: From its beginning.
            end: Whether the text is also known to stop there; without it this is the probability
                that a text *begins* like this.
        """
        return self.score([text], end=end)[0][0]

    def score(self, texts: Sequence[str], *, end: bool = True) -> list[tuple[float, int]]:
        """Return, per text, :meth:`nats` and the number of symbols that it sums over."""
        if not texts:
            return []
        flat = _flatten(texts)
        surprise = -np.log(self._probabilities(flat.symbols, flat.before))
        judged = (flat.symbols != END) | end
        nats = np.bincount(flat.owner, weights=np.where(judged, surprise, 0.0))
        counts = np.bincount(flat.owner, weights=judged).astype(int)
        return list(zip(nats.tolist(), counts.tolist(), strict=True))

    def _probabilities(
        self, symbols: Symbols, before: Callable[[int], Symbols]
    ) -> Float[np.ndarray, " P"]:
        node = np.zeros(len(symbols), dtype=np.int64)
        p = np.full(len(symbols), 1 / SYMBOLS)
        for distance, level in enumerate(self.levels):
            if distance:
                node = _find(level.contexts, node * _BASE + before(distance))
            place = _find(level.grams, node * _BASE + symbols)
            count = np.where(place < 0, 0, level.counts[place])
            kinds, total = level.kinds[node], level.totals[node]
            p = np.where(node < 0, p, (count + kinds * p) / (total + kinds))
        return p


class _Flat(NamedTuple):
    """Texts end to end: every symbol, its text, and its place in that text."""

    symbols: Symbols
    owner: Symbols
    offset: Symbols

    def before(self, distance: int) -> Symbols:
        shifted = np.roll(self.symbols, distance)
        return np.where(self.offset >= distance, shifted, _START)


def _flatten(texts: Sequence[str]) -> _Flat:
    encoded = [text.encode() for text in texts]
    lengths = np.array([len(text) + 1 for text in encoded])
    owner = np.repeat(np.arange(len(texts)), lengths)
    last = lengths.cumsum() - 1
    symbols = np.full(int(lengths.sum()), END, dtype=np.int64)
    is_byte = np.ones(len(symbols), dtype=bool)
    is_byte[last] = False
    symbols[is_byte] = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    offset = np.arange(len(symbols)) - np.repeat(last - lengths + 1, lengths)
    return _Flat(symbols, owner, offset)


def _find(codes: Int[np.ndarray, " codes"], wanted: Symbols) -> Symbols:
    """Return the place of each wanted code, or -1; a code made from an unknown context is < 0."""
    place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    return np.where(codes[place] == wanted, place, -1)
