"""How is a published model of continuous data read? As any denoiser, in the frame of its process.

A scheduler's configuration says which process a model of Hugging Face's diffusers undoes and what
its answers mean; the weights and the class stay that library's (``models.formats.diffusers``).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.event_denoising import Preconditioned, Prediction
from unison.models.formats.diffusers import DiffusersError, DiffusersNetwork, open_model, signals
from unison.process.continuous.gaussian import FlowMatching, GaussianProcess
from unison.process.continuous.tabulated import Tabulated
from unison.suggest import nearest

_FLOW_END = 1000.0  # s where a straight path is taken to begin; its own end is infinite
_ANSWERS: dict[str, Prediction] = {
    "epsilon": "noise",
    "v_prediction": "velocity",
    "sample": "clean",
    "flow_prediction": "flow",
}


class Schedule(NamedTuple):
    """What a scheduler's configuration says of the model.

    Attributes:
        process: What it undoes.
        prediction: What its answer means.
        steps: The time step it is told at t=1.
        span: The lowest and the highest level it was trained on.
    """

    process: GaussianProcess
    prediction: Prediction
    steps: float
    span: tuple[float, float]


@dataclass(frozen=True)
class DiffusersModel:
    """A published model with what its scheduler says.

    Attributes:
        network: Who is asked.
        schedule: What it undoes, and what its answers mean.
        shape: Of one event; a text-to-image model's events are latents.
    """

    network: DiffusersNetwork
    schedule: Schedule
    shape: tuple[int, ...]

    def denoiser(
        self,
        label: Int[Tensor, " B"] | None = None,
        beside: Float[Tensor, "B ..."] | None = None,
        gradients: bool = False,
    ) -> Preconditioned:
        """Return the model as solvers ask it, in the frame y = x_t / alpha, conditions bound."""
        return Preconditioned(
            self.network,
            self.schedule.prediction,
            process=self.schedule.process,
            label=label,
            beside=beside,
            span=self.schedule.span,
            gradients=gradients,
            dtype=self.network.model.dtype,
        )


def load(
    path: str | Path,
    scheduler: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> DiffusersModel:
    """Read a pipeline's denoising model, or a bare model.

    Args:
        path: A folder, or ORG/NAME on the hub.
        scheduler: The configuration of a scheduler, for a bare model that has none beside it.
        device: Where to put the weights.

    Raises:
        DiffusersError: diffusers is not installed, files are missing or damaged, or the model or
            its scheduler is of a kind not known here.
    """
    opened = open_model(str(path), scheduler)
    return wrap(opened.model.to(device), read_schedule(opened.scheduler))


def wrap(model: Any, schedule: Schedule) -> DiffusersModel:
    """Return a model of that library, already made, as ours."""
    size, channels = model.config.sample_size, model.config.in_channels
    sides = (size, size) if isinstance(size, int) else tuple(size or ())
    return DiffusersModel(
        DiffusersNetwork(model.eval(), schedule.steps), schedule, (channels, *sides)
    )


def read_schedule(config: Mapping[str, Any]) -> Schedule:
    """Return what a scheduler's configuration says of the model.

    Raises:
        DiffusersError: It is of a kind not known here.
    """
    count, answer = config.get("num_train_timesteps", 1000), _answer(config)
    if answer == "flow":
        share = _FLOW_END / (1 + _FLOW_END)
        return Schedule(FlowMatching(_FLOW_END), answer, count * share, (1 / count, _FLOW_END))
    levels = _levels(config)
    return Schedule(Tabulated(levels), answer, float(count - 1), (levels[0], levels[-1]))


def _answer(config: Mapping[str, Any]) -> Prediction:
    """Return what the model's answer means; schedulers of flow matching know one kind only."""
    tabulated = "beta_start" in config or config.get("trained_betas") is not None
    if config.get("use_flow_sigmas") or (not tabulated and "shift" in config):
        return "flow"
    if not tabulated:
        raise DiffusersError(
            f"the scheduler {config.get('_class_name', '')} states no table of betas (beta_start, "
            "beta_end or trained_betas); known are those of DDPM's kind and of flow matching."
        )
    answer = config.get("prediction_type", "epsilon")
    if answer not in _ANSWERS:
        raise DiffusersError(
            f"unknown prediction_type {answer!r}{nearest(answer, _ANSWERS)}; known: "
            f"{', '.join(_ANSWERS)}."
        )
    return _ANSWERS[answer]


def _levels(config: Mapping[str, Any]) -> tuple[float, ...]:
    """Return s at every time step."""
    kept = signals(config)
    kept[-1] = kept[-1] or kept[-2] / 4  # no signal at all is an infinite level
    return tuple(math.sqrt((1 - one) / one) for one in kept)
