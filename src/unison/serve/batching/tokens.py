"""How do texts of left-to-right models grow together? A token of each per evaluation."""

import math
from collections.abc import Sequence

from unison.decode.autoregressive import LeftToRight
from unison.engine.exact import Exact
from unison.engine.flow import Flow, Request, Said
from unison.engine.reading import NetworkTarget
from unison.generation import canvases
from unison.generation.ordering import Order
from unison.generation.sample import finished
from unison.models import Transformer
from unison.process import Sequential
from unison.serve.batching.hub import Turn
from unison.serve.batching.remembering import Remembered
from unison.serve.batching.telling import Seen
from unison.serve.batching.unit import Unit
from unison.serve.batching.work import Write
from unison.speculation.policies.plain import Plain


class _Growing:
    """One text as far as it is written.

    Attributes:
        unit: Whose it is.
        flow: Where it grows.
        name: Its number there.
        tokens: The canvas.
        step: The step that wrote each token.
        sure: The probability each had then.
        at: The place of the next one.
    """

    def __init__(self, unit: Unit, order: Order, flow: Flow, name: int) -> None:
        self.unit, self.flow, self.name = unit, flow, name
        row = order.texts[0].row
        self.tokens: list[int] = canvases.batch(order.model, [row], order.key).tokens[0].tolist()
        self.step = [0] * len(row.tokens)
        self.sure = [1.0 if given else math.nan for given in row.given]
        self.given = list(row.given)
        self.at = sum(row.given)
        self.written = 0

    def grow(self, said: Said) -> list[int]:
        """Take a token in; return the places that changed."""
        self.written += 1
        past = len(self.tokens) if said.done else self.at + 1
        changed = list(range(self.at, past))
        for place in changed:  # behind its end a text is that end again
            self.tokens[place], self.step[place] = said.token, self.written
            self.sure[place] = said.probability if place == self.at else 0.0
        self.at = past
        return changed

    def seen(self, changed: Sequence[int]) -> Seen:
        """Return the canvas as tellers see it."""
        size, new = len(self.tokens), set(changed)
        return Seen(
            [self.tokens],
            [[place < self.at for place in range(size)]],
            [self.at],
            [[place in new for place in range(size)]],
            None,
            [self.sure],
        )


