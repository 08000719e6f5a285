"""How is a trained model's folder made faster? The methods of this package on whole models."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch

from unison.decode.continuous.grids import LogSNR, Span
from unison.distil.continuous.consistency import Consistency, consistency
from unison.distil.continuous.f_distill import FDistil, f_distil
from unison.distil.continuous.mmd import MMDFinetune, finetuned
from unison.distil.continuous.pupil import OfEvents, OnStep, network_of
from unison.event_denoising import Preconditioned
from unison.event_model import EventModel
from unison.models.continuous import build
from unison.process.continuous.gaussian import GaussianProcess
from unison.process.continuous.residual import ResidualProcess

Config = Consistency | FDistil | MMDFinetune
Teach = Callable[[EventModel, OfEvents, Any, OnStep | None], Preconditioned]


def distilled(
    model: EventModel, draw: OfEvents, config: Config, on_step: OnStep | None = None
) -> EventModel:
    """Return a student of a model: one that is asked at the configuration's levels only.

    Args:
        model: The teacher; left as it is.
        draw: Clean events, with their classes if the model knows any.
        config: The method; its levels must be among those the teacher knows (``within``).
        on_step: Observer.

    Raises:
        ValueError: The model restores degraded events or sees more than noisy ones, or gradients
            stayed not finite.
    """
    _gaussian(model)
    student = STUDENTS[type(config)](model, draw, config, on_step)
    notes = {**model.notes, "distilled": {"method": type(config).__name__, "steps": config.steps}}
    return dataclasses.replace(
        model, network=network_of(student), span=span_of(config), notes=notes
    )


def within(model: EventModel, config: Config) -> Config:
    """Return the configuration with its levels cut to those the model knows.

    A sampler of few steps learns at equal steps in log s between its ends, so that the solver ddim
    on the grid logsnr visits the same levels again.
    """
    low, high = model.span
    if not isinstance(config, MMDFinetune):
        return dataclasses.replace(config, low=max(low, config.low), high=min(high, config.high))
    above = [level for level in config.levels if level > 0]
    span = Span(min(high, above[0]), max(low, above[-1]), _gaussian(model), model.spread)
    levels = (*LogSNR().levels(span, len(above) - 1), 0.0)
    return dataclasses.replace(config, levels=levels, spread=model.spread)


def _gaussian(model: EventModel) -> GaussianProcess:
    """Return the model's process.

    Raises:
        ValueError: The model restores degraded events.
    """
    if isinstance(model.process, ResidualProcess) or model.config.beside_channels:
        raise ValueError(
            "models that restore degraded events cannot be distilled; give one that generates."
        )
    return model.process


def span_of(config: Config) -> tuple[float, float]:
    """Return the levels a student may be asked about."""
    if isinstance(config, MMDFinetune):
        above = [level for level in config.levels if level > 0]
        return (above[-1], above[0])
    return (config.low, config.high)


def _consistency(
    model: EventModel, draw: OfEvents, config: Consistency, on_step: OnStep | None
) -> Preconditioned:
    teacher = model.denoiser()
    return consistency(teacher, draw, config, teacher, on_step)


def _f_distil(
    model: EventModel, draw: OfEvents, config: FDistil, on_step: OnStep | None
) -> Preconditioned:
    teacher = model.denoiser()
    device = next(model.network.parameters()).device
    shape = dataclasses.replace(model.config, classes=0)
    judge: torch.nn.Module = build(shape, config.seed + 1).to(device)
    return f_distil(teacher, teacher, judge, draw, config, on_step).generator.model


def _mmd(
    model: EventModel, draw: OfEvents, config: MMDFinetune, on_step: OnStep | None
) -> Preconditioned:
    # finetuning a network gives a network again
    return cast("Preconditioned", finetuned(model.denoiser(), draw, config, on_step).denoise)


STUDENTS: Mapping[type, Teach] = {
    Consistency: _consistency,
    FDistil: _f_distil,
    MMDFinetune: _mmd,
}
