"""What is a training run? Frozen dataclasses, validated whole before any work starts."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from unison.data import TokenizerSpec
from unison.models import PRESETS, TransformerConfig
from unison.objectives import OBJECTIVES, Duo, Objective
from unison.process import SCHEDULES
from unison.scale.config import Scale
from unison.scale.private.config import Privacy
from unison.suggest import nearest

Device = Literal["auto", "cpu", "cuda"]
BLOCK_LENGTH = 16  # of networks whose blocks see what stands before them, unless said otherwise


class TrainError(ValueError):
    """A run that cannot start or go on; the message says why and what to do."""


@dataclass(frozen=True)
class Data:
    """How text becomes blocks of tokens.

    Attributes:
        tokenizer: Byte, character, BPE, or an existing one.
        holdout: Share of the text, by document, that is held out for evaluation.
        split: Where one document of a text file ends.
    """

    tokenizer: TokenizerSpec = field(default_factory=TokenizerSpec)
    holdout: float = 0.05
    split: Literal["auto", "file", "blank", "line"] = "auto"


@dataclass(frozen=True)
class Optimizer:
    """How weights move.

    Attributes:
        name: AdamW, or Muon for the hidden matrices with AdamW for the rest.
        lr: Peak learning rate of AdamW.
        muon_lr: Peak learning rate of Muon, in AdamW's units (its update is rescaled to match).
        beta1: Decay of the gradient's average.
        beta2: Decay of the squared gradient's average.
        eps: Floor under the root of the squared gradient's average.
        weight_decay: Decoupled decay.
        warmup: Steps of linear warm-up.
        schedule: Learning rate after the warm-up.
        final: Share of the peak rate left at the last step of a decaying schedule.
        clip: Largest norm of the gradient of the mean loss.
    """

    name: Literal["adamw", "muon"] = "adamw"
    lr: float = 3e-4
    muon_lr: float = 3e-4
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    warmup: int = 2500
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    final: float = 0.1
    clip: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lr", "muon_lr", "eps", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"optimizer.{name} must be above 0, got {getattr(self, name)}.")
        for name in ("weight_decay", "warmup"):
            if getattr(self, name) < 0:
                raise ValueError(f"optimizer.{name} must be at least 0, got {getattr(self, name)}.")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"optimizer.{name} must be in [0, 1), got {getattr(self, name)}.")
        if not 0 <= self.final <= 1:
            raise ValueError(f"optimizer.final must be in [0, 1], got {self.final}.")


@dataclass(frozen=True)
class Train:
    """One training run.

    Attributes:
        model: Shape of the network; vocabulary sizes are taken from the tokenizer.
        objective: What is minimised; it also names the process.
        schedule: Noise schedule.
        data: How text becomes tokens.
        optimizer: How weights move.
        steps: Optimiser steps.
        batch_size: Blocks per step, over all devices and micro-batches.
        micro_batch: Blocks per forward pass; ``None`` for the whole batch at once.
        ema: Decay of the weights' average, which is what is evaluated and kept. 0 for none.
        precision: Arithmetic of the network: bfloat16 autocast on a GPU, float32 on a CPU.
        eval_every: Steps between evaluations on held-out text.
        eval_blocks: Held-out blocks per evaluation, the same ones every time.
        save_every: Steps between checkpoints.
        keep: Newest checkpoints that stay on disk; the best one always does.
        log_every: Steps between lines of the log.
        tensorboard: Also write TensorBoard event files (extra ``track``).
        max_skipped: Steps in a row with a non-finite gradient before the run stops.
        seed: Names every random number of the run.
        scale: How it is spread over ranks, where torchrun starts several.
        privacy: Whether rows are hidden, and how well (extra ``privacy``).
        shared: Numbers that are learnt for each weight of a matrix, in (0, 1]: fewer than 1 are
            shared at random, from the first step on. ``None`` for every weight its own.
        compile: Evaluate the network as one compiled graph: ``on``, ``off``, or ``auto`` for on a
            GPU and in long bfloat16 runs on a CPU. Losses differ from ``off`` by rounding.
    """

    model: TransformerConfig = field(default_factory=lambda: PRESETS["tiny"])
    objective: Objective = field(default_factory=Duo)
    schedule: str = "log_linear"
    data: Data = field(default_factory=Data)
    optimizer: Optimizer = field(default_factory=Optimizer)
    steps: int = 1000
    batch_size: int = 16
    micro_batch: int | None = None
    ema: float = 0.9999
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    eval_every: int = 200
    eval_blocks: int = 128
    save_every: int = 200
    keep: int = 2
    log_every: int = 10
    tensorboard: bool = False
    max_skipped: int = 20
    seed: int = 0
    scale: Scale = field(default_factory=Scale)
    privacy: Privacy = field(default_factory=Privacy)
    shared: float | None = None
    compile: Literal["off", "on", "auto"] = "off"

    def __post_init__(self) -> None:
        positive = ("steps", "batch_size", "eval_every", "eval_blocks", "save_every", "keep",
                    "log_every", "max_skipped")  # fmt: skip
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.micro_batch is not None and not 1 <= self.micro_batch <= self.batch_size:
            raise ValueError(
                f"micro_batch must be in [1, batch_size={self.batch_size}], got {self.micro_batch}."
            )
        if self.scale.bitwise and self.micro_batch is None:
            raise ValueError("scale.bitwise adds micro-batches in a fixed order; set micro_batch.")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be in [0, 1), got {self.ema}.")
        if not 0 <= self.seed < 1 << 63:
            raise ValueError(f"seed must be in [0, 2^63), got {self.seed}.")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"unknown schedule {self.schedule!r}; known: {', '.join(SCHEDULES)}.")
        _check_needs(self.objective, self.model)
        _check_shared(self)


def objective_of(name: str) -> Objective:
    """Return the objective of a name, as it comes.

    Raises:
        TrainError: The objective is unknown.
    """
    if name not in OBJECTIVES:
        raise TrainError(
            f"unknown objective {name!r}{nearest(name, OBJECTIVES)}; known: "
            f"{', '.join(OBJECTIVES)}."
        )
    return OBJECTIVES[name]()


def fitted(model: TransformerConfig, objective: Objective) -> TransformerConfig:
    """Return the shape with the attention, inputs and outputs an objective is best trained with."""
    needs = objective.needs
    attention = needs.attention[0]
    return dataclasses.replace(
        model,
        attention=attention,
        block_length=BLOCK_LENGTH if attention == "block_causal" else None,
        time=needs.time[0],
        scalar=needs.scalar,
        self_conditioning=needs.self_conditioning[0],
    )


def _check_shared(config: Train) -> None:
    """Refuse what a network whose weights share cannot be trained with."""
    if config.shared is None:
        return
    if not 0 < config.shared <= 1:
        raise ValueError(f"shared must be in (0, 1], got {config.shared}; leave it out for none.")
    if config.model.mixture is not None:
        raise ValueError("weights of a mixture of experts cannot share; leave shared out.")
    if config.optimizer.name == "muon":
        raise ValueError(
            "Muon moves matrices, and weights that share lie in a row; use optimizer.name adamw."
        )
    if config.privacy.on or config.scale.plan not in ("auto", "dp"):
        raise ValueError(
            "shared goes with one process or copies of the whole network (scale.plan=dp), and "
            f"without privacy; got scale.plan={config.scale.plan!r} and privacy "
            f"{'on' if config.privacy.on else 'off'}."
        )


def _check_needs(objective: Objective, model: TransformerConfig) -> None:
    """Refuse a network that the objective cannot train."""
    for name in ("attention", "time", "self_conditioning"):
        able, value = getattr(objective.needs, name), getattr(model, name)
        if value not in able:
            raise ValueError(
                f"{type(objective).__name__} and model.{name}={value!r} do not fit: it needs "
                f"{' or '.join(repr(choice) for choice in able)}."
            )
    if objective.needs.scalar and not model.scalar:
        raise ValueError(
            f"{type(objective).__name__} needs a network that answers one number per row as well; "
            "set model.scalar."
        )
