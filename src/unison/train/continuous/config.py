"""What is a training run on continuous data? A frozen dataclass, validated before any work."""

from dataclasses import dataclass, field
from typing import Any

from unison.data.continuous import Degradation, Reading
from unison.event_denoising import PREDICTIONS, Prediction
from unison.models.continuous import UNetConfig, name_of
from unison.objectives.continuous import Denoising, EventLoss, Restoring
from unison.process.continuous import EDM, GaussianProcess
from unison.process.continuous.residual import ResidualProcess
from unison.train.config import Optimizer, TrainError


@dataclass(frozen=True)
class TrainEvents:
    """One training run on continuous data.

    Attributes:
        network: Shape of the network; channels and classes are taken from the data.
        objective: What is minimised.
        process: What the model undoes.
        prediction: What the network's answer means; residual processes have one of their own.
        low: Lowest level that is trained, if the process goes as low.
        high: Highest level that is trained, if the process goes as high.
        labels: Tell the network the classes of the data, if they have any.
        reading: How the data are read.
        degradation: What is restored: the network sees the degraded event beside; ``None`` for
            generation. Residual processes need one.
        noise_level: Standard deviation, in the units a model sees, of noise that is put into some
            of the events that are learnt from, once and for all: the objective ambient knows of
            it, others take such events for clean.
        noise_share: Share of the events that get it.
        optimizer: How weights move.
        steps: Optimiser steps.
        batch_size: Events per step.
        ema: Decay of the weights' average, which is what is evaluated and kept. 0 for none.
        eval_every: Steps between evaluations on held-out events.
        eval_events: Held-out events per evaluation, the same ones with the same noise every time.
        save_every: Steps between checkpoints.
        keep: Newest checkpoints that stay on disk; the best one always does.
        log_every: Steps between lines of the log.
        max_skipped: Steps in a row with a non-finite gradient before the run stops.
        seed: Names every random number of the run.
    """

    network: Any = field(default_factory=UNetConfig)
    objective: EventLoss = field(default_factory=Denoising)
    process: GaussianProcess | ResidualProcess = field(default_factory=EDM)
    prediction: Prediction = "edm"
    low: float = 0.002
    high: float = 80.0
    labels: bool = True
    reading: Reading = field(default_factory=Reading)
    degradation: Degradation | None = None
    noise_level: float = 0.2
    noise_share: float = 0.0
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(lr=2e-3, warmup=50, schedule="cosine")
    )
    steps: int = 1000
    batch_size: int = 64
    ema: float = 0.999
    eval_every: int = 100
    eval_events: int = 256
    save_every: int = 100
    keep: int = 2
    log_every: int = 10
    max_skipped: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "eval_every", "eval_events", "save_every", "keep",
                     "log_every", "max_skipped"):  # fmt: skip
            if getattr(self, name) < 1:
                raise TrainError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.ema < 1:
            raise TrainError(f"ema must be in [0, 1), got {self.ema}.")
        if not 0 <= self.seed < 1 << 63:
            raise TrainError(f"seed must be in [0, 2^63), got {self.seed}.")
        if not 0 < self.low < self.high:
            raise TrainError(f"0 < low < high is needed, got {self.low} and {self.high}.")
        if not (self.noise_level > 0 and 0 <= self.noise_share <= 1):
            raise TrainError(
                "noise_level must be above 0 and noise_share in [0, 1], got "
                f"{self.noise_level} and {self.noise_share}."
            )
        if self.prediction not in PREDICTIONS:
            raise TrainError(
                f"unknown prediction {self.prediction!r}; known: {', '.join(PREDICTIONS)}."
            )
        name_of(self.network)
        self._check_process()

    def _check_process(self) -> None:
        restores = isinstance(self.process, ResidualProcess)
        if restores != isinstance(self.objective, Restoring):
            raise TrainError(
                f"{type(self.process).__name__} and {type(self.objective).__name__} do not fit: "
                "residual processes are learnt with the objective restoring, all others with any "
                "other."
            )
        if restores and self.degradation is None:
            raise TrainError(
                f"{type(self.process).__name__} starts from a degraded event; name a degradation."
            )
