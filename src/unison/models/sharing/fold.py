r"""Which of a few numbers is a weight, and with which sign? A random fold, balanced up to one.

RANDOMFOLD of Desai & Shrivastava (2023, arXiv:2310.11611): N weights in a row are cut into
stretches of m; each stretch is a random permutation of a pool of m numbers, with random signs,

    W = S theta,   S [N, m] with one entry g_i = +-1 in row i.

Every number is used floor(N / m) or ceil(N / m) times. The first stretch is the pool itself, so a
pool of N numbers *is* the weights. What keeps training as stable as it is without sharing:

- Start. theta_k = sum of g_i W_i over its n_k weights, over sqrt(n_k): as the W_i are independent
  with mean 0, every weight of S theta has the variance it had, and two of them no correlation.
- Step. dL/dtheta = S' dL/dW exactly. Divided by n_k it is C S' G with C = (S'S)^-1, so a step of
  size eta moves the weights by -eta P G, P = S C S' the orthogonal projection onto what the pool
  can say: never longer than the step -eta G without sharing, and the curvature it meets is P H P,
  whose eigenvalues lie within those of H. A rate that is stable without sharing is stable with it,
  for any number of sharers. Undivided, the curvature can be n times as large.
- On average over the signs the undivided step changes an output f by -eta G'f, as without sharing,
  and the divided one by 1 / n of that.
- AdamW sees the division in its eps alone. A step of signs, such as its first, moves every weight
  by the rate, as without sharing, and an output by no more than there (triangle inequality).

Differs: pieces of ``CHUNK`` neighbours are permuted together, each weight with a sign of its own,
so that reading a pool is reading memory in order; the scales of the paper are all 1, because only
weights that start with one spread share a pool.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from unison.prob import rng
from unison.prob.rng import Key

CHUNK = 64  # numbers that stay together: 256 bytes, four lines of a cache
_SITE_PLACES, _SITE_SIGNS = 0, 1
_BITS = 32  # signs read off one uniform of 53 random bits


@dataclass(frozen=True)
class Fold:
    """The map S of a pool of numbers to more weights.

    Attributes:
        places: Of every piece of the weights, the piece of the pool that it is.
        signs: Of every weight, 1 or -1.
        chunk: Numbers of a piece.
        slots: Numbers in the pool, m.
    """

    places: Int[Tensor, " C"]
    signs: Int8[Tensor, " N"]
    chunk: int
    slots: int

    @property
    def weights(self) -> int:
        """Weights, N."""
        return len(self.signs)

    def sharers(self) -> Int[Tensor, " P"]:
        """Return how many weights each number of a piece of the pool is."""
        size = self.slots // self.chunk
        whole = (len(self.places) - 1) // size
        counts = torch.full((size,), whole, device=self.places.device)
        counts[self.places[whole * size :]] += 1
        return counts

    def stretches(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the pieces that some weights are, cut where a permutation of the pool ends."""
        first, last = start // self.chunk, stop // self.chunk
        size = self.slots // self.chunk
        cuts = [first, *range((first // size + 1) * size, last, size)]
        return list(zip(cuts, [*cuts[1:], last], strict=True))


def chunk_of(width: int) -> int:
    """Return the largest piece, of at most ``CHUNK``, that divides a number of weights."""
    return max(size for size in range(1, CHUNK + 1) if width % size == 0)


def slots_of(weights: int, share: float, chunk: int) -> int:
    """Return the numbers of a pool: the share of the weights, rounded up to whole pieces.

    Raises:
        ValueError: The share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share of the weights must be in (0, 1], got {share}.")
    return max(1, math.ceil(share * weights / chunk - 1e-9)) * chunk


def fold(weights: int, slots: int, chunk: int, seed: int) -> Fold:
    """Return the map that a seed draws.

    Args:
        weights: N, a multiple of ``chunk``.
        slots: m, a multiple of ``chunk``.
        chunk: Numbers that stay together.
        seed: Names the permutations and signs.

    Raises:
        ValueError: The sizes are not whole pieces.
    """
    if weights % chunk or slots % chunk or not 0 < slots <= weights:
        raise ValueError(
            f"{weights} weights and {slots} numbers must be whole pieces of {chunk}, and the "
            "numbers at least one piece and not more than the weights."
        )
    size, pieces = slots // chunk, weights // chunk
    key = Key(torch.tensor([seed]))
    orders = [torch.arange(size)]
    for copy in range(1, math.ceil(pieces / size)):
        orders.append(rng.uniform(key.at(copy), _SITE_PLACES, size)[0].argsort())
    signs = torch.ones(weights, dtype=torch.int8)
    signs[slots:] = _signs(key, weights - slots)
    return Fold(torch.cat(orders)[:pieces], signs, chunk, slots)


def _signs(key: Key, count: int) -> Int8[Tensor, " N"]:
    words = (rng.uniform(key, _SITE_SIGNS, math.ceil(count / _BITS))[0] * 2.0**_BITS).long()
    bits = (words[:, None] >> torch.arange(_BITS)) & 1
    return (2 * bits - 1).to(torch.int8).flatten()[:count]


def unfolded(
    numbers: Float[Tensor, " M"], fold: Fold, start: int, shape: tuple[int, ...]
) -> Tensor:
    """Return weights as a pool says them; the gradient of the pool is divided by its sharers.

    Args:
        numbers: The pool.
        fold: The map.
        start: The first of the weights.
        shape: Theirs.
    """
    return _Unfold.apply(numbers, fold, start, shape)  # pyright: ignore[reportReturnType]


def folded(values: Tensor, fold: Fold, start: int = 0) -> Float[Tensor, " M"]:
    """Return the signed sum of values over the weights that share a number: S' of them."""
    stop = start + values.numel()
    pieces = (values.reshape(-1) * fold.signs[start:stop]).view(-1, fold.chunk)
    total = pieces.new_zeros(fold.slots // fold.chunk, fold.chunk)
    first = start // fold.chunk
    for one, next_ in fold.stretches(start, stop):  # within one no place occurs twice
        total.index_add_(0, fold.places[one:next_], pieces[one - first : next_ - first])
    return total.flatten()


def begun(weights: Float[Tensor, " N"], fold: Fold) -> Float[Tensor, " M"]:
    """Return the pool that weights begin as: their spread stays what it is."""
    roots = fold.sharers().to(weights.dtype).sqrt().repeat_interleave(fold.chunk)
    return folded(weights, fold) / roots


class _Unfold(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, numbers: Tensor, fold: Fold, start: int, shape: tuple[int, ...]
    ) -> Tensor:
        ctx.fold, ctx.start = fold, start
        stop = start + math.prod(shape)
        places = fold.places[start // fold.chunk : stop // fold.chunk]
        pieces = numbers.view(-1, fold.chunk).index_select(0, places)
        return pieces.flatten().mul_(fold.signs[start:stop]).view(shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        fold = ctx.fold
        total = folded(grads[0], fold, ctx.start).view(-1, fold.chunk)
        return (total / fold.sharers()[:, None]).flatten(), None, None, None
