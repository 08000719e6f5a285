"""What is seen of an event? Linear operators with their adjoints, and functions of a user's own.

Every operator works on each row alone. A linear one also knows the squares of its singular
values, of which evidences are made.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.types import Event

Seen = Float[Tensor, "B ..."]
Shape = tuple[int, ...]
FEW = 4096  # elements of an event up to which a function's matrix is written down


@runtime_checkable
class Operator(Protocol):
    """A measurement without its noise."""

    def __call__(self, x: Event) -> Seen:
        """Return what is seen of each row, differentiably."""
        ...

    def fits(self, shape: Shape) -> None:
        """Refuse events of a shape that the operator is not made for.

        Raises:
            ValueError: What is wrong with it.
        """
        ...


@runtime_checkable
class Linear(Operator, Protocol):
    """A matrix A, perhaps never written down."""

    def adjoint(self, seen: Seen, shape: Shape) -> Event:
        """Return A^T seen, as events of a shape."""
        ...

    def squares(self, shape: Shape) -> Float[Tensor, "R M"]:
        """Return the eigenvalues of A A^T for each row, or in one row for all."""
        ...


@dataclass(frozen=True)
class Masked:
    """Some elements are seen, others are not: inpainting. What is not seen counts as 0.

    Attributes:
        mask: True where seen, of each row, or in one row for all.
    """

    mask: Bool[Tensor, "R ..."]

    def __call__(self, x: Event) -> Seen:
        """Return the elements, 0 where they are not seen."""
        return x * self.mask

    def adjoint(self, seen: Seen, shape: Shape) -> Event:
        """Return the same."""
        return seen * self.mask

    def squares(self, shape: Shape) -> Float[Tensor, "R M"]:
        """Return 1 where seen."""
        return self.mask.flatten(1).double()

    def fits(self, shape: Shape) -> None:
        """Refuse events that the mask is not of."""
        if tuple(self.mask.shape[1:]) != tuple(shape):
            raise ValueError(
                f"the mask is of events {tuple(self.mask.shape[1:])}, the events are "
                f"{tuple(shape)}; give a mask [rows or 1, *event]."
            )

    def keep(self, rows: Int[Tensor, " R2"]) -> "Masked":
        """Return the mask of some rows."""
        return self if len(self.mask) == 1 else replace(self, mask=self.mask[rows])


@dataclass(frozen=True)
class Dense:
    """A matrix that acts on the flattened event.

    Attributes:
        matrix: A row for each number that is seen.
    """

    matrix: Float[Tensor, "M D"]

    def __call__(self, x: Event) -> Seen:
        """Return A x."""
        return x.flatten(1) @ self.matrix.to(x).T

    def adjoint(self, seen: Seen, shape: Shape) -> Event:
        """Return A^T seen."""
        return (seen @ self.matrix.to(seen)).view(len(seen), *shape)

    def squares(self, shape: Shape) -> Float[Tensor, "R M"]:
        """Return the eigenvalues of A A^T."""
        matrix = self.matrix.double()
        return torch.linalg.eigvalsh(matrix @ matrix.T).clamp(min=0)[None]

    def fits(self, shape: Shape) -> None:
        """Refuse events that are not as long as the matrix is wide."""
        if self.matrix.shape[1] != math.prod(shape):
            raise ValueError(
                f"the matrix has {self.matrix.shape[1]} columns, an event of shape "
                f"{tuple(shape)} has {math.prod(shape)} elements; they must agree."
            )


@dataclass(frozen=True)
class Blurred:
    """A circular convolution over the last axes of the event.

    Attributes:
        kernel: What is convolved with; its middle element, rounded down, is the centre.
    """

    kernel: Float[Tensor, "..."]

    def __call__(self, x: Event) -> Seen:
        """Return the convolution."""
        return self._filtered(x, conjugate=False)

    def adjoint(self, seen: Seen, shape: Shape) -> Event:
        """Return the correlation with the kernel."""
        return self._filtered(seen, conjugate=True)

    def squares(self, shape: Shape) -> Float[Tensor, "R M"]:
        """Return the squared modulus of the kernel's spectrum, once for each channel."""
        axes = shape[len(shape) - self.kernel.ndim :]
        power = self._spectrum(axes, torch.float64, self.kernel.device).abs().square().flatten()
        return power.repeat(math.prod(shape) // math.prod(axes))[None]

    def fits(self, shape: Shape) -> None:
        """Refuse events that are smaller than the kernel."""
        axes = tuple(shape)[-self.kernel.ndim :]
        if len(shape) < self.kernel.ndim or any(
            wide > size for wide, size in zip(self.kernel.shape, axes, strict=True)
        ):
            raise ValueError(
                f"the kernel {tuple(self.kernel.shape)} is larger than the last axes of an event "
                f"{tuple(shape)}; give a smaller one."
            )

    def _filtered(self, x: Tensor, conjugate: bool) -> Tensor:
        axes = tuple(range(-self.kernel.ndim, 0))
        spectrum = self._spectrum(x.shape[-self.kernel.ndim :], x.dtype, x.device)
        bent = torch.fft.fftn(x, dim=axes) * (spectrum.conj() if conjugate else spectrum)
        return torch.fft.ifftn(bent, dim=axes).real

    def _spectrum(self, axes: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        padded = torch.zeros(axes, dtype=dtype, device=device)
        padded[tuple(slice(size) for size in self.kernel.shape)] = self.kernel.to(device, dtype)
        centre = tuple(-((size - 1) // 2) for size in self.kernel.shape)
        return torch.fft.fftn(padded.roll(centre, tuple(range(len(axes)))))


@dataclass(frozen=True)
class Downsampled:
    """The mean over blocks of the last axes.

    Attributes:
        factor: Length of a block along each axis.
        axes: How many of the last axes.
    """

    factor: int
    axes: int = 2

    def __call__(self, x: Event) -> Seen:
        """Return the means."""
        split = list(x.shape[: x.ndim - self.axes])
        for size in x.shape[x.ndim - self.axes :]:
            split += [size // self.factor, self.factor]
        return x.reshape(split).mean(tuple(range(-1, -2 * self.axes, -2)))

    def adjoint(self, seen: Seen, shape: Shape) -> Event:
        """Return every mean spread over its block, divided by the block's size."""
        for axis in range(-self.axes, 0):
            seen = seen.repeat_interleave(self.factor, axis)
        return seen / self.factor**self.axes

    def squares(self, shape: Shape) -> Float[Tensor, "R M"]:
        """Return 1 over the block's size, throughout."""
        block = self.factor**self.axes
        return torch.full((1, math.prod(shape) // block), 1 / block, dtype=torch.float64)

    def fits(self, shape: Shape) -> None:
        """Refuse events that blocks do not divide."""
        tail = tuple(shape)[-self.axes :]
        if len(tail) < self.axes or any(size % self.factor for size in tail):
            raise ValueError(
                f"blocks of {self.factor} along {self.axes} axes do not divide an event "
                f"{tuple(shape)}; crop it, or choose a divisor."
            )


@dataclass(frozen=True)
class LinearFunction:
    """A linear function of a user's own; the adjoint is its gradient.

    Attributes:
        function: From events [B, *E] to what is seen, differentiable, linear, row by row.
    """

    function: Callable[[Tensor], Tensor]

    def __call__(self, x: Event) -> Seen:
        """Call the function."""
        return self.function(x)

    def adjoint(self, seen: Seen, shape: Shape) -> Event:
        """Return the gradient of <seen, A x>."""
        with torch.enable_grad():
            x = seen.new_zeros(len(seen), *shape).requires_grad_()
            return torch.autograd.grad(self.function(x), x, seen)[0]

    def squares(self, shape: Shape) -> Float[Tensor, "R M"]:
        """Write the matrix down and return the eigenvalues of A A^T.

        Raises:
            ValueError: An event has too many elements for that.
        """
        size = math.prod(shape)
        if size > FEW:
            raise ValueError(
                f"the evidence under a linear function needs its matrix, and events of {size} "
                f"elements are more than {FEW}; use an operator of this module."
            )
        columns = self.function(torch.eye(size, dtype=torch.float64).view(size, *shape))
        return Dense(columns.flatten(1).T).squares((size,))

    def fits(self, shape: Shape) -> None:
        """Refuse nothing: what the function takes only calling it can tell."""


@dataclass(frozen=True)
class Function:
    """Any differentiable function of a user's own.

    Attributes:
        function: From events [B, *E] to what is seen, row by row.
    """

    function: Callable[[Tensor], Tensor]

    def __call__(self, x: Event) -> Seen:
        """Call the function."""
        return self.function(x)

    def fits(self, shape: Shape) -> None:
        """Refuse nothing: what the function takes only calling it can tell."""
