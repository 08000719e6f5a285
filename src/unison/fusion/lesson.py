"""How does a fuser learn? By what the receiver then thinks of the true answers."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from unison.engine.reading import NetworkTarget
from unison.fusion.fuser import Fuser
from unison.fusion.target import aligned, first
from unison.models import KeyValues, remember, stepping
from unison.models.stepping import Step
from unison.models.transformer import Transformer
from unison.types import Nats


class Pair(NamedTuple):
    """Two models, neither of which learns.

    Attributes:
        receiver: Decodes.
        sharer: Tells.
        table: See ``alignment``.
    """

    receiver: NetworkTarget
    sharer: NetworkTarget
    table: Int[Tensor, " S"] | None = None


def lesson(
    fuser: Fuser | None,
    pair: Pair,
    tokens: Int[Tensor, "B L"],
    given: Int[Tensor, " B"],
    valid: Bool[Tensor, "B L"] | None = None,
    chances: Float[Tensor, "R 2"] | None = None,
) -> Nats:
    """Return the receiver's loss on what follows prompts it was told about.

    The prompt's inputs but the last are fused, as when decoding. Differentiable in the fuser.

    Args:
        fuser: Rewrites; ``None`` for the receiver alone.
        pair: The models.
        tokens: Texts, each with at least one token beyond its prompt.
        given: P, tokens of each prompt.
        valid: False at padding, which stands last.
        chances: How far gates are open; ``None`` for all the way or not at all.
    """
    rows, length = tokens.shape
    begin = torch.full_like(tokens[:, :1], pair.receiver.begin)
    inputs = torch.cat([begin, tokens], 1)[:, :-1]
    many = length - int(given.min())  # inputs of the longest answer, its prompt's last included
    number = torch.arange(many, device=tokens.device)
    slots = given[:, None] + number
    memory = _prompts(fuser, pair, inputs, given, chances)
    room = memory.keys[0].new_zeros(1).expand(rows, 1, many, 1)
    wide = KeyValues(*(tuple(_widened(part, room) for part in parts) for parts in memory))
    inside = slots < length
    at = slots.clamp(max=length - 1)
    sees = torch.arange(length + many, device=tokens.device) <= slots[..., None]
    network = pair.receiver.network
    h = stepping.read(network, Step(inputs.gather(1, at), at, slots, sees), wide)
    said = stepping.logits(network, h)
    nats = F.cross_entropy(said.transpose(1, 2), tokens.gather(1, at), reduction="none")
    counted = inside if valid is None else inside & valid.gather(1, at)
    return Nats(torch.where(counted, nats, 0).sum(), counted.sum())


def _prompts(
    fuser: Fuser | None,
    pair: Pair,
    inputs: Int[Tensor, "B L"],
    given: Int[Tensor, " B"],
    chances: Float[Tensor, "R 2"] | None,
) -> KeyValues:
    """Return what the receiver remembers of all inputs, those of the prompts rewritten."""
    own = _remembered(pair.receiver.network, inputs)
    if fuser is None:
        return own
    read, known = aligned(inputs, pair.table, (pair.receiver.begin, pair.sharer.begin))
    told = _remembered(pair.sharer.network, read)
    where = known & (torch.arange(inputs.shape[1], device=inputs.device) < given[:, None])
    return fuser.fused(own, told, where, chances)


@torch.no_grad()
def _remembered(network: Transformer, inputs: Int[Tensor, "B L"]) -> KeyValues:
    rows, length = inputs.shape
    place = torch.arange(length, device=inputs.device).expand_as(inputs)
    sees = place[:, :, None] >= place[:, None, :]
    memory = remember(network.config, rows, length, next(network.parameters()))
    stepping.read(network, Step(inputs, place, place, sees), memory)
    return first(memory, length)


def _widened(part: Tensor, room: Tensor) -> Tensor:
    return torch.cat([part, room.expand(-1, part.shape[1], -1, part.shape[3])], dim=2)
