"""Which log-probabilities does a server tell, and how exactly? Server and audit run this code.

First every number is rounded down to a decimal grid, then the largest are picked by what is left
of them, equals by their token number: nothing told depends on more than the rounded numbers. Grids
are nested, because numbers are rounded down, to whole multiples, and not to the nearest: fewer
digits are a function of more, and so are fewer tokens. What is told can then only say less where a
knob is turned down (the data processing inequality).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

_FINEST = 12  # digits; beyond them float64 has none of a number of some nats


class Knobs(NamedTuple):
    """What is told of every token.

    Attributes:
        top_k: Likeliest tokens that are told with their log-probabilities; 0 for none, ``None``
            for the whole vocabulary.
        digits: Decimals, rounded down; ``None`` for all.
        own: Whether the log-probability of the token itself is told.
    """

    top_k: int | None = None
    digits: int | None = None
    own: bool = True

    @property
    def off(self) -> bool:
        """Whether no number is told at all."""
        return self.top_k == 0 and not self.own

    def __str__(self) -> str:
        if self.off:
            return "off"
        which = {None: "all tokens", 0: "own"}.get(self.top_k, f"top {self.top_k}")
        if self.digits is None:
            return which
        return f"{which}, {self.digits} digit{'' if self.digits == 1 else 's'}"


OFF = Knobs(0, None, own=False)


class Told(NamedTuple):
    """What is told of some places: tokens, the likeliest first, and their log-probabilities."""

    tokens: Int[Tensor, "*N K"]
    logp: Float[Tensor, "*N K"]


def told(logp: Float[Tensor, "*N V"], top_k: int | None, digits: int | None) -> Told:
    """Return what is told of log-probabilities.

    Args:
        logp: Of every token, in nats.
        top_k: Tokens that are told; ``None`` for all, as are more than there are.
        digits: Decimals; ``None`` for all.

    Raises:
        ValueError: A number is negative.
    """
    if top_k is not None and top_k < 0:
        raise ValueError(f"top_k must be at least 0, or None for all tokens, got {top_k}.")
    rounded = floored(logp, digits)
    size = rounded.shape[-1]
    count = size if top_k is None else min(top_k, size)
    if not count:
        nothing = rounded[..., :0]
        return Told(nothing.long(), nothing)
    picked = _largest(rounded, count) if count < size else _everything(rounded)
    values, order = rounded.gather(-1, picked).sort(dim=-1, descending=True, stable=True)
    return Told(picked.gather(-1, order), values)


def floored(logp: Float[Tensor, "*N"], digits: int | None) -> Float[Tensor, "*N"]:
    """Return numbers rounded down to so many decimals, float64; -inf stays.

    More than 12 decimals are the same as 12. Cells are whole numbers, a coarse one the quotient of
    a fine one: no number changes its cell by the rounding of floats.

    Raises:
        ValueError: ``digits`` is negative.
    """
    exact = logp.double()
    if digits is None:
        return exact
    if digits < 0:
        raise ValueError(f"digits must be at least 0, or None for all, got {digits}.")
    finite = exact.isfinite()
    finest = (exact.where(finite, 0.0) * 10.0**_FINEST).floor().long()
    coarse = 10 ** (_FINEST - min(digits, _FINEST))
    cells = torch.div(finest, coarse, rounding_mode="floor")
    return (cells.double() / 10.0 ** min(digits, _FINEST)).where(finite, exact)


def floored_one(logp: float, digits: int | None) -> float:
    """Return ``floored`` of one number.

    Raises:
        ValueError: ``digits`` is negative.
    """
    return float(floored(torch.tensor(logp, dtype=torch.float64), digits))


def _everything(rounded: Tensor) -> Int[Tensor, "*N V"]:
    return torch.arange(rounded.shape[-1], device=rounded.device).expand(rounded.shape)


def _largest(rounded: Tensor, count: int) -> Int[Tensor, "*N K"]:
    """Return the places of the largest, of equals the first, in order of place.

    ``torch.topk`` leaves it open which of equals it returns, and a whole sort is slow.
    """
    least = rounded.topk(count, dim=-1).values[..., -1:]
    above, equal = rounded > least, rounded == least
    room = count - above.sum(-1, keepdim=True)
    kept = above | (equal & (equal.cumsum(-1) <= room))
    return kept.nonzero()[:, -1].reshape(*rounded.shape[:-1], count)
