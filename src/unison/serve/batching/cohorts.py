"""How do texts written by one strategy take their steps together, whenever each began?"""

import dataclasses
from collections.abc import Hashable, Sequence
from time import perf_counter
from typing import cast

import torch
from torch import Tensor

from unison.decode import StepInfo, Strategy
from unison.decode.api import stepped
from unison.decode.diffusion.composed import Composed
from unison.engine.none import Uncached
from unison.engine.unchanged import Unchanged
from unison.generation import infilling
from unison.generation.ordering import Order
from unison.generation.sample import finished
from unison.generation.write import beginning
from unison.prob.rng import Key
from unison.process import Process
from unison.serve.batching.batch import Batch, joined_batches, stands_apart
from unison.serve.batching.hub import Hub, SharedNetwork, Turn
from unison.serve.batching.remembering import Remembered
from unison.serve.batching.telling import quiet, seen
from unison.serve.batching.unit import Unit
from unison.serve.batching.work import Write, Wrote
from unison.speculation import Speculation
from unison.speculation.pearl import Pearl


class Cohort:
    """Texts of one strategy, temper, cache and guidance on one model.

    Args:
        order: Of its first text: says all of these.
        hub: Where evaluations are shared.
        remembered: Beginnings of texts that need not be read again.
    """

    def __init__(self, order: Order, hub: Hub, remembered: Remembered) -> None:
        self._hub = hub
        self._network = SharedNetwork(order.model.network, hub)
        self._prefixes = remembered.of(order.model.network)
        self._process: Process = order.model.process
        self._strategy: Strategy | None = None
        self._waiting: list[Unit] = []
        self._gone: set[Unit] = set()
        self._batch: Batch | None = None
        self._begun = False
        self.alone = False
        self.done: list[Unit] = []
        self.turn = Turn(self._run)

    @property
    def open(self) -> bool:
        """Whether a text may join."""
        if self.alone or self.turn.over:
            return False
        return not self._begun or (self._strategy is not None and stands_apart(self._strategy))

    def join(self, unit: Unit) -> None:
        """Let a text take part from the next step on."""
        self._waiting.append(unit)

    def leave(self, unit: Unit) -> None:
        """Let a text go before the next step."""
        if unit in self._waiting:
            self._waiting.remove(unit)
        else:
            self._gone.add(unit)

    def split(self) -> "list[Batch]":
        """Return its rows, each a batch of its own."""
        batch = self._batch
        return [] if batch is None else [batch.keep([row]) for row in range(len(batch.units))]

    def resume(self, batch: Batch, strategy: Strategy) -> None:
        """Go on with one row that others shall not suffer from, or suffer."""
        self._batch, self._strategy, self.alone = batch, strategy, True

    def start(self, unit: Unit) -> None:
        """Begin with one text, and take no other in."""
        self.join(unit)
        self.alone = True

    @property
    def strategy(self) -> Strategy:
        """What is done each step."""
        assert self._strategy is not None  # there is one as soon as there are rows
        return self._strategy

    def _run(self) -> None:
        while True:
            began = perf_counter()
            self._renew()
            self._hub.own_seconds += perf_counter() - began
            if self._batch is None:
                return
            self._step(self._batch)

    def _renew(self) -> None:
        """Let texts go that left, and take those in that wait."""
        batch, gone = self._batch, self._gone
        if batch is not None and gone:
            left = [row for row, unit in enumerate(batch.units) if unit not in gone]
            batch = batch.keep(left) if left else None
        self._gone = set()
        fresh = [self._first(unit) for unit in self._waiting]
        self._waiting = []
        parts = [part for part in (batch, *fresh) if part is not None]
        self._batch = joined_batches(self.strategy, self._process, parts) if parts else None

    def _first(self, unit: Unit) -> Batch | None:
        """Return a text before its first step; ``None``, and the unit done, if that failed."""
        work = unit.work
        assert isinstance(work, Write)  # the lane takes no other
        assert unit.teller is not None
        order = work.order.some([unit.number])
        order = dataclasses.replace(
            order, model=dataclasses.replace(order.model, network=self._network)
        )
        try:
            row = order.texts[0].row
            begun = beginning(order, [row], order.key, self._prefixes)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this text's alone
            unit.outcome = error
            self.done.append(unit)
            return None
        self._strategy, canvas = begun.strategy, begun.canvas
        zero = torch.zeros_like(order.key.seed)
        if unit.teller.curious:
            first = seen(begun.strategy, self._process, canvas, quiet(canvas, canvas.given.all(1)))
            unit.teller.step(0, 0, first)
        sure = torch.where(canvas.given, 1.0, torch.nan)
        nothing = torch.zeros_like(canvas.tokens)
        return Batch((unit,), canvas, begun.denoise, order.key.seed, zero, nothing, sure)

    def _step(self, batch: Batch) -> None:
        """Let every row take a step; tell of it, and let those go that are done."""
        self._begun = True
        full = batch.canvas.given.all(1)  # these have nothing to write
        now, key = (batch.canvas, full), _key(batch.seed, batch.steps)
        canvas, info = stepped(self.strategy, self._process, batch.denoise, now, key)
        steps, sure = batch.steps + (~full).long(), batch.confidence
        if info.confidence is not None:
            sure = torch.where(info.changed, info.confidence.float(), sure)
        batch = batch._replace(
            canvas=canvas,
            steps=steps,
            written=torch.where(info.changed, steps[:, None], batch.written),
            confidence=sure,
        )
        over, counts = (info.done | full).tolist(), steps.tolist()
        self._tell(batch, info, over, counts)
        self._batch = self._settled(batch, over, counts)

    def _tell(
        self, batch: Batch, info: StepInfo, over: Sequence[bool], counts: Sequence[int]
    ) -> None:
        """Tell whoever wants to know; end the texts in which a stop string stands for good."""
        tellers = {row: unit.teller for row, unit in enumerate(batch.units) if unit.teller}
        curious = {row: teller for row, teller in tellers.items() if teller.curious}
        if not curious:
            return
        shown = seen(self.strategy, self._process, batch.canvas, info)
        for row, teller in curious.items():
            unit = batch.units[row]
            if unit in self._gone:
                continue
            if teller.step(counts[row], row, shown) and not over[row]:
                unit.outcome = teller.finish(teller.early())

    def _settled(self, batch: Batch, over: Sequence[bool], counts: Sequence[int]) -> Batch | None:
        """Finish the texts that are done; return the others."""
        left = []
        for row, unit in enumerate(batch.units):
            if unit in self._gone:
                continue
            size = _size(unit)
            if unit.outcome is None and (over[row] or counts[row] >= self.strategy.budget(size)):
                unit.outcome = self._finish(batch, row, counts[row])
            if unit.outcome is None:
                left.append(row)
            else:
                self.done.append(unit)
        return batch.keep(left) if left else None

    def _finish(self, batch: Batch, row: int, steps: int) -> Wrote:
        unit = batch.units[row]
        work, teller = unit.work, unit.teller
        assert isinstance(work, Write)
        assert teller is not None
        text = work.order.texts[unit.number]
        values = (
            batch.canvas.tokens[row].tolist(),
            batch.written[row].tolist(),
            batch.confidence[row].tolist(),
        )
        cost = work.order.cost
        return teller.finish(
            finished(work.order.model, text.row, text.prompt, steps * cost, values)
        )


