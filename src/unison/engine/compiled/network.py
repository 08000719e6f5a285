"""Which evaluations of a network run as compiled graphs, and are they worth it?

Everything up to the last block is one graph for each length of ``Buckets``; which positions are
read changes from step to step, so norm and output layer run on those as they are written. What
passes by a memory of keys and values, brings its own mask or an earlier belief, or learns, runs as
it is written.

Law: which graph answers a row is decided by that row's own canvas, so a row's text still does not
depend on its batch. Compiled and plain evaluations round differently: a text written by one need
not be the text written by the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn import functional as F

from unison.engine.compiled.buckets import Buckets
from unison.engine.compiled.graphs import Compiler, Graphs, Say, whole
from unison.engine.compiled.trial import Clock, Trial, tried
from unison.models import Network, Transformer, TransformerConfig, View
from unison.models.network import Call, by_call
from unison.types import SoftTokens

Compiling = Literal["off", "on", "auto"]


class Settings(NamedTuple):
    """How a network is compiled.

    Attributes:
        rows: Of every evaluation in decoding (``unison.denoising`` says).
        length: Canvas that is tried out before work starts.
        clock: Seconds of this process or device, for ``auto``.
        say: Told what was decided and why, in one line.
        compiler: Makes a graph of a function.
    """

    rows: int
    length: int
    clock: Clock
    say: Say
    compiler: Compiler = whole


@dataclass(frozen=True)
class Compiled:
    """A network whose evaluations of whole canvases run as compiled graphs.

    Attributes:
        network: As it is written.
        buckets: The shapes that have graphs.
        graphs: Of its blocks.
    """

    network: Transformer
    buckets: Buckets
    graphs: Graphs

    @property
    def config(self) -> TransformerConfig:
        """The network's."""
        return self.network.config

    @property
    def remembers(self) -> bool:
        """Whether the network does."""
        return self.network.remembers

    def parameters(self) -> Iterator[Parameter]:
        """Return the network's weights."""
        return self.network.parameters()

    def state_dict(self) -> dict[str, Any]:
        """Return the network's weights by name."""
        return self.network.state_dict()

    @by_call
    def __call__(self, call: Call) -> Tensor:
        """Return logits, as the network does."""
        inputs, valid, view = call.inputs, call.valid, call.view or View()
        if isinstance(inputs, SoftTokens) or call.earlier is not None or not _whole(view):
            return self.network(*call)
        rows, length = inputs.shape
        room = self.buckets.of(rows, length)
        if room is None or torch.is_grad_enabled():
            return self.network(*call)
        if room > length:
            inputs = F.pad(inputs, (0, room - length))
            real = torch.ones(rows, length, dtype=torch.bool, device=inputs.device)
            valid = F.pad(real if valid is None else valid, (0, room - length))
        h, cond = self.graphs(inputs, call.sigma, valid)
        return self.network.logits(self.network.read(h[:, :length], cond, length, view))


def compiled(network: Network, how: Compiling, settings: Settings) -> Network:
    """Return what decoding evaluates: the network, or the same in compiled graphs.

    With ``auto`` both are timed, and the network comes back unless compiling pays. So it does
    where the compiler fails, after a line that says so.

    Raises:
        ValueError: ``on``, and the network cannot be compiled.
    """
    if how == "off":
        return network
    why = unfit(network)
    if why is not None or not isinstance(network, Transformer):
        if how == "on":
            raise ValueError(f"--compile on: {why}; use --compile off.")
        return network
    graphs = Graphs(_blocks_of(network), settings.compiler, settings.say)
    buckets = Buckets(settings.rows, network.config.max_length)
    made = Compiled(network, buckets, graphs)
    with torch.no_grad():
        _answer(made, settings)
        if graphs.failed:
            return network
        if how == "on":
            return made
        trial = tried(
            lambda: _answer(network, settings), lambda: _answer(made, settings), settings.clock
        )
    settings.say(_decision(trial))
    return made if trial.pays else network


def unfit(network: Network) -> str | None:
    """Return why a network is not compiled for decoding; ``None`` if it may be."""
    if type(network) is not Transformer:
        return f"only a plain Transformer is compiled, and this is a {type(network).__name__}"
    config = network.config
    if config.attention == "causal":
        return "a left-to-right model reads few tokens at a time, and graphs are of whole canvases"
    if config.mixture is not None:
        return "in a mixture of experts the sizes depend on the text"
    if config.self_conditioning:
        return "a self-conditioned network is told what it said before, which has no graph"
    return None


def _whole(view: View) -> bool:
    """Return whether a view looks at the whole canvas as it is, wherever it reads."""
    return all(part is None for part in (view.compute, view.memory, view.positions, view.mask))


def _blocks_of(network: Transformer) -> Any:
    def blocks(inputs: Tensor, sigma: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return network.stream(inputs, sigma, valid, None, View())

    return blocks


def _answer(network: Network, settings: Settings) -> Tensor:
    """Evaluate an empty canvas, as decoding does."""
    device = next(network.parameters()).device
    tokens = torch.zeros(settings.rows, settings.length, dtype=torch.long, device=device)
    sigma = torch.ones(settings.rows, device=device)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        return network(tokens, sigma)


def _decision(trial: Trial) -> str:
    return f"compiled evaluations are {trial}: {'used' if trial.pays else 'not used'}"
