"""May one long canvas be shared while it is written? Each rank computes its positions, exactly.

Every rank is given the whole canvas, computes one run of its positions, meets the others in
attention (``unison.scale.attention``) and once more at the end, where all hear the last hidden
states and put the output layer on the positions that are read. The answer is that of the network
alone but for rounding, and the same bits on all ranks; so all of them draw the same tokens, as in
``heads``.

Bytes a rank receives in an evaluation of B rows of L positions on n ranks, with L divisible by n:
``depth`` times those of the attention, and (n - 1) / n B L hidden for the hidden states.

No keys and values are remembered between evaluations; ``late`` gives up exactness for less waiting.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed
from torch.nn import Parameter

from unison.language_model import LanguageModel
from unison.models import Transformer
from unison.models.network import Call, by_call
from unison.models.sight import at
from unison.models.view import View
from unison.scale.attention import Circle, Traffic, circle, cut, everyone
from unison.scale.context import spread_context
from unison.scale.plan import PlanError
from unison.types import SoftTokens, Tokens


def by_positions(
    model: LanguageModel,
    group: distributed.ProcessGroup | Circle | None = None,
    mode: str = "ring",
) -> LanguageModel:
    """Return the same model, whose canvases the ranks share; every rank must ask it alike.

    Args:
        model: The whole, on every rank; its weights are shared with what is returned.
        group: The ranks, in the order of positions; ``None`` for the world.
        mode: How attention meets, a name in ``unison.scale.attention.MODES``.

    Raises:
        PlanError: The network does not fit.
    """
    ring = group if isinstance(group, Circle) else circle(group)
    return replace(model, network=Shared(whole_of(model.network), ring, mode))


def whole_of(network: object) -> Transformer:
    """Return a network that can be called with parts of canvases.

    Raises:
        PlanError: It cannot.
    """
    if not isinstance(network, Transformer):
        raise PlanError(
            f"a {type(network).__name__} does not take parts of canvases; only unison's own "
            "transformer does."
        )
    if network.config.self_conditioning:
        raise PlanError(
            "a self-conditioned network reads its earlier belief at positions of its own, which "
            "no rank has all of; share its matrices instead (tp)."
        )
    return network


def headless(network: Transformer) -> Transformer:
    """Return a network with the same weights, whose layers may be changed, without the last one."""
    same = {id(part): part for part in (*network.parameters(), *network.buffers())}
    made = copy.deepcopy(network, same)  # what is in the memo is not copied
    made.logits = _as_it_is  # pyright: ignore[reportAttributeAccessIssue]
    return made


def _as_it_is(hidden: Tensor) -> Tensor:
    return hidden


class Shared:
    """A transformer that answers about canvases whose positions several ranks compute.

    Attributes:
        circle: The ranks.
        config: Of the network.
    """

    remembers = False

    def __init__(self, network: Transformer, circle: Circle, mode: str = "ring") -> None:
        self.circle, self.config = circle, network.config
        self._whole, self._part = network, headless(network)
        self._context = spread_context(self._part, circle, mode)

    @property
    def traffic(self) -> Traffic:
        """Bytes this rank has sent."""
        return self.circle.traffic

    def parameters(self) -> Iterator[Parameter]:
        """Return the weights: all of them lie on every rank."""
        return self._part.parameters()

    def state_dict(self) -> dict[str, Any]:
        """Return the weights by name."""
        return self._part.state_dict()

    @by_call
    @torch.no_grad()
    def __call__(self, call: Call) -> Float[Tensor, "B F V"]:
        """Return what the network answers.

        Raises:
            ValueError: The call asks for more than answers at some positions of a canvas.
        """
        told, view = check(call)
        length = told.shape[1]
        with self._context.sharing(length) as share:
            hidden = self._part(share.of(told), call.sigma, share.of(call.valid))
        cuts = cut(length, self.circle.size)
        lengths = tuple(b - a for a, b in pairwise(cuts))
        whole = everyone(self.circle, hidden, lengths, 1)
        return self._whole.logits(whole if view.read is None else at(whole, view.read))


def check(call: Call) -> tuple[Tokens, View]:
    """Return the tokens and the view of a call that parts of a canvas can answer.

    Raises:
        ValueError: They cannot.
    """
    inputs, view = call.inputs, call.view or View()
    strange = [
        name
        for name in ("compute", "memory", "positions", "mask")
        if getattr(view, name) is not None
    ]
    if strange or call.earlier is not None or isinstance(inputs, SoftTokens):
        named = strange[0] if strange else "an earlier belief or soft tokens"
        raise ValueError(
            f"ranks that share a canvas answer about tokens, whole, and were asked with {named}; "
            "leave caches and revisions with shadows out."
        )
    return inputs, view
