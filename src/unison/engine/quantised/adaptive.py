"""How fine must the groups of a layer be? As fine as pays, under a budget of bits.

FineQuant (Kim et al., 2023, arXiv:2308.09723) begins with one group a row and halves it while that
shrinks the range of the weights enough. The error of a grid is the square of its range up to a
factor, and its bits are levels and the share of a header; so with E(s) the error of a choice s and
b(s) its bits, "enough" is a price: go on while (E(s) - E(s')) / (b(s') - b(s)) is above a price
that all layers share. Whatever a price leads to is optimal: another choice with no more bits has
no less error, for at that price it would have been taken. What is left of the budget then goes to
the best steps that fit.

Differs: the errors are measured on the layer, not read off ranges; the price is the lowest that a
budget for the whole network allows; the halving may go on to grids of 8 bits; of a layer's choices
only those on the lower convex hull of error over bits can be had at any price.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from unison.engine.quantised import grid
from unison.engine.quantised.grid import GROUP, Bits, Grid
from unison.engine.quantised.packed import HEADER, LANES

BUDGET = 0.16 * 32  # bits a weight, headers included

_SAMPLE = 256  # rows whose error is measured


class Choice(NamedTuple):
    """A grid that a layer may have, what it takes and what it costs.

    Attributes:
        bits: Of a level.
        span: How often 32 weights share a scale.
        size: Bits of the whole layer.
        error: Its squared error, as a share of the squared weights.
    """

    bits: Bits
    span: int
    size: float
    error: float


def fitted(weights: Mapping[str, Tensor], budget: float = BUDGET) -> dict[str, Grid]:
    """Return a grid for every layer, of least error for so many bits a weight.

    Args:
        weights: Matrices, by their names; a row is a number of groups of 32.
        budget: Bits a weight, headers included, of all together.

    Raises:
        ValueError: The budget is below that of one group of 4 bits a row, or a weight has rows of
            another width or numbers out of range.
    """
    choices = [options(weight) for weight in weights.values()]
    chosen = spent(choices, budget * sum(w.numel() for w in weights.values()))
    best = zip(weights.items(), chosen, strict=True)
    return {name: grid.nearest(w, one.bits, one.span, clipped=True) for (name, w), one in best}


def options(weight: Float[Tensor, "N K"]) -> list[Choice]:
    """Return the grids a layer may have, coarse to fine, with the error that each has on it."""
    sample, found = weight[:: max(len(weight) // _SAMPLE, 1)], []
    for bits in (4, 8):
        for span in spans(weight.shape[1] // GROUP):
            header = 8 * HEADER[bits] / LANES / (GROUP * span)
            error = grid.rough(sample, bits, span)
            found.append(Choice(bits, span, weight.numel() * (bits + header), error))
    return found


def spans(groups: int) -> list[int]:
    """Return how many groups of 32 may share a grid: all, and what is left on division by primes.

    The smallest prime comes first, so that a power of two is halved down to one.
    """
    found, left, prime = [groups], groups, 2
    while left > 1:
        if left % prime == 0:
            left //= prime
            found.append(left)
        else:
            prime += 1
    return found


def spent(layers: Sequence[Sequence[Choice]], budget: float) -> list[Choice]:
    """Return a choice for each layer: the best steps for their bits, as far as these go.

    A step that does not fit ends its layer; the others may go on with what is left.

    Raises:
        ValueError: The coarsest of all layers is above the budget.
    """
    hulls = [hull(choices) for choices in layers]
    now = [0] * len(hulls)
    left = budget - sum(steps[0].size for steps in hulls)
    if left < 0:
        sizes = sum(steps[0].size for steps in hulls)
        raise ValueError(
            f"one grid of 4 bits a row takes {sizes / 8:.0f} bytes and the budget is "
            f"{budget / 8:.0f}; allow more bits a weight."
        )
    steps = sorted(
        (-_price(*pair), layer, at)
        for layer, choices in enumerate(hulls)
        for at, pair in enumerate(pairwise(choices))
    )  # prices fall along a hull, so a layer's steps come in their order
    for _, layer, at in steps:
        size = hulls[layer][at + 1].size - hulls[layer][at].size
        if now[layer] == at and size <= left:
            now[layer], left = at + 1, left - size
    return [choices[at] for choices, at in zip(hulls, now, strict=True)]


def hull(choices: Sequence[Choice]) -> list[Choice]:
    """Return the choices on the lower convex hull of error over size, by size."""
    kept: list[Choice] = []
    for one in sorted(choices, key=lambda choice: (choice.size, choice.error)):
        if kept and one.error >= kept[-1].error:
            continue
        while len(kept) > 1 and _price(kept[-2], kept[-1]) <= _price(kept[-1], one):
            kept.pop()
        kept.append(one)
    return kept


def _price(coarse: Choice, fine: Choice) -> float:
    """Return the error that a bit saves."""
    return (coarse.error - fine.error) / (fine.size - coarse.size)
