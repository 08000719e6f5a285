"""Must a device wait for sums over ranks? While one half of the rows waits, the other computes.

TokenWeave (2025, arXiv:2505.11329): what is evaluated together is cut in two; each half's sums over
the ranks travel while the other half is computed. A denoising step computes whole canvases, so
there is something to weave at every step, where left-to-right decoding has one token a row.

Each half is a lane of its own that goes through the ordinary network. A lane that has posted a sum
hands the turn to the other one and waits for its sum when the turn comes back. One lane runs at a
time and turns change at sums alone, so all ranks post the same sums in the same order.

Rows never see each other and are evaluated in the shapes they have without weaving: the answers are
the same to the last bit wherever a sum over ranks does not depend on what else is in its message.
That is so for two ranks; with more, an all-reduce may add in an order that depends on the size.

Differs: the paper also fuses the sum with the norm that follows, in a kernel for NVLink; it cuts a
single prompt as well, where here a row is whole in one lane.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed
from torch.nn import Parameter

from unison.models import Transformer, TransformerConfig
from unison.models.network import Call, by_call

_LANES = 2


class Turns:
    """Whose turn it is to compute, and the sums over ranks that turns change at.

    Attributes:
        group: The ranks; ``None`` for the world.
        sums: Posted so far; a counter, for tests and reports.
        hidden: Of these, those that travelled while the other lane had the turn.
    """

    def __init__(self, group: distributed.ProcessGroup | None = None) -> None:
        self.group = group
        self.sums = self.hidden = 0
        self._changed = threading.Condition()
        self._turn = 0
        self._running: set[int] = set()
        self._lane = threading.local()

    def add(self, part: Tensor) -> Tensor:
        """Return the sum over all ranks; where lanes run, the other one goes on meanwhile."""
        part = part.contiguous()
        work = distributed.all_reduce(part, group=self.group, async_op=True)
        self.sums += 1
        me = getattr(self._lane, "number", None)
        if me is not None and self._hand_over(me):
            self.hidden += 1
            self._wait_for(me)
        assert work is not None
        work.wait()
        return part

    def run(self, lanes: Sequence[Callable[[], Any]]) -> list[Any]:
        """Return what two lanes answer; the first runs in this thread.

        Raises:
            BaseException: What the first lane that failed has raised, after both have ended.
        """
        answers: list[Any] = [None] * len(lanes)
        troubles: list[BaseException | None] = [None] * len(lanes)
        self._running, self._turn = set(range(len(lanes))), 0
        modes = _modes()

        def enter(number: int) -> None:
            self._lane.number = number
            self._wait_for(number)
            try:
                with modes():
                    answers[number] = lanes[number]()
            except BaseException as trouble:  # noqa: BLE001 - raised again when both have ended
                troubles[number] = trouble
            finally:
                self._lane.number = None
                self._leave(number)

        others = [threading.Thread(target=enter, args=(n,)) for n in range(1, len(lanes))]
        for other in others:
            other.start()
        enter(0)
        for other in others:
            other.join()
        for trouble in filter(None, troubles):
            raise trouble
        return answers

    def _hand_over(self, me: int) -> bool:
        """Let another lane go on; return whether there is one."""
        with self._changed:
            others = self._running - {me}
            if others:
                self._turn = min(others)
                self._changed.notify_all()
            return bool(others)

    def _wait_for(self, me: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._turn == me)

    def _leave(self, me: int) -> None:
        with self._changed:
            self._running.discard(me)
            self._turn = min(self._running, default=me)
            self._changed.notify_all()


def _modes() -> Callable[[], Any]:
    """Return how another thread enters what this one computes under."""
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    kinds = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    casts = [(k, torch.get_autocast_dtype(k), torch.is_autocast_enabled(k)) for k in kinds]
    device = torch.cuda.current_device() if torch.cuda.is_available() else None

    @contextmanager
    def entered() -> Iterator[None]:
        if device is not None:
            torch.cuda.set_device(device)
        with torch.inference_mode(inference), torch.set_grad_enabled(grad):
            before = [(k, torch.get_autocast_dtype(k), torch.is_autocast_enabled(k)) for k in kinds]
            _cast(casts)
            try:
                yield
            finally:
                _cast(before)

    return entered


def _cast(casts: Sequence[tuple[str, torch.dtype, bool]]) -> None:
    for kind, dtype, enabled in casts:
        torch.set_autocast_dtype(kind, dtype)
        torch.set_autocast_enabled(kind, enabled)


class Woven:
    """A rank's part of a network that would rather hear several questions at once.

    Attributes:
        part: What this rank holds; its sums go through ``turns``.
        turns: Whose turn it is.
    """

    def __init__(self, part: Transformer, turns: Turns) -> None:
        self.part, self.turns = part, turns

    @property
    def config(self) -> TransformerConfig:
        """Shape of what a rank computes."""
        return self.part.config

    @property
    def remembers(self) -> bool:
        """Whether it may take part of its canvas from a memory: it may."""
        return self.part.remembers

    def parameters(self) -> Iterator[Parameter]:
        """Return the weights of this rank."""
        return self.part.parameters()

    def state_dict(self) -> dict[str, Any]:
        """Return the weights of this rank, by name."""
        return self.part.state_dict()

    @by_call
    def __call__(self, call: Call) -> Float[Tensor, "B F V"]:
        """Return what the whole network answers to one question; nothing is woven."""
        return self.part(*call)

    def together(self, calls: Sequence[Call]) -> list[Tensor]:
        """Return what the network answers to each call, to the last bit as if asked alone."""
        first = (len(calls) + 1) // _LANES
        halves = [calls[:first], calls[first:]]
        if not halves[1]:
            return [self.part(*call) for call in calls]
        lanes = [lambda half=half: [self.part(*call) for call in half] for half in halves]
        return [answer for lane in self.turns.run(lanes) for answer in lane]
