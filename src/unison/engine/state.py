"""What does a cached denoiser remember of every row between two evaluations?"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from unison.engine.policy import Standing
from unison.models import KeyValues, TransformerConfig
from unison.process import Absorbing, Process, Sequential
from unison.types import Focus, Mask, Tokens


class State(NamedTuple):
    """Keys and values, and what they were computed from; the rest as in ``Standing``.

    Attributes:
        memory: Of every canvas position; overwritten in place.
        seen: The token each was computed with.
        told: Whether an earlier belief went in.
        prompt: Decided before the first evaluation.
        was: The active block of the evaluation before.
        calls: Evaluations so far.
        since: How many evaluations in a row the block had, that one not counted.
    """

    memory: KeyValues
    seen: Tokens
    told: Mask
    prompt: Mask
    was: Int[Tensor, "B 2"]
    calls: Int[Tensor, " B"]
    since: Int[Tensor, " B"]

    def keep(self, rows: Tensor) -> "State":
        """Return some of the rows, with their own copy of the memory."""
        memory = KeyValues(*(tuple(part[rows] for part in parts) for parts in self.memory))
        return State(memory, *(part[rows] for part in self[1:]))  # pyright: ignore

    def stretched(self, length: int) -> "State":
        """Return the same rows on a longer canvas, whose new places are padding."""
        more = length - self.seen.shape[1]
        if not more:
            return self
        memory = KeyValues(
            *(tuple(F.pad(part, (0, 0, 0, more)) for part in parts) for parts in self.memory)
        )
        return self._replace(
            memory=memory,
            seen=F.pad(self.seen, (0, more), value=-1),
            told=F.pad(self.told, (0, more)),
            prompt=F.pad(self.prompt, (0, more), value=True),
        )

    def after(self, now: Standing, stale: Mask, told: Mask) -> "State":
        """Return the state after an evaluation.

        Args:
            now: Where the rows stood.
            stale: What was computed.
            told: Where an earlier belief went in.
        """
        return self._replace(
            seen=torch.where(stale, now.tokens, self.seen),
            told=torch.where(stale, told, self.told),
            was=now.block,
            calls=self.calls + 1,
            since=now.since,
        )


def stacked(states: Sequence[State]) -> State:
    """Return the rows of several states of one length as one."""
    memories = [state.memory for state in states]
    memory = KeyValues(
        *(
            tuple(torch.cat(layer) for layer in zip(*parts, strict=True))
            for parts in zip(*memories, strict=True)
        )
    )
    rest = zip(*(state[1:] for state in states), strict=True)
    return State(memory, *(torch.cat(part) for part in rest))  # pyright: ignore


def first(memory: KeyValues, decided: Mask) -> State:
    """Return the state before the first evaluation.

    Args:
        memory: Room for keys and values.
        decided: What counts as prompt.
    """
    unseen = torch.full_like(decided, -1, dtype=torch.long)
    zero = torch.zeros_like(unseen[:, 0])
    return State(
        memory, unseen, torch.zeros_like(decided), decided, unseen[:, :1].expand(-1, 2), zero, zero
    )


def standing(
    before: State, xt: Tokens, focus: Focus | None, process: Process, config: TransformerConfig
) -> Standing:
    """Return what a policy sees; without a focus, the whole canvas is one block."""
    undecided = ~process.settled(xt)
    if focus is not None:
        needed = torch.zeros_like(undecided).scatter(1, focus.positions, True)
    elif isinstance(process, Absorbing):
        needed = undecided  # of the others the belief is certain
    else:
        needed = torch.ones_like(undecided)
    if config.shifted:
        needed = needed | F.pad(needed[:, 1:], (0, 1))
    block = after_prompt(before.prompt, None if focus is None else focus.block)
    same = (block == before.was).all(1)
    unit = {"bidirectional": xt.shape[1], "causal": 1}.get(config.attention)
    return Standing(
        process.shifted(xt) if isinstance(process, Sequential) else xt,
        before.seen,
        before.told,
        undecided,
        before.prompt,
        needed,
        block,
        before.was,
        before.calls,
        torch.where(same, before.since + 1, 0),
        unit or config.block_length or 1,
    )


def after_prompt(prompt: Mask, block: Int[Tensor, "B 2"] | None) -> Int[Tensor, "B 2"]:
    """Return the active block from its first position that is not prompt.

    Args:
        prompt: Decided before the first evaluation.
        block: The block's bounds; ``None`` for the whole canvas.
    """
    place = torch.arange(prompt.shape[1], device=prompt.device)
    if block is None:
        block = torch.stack([torch.zeros_like(place[:1]), place[-1:] + 1], dim=1)
        block = block.expand(len(prompt), -1)
    inside = (place >= block[:, :1]) & (place < block[:, 1:]) & ~prompt
    begins = torch.where(inside.any(1), inside.long().argmax(1), block[:, 0])
    return torch.stack([begins, block[:, 1]], dim=1)
