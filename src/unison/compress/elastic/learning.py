"""What do the networks of a large one learn in a step? Its own loss, and what the largest says.

The sandwich rule with distillation in place (Yu & Huang, 2019, arXiv:1903.05134; BigNAS: Yu et al.,
2020, arXiv:2003.11142): the largest network learns from the text, the smallest and those drawn from
the text and from the largest's belief about the same noisy text.

Differs: the others keep the loss of the text beside the lesson, and losses are means over the
networks, so that a step is as large as that of one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unison.compress.elastic import sampling
from unison.compress.elastic.config import Elastic
from unison.compress.elastic.inside import view
from unison.compress.elastic.ledger import Ledger
from unison.compress.elastic.space import Space
from unison.models import Transformer, TransformerConfig
from unison.objectives import Batch, Loss
from unison.objectives.batch import open_positions
from unison.prob.rng import Key
from unison.process import Absorbing
from unison.types import Logits, Mask, Nats, SoftTokens, Time, Tokens


@dataclass(frozen=True)
class Learning:
    """The loss of a large network and of some of those in it; the training loop needs nothing new.

    Attributes:
        objective: The loss of one network.
        elastic: The settings.
        space: The networks.
        ledger: How well each has done; written by every call.
        seed: Names the draws.
    """

    objective: Loss
    elastic: Elastic
    space: Space
    ledger: Ledger
    seed: int

    def __call__(self, process: Any, network: Transformer, batch: Batch, key: Key) -> Nats:
        """Return the mean of the networks' losses, summed over positions."""
        said: list[Logits] = []
        largest = self.objective(process, _Heard(network, said), batch, key)
        totals = [largest.total]
        for number in self.chosen(key.step):
            small = _Taught(view(network, self.space.choices[number]), iter(said), process, batch)
            own = self.objective(process, small, batch, key)
            self.ledger.note(number, own.total - largest.total, own.count)
            totals.append(own.total + self.elastic.lesson * small.lesson)
        return Nats(torch.stack(totals).mean(), largest.count)

    def losses(
        self, process: Any, network: Transformer, batch: Batch, key: Key
    ) -> Float[Tensor, "B L"]:
        """Return the largest network's loss of every position."""
        return self.objective.losses(process, network, batch, key)

    def chosen(self, step: int) -> list[int]:
        """Return the numbers of the networks that learn at a step, besides the largest."""
        numbers = list(self.space.between)
        if not numbers or not self.elastic.drawn:
            return [0]
        drawn = sampling.drawn(self.law(), self.seed, step, self.elastic.drawn)
        return [0, *(numbers[number] for number in drawn)]

    def law(self) -> sampling.Values:
        """Return the probabilities of the networks between the smallest and the largest."""
        here = slice(1, len(self.space.choices) - 1)
        losses, seen = self.ledger.losses()
        complexity = np.asarray(self.space.complexity)[here]
        return sampling.law(
            self.elastic.sampling, complexity, losses[here], seen[here], self.elastic.levels
        )


@dataclass(frozen=True)
class _Heard:
    """A network whose answers are kept."""

    network: Transformer
    said: list[Logits]

    @property
    def config(self) -> TransformerConfig:
        """The network's."""
        return self.network.config

    def __call__(
        self, inputs: Tokens | SoftTokens, sigma: Time, valid: Mask | None = None, *rest: Any
    ) -> Logits:
        """Return the network's answer."""
        logits = self.network(inputs, sigma, valid, *rest)
        self.said.append(logits.detach())
        return logits


@dataclass
class _Taught:
    """A network that hears, to each of its calls, what the largest answered there."""

    network: Transformer
    said: Iterator[Logits]
    process: Any
    batch: Batch
    lesson: Tensor = field(default_factory=lambda: torch.zeros(()))

    @property
    def config(self) -> TransformerConfig:
        """The network's."""
        return self.network.config

    def __call__(
        self, inputs: Tokens | SoftTokens, sigma: Time, valid: Mask | None = None, *rest: Any
    ) -> Logits:
        """Return the network's answer; what it differs from the largest's is added up."""
        logits = self.network(inputs, sigma, valid, *rest)
        apart = divergence(next(self.said), logits)
        read = _read(self.process, inputs, open_positions(self.batch))
        if read is not None and read.shape == apart.shape:
            apart = apart.where(read, 0.0)
        self.lesson = self.lesson.to(apart.device) + apart.sum()
        return logits


def divergence(teacher: Logits, student: Logits) -> Float[Tensor, "B L"]:
    """Return KL(teacher || student) at every position, in nats; logits may hold -inf alike."""
    wide = torch.promote_types(student.dtype, torch.float32)
    log_p, log_q = F.log_softmax(teacher.to(wide), -1), F.log_softmax(student.to(wide), -1)
    return (log_p.exp() * (log_p - log_q)).where(log_p > -torch.inf, 0.0).sum(-1)


def _read(process: Any, inputs: Tokens | SoftTokens, counted: Mask | None) -> Mask | None:
    """Return the positions whose answers are a belief; ``None`` for all."""
    if not isinstance(process, Absorbing) or isinstance(inputs, SoftTokens):
        return counted
    hidden = inputs == process.mask_id
    return hidden if counted is None else hidden & counted
