"""Which Brownian path does a row follow? One that is a hash of its seed, read at any two times.

Stochastic solvers that take their noise from it see the same path whatever steps they take. Each
octave of time has its own increment and is halved again and again (Levy's construction), so that
small times are as fine as large ones.
"""

import math

from jaxtyping import Float
from torch import Tensor

from unison.prob import rng
from unison.prob.rng import Key

DEPTH = 24  # halvings of an octave; below that a path is straight
_OCTAVES = 1024  # more than floating point has, so that names of draws are positive


def increment(
    key: Key, site: int, length: int, start: float, end: float
) -> Float[Tensor, "B {length}"]:
    """Return W(end) - W(start), float64, of ``length`` paths for each row.

    Increments over adjoining times add up exactly but for rounding and the depth. The key's step
    does not matter: a path belongs to a run.

    Args:
        key: One random stream per row.
        site: Names the paths.
        length: Paths per row.
        start: Above 0.
        end: Above ``start``.

    Raises:
        ValueError: The times are not in order.
    """
    if not 0 < start < end < math.inf:
        raise ValueError(f"0 < start < end is needed, got {start} and {end}.")
    first, last = (math.frexp(time)[1] for time in (start, end))
    total = _since(key, site, length, end, last) - _since(key, site, length, start, first)
    for octave in range(first, last):
        total = total + _drawn(key, site, length, octave, 1) * math.sqrt(2.0 ** (octave - 1))
    return total


def _since(key: Key, site: int, length: int, time: float, octave: int) -> Tensor:
    """Return W(time) less W at the beginning of its octave, [2^(octave - 1), 2^octave)."""
    width = 2.0 ** (octave - 1)
    share = time / width - 1
    node, deviation = 1, math.sqrt(width)
    low = 0 * (high := _drawn(key, site, length, octave, node) * deviation)
    for _ in range(DEPTH):
        if share == 0:
            return low
        # the middle of a bridge of duration T has variance T / 4
        middle = (low + high) / 2 + _drawn(key, site, length, octave, 2 * node) * deviation / 2
        upper = share >= 0.5
        low, high = (middle, high) if upper else (low, middle)
        node, share, deviation = 2 * node + upper, 2 * share - upper, deviation / math.sqrt(2)
    return low + share * (high - low)


def _drawn(key: Key, site: int, length: int, octave: int, node: int) -> Tensor:
    """Return the normals of one node of an octave."""
    return rng.normal(key.at((octave + 2 * _OCTAVES) << 32 | node), site, length)
