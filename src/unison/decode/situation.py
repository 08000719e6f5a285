"""Where does each row stand? The active block, its pace, and what earlier steps left behind."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from unison.decode import blocks
from unison.decode.api import Canvas
from unison.decode.blocks import Division, Gathered
from unison.decode.composition import unready
from unison.decode.sight import Past, Reach, Sight
from unison.process import Absorbing, Uniform
from unison.types import Belief, Mask

if TYPE_CHECKING:
    from unison.decode.diffusion.composed import Composed

_COUNTS = ("active", "block_step", "was")
_REACHES: tuple[Reach, ...] = ("open", "block", "canvas")


class Memory(NamedTuple):
    """What a composed strategy carries from step to step.

    Attributes:
        past: What the parts may look back at.
        active: The block each row works on.
        block_step: Steps each row has spent on it.
        was: The block each row worked on in the step before.
        earlier: The tempered belief of the step before, where models read it.
    """

    past: Past
    active: Int[Tensor, " B"]
    block_step: Int[Tensor, " B"]
    was: Int[Tensor, " B"]
    earlier: Belief | None = None


class Situation(NamedTuple):
    """Where each row stands before a step.

    Attributes:
        uniform: Whether the process is uniform: nothing is decided before a block's end.
        reach: Whose answers the parts read.
        block: The block of each position.
        memory: What the step before left.
        division: The active block among the others.
        inside: True in the active block where nothing was given.
        open: True where a token may be written.
        wanted: True where an answer is read.
        allowance: Steps for the active block, all in all.
        left: Of these, the ones left, this one included; at least 1.
        steps: Steps for the whole canvas.
        due: Tokens to write on average to be done in time.
        level: Noise level of the active block.
        levels: Noise level of each position.
    """

    uniform: bool
    reach: Reach
    block: Int[Tensor, "B L"]
    memory: Memory
    division: Division
    inside: Mask
    open: Mask
    wanted: Mask
    allowance: Int[Tensor, " B"]
    left: Int[Tensor, " B"]
    steps: Int[Tensor, " B"]
    due: Int[Tensor, " B"]
    level: Float[Tensor, " B"]
    levels: Float[Tensor, "B L"]

    @property
    def carries(self) -> bool:
        """Whether the next step gets this step's belief: where every step reads a whole block."""
        return self.uniform

    def earlier(self, canvas: Canvas, at: Gathered, vocab_size: int) -> Belief:
        """Return the belief of the step before; -inf in rows that have none on this block."""
        said = self.memory.earlier
        shape = (*at.live.shape, vocab_size)
        if said is None:
            return torch.full(shape, -torch.inf, device=at.live.device, dtype=torch.float32)
        if said.shape != shape:
            # The same block has the same positions side by side, then copies of the first; how
            # many copies is the other rows' doing.
            number = torch.arange(at.live.shape[1], device=at.live.device)
            index = torch.where(at.live, number, 0).clamp(max=said.shape[1] - 1)
            said = said.gather(1, index[..., None].expand(shape))
        return said.where((self.memory.was == self.memory.active)[:, None, None], -torch.inf)


class Look(NamedTuple):
    """What a step saw.

    Attributes:
        at: The positions.
        sight: What the parts get.
        tempered: The law candidates were drawn from; ``None`` where nobody reads it.
        shadow: Beliefs that leave the own token out, where the revision asked.
    """

    at: Gathered
    sight: Sight
    tempered: Belief | None
    shadow: Belief | None


