"""How does one thread serve everybody? Round by round, an evaluation of each at a time."""

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from unison.serve.batching.cohorts import CohortLane
from unison.serve.batching.hub import Asked, Hub, by_network
from unison.serve.batching.limits import Limits
from unison.serve.batching.queueing import FairQueue, Waiting
from unison.serve.batching.remembering import Remembered
from unison.serve.batching.tasks import TaskLane
from unison.serve.batching.tokens import TokenLane
from unison.serve.batching.unit import Lane, Unit, divided
from unison.serve.batching.work import (
    Answered,
    Event,
    Failed,
    Finished,
    Full,
    Started,
    Stats,
    Tell,
    Work,
    Wrote,
)

_LOG = logging.getLogger("unison.serve")
_IDLE = 0.05  # seconds between looks at deadlines while nothing runs


@dataclass(eq=False)
class _Running:
    """A piece of work that waits or runs.

    Attributes:
        ticket: Its number.
        work: What it is.
        tell: Who hears of it.
        since: When it came.
        began: When its first unit did; ``None`` if none has.
        left: Units that are not done.
    """

    ticket: int
    work: Work
    tell: Tell
    since: float
    began: float | None = None
    left: int = 0


def _guarded(tell: Tell) -> Tell:
    """Return a listener whose mistakes harm nobody else."""

    def safely(event: Event) -> None:
        try:
            tell(event)
        except Exception:  # noqa: BLE001  # whatever it is, it is the listener's alone
            _LOG.exception("a listener failed")

    return safely


class _Cancel(NamedTuple):
    ticket: int


