"""Which random number is it? A draw is a hash of (row seed, step, site, position), never a state.

Each batch row owns a 64-bit seed; a row's draws do not depend on its neighbours, on the batch
size or on how many draws another feature made, so results are batch-invariant and replayable.
The hash is Philox4x32-10 (Salmon et al., 2011, doi:10.1145/2063384.2063405).
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

_LOW = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_FEW = 8  # draws that are made one by one on a CPU

SITE_ROWS = 0x7FFFFFF0  # derives row seeds
SITE_PRIOR = 0x7FFFFFF1  # the driver's first canvas
SITE_TIMES = 0x7FFFFFF2  # stratified times
SITE_SHUFFLE = 0x7FFFFFF3  # which row gets which stratum
SITE_DERIVED = 0x7FFFFFF4  # derives further streams of a row

Words = tuple[Tensor, Tensor, Tensor, Tensor]


class Key(NamedTuple):
    """One random stream per batch row.

    Attributes:
        seed: Row seeds. Two rows with equal seeds see equal noise.
        step: Decoding or training step, part of every draw's name.
        steps: The step of each row instead, where rows stand at different ones.
        first: The position of the first draw: what looks at some positions of a canvas draws what
            it would there, looking at all.
    """

    seed: Int[Tensor, " B"]
    step: int = 0
    steps: Int[Tensor, " B"] | None = None
    first: int = 0

    @property
    def place(self) -> int | Float[Tensor, " B"]:
        """The step, or that of each row, float64: what formulas are about."""
        return self.step if self.steps is None else self.steps.double()

    def at(self, step: int) -> "Key":
        """Return the same streams at another step."""
        return Key(self.seed, step, first=self.first)


def philox(counter: Words, key: tuple[Tensor, Tensor]) -> Words:
    """Philox4x32-10 on int64 tensors that hold 32-bit words.

    Args:
        counter: Four words, broadcastable against each other and the key.
        key: Two words.
    """
    words = (*counter, *key)
    if torch.compiler.is_compiling() or any(word.device.type != "cpu" for word in words):
        return _rounds(words)
    with np.errstate(over="ignore"):  # numpy's calls cost a quarter of torch's; products wrap
        mixed = _rounds(tuple(word.numpy() for word in words))
    return tuple(torch.from_numpy(np.asarray(word)) for word in mixed)  # pyright: ignore


def _rounds(words: tuple[Any, ...]) -> tuple[Any, Any, Any, Any]:
    """Return four words mixed ten times with a key of two; tensors or arrays of int64."""
    c0, c1, c2, c3, k0, k1 = words
    for _ in range(10):
        high = c0 * _MULTIPLIERS[0]
        low = c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((low >> 32) & _LOW) ^ c1 ^ k0,
            low & _LOW,
            ((high >> 32) & _LOW) ^ c3 ^ k1,
            high & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0, c1, c2, c3


def uniform(key: Key, site: int, length: int, each: int = 1) -> Float[Tensor, "B {length*each}"]:
    """Draw uniforms on the open interval (0, 1), float64, 53 random bits.

    Args:
        key: The streams to draw from.
        site: Names the draw within a step; two draws of one step need two sites.
        length: Positions to draw at, from ``key.first`` on. Position p's value does not depend on
            ``length``.
        each: Draws at every position, which stand side by side.
    """
    first, count = key.first * each, length * each
    pair = torch.arange(first // 2, (first + count + 1) // 2, device=key.seed.device)
    even, odd = _pair(key, site, pair)
    return torch.stack([even, odd], dim=-1).flatten(1)[:, first % 2 : first % 2 + count]


def uniform_at(key: Key, site: int, positions: Int[Tensor, "B F"]) -> Float[Tensor, "B F"]:
    """Draw the uniforms of some positions, counted from ``key.first``, as ``uniform`` does."""
    positions = positions + key.first
    even, odd = _pair(key, site, positions // 2)
    return torch.where(positions % 2 == 0, even, odd)


def uniform_step(
    seed: Int[Tensor, " B"], step: Int[Tensor, " B"], site: int
) -> Float[Tensor, " B"]:
    """Draw the first uniform of each row at a step of its own, as ``uniform`` draws it."""
    return _words(seed, step[:, None], site, torch.zeros_like(seed[:, None]))[0][:, 0]


def _pair(key: Key, site: int, pair: Tensor) -> tuple[Tensor, Tensor]:
    """Return the uniforms of positions 2 ``pair`` and 2 ``pair`` + 1."""
    device = key.seed.device
    step = _filled(key.step, device) if key.steps is None else key.steps[:, None]
    return _words(key.seed, step, site, pair)


def _words(seed: Tensor, step: Tensor, site: int, pair: Tensor) -> tuple[Tensor, Tensor]:
    if seed.device.type == "cpu" and len(seed) * pair.shape[-1] <= _FEW:
        return _few_words(seed, step, site, pair)
    words = philox(
        (
            pair,
            _filled(site & _LOW, seed.device),
            step & _LOW,
            (step >> 32) & _LOW,
        ),
        ((seed & _LOW)[:, None], ((seed >> 32) & _LOW)[:, None]),
    )
    even, odd = words[0] << 21 ^ words[1] >> 11, words[2] << 21 ^ words[3] >> 11
    return _unit(even), _unit(odd)


def _filled(number: int, device: torch.device) -> Tensor:
    """Return a number where the device itself writes it: to send one would wait for the device."""
    return torch.full((), number, dtype=torch.int64, device=device)


def _few_words(seed: Tensor, step: Tensor, site: int, pair: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same of a few draws: whole numbers are faster than so many small tensors."""
    shape = (len(seed), pair.shape[-1])
    steps, pairs = (part.expand(shape).tolist() for part in (step, pair))
    units = [
        _one(key, (counter, site & _LOW, at & _LOW, (at >> 32) & _LOW))
        for key, *row in zip(seed.tolist(), steps, pairs, strict=True)
        for at, counter in zip(*row, strict=True)
    ]
    both = torch.tensor(units, dtype=torch.float64).reshape(*shape, 2)
    return both[..., 0], both[..., 1]