def situated(strategy: "Composed", process: Absorbing | Uniform, canvas: Canvas) -> Situation:
    """Return where each row stands.

    Raises:
        ValueError: A part cannot work under the process, or lacks the end tokens it needs.
    """
    uniform = isinstance(process, Uniform)
    _check(strategy, uniform)
    block = blocks.numbered(canvas, strategy.block_length, strategy.anchor)
    undecided = _undecided(process, canvas)
    memory = canvas.memory if canvas.memory is not None else _first(canvas, block, undecided)
    division = blocks.division(block, canvas.given, memory.active)
    inside = ~canvas.given & (block == memory.active[:, None])
    open_ = inside if uniform else undecided & inside
    reach = max(
        (strategy.select.reads, strategy.revise.reads, strategy.stop.reads), key=_REACHES.index
    )
    reach = "block" if uniform and reach == "open" else reach
    allowance, steps = _pace(strategy, division, canvas)
    left = (allowance - memory.block_step).clamp(min=1)
    remaining = open_.sum(1)
    level = left / allowance.clamp(min=1) if uniform else remaining / division.size.clamp(min=1)
    later = ~canvas.given & (block > memory.active[:, None])
    return Situation(
        uniform,
        reach,
        block,
        memory,
        division,
        inside,
        open_,
        {"open": open_, "block": inside, "canvas": ~canvas.given}[reach],
        allowance,
        left,
        steps,
        (-(-remaining // left)).clamp(min=1),
        level.double(),
        torch.where(open_, level[:, None].double(), later.double()),
    )


def joined(
    strategy: "Composed", process: Absorbing | Uniform, canvases: Sequence[Canvas]
) -> Memory | None:
    """Return the memory of several batches as one; ``None`` if none has any."""
    if all(canvas.memory is None for canvas in canvases):
        return None
    memories = []
    for canvas in canvases:
        block = blocks.numbered(canvas, strategy.block_length, strategy.anchor)
        first = _first(canvas, block, _undecided(process, canvas))
        memories.append(first if canvas.memory is None else canvas.memory)
    past = Past(*(torch.cat(parts) for parts in zip(*(m.past for m in memories), strict=True)))
    rest = (torch.cat([getattr(m, name) for m in memories]) for name in _COUNTS)
    said = [(m.earlier, len(m.active)) for m in memories]
    return Memory(past, *rest, earlier=_side_by_side(said))


def _side_by_side(said: Sequence[tuple[Belief | None, int]]) -> Belief | None:
    """Return beliefs of several batches as one, -inf where a batch has none.

    What stands behind a row's own positions is never read.
    """
    known = [belief for belief, _ in said if belief is not None]
    if not known:
        return None
    width = max(belief.shape[1] for belief in known)
    parts = [
        known[0].new_full((rows, width, known[0].shape[2]), -torch.inf)
        if belief is None
        else F.pad(belief, (0, 0, 0, width - belief.shape[1]))
        for belief, rows in said
    ]
    return torch.cat(parts)


def _undecided(process: Absorbing | Uniform, canvas: Canvas) -> Mask:
    if isinstance(process, Uniform):
        return ~canvas.given
    return ~canvas.given & (canvas.tokens == process.mask_id)


def _check(strategy: "Composed", uniform: bool) -> None:
    reason = unready(strategy, "uniform" if uniform else "absorbing")
    if reason is not None:
        raise ValueError(reason)


def _first(canvas: Canvas, block: Int[Tensor, "B L"], undecided: Mask) -> Memory:
    zero = torch.zeros_like(canvas.tokens[:, 0])
    past = Past(
        torch.full_like(canvas.tokens, -1),
        torch.where(canvas.given, 1.0, 0.0).double(),
        zero,
        zero,
        zero,
    )
    return Memory(past, blocks.lowest(block, undecided), zero, zero - 1)


def _pace(strategy: "Composed", division: Division, canvas: Canvas) -> tuple[Tensor, Tensor]:
    """Return the steps of each row for its active block, and for its canvas."""
    length = canvas.tokens.shape[1]
    if strategy.steps is None:
        extra = strategy.revise.extra(length)
        return division.size + extra, (~canvas.given).sum(1) + extra
    whole = torch.full_like(division.count, strategy.steps)
    if strategy.per_block:
        return whole, whole * division.count
    count = division.count.clamp(min=1)
    share = whole // count + (division.rank < whole % count).long()
    return share.clamp(min=1), whole


def looked_back(now: Situation, look: Look) -> Past:
    """Return the past as this step's parts see it: with this step's likeliest tokens."""
    past, sight = now.memory.past, look.sight
    same = (look.at.take(past.best) == look.sight.likeliest) | ~sight.active
    began = now.memory.block_step == 0
    calm = torch.where(same.all(1) & ~began, past.calm + 1, 0)
    edits = torch.where(sight.open.any(1) | began, 0, past.edits + 1)
    return past._replace(best=look.at.put(past.best, look.sight.likeliest), calm=calm, edits=edits)
