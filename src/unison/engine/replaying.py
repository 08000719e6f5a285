"""What is recorded of a decoding run? A strategy's whole step, or one evaluation of its network.

A step is recorded where it hangs on tensors alone: the strategy lets rows stand at different
steps (``decode/api.py``, ``Apart``), so that the number of the step is one of them, and nothing
behind the denoiser remembers anything. Of every other strategy the evaluations are recorded. A
model that was given recordings for its evaluations keeps those of whole steps in the same place.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from unison.decode.api import Apart, Canvas, StepInfo, Strategy
from unison.decode.guidance import Wrapped
from unison.denoising import ROWS_ON_GPU, RowDenoiser
from unison.engine.graphs import Graphs, Leaves, mapped
from unison.language_model import LanguageModel
from unison.models import Network, TransformerConfig
from unison.models.network import Call, Remembering, by_call
from unison.prob.rng import Key
from unison.types import Denoiser, Law, SoftTokens

_PARTS = (RowDenoiser, Wrapped)  # denoisers that are what their fields say and nothing else


def model(own: LanguageModel, graphs: Graphs) -> LanguageModel:
    """Return a model whose network's evaluations are recorded and replayed.

    ``unison.generate`` then records whole steps too, where they can be, in the same ``graphs``.

    Args:
        own: On a GPU; its weights must stay where they are.
        graphs: Remembers the recordings; one for a whole process will do.
    """
    return replace(own, network=ReplayedNetwork(own.network, graphs))


def graphs_of(model: LanguageModel) -> Graphs | None:
    """Return where a model's recordings are kept; ``None`` if it has none."""
    return model.network.graphs if isinstance(model.network, ReplayedNetwork) else None


def strategy(own: Strategy, graphs: Graphs | None) -> Strategy:
    """Return a strategy whose steps are recorded and replayed, if they can be; else itself.

    Args:
        own: Any strategy.
        graphs: Remembers the recordings; ``None`` to record nothing.
    """
    if graphs is None or not isinstance(own, Apart) or not own.apart:
        return own
    return cast(Strategy, ReplayedStrategy(own, graphs))


def bucket(rows: int) -> int:
    """Return how many rows a recording is made for: as many as the network computes anyway."""
    return -(-rows // ROWS_ON_GPU) * ROWS_ON_GPU


@dataclass(frozen=True)
class ReplayedStrategy:
    """A strategy whose step is one launch; it is the strategy's in everything else.

    Rows are filled up with copies of the first to a full bucket, which nobody reads: a row does
    not see its batch.

    Attributes:
        own: The strategy.
        graphs: Its recordings.
    """

    own: Apart
    graphs: Graphs

    @property
    def law(self) -> Law:
        """What the strategy promises."""
        return self.own.law

    @property
    def processes(self) -> tuple[str, ...]:
        """What it can undo."""
        return self.own.processes

    def budget(self, length: int) -> int:
        """Return the largest number of steps."""
        return self.own.budget(length)

    def step(
        self, process: Any, denoise: Denoiser, canvas: Canvas, key: Key
    ) -> tuple[Canvas, StepInfo]:
        """Replay the step; take it where what is asked remembers something."""
        if not _plain(denoise):
            return self.own.step(process, denoise, canvas, key)
        rows = len(key.seed)
        place = torch.full_like(key.seed, key.step) if key.steps is None else key.steps
        more = bucket(rows) - rows

        def filled(leaf: Tensor) -> Tensor:
            return torch.cat([leaf, leaf[:1].expand(more, *leaf.shape[1:])]) if more else leaf

        def taken(told: Any) -> tuple[Canvas, StepInfo]:
            denoise, canvas, seed, steps = told
            at = Key(seed, steps=steps, first=key.first)
            return self.own.step(process, denoise, canvas, at)

        told = mapped(filled, (denoise, canvas, key.seed, place), _PARTS)
        done = self.graphs((self.own, process, key.first), taken, Leaves(told, _PARTS))
        return mapped(lambda leaf: leaf[:rows], done, ())


class ReplayedNetwork:
    """A network whose evaluation is one launch; it is the network's in everything else.

    Evaluations that gradients flow through, that read mixtures of tokens or that write to a memory
    are made as ever.

    Attributes:
        own: The network.
        graphs: Its recordings.
    """

    def __init__(self, own: Network, graphs: Graphs) -> None:
        self.own, self.graphs = own, graphs

    @property
    def config(self) -> TransformerConfig:
        """The network's."""
        return self.own.config

    @property
    def remembers(self) -> bool:
        """Whether the network can take part of a canvas from a memory."""
        return isinstance(self.own, Remembering) and self.own.remembers

    @by_call
    def __call__(self, call: Call) -> Float[Tensor, "B F V"]:
        """Return what the network answers."""
        remembers = call.view is not None and call.view.memory is not None
        if remembers or isinstance(call.inputs, SoftTokens) or torch.is_grad_enabled():
            return self.own(*call)
        kind = call.inputs.device.type
        width = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None

        def answered(told: Any) -> Tensor:
            # Weights that autocast keeps at hand would be gone at the replay.
            with torch.autocast(kind, width, enabled=width is not None, cache_enabled=False):
                return self.own(*told)

        return self.graphs((self.own, width), answered, Leaves(call))

    def parameters(self) -> Iterator[Parameter]:
        """Return the weights."""
        return self.own.parameters()

    def state_dict(self) -> dict[str, Any]:
        """Return the weights by name."""
        return self.own.state_dict()


def _plain(denoise: Denoiser) -> bool:
    """Return whether a denoiser answers from what it is asked and its fields alone."""
    if isinstance(denoise, Wrapped):
        return all(_plain(part) for part in denoise.parts)
    return type(denoise) is RowDenoiser
