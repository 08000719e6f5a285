"""What was measured of each event: y = A(x_0) + noise * standard normal."""

import math
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.decode.continuous.guidance.operators import Linear, Masked, Operator, Shape
from unison.types import Event


@runtime_checkable
class KeepingOperator(Operator, Protocol):
    """An operator that holds something of each row."""

    def keep(self, rows: Int[Tensor, " R"]) -> Operator:
        """Return the operator of some rows."""
        ...


@dataclass(frozen=True)
class Measurement:
    """An operator, what it showed, and how noisy it is.

    Attributes:
        operator: From events to what is seen of them.
        seen: What was seen, of each row, or in one row for all.
        noise: Standard deviation of each number's noise; 0 for none.
    """

    operator: Operator
    seen: Float[Tensor, "R ..."]
    noise: float

    def __post_init__(self) -> None:
        if not 0 <= self.noise < float("inf"):
            raise ValueError(f"the noise must be finite and at least 0, got {self.noise}.")

    def check(self, rows: int, shape: Shape) -> None:
        """Refuse a measurement that cannot have been made of such events, before any is drawn.

        Raises:
            ValueError: The operator does not take the events, or what was seen has another shape
                than it shows, or is of other rows.
        """
        try:
            self.residual(self.seen.new_zeros(rows, *shape))
        except (RuntimeError, IndexError) as failure:
            raise ValueError(
                f"the operator {type(self.operator).__name__} does not take {rows} events "
                f"{tuple(shape)}: {failure}"
            ) from failure

    @property
    def linear(self) -> Linear | None:
        """The operator, if it is linear."""
        return self.operator if isinstance(self.operator, Linear) else None

    def residual(self, x: Event) -> Float[Tensor, "B ..."]:
        """Return y - A(x); what a mask hides counts as 0, whatever stands there.

        Raises:
            ValueError: As ``check``.
        """
        self.operator.fits(tuple(x.shape[1:]))
        shown = self.operator(x)
        if shown.shape[1:] != self.seen.shape[1:]:
            raise ValueError(
                f"the operator shows {tuple(shown.shape[1:])} of an event {tuple(x.shape[1:])}, "
                f"but {tuple(self.seen.shape[1:])} was measured; give what was seen as "
                "[rows or 1, *seen]."
            )
        if len(self.seen) not in (1, len(x)) or len(shown) != len(x):
            raise ValueError(
                f"{len(x)} rows are sampled, but {len(self.seen)} were measured by an operator of "
                f"{len(shown)}; measure as many, or one for all."
            )
        off = self.seen.to(x) - shown
        return off.where(self.operator.mask, 0.0) if isinstance(self.operator, Masked) else off

    @property
    def count(self) -> Float[Tensor, " R"]:
        """How many numbers were measured of each row, or of all alike."""
        if isinstance(self.operator, Masked):
            return self.operator.mask.flatten(1).sum(1).double()
        return torch.tensor([float(math.prod(self.seen.shape[1:]))], dtype=torch.float64)

    def misfit(self, x: Event) -> Float[Tensor, " B"]:
        """Return |y - A(x)|^2 of each row."""
        return self.residual(x).square().flatten(1).sum(1)

    def pull(self, x: Event) -> tuple[Float[Tensor, " B"], Event]:
        """Return |y - A(x)|^2 of each row and the gradient of half of it."""
        linear = self.linear
        if linear is not None:
            off = self.residual(x)
            gradient = -linear.adjoint(off, tuple(x.shape[1:]))
            return off.square().flatten(1).sum(1), gradient
        with torch.enable_grad():
            free = x.detach().requires_grad_()
            misfit = self.misfit(free)
            (gradient,) = torch.autograd.grad(misfit.sum() / 2, free)
        return misfit.detach(), gradient

    def keep(self, rows: Int[Tensor, " R"]) -> "Measurement":
        """Return what was measured of some rows."""
        operator = self.operator
        if isinstance(operator, KeepingOperator):
            operator = operator.keep(rows)
        seen = self.seen if len(self.seen) == 1 else self.seen[rows]
        return replace(self, operator=operator, seen=seen)


def linear_of(measurement: Measurement, use: str) -> Linear:
    """Return the measurement's operator where only a linear one will do.

    Raises:
        ValueError: It is not linear.
    """
    if measurement.linear is None:
        raise ValueError(
            f"{use} needs a linear operator with an adjoint, got "
            f"{type(measurement.operator).__name__}; use `LinearFunction`, or DPS for any function."
        )
    return measurement.linear