class TokenLane:
    """Runs texts that a causal network continues: all of one network share each evaluation.

    Temporal fusion: see ``unison.engine.flow``.

    Args:
        remembered: Beginnings of prompts that need not be read again.
        slots: Texts of one network that grow at once; others wait in its flow.
    """

    def __init__(self, remembered: Remembered, slots: int) -> None:
        self._remembered, self._slots = remembered, slots
        self._flows: dict[int, Flow] = {}  # by the network's id, as long as it has texts
        self._alone: list[Flow] = []
        self._texts: dict[tuple[int, int], _Growing] = {}
        self._home: dict[Unit, tuple[int, int]] = {}
        self._turns: list[tuple[Flow, Turn]] = []

    @property
    def busy(self) -> bool:
        """Whether it has units."""
        return bool(self._home)

    def takes(self, unit: Unit) -> bool:
        """Return whether the unit is a text that plain sampling with a cache continues."""
        work = unit.work
        if not isinstance(work, Write) or not isinstance(work.order.how, LeftToRight):
            return False
        order, text = work.order, work.order.texts[unit.number]
        network, size = order.model.network, sum(text.row.given)
        return (
            isinstance(order.model.process, Sequential)
            and isinstance(network, Transformer)
            and isinstance(order.sampling.cache, Exact)
            and order.sampling.cache.refresh == 0
            and text.rule is None
            and network.config.time == "none"
            and not network.config.shifted
            and all(text.row.given[:size])
            and size < len(text.row.given)
        )

    def join(self, unit: Unit) -> None:
        """Let a text grow with the others of its network."""
        assert isinstance(unit.work, Write)
        name = id(unit.work.order.model.network)
        if name not in self._flows:
            self._flows[name] = self._flow(unit.work.order)
        self._enter(unit, self._flows[name])

    def leave(self, unit: Unit) -> None:
        """Let a text go; its keys and values are forgotten."""
        name = self._home.pop(unit, None)
        if name is not None:
            text = self._texts.pop(name)
            text.flow.cancel(text.name)
            self._prune()

    def turns(self) -> Sequence[Turn]:
        """Return one evaluation of every network that has texts to continue."""
        flows = [*self._flows.values(), *self._alone]
        self._turns = [(flow, Turn(flow.advance)) for flow in flows if flow.busy]
        return [turn for _, turn in self._turns]

    def settle(self) -> Sequence[Unit]:
        """Hand the tokens out; return the texts that are done."""
        done: list[Unit] = []
        for flow, turn in self._turns:
            if turn.error is not None:
                done += self._failed(flow, turn.error)
                continue
            for said in turn.value or ():
                text = self._texts.get((id(flow), said.request))
                if text is not None:
                    done += self._grown(text, said)
        self._turns = []
        self._prune()
        return done

    def _prune(self) -> None:
        """Forget flows without texts, and their memory."""
        self._alone = [flow for flow in self._alone if flow.busy]
        self._flows = {name: flow for name, flow in self._flows.items() if flow.busy}

    def _flow(self, order: Order) -> Flow:
        target = NetworkTarget(order.model.network, order.model.process.bos_id)  # pyright: ignore
        return Flow(target, self._slots, prefixes=self._remembered.of(order.model.network))

    def _enter(self, unit: Unit, flow: Flow) -> None:
        assert isinstance(unit.work, Write)
        order = unit.work.order.some([unit.number])
        name = flow.submit(_request(order))
        text = _Growing(unit, order, flow, name)
        self._texts[id(flow), name] = text
        self._home[unit] = (id(flow), name)
        if unit.teller is not None and unit.teller.curious:
            unit.teller.step(0, 0, text.seen(()))

    def _grown(self, text: _Growing, said: Said) -> list[Unit]:
        """Take a token in; return the unit if its text is done."""
        unit = text.unit
        assert isinstance(unit.work, Write)
        assert unit.teller is not None
        changed = text.grow(said)
        stopped = False
        if unit.teller.curious:
            stopped = unit.teller.step(text.written, 0, text.seen(changed))
        if not said.done and not stopped:
            return []
        if said.done:
            order = unit.work.order
            asked = order.texts[unit.number]
            values = (text.tokens, text.step, text.sure)
            sample = finished(order.model, asked.row, asked.prompt, text.written, values)
        else:
            sample = unit.teller.early()
        unit.outcome = unit.teller.finish(sample)
        self.leave(unit)
        return [unit]

    def _failed(self, flow: Flow, error: Exception) -> list[Unit]:
        """Look at a flow that failed: its texts go on apart, and one by itself has failed."""
        texts = [text for text in self._texts.values() if text.flow is flow]
        self._flows = {name: one for name, one in self._flows.items() if one is not flow}
        self._alone = [one for one in self._alone if one is not flow]
        for text in texts:
            del self._texts[id(flow), text.name]
            del self._home[text.unit]
        if len(texts) == 1:
            texts[0].unit.outcome = error
            return [texts[0].unit]
        for text in texts:
            assert isinstance(text.unit.work, Write)
            apart = self._flow(text.unit.work.order)
            self._alone.append(apart)
            self._enter(text.unit, apart)
        return []


def _request(order: Order) -> Request:
    """Return a text as a flow takes it."""
    row, sampling, defaults = order.texts[0].row, order.sampling, order.model.defaults
    size = sum(row.given)
    strategy = order.how
    assert isinstance(strategy, LeftToRight)
    assert isinstance(order.model.process, Sequential)
    return Request(
        (order.model.process.bos_id, *row.tokens[:size]),
        len(row.tokens) - size,
        int(order.key.seed[0]),
        strategy.eos_ids if strategy.stop_at_end else (),
        Plain(
            defaults.temperature if sampling.temperature is None else sampling.temperature,
            sampling.top_k,
            defaults.top_p if sampling.top_p is None else sampling.top_p,
        ),
    )
