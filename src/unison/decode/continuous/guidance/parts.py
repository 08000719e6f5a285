"""What do wrappers of denoisers pass on? Which rows they go on with, and which levels they know."""

import math
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.types import Event, EventDenoiser, Level, Ranged

EVERYWHERE = (0.0, math.inf)  # levels


@runtime_checkable
class Keeping(Protocol):
    """A denoiser that holds something of each row, such as its condition."""

    def keep(self, rows: Int[Tensor, " R"]) -> EventDenoiser:
        """Return the denoiser of some rows, some of them perhaps more than once."""
        ...


def kept(denoise: EventDenoiser, rows: Int[Tensor, " R"]) -> EventDenoiser:
    """Return the denoiser of some rows; one that holds nothing of any serves all."""
    return denoise.keep(rows) if isinstance(denoise, Keeping) else denoise


def known(*parts: EventDenoiser) -> tuple[float, float]:
    """Return the levels that every part knows."""
    spans = [part.span for part in parts if isinstance(part, Ranged)]
    return max([0.0, *(low for low, _ in spans)]), min([math.inf, *(high for _, high in spans)])


def inside(level: Level, span: tuple[float, float], x: Event) -> Bool[Tensor, "B ..."]:
    """Return which rows stand at levels of a span, its low end not counted, to select events."""
    low, high = span
    return ((level > low) & (level <= high)).view(-1, *[1] * (x.ndim - 1))


def inner(left: Event, right: Event) -> Float[Tensor, "B ..."]:
    """Return the inner product of each row, to be multiplied with events."""
    product = (left * right).flatten(1).sum(1)
    return product.view(-1, *[1] * (left.ndim - 1))


def check_weight(weight: float, least: float = -math.inf) -> None:
    """Refuse a weight that is no number.

    Raises:
        ValueError: It is not finite, or below the least that is allowed.
    """
    if not math.isfinite(weight) or weight < least:
        allowed = "" if least == -math.inf else f" of at least {least:g}"
        raise ValueError(f"the weight must be a finite number{allowed}, got {weight}.")


def check_span(span: tuple[float, float]) -> None:
    """Refuse an interval of levels that holds none.

    Raises:
        ValueError: Its ends are not 0 <= low < high.
    """
    low, high = span
    if not 0 <= low < high:
        raise ValueError(f"guided levels need 0 <= low < high, got ({low}, {high}).")
