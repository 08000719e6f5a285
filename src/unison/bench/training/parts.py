"""Which part of a training step takes the time? Marks that the step itself passes."""

import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from unison.objectives import Batch, Loss
from unison.prob.rng import Key
from unison.train.step import Learner
from unison.types import Nats

# The network's answer; noise, views and loss; their derivative and its norm; moving the weights.
PARTS = ("network", "objective", "backward", "optimizer")
DONE = "done"  # the mark at the end of a step


Moment = float | torch.cuda.Event


class _Mark(NamedTuple):
    part: str
    moment: Moment


class Marks:
    """Remembers when each part began, without waiting for the device.

    Args:
        device: A CPU is timed in CPU seconds, a GPU by its own clock.
    """

    def __init__(self, device: torch.device) -> None:
        self.part = PARTS[1]
        self._on_gpu = device.type == "cuda"
        self._marks: list[_Mark] = []

    def __call__(self, part: str) -> None:
        """Begin a part; the one before ends."""
        self.part = part
        self._marks.append(_Mark(part, self._moment()))

    def forget(self) -> None:
        """Start anew."""
        self._marks.clear()

    def seconds(self) -> dict[str, float]:
        """Return what each part took up to the last mark, over all steps; waits for a GPU."""
        if self._on_gpu:
            torch.cuda.synchronize()
        took: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        for mark, following in zip(self._marks, self._marks[1:], strict=False):
            if mark.part != DONE:
                took[mark.part] += _between(mark.moment, following.moment)
        return took

    def _moment(self) -> Moment:
        if not self._on_gpu:
            return time.process_time()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


@dataclass(frozen=True)
class Marked:
    """An objective that marks where its call begins and ends.

    Attributes:
        objective: What is minimised.
        marks: Who is told.
    """

    objective: Loss
    marks: Marks

    def __call__(self, process: Any, network: Any, batch: Batch, key: Key) -> Nats:
        """Return the summed loss."""
        self.marks("objective")
        nats = self.objective(process, network, batch, key)
        self.marks("backward")
        return nats

    def losses(self, process: Any, network: Any, batch: Batch, key: Key) -> torch.Tensor:
        """Return the loss of every position."""
        return self.objective.losses(process, network, batch, key)


def marked(learner: Learner, marks: Marks) -> Learner:
    """Return the learner with marks at all its parts; hooks stay on its network and optimisers.

    The network's time is that of its layers, whichever way an objective calls it. What lies between
    them is the objective's: masks, angles, the product with a tied embedding.
    """
    for layer in _layers(learner.network):
        layer.register_forward_pre_hook(lambda layer, inputs: marks("network"))
        layer.register_forward_hook(lambda layer, inputs, output: marks("objective"))
    for optimizer in learner.optimizers:
        optimizer.register_step_pre_hook(lambda optimizer, args, kwargs: marks("optimizer"))
    return learner._replace(objective=Marked(learner.objective, marks))


def _between(first: Moment, last: Moment) -> float:
    if isinstance(first, torch.cuda.Event) and isinstance(last, torch.cuda.Event):
        return first.elapsed_time(last) / 1000
    if isinstance(first, float) and isinstance(last, float):
        return last - first
    raise TypeError(f"moments of two clocks: {first!r}, {last!r}.")


def _layers(network: nn.Module) -> list[nn.Module]:
    """Return the modules a network is made of, those of a list one by one."""
    return [
        layer
        for child in network.children()
        for layer in (child if isinstance(child, nn.ModuleList) else [child])
    ]