def _one(key: int, counter: tuple[int, int, int, int]) -> tuple[float, float]:
    """Return two uniforms of one counter, with Python's whole numbers."""
    c0, c1, c2, c3 = counter
    k0, k1 = key & _LOW, (key >> 32) & _LOW
    for _ in range(10):
        high, low = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (low >> 32) ^ c1 ^ k0,
            low & _LOW,
            (high >> 32) ^ c3 ^ k1,
            high & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    even, odd = c0 << 21 ^ c1 >> 11, c2 << 21 ^ c3 >> 11
    return max(even * 2.0**-53, 2.0**-54), max(odd * 2.0**-53, 2.0**-54)


def _unit(bits: Tensor) -> Tensor:
    return (bits.double() * 2.0**-53).clamp_(min=2.0**-54)


def normal(key: Key, site: int, length: int, each: int = 1) -> Float[Tensor, "B {length*each}"]:
    """Draw standard normals, float64, by inverting the normal CDF; as ``uniform`` draws."""
    return torch.special.ndtri(uniform(key, site, length, each))


def rows(seed: int, first: int, count: int) -> Int[Tensor, " {count}"]:
    """Derive the seeds of rows ``first .. first + count - 1`` of the run named by ``seed``."""
    index = torch.arange(first, first + count)
    zero = torch.zeros_like(index)
    words = philox(
        (index & _LOW, (index >> 32) & _LOW, zero + SITE_ROWS, zero),
        (zero + (seed & _LOW), zero + ((seed >> 32) & _LOW)),
    )
    return words[0] << 32 ^ words[1]


def derived(seed: Int[Tensor, " B"], number: int | Int[Tensor, " B"]) -> Int[Tensor, " B"]:
    """Derive the seeds of further streams of the same rows, one for each number."""
    zero = torch.zeros_like(seed)
    words = philox(
        (zero + (number & _LOW), zero + SITE_DERIVED, zero, zero),
        (seed & _LOW, (seed >> 32) & _LOW),
    )
    return words[0] << 32 ^ words[1]


def stratified(seed: int, step: int, count: int) -> Float[Tensor, " {count}"]:
    """Draw ``count`` uniforms with exactly one in each of ``count`` equal strata, float64.

    Which row gets which stratum is shuffled, so a slice of the global batch is no narrow band
    of times. Every rank computes the same numbers and takes its slice.
    """
    key = Key(torch.tensor([seed]), step)
    order = uniform(key, SITE_SHUFFLE, count)[0].argsort()
    return (order + uniform(key, SITE_TIMES, count)[0]) / count
