"""What does each kind of drafter say of itself, so that one loop trains them all?"""

from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unison.models import stepping
from unison.models.layers import Hidden
from unison.models.stepping import Step
from unison.models.transformer import Transformer
from unison.prob.rng import Key
from unison.speculation.parts import Drafter, Scores
from unison.types import Nats


class Lesson(NamedTuple):
    """What a batch taught.

    Attributes:
        loss: What is minimised.
        hits: For each depth from 1, places where the likeliest guess was the target's own
            likeliest token.
        places: Places counted at each depth.
    """

    loss: Nats
    hits: Float[Tensor, " K"]
    places: Float[Tensor, " K"]


@runtime_checkable
class Kind(Protocol):
    """One kind of trained drafter: a frozen dataclass whose fields are its settings."""

    name: ClassVar[str]

    def module(self, network: Transformer) -> nn.Module:
        """Return fresh weights that fit a target; the target itself is never trained."""
        ...

    def lesson(
        self, module: nn.Module, network: Transformer, inputs: Int[Tensor, "B L"], key: Key
    ) -> Lesson:
        """Return what a batch of texts teaches; the begin token is each row's first input.

        Differentiable in the module's weights alone.
        """
        ...

    def drafter(self, module: nn.Module, network: Transformer) -> Drafter:
        """Return the drafter."""
        ...


def watched(network: Transformer, inputs: Int[Tensor, "B L"], taps: tuple[int, ...] = ()) -> Scores:
    """Return what a target thinks of whole texts, without logits and without gradients.

    Args:
        network: The target.
        inputs: Begin tokens first.
        taps: Streams to return, by block number.
    """
    streams: dict[int, Tensor] = {}

    def on_layer(number: int, h: Hidden) -> Hidden:
        if number in taps:
            streams[number] = h
        return h

    place = torch.arange(inputs.shape[1], device=inputs.device).expand_as(inputs)
    sees = place[:, :, None] >= place[:, None, :]
    with torch.no_grad():
        hidden = stepping.read(network, Step(inputs, place, place, sees), None, on_layer)
    return Scores(None, hidden, streams)
