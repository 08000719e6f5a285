"""What may be predicted first, and undone then? Restoration in two stages.

StoRM (Lemercier et al., 2023, arXiv:2212.11851) predicts the clean signal and lets a residual
process run around the prediction: diffusion adds back what the mean leaves out. GSDM (Zhu et al.,
2024, arXiv:2401.14832) predicts a structure, such as where the strokes of a text are, and lets an
ordinary conditional diffusion see it. Both are a denoiser bound to one more thing beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.decode.continuous.guidance.parts import kept, known
from unison.types import Event, EventDenoiser, Level

Beside = Float[Tensor, "B ..."]
Predict = Callable[[Event], Beside]
Bind = Callable[[Beside], EventDenoiser]


@dataclass(frozen=True)
class Prepared:
    """What a run needs.

    Attributes:
        centre: What the residual process moves to; conditional Gaussian processes have no use
            for it.
        denoise: The model, with all that it sees bound.
    """

    centre: Event
    denoise: EventDenoiser


def regenerated(predict: Predict, bind: Bind, degraded: Event) -> Prepared:
    """Prepare StoRM: the process moves to the prediction, the model sees both.

    Args:
        predict: The first stage, from the degraded event to a clean one.
        bind: The second stage: a denoiser from what stands beside x_t, here the degraded event
            and the prediction, joined along dimension 1.
        degraded: What is restored.
    """
    predicted = predict(degraded)
    if predicted.shape != degraded.shape:
        raise ValueError(
            f"the prediction must be an event like the degraded one, {tuple(degraded.shape)}; it "
            f"is {tuple(predicted.shape)}."
        )
    return Prepared(predicted, bind(_joined(degraded, predicted)))


def structured(predict: Predict, bind: Bind, degraded: Event) -> Prepared:
    """Prepare GSDM: the model sees the degraded event and its predicted structure.

    Args:
        predict: The first stage, from the degraded event to a map on the same grid.
        bind: A denoiser from what stands beside x_t: both, joined along dimension 1.
        degraded: What is restored.
    """
    return Prepared(degraded, bind(_joined(degraded, predict(degraded))))


@dataclass(frozen=True)
class Known:
    """A denoiser that is told some of the clean event: what was never damaged stays as it is.

    Attributes:
        denoise: The model.
        clean: Right wherever ``given`` is True.
        given: Which elements are known.
    """

    denoise: EventDenoiser
    clean: Event
    given: Bool[Tensor, "B ..."]

    def __call__(self, x: Event, level: Level) -> Event:
        """Return the mean, with the known elements in it."""
        return torch.where(self.given, self.clean.to(x.dtype), self.denoise(x, level))

    @property
    def span(self) -> tuple[float, float]:
        """The levels the model knows."""
        return known(self.denoise)

    def keep(self, rows: Int[Tensor, " R"]) -> "Known":
        """Return the denoiser of some of the rows."""
        return Known(kept(self.denoise, rows), self.clean[rows], self.given[rows])


def _joined(degraded: Tensor, found: Tensor) -> Tensor:
    if found.shape[0] != degraded.shape[0] or found.shape[2:] != degraded.shape[2:]:
        raise ValueError(
            f"what is predicted, {tuple(found.shape)}, must lie on the grid of the degraded event, "
            f"{tuple(degraded.shape)}: equal but for dimension 1."
        )
    return torch.cat([degraded, found], 1)
