"""What does an objective ask of its network, and what does it make of the answer?

An objective is a pure function of (process, network, batch, key) that calls its network once.
Given a network that notes the call and goes no further, it tells what is to be evaluated; given one
that answers what the last stage made, it is the loss. Noise is a function of the key, so it is the
same both times, on every rank.
"""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from unison.models import TransformerConfig
from unison.models.network import Call, by_call
from unison.objectives import Batch, Loss
from unison.prob import rng
from unison.prob.rng import Key
from unison.scale.plan import PlanError
from unison.types import Nats, SoftTokens

Ask = Callable[[Any], Nats]  # from a network to the loss of some rows
_LATE = 1 << 30  # a step after any curriculum


class _AskedError(Exception):
    """Carries what a network was asked out of an objective."""

    def __init__(self, call: Call) -> None:
        self.call = call


class Asked:
    """A network that notes what it is asked and goes no further."""

    remembers = False

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self.config = network.config

    @by_call
    def __call__(self, call: Call) -> NoReturn:
        """Stop here."""
        raise _AskedError(call)

    features = __call__

    def logits(self, h: Tensor) -> Tensor:
        """Return what the output layer answers to ``h``."""
        return self._network.logits(h)  # pyright: ignore[reportCallIssue]

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the weights that are here."""
        return self._network.parameters()

    def state_dict(self) -> dict[str, Any]:
        """Return the weights that are here, by name."""
        return self._network.state_dict()


class Answered(Asked):
    """A network that has been evaluated: it answers, once, what its last stage made.

    Args:
        network: Has the output layer.
        h: What that layer reads.
    """

    def __init__(self, network: nn.Module, h: Tensor) -> None:
        super().__init__(network)
        self._h: Tensor | None = h

    def __call__(self, *call: Any) -> Tensor:
        """Return the logits."""
        return self.logits(self.features(*call))

    def features(self, *call: Any) -> Tensor:
        """Return what the output layer reads.

        Raises:
            PlanError: It was asked before.
        """
        if self._h is None:
            raise PlanError(f"this objective evaluates its network again, and {_OTHERS}")
        h, self._h = self._h, None
        return h


class _Counted(Asked):
    """A network that knows nothing and counts how often it is asked."""

    def __init__(self, shape: TransformerConfig) -> None:
        self.config, self.asked = shape, 0

    def __call__(self, *call: Any) -> Tensor:
        return self.logits(self.features(*call))

    def features(self, *call: Any) -> Tensor:
        self.asked += 1
        inputs, view = Call(*call).inputs, Call(*call).view
        ids = inputs.weights if isinstance(inputs, SoftTokens) else inputs
        read = None if view is None else view.read
        places = ids.shape[:2] if read is None else read.shape
        return torch.zeros(*places, self.config.hidden, device=ids.device)

    def logits(self, h: Tensor) -> Tensor:
        return h.new_zeros(*h.shape[:-1], self.config.vocab_size)


_OTHERS = "a pipeline passes it once; use dp, fsdp or tp instead of pp."


def question(ask: Ask, network: nn.Module) -> Call:
    """Return the call of the network that a loss begins with.

    Raises:
        PlanError: There is none.
    """
    try:
        ask(Asked(network))
    except _AskedError as stopped:
        return stopped.call
    raise PlanError(f"this objective evaluates its network 0 times a batch, and {_OTHERS}")


def refused(process: Any, objective: Loss, shape: TransformerConfig) -> str | None:
    """Return why an objective cannot be learnt in a pipeline; ``None`` where it can.

    Args:
        process: The corruption.
        objective: The loss; it is tried on two rows, at the first step and at a late one.
        shape: Of the network, with its vocabulary.
    """
    if shape.scalar:
        return "a network that also answers one number per row is not cut into stages."
    if shape.self_conditioning:
        return "a self-conditioned network is evaluated twice a step; pp passes it once."
    tokens = torch.arange(2 * shape.max_length).view(2, -1) % shape.vocab_size
    for step in (0, _LATE):
        batch, key = Batch(tokens, rng.stratified(0, step, 2)), Key(rng.rows(0, 0, 2), step)
        reason = misfit(lambda network: objective(process, network, batch, key), shape)  # noqa: B023
        if reason is not None:
            return reason
    return None


def misfit(ask: Ask, shape: TransformerConfig) -> str | None:
    """Return why a loss cannot be had from one pass through a pipeline; ``None`` where it can."""
    counted = _Counted(shape)
    try:
        ask(counted)
    except AttributeError as error:
        return f"this objective asks more of its network than logits or features ({error})."
    if counted.asked == 1:
        return None
    return f"this objective evaluates its network {counted.asked} times a batch, and {_OTHERS}"
