"""How do computations that know nothing of each other share evaluations of a network?

Each runs in a greenlet of its own. Where it would evaluate a network it pauses instead; when all
of them pause, what they ask is evaluated together and each goes on with its answer. The code of
strategies, caches, constraints and estimators is the same as without a server.
"""

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import torch
from greenlet import GreenletExit, getcurrent, greenlet
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from unison.models import Network, TransformerConfig
from unison.models.network import Call, Remembering, by_call
from unison.models.packed import packed


class Asked(NamedTuple):
    """One evaluation that is asked for.

    Attributes:
        network: Whose.
        call: Of what.
    """

    network: Network
    call: Call


class SharedNetwork:
    """Stands in for a network inside a hub: to call it is to wait for the others.

    Attributes:
        network: Who answers.
    """

    def __init__(self, network: Network, hub: "Hub") -> None:
        self.network, self._hub = network, hub

    @property
    def config(self) -> TransformerConfig:
        """The network's."""
        return self.network.config

    @property
    def remembers(self) -> bool:
        """Whether it takes a memory of keys and values."""
        return isinstance(self.network, Remembering) and self.network.remembers

    def parameters(self) -> Iterator[Parameter]:
        """Return the network's weights."""
        return self.network.parameters()

    def state_dict(self) -> dict[str, Any]:
        """Return the network's weights by name."""
        return self.network.state_dict()

    @by_call
    def __call__(self, call: Call) -> Float[Tensor, "B F V"]:
        """Return what the network answers, once everybody else has asked too."""
        return self.together([call])[0]

    def together(self, calls: Sequence[Call]) -> list[Tensor]:
        """Return the answers to several calls, evaluated with everybody else's."""
        return self._hub.ask([Asked(self.network, call) for call in calls])


def switch(target: greenlet, value: Any) -> Any:
    """Let another greenlet go on with a value; return what this one is given when it goes on."""
    return target.switch(value)


class Asking(NamedTuple):
    """What a turn waits for.

    Attributes:
        autocast: Whether it computes in lower precision where that is safe.
        calls: Evaluations.
    """

    autocast: bool
    calls: tuple[Asked, ...]


class Fault(NamedTuple):
    """An evaluation that failed: its asker's computation fails, no other."""

    error: Exception


class Turn:
    """A computation that pauses at every evaluation.

    Attributes:
        run: The computation.
        asks: What it waits for; ``None`` before it began and after its end.
        value: What it returned.
        error: How it failed; ``None`` if it did not.
        over: Whether it ended.
    """

    def __init__(self, run: Callable[[], Any]) -> None:
        self.run, self.value = run, None
        self.asks: Asking | None = None
        self.error: Exception | None = None
        self.over = False
        self._answers: Any = None
        self._greenlet = greenlet(self._go)

    def advance(self) -> None:
        """Let it run until it asks, or ends."""
        answers, self._answers = self._answers, None
        self.asks = switch(self._greenlet, answers)

    def answer(self, answers: "list[Tensor] | Fault") -> None:
        """Remember what it goes on with."""
        self._answers = answers

    def drop(self) -> None:
        """End it where it stands; what it holds is freed."""
        if not self.over and self._greenlet:
            self._greenlet.throw(GreenletExit)
        self.over, self.asks = True, None

    def _go(self, _: Any) -> None:
        try:
            self.value = self.run()
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this computation's alone
            self.error = error
        self.over = True


class Hub:
    """Evaluates what turns ask for, all of them together.

    Attributes:
        model_seconds: Spent in networks so far.
        turn_seconds: Spent in turns.
        own_seconds: Of these, what turns spent on being run together; they add it themselves.
        evaluations: Rows evaluated.

    Args:
        evaluate: From calls to their answers, in order; a call alone must be answered as with
            others, to the last bit.
    """

    def __init__(self, evaluate: Callable[[Sequence[Asked]], list[Tensor]]) -> None:
        self._evaluate = evaluate
        self._home: greenlet | None = None
        self.model_seconds = 0.0
        self.turn_seconds = 0.0
        self.own_seconds = 0.0
        self.evaluations = 0

    def ask(self, calls: Sequence[Asked]) -> list[Tensor]:
        """Pause the turn that runs, and return the answers to its calls.

        Outside of turns the calls are evaluated at once.
        """
        home = self._home
        if home is None or getcurrent() is home:
            return self._evaluate(calls)
        # What a computation set for itself, such as autocast, is not to reach the others.
        kind = calls[0].call.sigma.device.type
        autocast = torch.is_autocast_enabled(kind)
        with torch.autocast(kind, enabled=False):
            answers = switch(home, Asking(autocast, tuple(calls)))
        if isinstance(answers, Fault):
            raise answers.error
        return answers

    def round(self, turns: Sequence[Turn]) -> None:
        """Let every turn run to its next evaluation or its end, and evaluate what they ask."""
        self._home = getcurrent()
        began = perf_counter()
        for turn in turns:
            turn.advance()
        self.turn_seconds += perf_counter() - began
        asking = [(turn, turn.asks) for turn in turns if turn.asks is not None]
        for autocast in (False, True):
            self._answer([one for one in asking if one[1].autocast is autocast], autocast)

    def _answer(self, asking: Sequence[tuple[Turn, Asking]], autocast: bool) -> None:
        if not asking:
            return
        began = perf_counter()
        calls = [call for _, asks in asking for call in asks.calls]
        self.evaluations += sum(len(one.call.sigma) for one in calls)
        kind = calls[0].call.sigma.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=autocast):
            try:
                answers = iter(self._evaluate(calls))
                for turn, asks in asking:
                    turn.answer([next(answers) for _ in asks.calls])
            except Exception:  # noqa: BLE001  # somebody's question is bad: find out whose
                for turn, asks in asking:
                    turn.answer(self._alone(asks.calls))
        self.model_seconds += perf_counter() - began

    def _alone(self, calls: Sequence[Asked]) -> "list[Tensor] | Fault":
        try:
            return self._evaluate(calls)
        except Exception as error:  # noqa: BLE001  # it is told to whoever asked
            return Fault(error)


def by_network(asked: Sequence[Asked]) -> list[Tensor]:
    """Return the answers to calls; those of one network pass through it as one."""
    places: dict[int, list[int]] = {}
    for place, one in enumerate(asked):
        places.setdefault(id(one.network), []).append(place)
    answers: dict[int, Tensor] = {}
    for some in places.values():
        network = asked[some[0]].network
        said = packed(network, [asked[place].call for place in some])
        answers.update(zip(some, said, strict=True))
    return [answers[place] for place in range(len(asked))]