def _key(seed: Tensor, steps: Tensor) -> Key:
    """Return the streams at each row's step; a step for all where they stand together."""
    each = set(steps.tolist())
    return Key(seed, each.pop()) if len(each) == 1 else Key(seed, 0, steps)


def _size(unit: Unit) -> int:
    work = unit.work
    assert isinstance(work, Write)
    return len(work.order.texts[unit.number].row.tokens)


class CohortLane:
    """Runs texts that are written by a strategy: those written alike take their steps together.

    Args:
        hub: Where evaluations are shared, also between cohorts.
        remembered: Beginnings of texts that need not be read again.
    """

    def __init__(self, hub: Hub, remembered: Remembered) -> None:
        self._hub, self._remembered = hub, remembered
        self._cohorts: list[tuple[Hashable, Cohort]] = []
        self._home: dict[Unit, Cohort] = {}

    @property
    def busy(self) -> bool:
        """Whether it has units."""
        return bool(self._home)

    def takes(self, unit: Unit) -> bool:
        """Return whether it is a text, written on its own canvas, whose steps can be shared."""
        work = unit.work
        if not isinstance(work, Write) or isinstance(work.order.how, Speculation | Pearl):
            return False
        order = work.order
        if isinstance(order.sampling.cache, Unchanged):
            return False
        return not infilling.has_hole(order.model, order.texts[unit.number].row)

    def join(self, unit: Unit) -> None:
        """Put a text with those that are written alike."""
        work = unit.work
        assert isinstance(work, Write)
        kind = _kind(work.order, unit.number)
        known = (cohort for other, cohort in self._cohorts if other == kind and cohort.open)
        cohort = next(known, None)
        if cohort is None:
            cohort = self._cohort(work.order)
            self._cohorts.append((kind, cohort))
        cohort.join(unit)
        self._home[unit] = cohort

    def leave(self, unit: Unit) -> None:
        """Let a text go."""
        cohort = self._home.pop(unit, None)
        if cohort is None:
            return
        cohort.leave(unit)
        if cohort not in self._home.values():  # nothing of it shall wait for the next round
            cohort.turn.drop()
            self._cohorts = [one for one in self._cohorts if one[1] is not cohort]

    def turns(self) -> Sequence[Turn]:
        """Return the turn of every cohort."""
        return [cohort.turn for _, cohort in self._cohorts]

    def settle(self) -> Sequence[Unit]:
        """Return the texts that are done; what failed among several is tried again one by one."""
        done: list[Unit] = []
        for kind, cohort in list(self._cohorts):
            done += cohort.done
            cohort.done = []
            if cohort.turn.over:
                self._cohorts.remove((kind, cohort))
                done += self._after(kind, cohort)
        for unit in done:
            self._home.pop(unit, None)
        return done

    def _after(self, kind: Hashable, cohort: Cohort) -> list[Unit]:
        """Look at a cohort that ended; return its text if it failed by itself."""
        error = cohort.turn.error
        left = [unit for unit, home in self._home.items() if home is cohort]
        if error is None or not left:
            return []
        if len(left) == 1:
            left[0].outcome = error
            return left
        rows = {row.units[0]: row for row in cohort.split()}
        for unit in left:
            alone = self._cohort(cast(Write, unit.work).order)
            if unit in rows:
                alone.resume(rows[unit], cohort.strategy)
            else:
                alone.start(unit)
            self._cohorts.append((kind, alone))
            self._home[unit] = alone
        return []

    def _cohort(self, order: Order) -> Cohort:
        return Cohort(order, self._hub, self._remembered)


def _kind(order: Order, number: int) -> Hashable:
    """Return what texts must have in common to take their steps together."""
    sampling, text = order.sampling, order.texts[number]
    how = order.how
    alike = isinstance(how, Composed) and how.revise.rewrites
    remembers = sampling.cache is not None and not isinstance(sampling.cache, Uncached)
    length = len(text.row.tokens) if alike or remembers else None
    return (
        id(order.model.network),
        how,
        (sampling.temperature, sampling.top_k, sampling.top_p, sampling.cfg, sampling.cache),
        text.rule is not None,
        length,
    )
