"""How much of a piece of work is spent inside a network? A clock that the network itself starts."""

import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

Moment = float | torch.cuda.Event


def now(device: torch.device) -> Moment:
    """Return a moment: CPU seconds of this process, or a mark on a GPU's own clock."""
    if device.type != "cuda":
        return time.process_time()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between(first: Moment, last: Moment) -> float:
    """Return the seconds between two moments of one clock; a GPU must have passed both."""
    if isinstance(first, torch.cuda.Event) and isinstance(last, torch.cuda.Event):
        return first.elapsed_time(last) / 1000
    if isinstance(first, float) and isinstance(last, float):
        return last - first
    raise TypeError(f"moments of two clocks: {first!r}, {last!r}.")


class _Visit(NamedTuple):
    began: Moment
    ended: Moment


class Inside:
    """Adds up the time spent inside networks; calls inside calls count once.

    Args:
        device: Where they are.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._depth = 0
        self._began: Moment = 0.0
        self._visits: list[_Visit] = []

    def watch(self, network: nn.Module) -> None:
        """Count every call of a network from now on; hooks stay on it."""
        network.register_forward_pre_hook(lambda module, inputs: self._enter())
        network.register_forward_hook(
            lambda module, inputs, answer: self._leave(), always_call=True
        )

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose calls count as a network's."""

        def counted(*arguments: Any) -> Any:
            with self._visit():
                return function(*arguments)

        return counted

    def taken(self) -> float:
        """Return the seconds spent inside since this was asked last."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        seconds = sum((between(*visit) for visit in self._visits), 0.0)
        self._visits.clear()
        return seconds

    @contextmanager
    def _visit(self):  # noqa: ANN202  # a context of nothing
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def _enter(self) -> None:
        self._depth += 1
        if self._depth == 1:
            self._began = now(self._device)

    def _leave(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._visits.append(_Visit(self._began, now(self._device)))
