"""Replacement (Wang, Yu and Zhang, 2023, DDNM, arXiv:2212.00490): what was seen is put in place.

The answer is brought into agreement with the measurement, without going back through the
network. The other elements never learn of it but through later answers: the law of the samples
is biased, which is why RePaint goes back and forth (``repaint.py``).
"""

from dataclasses import dataclass, replace

from jaxtyping import Int
from torch import Tensor

from unison.decode.continuous.api import over
from unison.decode.continuous.guidance.conjugate import solved
from unison.decode.continuous.guidance.measurement import Measurement, linear_of
from unison.decode.continuous.guidance.parts import kept, known
from unison.types import Event, EventDenoiser, Level


@dataclass(frozen=True)
class Replaced:
    """D + A^T (A A^T + noise^2 / c)^-1 (y - A D), with c = s^2 / (1 + s^2).

    Without noise that is D with what is seen put in place of what was thought.

    Attributes:
        denoise: Who is guided.
        measurement: What was seen, by a linear operator.
        iterations: Of conjugate gradients; masks and means over blocks need one.
    """

    denoise: EventDenoiser
    measurement: Measurement
    iterations: int = 30

    def __post_init__(self) -> None:
        linear_of(self.measurement, "replacement")
        if self.iterations < 1:
            raise ValueError(f"at least one iteration is needed, got {self.iterations}.")

    @property
    def span(self) -> tuple[float, float]:
        """The levels the denoiser knows."""
        return known(self.denoise)

    def __call__(self, x: Event, level: Level) -> Event:
        """Evaluate and correct."""
        shape = tuple(x.shape[1:])
        operator = linear_of(self.measurement, "replacement")
        mean = self.denoise(x, level)
        off = self.measurement.residual(mean)
        ridge = self.measurement.noise**2 * (1 + 1 / level.square())

        def shown(seen: Tensor) -> Tensor:
            return operator(operator.adjoint(seen, shape)) + over(ridge, seen) * seen

        return mean + operator.adjoint(solved(shown, off, self.iterations), shape)

    def keep(self, rows: Int[Tensor, " R"]) -> "Replaced":
        """Return the guidance of some rows."""
        return replace(
            self, denoise=kept(self.denoise, rows), measurement=self.measurement.keep(rows)
        )
