"""How does a model that lost parts learn again? A short run on text, beside the model it was.

The student minimises the bound of its process and, at every position the bound looks at, how far
its belief is from the original's: KL(original || student) (Hinton et al., 2015, arXiv:1503.02531).
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unison.compress.beside import Both
from unison.compress.calibration import transformer
from unison.compress.levels import CompressError
from unison.data import BlockStream
from unison.language_model import LanguageModel
from unison.models import Transformer
from unison.objectives import Batch, bound_of
from unison.objectives.batch import summed
from unison.prob.rng import Key
from unison.train import Optimizer, Train, optim
from unison.train.step import Learner, Outcome, take
from unison.types import Nats, Tokens

Observer = Callable[[int, Outcome], None]


@dataclass(frozen=True)
class Recover:
    """A short training run.

    Attributes:
        steps: Optimiser steps; 0 leaves the model as it is.
        lr: Peak learning rate of AdamW; it falls along a cosine.
        batch_size: Rows per step.
        imitate: Weight of the distance to the original's beliefs; 0 learns from text alone.
        seed: Names the order of rows and all noise.
    """

    steps: int = 0
    lr: float = 3e-4
    batch_size: int = 16
    imitate: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise CompressError(f"recover.steps must be at least 0, got {self.steps}.")
        if self.batch_size < 1:
            raise CompressError(f"recover.batch_size must be at least 1, got {self.batch_size}.")
        if not self.lr > 0:
            raise CompressError(f"recover.lr must be above 0, got {self.lr}.")
        if self.imitate < 0:
            raise CompressError(f"recover.imitate must be at least 0, got {self.imitate}.")


@dataclass(frozen=True)
class Imitation:
    """The bound of a process, and beside it the distance to another network's beliefs.

    Positions that the bound leaves out, as those a masked model reads unmasked, are left out of the
    distance too.

    Attributes:
        teacher: The other network, of the same process and vocabulary.
        weight: Of the distance.
    """

    teacher: Any
    weight: float

    def __call__(self, process: Any, network: Any, batch: Batch, key: Key) -> Nats:
        """Return the summed loss."""
        return summed(self.losses(process, network, batch, key), batch)

    def losses(self, process: Any, network: Any, batch: Batch, key: Key) -> Float[Tensor, "B L"]:
        """Return the loss of every position."""
        both = Both(network, self.teacher)
        bound = bound_of(process, network).losses(process, both, batch, key)
        return bound + self.weight * both.distance().where(bound != 0, 0.0)


def recovered(
    student: LanguageModel,
    original: LanguageModel,
    text: Tokens,
    how: Recover,
    observe: Observer = lambda step, outcome: None,
) -> LanguageModel:
    """Return the student after a short training run; itself if there are no steps.

    Args:
        student: What lost parts; is not changed.
        original: What it is taught by.
        text: Whole rows to learn from.
        how: The run.
        observe: Called after every step with the steps done.

    Raises:
        ValueError: There are fewer than two rows.
    """
    if not how.steps:
        return student
    network: Transformer = copy.deepcopy(transformer(student.network)).float().train()
    teacher = copy.deepcopy(transformer(original.network)).float().eval().requires_grad_(False)
    config = Train(
        model=network.config,
        objective=bound_of(student.process, network),
        optimizer=Optimizer(
            lr=how.lr, warmup=min(how.steps // 10, 50), schedule="cosine", final=0.0
        ),
        steps=how.steps,
        batch_size=how.batch_size,
        seed=how.seed,
    )
    objective = Imitation(teacher, how.imitate) if how.imitate else config.objective
    learner = Learner(network, student.process, objective, optim.make(network, config.optimizer))
    stream = BlockStream(len(text), how.batch_size, how.seed)
    for step in range(how.steps):
        rows = torch.from_numpy(stream.indices(step))
        outcome = take(learner, config, text[rows].to(student.device), step)
        observe(step + 1, outcome)
    notes = {**student.notes, "recovered": {"steps": how.steps, "imitate": how.imitate}}
    return replace(student, network=network.eval(), notes=notes)
