"""When could a reader have seen the first token, and the first block? Watched without waiting."""

import time
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from unison.decode import Canvas, StepInfo

Clock = Callable[[], float]


class Watch:
    """Observes the first batch that is written: which step left each position for good.

    A position is final from the last step that changed it on, whatever the process: that is what a
    reader of a stream may be shown and not have to unread. On a GPU, moments are events that are
    read when all is done; no step waits.

    Args:
        block_length: Open tokens of the first block; ``None`` for all.
    """

    def __init__(self, block_length: int | None) -> None:
        self._block_length = block_length
        self._moments: list[Callable[[], float]] = []
        self._before: Tensor | None = None
        self._changed: Tensor | None = None
        self._given: Tensor | None = None
        self._done = False
        self._start = time.perf_counter()

    def __call__(self, step: int, canvas: Canvas, info: StepInfo) -> None:
        """Remember a step; later batches of the same call are left out."""
        self._done = self._done or (step == 0 and self._before is not None)
        if self._done:
            return
        if self._before is None or self._changed is None:
            self._changed = torch.zeros_like(canvas.tokens)
            self._given = canvas.given
        else:
            moved = canvas.tokens != self._before
            self._changed = torch.where(moved, step, self._changed)
        self._before = canvas.tokens
        self._moments.append(_moment(canvas.tokens.device, self._start))

    def first_token(self) -> float:
        """Return seconds until the leftmost open token is final, mean over rows; nan if none is."""
        return self._mean(self._until(1))

    def first_block(self) -> float:
        """Return seconds until the first block is final, mean over rows; nan if there is none."""
        return self._mean(self._until(self._block_length))

    def _until(self, count: int | None) -> Float[Tensor, " R"]:
        """Return when the leftmost ``count`` open tokens were final, for rows that have any."""
        if self._changed is None or self._given is None:
            return torch.zeros(0)
        open_ = ~self._given
        rank = open_.cumsum(1)
        wanted = open_ if count is None else open_ & (rank <= count)
        last = torch.where(wanted, self._changed.clamp(min=1), 0).amax(1)[open_.any(1)].cpu()
        seconds = torch.tensor([moment() for moment in self._moments])
        return seconds[last.clamp(max=len(seconds) - 1)]

    @staticmethod
    def _mean(seconds: Tensor) -> float:
        return float(seconds.mean()) if len(seconds) else float("nan")


def _moment(device: torch.device, start: float) -> Callable[[], float]:
    """Return how to read this moment later, in seconds after the start."""
    now = time.perf_counter() - start
    if device.type != "cuda":
        return lambda: now
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return lambda: _reached(event, start)


def _reached(event: torch.cuda.Event, start: float) -> float:
    """Return when a device reached an event: how long ago, by a second event, before now."""
    here = torch.cuda.Event(enable_timing=True)
    here.record()
    here.synchronize()
    return time.perf_counter() - start - event.elapsed_time(here) / 1000