class Engine:
    """Writes and answers for many at once, in a thread of its own.

    Each round every running text takes a step and every question an evaluation, all of them in as
    few passes through the network as can be. What runs beside it does not change a text: it is
    the one ``unison.generate`` writes for the same order.

    Args:
        limits: What it takes on.
        evaluate: From calls of networks to their answers.
        clock: Seconds.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        evaluate: Callable[[Sequence[Asked]], list[torch.Tensor]] = by_network,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = Limits() if limits is None else limits
        self._hub = Hub(evaluate)
        self._remembered = Remembered(self.limits.prefixes)
        self._lanes = self._fresh_lanes()
        self._clock = clock
        self._said: queue.SimpleQueue[_Running | _Cancel] = queue.SimpleQueue()
        self._queue: FairQueue[Unit] = FairQueue()
        self._works: dict[int, _Running] = {}
        self._running: dict[Unit, tuple[Lane, Waiting[Unit]]] = {}
        self._tickets = itertools.count()
        self._count = {
            name: 0 for name in ("steps", "tokens", "finished", "failed", "cancelled", "preempted")
        }
        self._busy = 0.0
        self._admitted = threading.Lock()
        self._taken = 0
        self._state = "serving"
        self._idle = threading.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._loop, name="unison-engine", daemon=True)

    def start(self) -> "Engine":
        """Begin to run rounds in a thread; return itself."""
        self._thread.start()
        return self

    def submit(self, work: Work, tell: Tell) -> int:
        """Hand work in, from any thread; return its ticket.

        Args:
            work: What is to be done.
            tell: Called in the engine's thread with everything there is to tell; must not wait.

        Raises:
            Full: Too much waits already, or the engine is going down.
        """
        with self._admitted:
            if self._state != "serving":
                raise Full("the server is going down; ask another, or come again in a minute.")
            if self._taken >= self.limits.waiting + self.limits.rows:
                raise Full(
                    f"{self._taken} requests are waiting or running already; come again in a "
                    "few seconds."
                )
            self._taken += 1
            self._idle.clear()
            one = _Running(next(self._tickets), work, _guarded(tell), self._clock())
            self._said.put(one)
        return one.ticket

    def cancel(self, ticket: int) -> None:
        """Give work up, from any thread; within one step it takes nothing any more.

        Nothing is told of it afterwards. What is done already is not affected.
        """
        self._said.put(_Cancel(ticket))

    def drain(self, seconds: float) -> bool:
        """Take no more work, and wait until what there is is done; return whether it is."""
        with self._admitted:
            self._state = "draining"
        return self._idle.wait(seconds)

    def close(self) -> None:
        """Stop at once: what is not done fails."""
        with self._admitted:
            self._state = "closed"
        if self._thread.is_alive():
            self._said.put(_Cancel(-1))  # wakes the thread
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread serves."""
        return self._thread.is_alive() and self._state == "serving"

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return self._taken > 0

    def stats(self) -> Stats:
        """Return what it does and has done; from any thread, a moment old."""
        rows = len(self._running)
        return Stats(
            waiting=sum(one.began is None for one in list(self._works.values())),
            running=sum(one.began is not None for one in list(self._works.values())),
            rows=rows,
            memory=self._memory(),
            evaluations=self._hub.evaluations,
            batch=rows,
            model_seconds=self._hub.model_seconds,
            step_seconds=self._hub.turn_seconds - self._hub.own_seconds,
            busy_seconds=self._busy,
            prefix_hits=self._remembered.found,
            prefix_misses=self._remembered.asked - self._remembered.found,
            **self._count,
        )

    def _memory(self) -> int:
        return sum(unit.memory for unit in list(self._running))

    def _loop(self) -> None:
        try:
            while self._state != "closed":
                try:
                    self.round(wait=_IDLE)
                except Exception as error:  # noqa: BLE001  # a defect must not end the service
                    self._begin_anew(error)
        finally:
            with self._admitted:  # after this nothing comes in
                self._state = "closed"
            self._listen(0.0)
            self._begin_anew(InterruptedError("the server went down."))

    @torch.no_grad()
    def round(self, wait: float = 0.0) -> None:
        """Let everything that runs take a step, and what waits begin where there is room.

        For who drives the engine without a thread.

        Args:
            wait: Seconds to wait for work where there is none.
        """
        self._listen(0.0 if self._running else wait)
        self._drop_late()
        self._admit()
        if self._running:
            began = time.perf_counter()
            self._advance()
            self._busy += time.perf_counter() - began

    def _fresh_lanes(self) -> list[Lane]:
        """Return empty lanes; the first that takes a unit runs it (see ``_advance``)."""
        return [
            TokenLane(self._remembered, self.limits.rows),
            CohortLane(self._hub, self._remembered),
            TaskLane(self._hub),
        ]

    def _begin_anew(self, error: Exception) -> None:
        """Fail all work there is, and forget what lanes held, whatever state it is in."""
        self._lanes = self._fresh_lanes()
        self._running = {}
        for ticket in list(self._works):
            self._end(ticket, Failed(error))

    def _listen(self, wait: float) -> None:
        """Take in what was said since the last round."""
        while True:
            try:
                said = self._said.get(wait > 0, wait or None)
            except queue.Empty:
                return
            wait = 0.0
            if isinstance(said, _Cancel):
                if said.ticket in self._works:
                    self._count["cancelled"] += 1
                    self._end(said.ticket, None)
            else:
                self._enqueue(said)

    def _enqueue(self, one: _Running) -> None:
        work = one.work
        self._works[one.ticket] = one
        units = divided(one.ticket, work, one.tell)
        one.left = len(units)
        most = self.limits.memory
        if most is not None and max(unit.memory for unit in units) > most:
            error = ValueError(
                f"this takes about {max(unit.memory for unit in units):,} bytes and the server "
                f"gives {most:,} to all requests together; ask for a shorter canvas."
            )
            self._end(one.ticket, Failed(error))
            return
        for unit in units:
            self._queue.put(unit, work.terms, one.since, size=float(max(unit.memory, 1)))

    def _drop_late(self) -> None:
        now = self._clock()
        for waiting in self._queue.expired(now):
            self._late(waiting)
        for _, waiting in list(self._running.values()):
            if waiting.expires <= now:
                self._late(waiting)

    def _late(self, waiting: Waiting[Unit]) -> None:
        seconds = waiting.terms.deadline
        error = TimeoutError(f"it was not done within the deadline of {seconds:g} seconds.")
        self._end(waiting.thing.ticket, Failed(error))

    def _admit(self) -> None:
        """Let waiting units begin while there is room, the most urgent first."""
        while (first := self._queue.first()) is not None:
            if not self._fits(first.thing) and not self._make_room(first):
                return
            self._queue.take(first)
            self._begin(first)

    def _fits(self, unit: Unit) -> bool:
        if len(self._running) >= self.limits.rows:
            return False
        most = self.limits.memory
        return most is None or self._memory() + unit.memory <= most

    def _make_room(self, first: Waiting[Unit]) -> bool:
        """Interrupt units of lower priority until one fits; return whether it does.

        The youngest of the lowest goes first. It starts again from its seed when there is room,
        and writes the same text.
        """
        lower = [
            waiting
            for _, waiting in self._running.values()
            if waiting.terms.priority < first.terms.priority
        ]
        if not self.limits.preempt:
            return False
        lower.sort(key=lambda one: (one.terms.priority, -one.number))
        most = self.limits.memory
        free = (most or 0) - self._memory() + sum(one.thing.memory for one in lower)
        if not lower or (most is not None and free < first.thing.memory):
            return False
        for one in lower:
            if self._fits(first.thing):
                break
            lane, _ = self._running.pop(one.thing)
            lane.leave(one.thing)
            self._queue.put_back(one)
            self._count["preempted"] += 1
        return self._fits(first.thing)

    def _begin(self, waiting: Waiting[Unit]) -> None:
        unit = waiting.thing
        work = self._works[unit.ticket]
        if work.began is None:
            work.began = self._clock()
            work.tell(Started(work.began - work.since))
        lane = next(lane for lane in self._lanes if lane.takes(unit))
        self._running[unit] = (lane, waiting)
        try:
            lane.join(unit)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this work's alone
            self._end(unit.ticket, Failed(error))

    def _advance(self) -> None:
        """Give every lane an evaluation; those of single tokens are short, so they get more.

        They go on for as long as the rest of the round took: models share time, not rounds.
        """
        began = time.perf_counter()
        self._run(self._lanes[:1])
        turned = time.perf_counter()
        self._run(self._lanes[1:])
        until = 2 * time.perf_counter() - turned - (turned - began)
        while self._lanes[0].busy and time.perf_counter() < until and self._said.empty():
            self._run(self._lanes[:1])
        self._count["steps"] += 1

    def _run(self, lanes: Sequence[Lane]) -> None:
        self._hub.round([turn for lane in lanes for turn in lane.turns()])
        for lane in lanes:
            for unit in lane.settle():
                self._settled(unit)

    def _settled(self, unit: Unit) -> None:
        self._running.pop(unit, None)
        work = self._works.get(unit.ticket)
        if work is None:  # another of its units failed in the same round
            return
        outcome = unit.outcome
        if isinstance(outcome, Wrote | Answered):
            self._count["tokens"] += outcome.tokens if isinstance(outcome, Wrote) else 0
            work.tell(outcome)
            work.left -= 1
            if work.left == 0:
                self._end(unit.ticket, Finished(self._clock() - (work.began or work.since)))
        elif isinstance(outcome, Exception):
            self._end(unit.ticket, Failed(outcome))

    def _end(self, ticket: int, last: Failed | Finished | None) -> None:
        """Forget work, with all its units, and say why; ``None`` where nobody wants to know."""
        work = self._works.pop(ticket)
        for unit, (lane, _) in list(self._running.items()):
            if unit.ticket == ticket:
                del self._running[unit]
                lane.leave(unit)
        self._queue.waiting = [one for one in self._queue.waiting if one.thing.ticket != ticket]
        if last is not None:
            self._count["failed" if isinstance(last, Failed) else "finished"] += 1
            work.tell(last)
        with self._admitted:
            self._taken -= 1
            if self._taken == 0:
                self._idle.set()
