"""Does a run evaluate its network as it is written, or as one compiled graph?

Decided, and tried out on the run's own first rows, before the first step. The decision is a
function of the configuration and never of a clock, and a graph one of the shapes it is called
with, so that a run that is gone on with computes what it would have computed.

Differs between the two by rounding alone: a compiled run is a run of its own, not the bits of the
other.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from unison.engine.compiled import Compiler, Graphs, Say, whole
from unison.models import Transformer, TransformerConfig
from unison.models.network import Call, by_call
from unison.objectives import Batch
from unison.prob import rng
from unison.prob.rng import Key
from unison.scale.placing import Placed
from unison.train.config import Train
from unison.train.setup import Prepared
from unison.train.step import Learner, batch_key, nats, uses_bfloat16

_LOG = logging.getLogger("unison.train")
_WORTH = 1e15  # FLOP of a run on a CPU: less is done before compiling has paid


@dataclass(frozen=True)
class Learning:
    """A network whose evaluations that learn run as one compiled graph.

    Attributes:
        network: As it is written: how it is evaluated when it does not learn.
        forward: Its graphs, from inputs to logits.
        hidden: Its graphs, from inputs to what the output layer reads.
    """

    network: Transformer
    forward: Graphs
    hidden: Graphs

    @property
    def config(self) -> TransformerConfig:
        """The network's."""
        return self.network.config

    def parameters(self) -> Iterator[Parameter]:
        """Return the network's weights."""
        return self.network.parameters()

    def state_dict(self) -> dict[str, Any]:
        """Return the network's weights by name."""
        return self.network.state_dict()

    @by_call
    def __call__(self, call: Call) -> Tensor:
        """Return logits, as the network does."""
        return (self.forward if self._learns else self.network)(*call)

    @by_call
    def features(self, call: Call) -> Tensor:
        """Return what the output layer reads, as the network does."""
        return (self.hidden if self._learns else self.network.features)(*call)

    def logits(self, h: Tensor) -> Tensor:
        """Return what the output layer answers to what ``features`` returns."""
        return self.network.logits(h)

    def scalar(self, *inputs: Any, frozen: bool = False) -> Tensor:
        """Return one number per row; not compiled."""
        return self.network.scalar(*inputs, frozen=frozen)

    def both(self, *inputs: Any, frozen: bool = False) -> tuple[Tensor, Tensor]:
        """Return the logits and one number per row; not compiled."""
        return self.network.both(*inputs, frozen=frozen)

    @property
    def _learns(self) -> bool:
        return torch.is_grad_enabled() and self.network.training


Evaluated = nn.Module | Learning


def learning(
    config: Train,
    prepared: Prepared,
    placed: Placed,
    compiler: Compiler = whole,
    say: Say = _LOG.warning,
) -> Evaluated:
    """Return what the steps of a run evaluate: its network, or the same compiled.

    Falls back to the network, after one line, where it cannot be compiled.

    Args:
        config: The run.
        prepared: What it works on; its weights are left alone.
        placed: Where the network lies.
        compiler: Makes a graph of a function.
        say: Told why the network is not compiled though it was asked for.
    """
    network = prepared.network
    device = next(network.parameters()).device
    if config.compile == "off" or (config.compile == "auto" and not pays(config, network, device)):
        return network
    why = unfit(config, placed)
    if why is None:
        forward, hidden = (Graphs(f, compiler, say) for f in (network.forward, network.features))
        made = Learning(network, forward, hidden)
        failure = _tried(config, prepared, made)
        if failure is None and not forward.failed + hidden.failed:
            return made
        why = failure or "its graph could not be made"
    say(f"the network is not compiled: {why}")
    return network


def pays(config: Train, network: Transformer, device: torch.device) -> bool:
    """Return whether compiling shortens a run, as measured (docs/compilation.md).

    Always on a GPU; on a CPU under bfloat16, in runs long enough to earn the compiler's minutes
    back. Matrix products take nearly all of a float32 step, and they stay as they are.
    """
    if device.type == "cuda":
        return True
    weights = sum(weight.numel() for weight in network.parameters())
    tokens = config.steps * config.batch_size * config.model.max_length
    return uses_bfloat16(config, device) and 6 * weights * tokens >= _WORTH


def unfit(config: Train, placed: Placed) -> str | None:
    """Return why the network of a run is not compiled; ``None`` if it may be."""
    if config.privacy.on:
        return "privacy reads the gradient of every row from inside the layers"
    cut = [name for name, ranks in placed.spread.plan.sizes.items() if ranks > 1 and name != "dp"]
    if cut:
        return f"scale.plan cuts it ({', '.join(cut)}); only copies of the whole are compiled"
    return None


def _tried(config: Train, prepared: Prepared, made: Learning) -> str | None:
    """Take the gradient of some rows at the first and the last step; return what went wrong.

    An objective may ask for other shapes at the end than at the beginning. Gradients are thrown
    away; all noise of a run is named by its step, so none of it is used up.
    """
    network = prepared.network
    mode = network.training
    network.train()
    try:
        for step in sorted({0, config.steps - 1}):
            _gradient(config, prepared, made, step)
    except RuntimeError as error:  # of a backward pass, which is compiled when it is first taken
        return str(error).strip().splitlines()[0][:160]
    finally:
        network.zero_grad(set_to_none=True)
        network.train(mode)
    return None


def _gradient(config: Train, prepared: Prepared, made: Learning, step: int) -> None:
    rows = min(config.micro_batch or config.batch_size, config.batch_size)
    device = next(made.parameters()).device
    read = prepared.corpus.rows(config.model.max_length, prepared.stream.indices(0)[:rows])
    read = read.to(device)
    strata = rng.stratified(config.seed, step, config.batch_size)[:rows].to(device)
    key = Key(batch_key(config.seed, step, config.batch_size).seed[:rows], step)
    learner = Learner(cast(Transformer, made), prepared.process, prepared.objective, [])
    batch = Batch(read.tokens, strata, read.valid, read.given)
    nats(learner, config, batch, key).total.backward()
