"""Which ways are there to restore an image in a few evaluations? Each is trained, then tuned alike.

Conditional diffusion starts from noise and sees the degraded image beside (SR3: Saharia et al.,
2021, arXiv:2104.07636; Palette, arXiv:2111.05826); residual processes start from the degraded image
itself. The conditional model comes twice: as published, a network that answers the noise, and
strengthened by the scaling of Karras et al. (2022, arXiv:2206.00364), which residual processes
have too. All have one network's size, one number of optimiser steps, one budget of evaluations, and
as many settings of their sampler to choose from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from unison.decode.continuous import Solver, solve
from unison.decode.continuous.ancestral import Ancestral
from unison.decode.continuous.ddim import DDIM
from unison.decode.continuous.posterior_step import PosteriorStep
from unison.event_denoising import Prediction
from unison.event_model import EventModel
from unison.objectives.continuous import Denoising, EventLoss, Restoring, UniformTime
from unison.objectives.continuous.weights import Balanced, OfNoise
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import (
    OUVE,
    SBVE,
    GaussianProcess,
    Resfusion,
    ResidualProcess,
    ResShift,
    VariancePreserving,
)
from unison.process.continuous.residual import start
from unison.types import Event

SITE_NOISE = 62
CONDITIONAL = {"conditional": "conditional", "noise": "published"}  # rows' names begin so
POWERS = (0.5, 1.0, 2.0)  # of the grid of times: 1 is equal steps, 2 spends more near clean data


class Method(NamedTuple):
    """What a network of restoration learns.

    Attributes:
        process: What is undone.
        objective: What is minimised.
        prediction: What a network of a Gaussian process answers.
    """

    process: Any
    objective: EventLoss
    prediction: Prediction = "edm"


METHODS: Mapping[str, Method] = {
    "conditional": Method(VariancePreserving(), Denoising(levels=UniformTime())),
    "noise": Method(
        VariancePreserving(), Denoising(levels=UniformTime(), weight=OfNoise()), "noise"
    ),
    "ouve": Method(OUVE(), Restoring(weight=Balanced())),
    "resfusion": Method(Resfusion(), Restoring(weight=Balanced())),
    "resshift": Method(ResShift(kappa=1.0), Restoring(weight=Balanced())),
    "sbve": Method(SBVE(), Restoring(weight=Balanced())),
}


@dataclass(frozen=True)
class Way:
    """One way to spend a budget.

    Attributes:
        method: A name in ``METHODS``.
        eta: How much of the posterior's noise is fresh: 1 is ancestral (DDPM), 0 deterministic
            (DDIM).
        power: Of the grid of times.
    """

    method: str
    eta: float
    power: float

    @property
    def name(self) -> str:
        """What rows of tables are called: method and kind of step, without the grid."""
        if not self.residual:
            return f"{CONDITIONAL[self.method]} {'DDPM' if self.eta else 'DDIM'}"
        return f"{self.method} {'sde' if self.eta else 'ode'}"

    @property
    def residual(self) -> bool:
        """Whether it starts from the degraded image."""
        return self.method not in CONDITIONAL


def ways(method: str) -> list[Way]:
    """Return all settings of a method's sampler: as many for each."""
    return [Way(method, eta, power) for eta in (1.0, 0.0) for power in POWERS]


def restored(model: EventModel, way: Way, nfe: int, degraded: Event, seed: int) -> Event:
    """Restore degraded images with ``nfe`` evaluations each.

    Row i of a seed is the same whatever the number of rows.
    """
    key = Key(rng.rows(seed, 0, len(degraded)))
    if isinstance(model.process, ResidualProcess):
        return _returned(model, way, nfe, degraded, key)
    return _drawn(model, way, nfe, degraded, key)


def _returned(model: EventModel, way: Way, nfe: int, degraded: Event, key: Key) -> Event:
    process: ResidualProcess = model.process  # pyright: ignore[reportAssignmentType]
    times = [(1 - i / nfe) ** way.power for i in range(nfe + 1)]
    solver = PosteriorStep(process, degraded, way.eta)
    begun = start(process, degraded, key)
    return solve(solver, times, model.restorer(degraded), begun, key).x


def _drawn(model: EventModel, way: Way, nfe: int, degraded: Event, key: Key) -> Event:
    process: GaussianProcess = model.process  # pyright: ignore[reportAssignmentType]
    high = model.span[1]
    shares = torch.tensor([(1 - i / nfe) ** way.power for i in range(nfe)], dtype=torch.float64)
    times = shares * process.time_of(torch.tensor(high, dtype=torch.float64))
    levels = [high, *process.level(times)[1:].tolist(), 0.0]
    noise = rng.normal(key, SITE_NOISE, degraded[0].numel()).to(degraded).view_as(degraded)
    solver: Solver = Ancestral(way.eta) if way.eta else DDIM()
    begun = (high**2 + model.spread**2) ** 0.5 * noise
    return solve(solver, levels, model.denoiser(beside=degraded), begun, key).x
