"""What do the parts of a composed strategy see, and what may each of them decide?

One step of a composed strategy looks at the active block of every row, proposes a token for each
position (temper), ranks the positions (order), chooses which of them to write (select), takes
back or rewrites others (revise) and asks whether the rest may be written at once (stop). Every
part is a frozen dataclass with one pure method, in its own file.
"""

from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.prob.rng import Key
from unison.prob.tiles import tiled
from unison.types import Belief

Reach = Literal["open", "block", "canvas"]
"""Whose answers a part reads: the open positions of the active block, all positions of it that
were not given, or every position of the canvas that was not given."""

Places = Int[Tensor, "B F"]
Chosen = Bool[Tensor, "B F"]
Score = Float[Tensor, "B F"]
SITE_TARGET, SITE_ORDER, SITE_REVISE, SITE_EXTRA, SITE_SELECT = 16, 17, 18, 19, 20


class Sight(NamedTuple):
    """What one step sees, position by position; F positions of each row, in canvas order.

    Attributes:
        positions: Where on the canvas.
        live: False where a short row is filled up with copies; every part ignores those.
        open: True where a token may be written: undecided, not given, in the active block. Under
            the uniform process, where no token is ever decided, all of the block.
        active: True where the position was not given and belongs to the active block.
        current: The token that stands there.
        belief: The log-probabilities that parts judge by.
        candidate: The token proposed for the position, from the tempered belief.
        confidence: Probability of the candidate, float64 so that near-certain ones still differ.
        likeliest: The token of the likeliest text: the likeliest of each position, unless
            positions are tied by a constraint.
        due: Tokens each row must write on average to be done in time, rounded up; at least 1.
        left: Steps each row has left for its active block, this one included.
        progress: Share of its steps the row has spent, over the whole canvas.
        block_step: Steps each row has spent on its active block.
        size: Positions of each row's active block that were not given.
        key: Random streams; parts draw at their own sites, by canvas position.
    """

    positions: Places
    live: Chosen
    open: Chosen
    active: Chosen
    current: Places
    belief: Belief
    candidate: Places
    confidence: Float[Tensor, "B F"]
    likeliest: Places
    due: Int[Tensor, " B"]
    left: Int[Tensor, " B"]
    progress: Float[Tensor, " B"]
    block_step: Int[Tensor, " B"]
    size: Int[Tensor, " B"]
    key: Key


class Past(NamedTuple):
    """What earlier steps left behind, by canvas position.

    Attributes:
        best: The likeliest token when a step last looked at the position, -1 before.
        confidence: Probability of the standing token when it was written; 1 where given.
        calm: Steps in a row in which no likeliest token of the active block changed.
        edits: Steps each row has spent on a block after its last undecided token was written.
        wrote: Tokens the row wrote in the step before.
    """

    best: Int[Tensor, "B L"]
    confidence: Float[Tensor, "B L"]
    calm: Int[Tensor, " B"]
    edits: Int[Tensor, " B"]
    wrote: Int[Tensor, " B"]


@runtime_checkable
class Order(Protocol):
    """Ranks positions: the larger the score, the sooner the position is written."""

    probability: ClassVar[bool]  # scores are in [0, 1], so that they may be discounted

    def score(self, sight: Sight) -> Score:
        """Return one score per position."""
        ...


@runtime_checkable
class Select(Protocol):
    """Chooses which open positions to write."""

    reads: ClassVar[Reach]
    paced: ClassVar[bool]  # follows the number of steps; else it takes as many as it takes

    def choose(self, sight: Sight, score: Score) -> Chosen:
        """Return the positions to write: open ones, at least one in every row that has any."""
        ...


class Revision(NamedTuple):
    """What a step writes.

    Attributes:
        tokens: The token of every position after the step.
        lingering: True for rows whose active block must not be left yet although none of its
            positions is undecided.
    """

    tokens: Places
    lingering: Bool[Tensor, " B"]


@runtime_checkable
class Revise(Protocol):
    """Writes the chosen candidates, and may take back or rewrite what was written before."""

    reads: ClassVar[Reach]
    rewrites: ClassVar[bool]  # written text may change, so caches of it go stale
    shadows: ClassVar[bool]  # needs beliefs that leave the own token out
    processes: ClassVar[tuple[str, ...]]

    def extra(self, length: int) -> int:
        """Return how many steps more than positions a block may need where steps are not set.

        Args:
            length: Positions of the canvas.
        """
        ...

    def write(
        self,
        process: Any,  # each revision narrows it to the processes it names
        sight: Sight,
        chosen: Chosen,
        past: Past,
        shadow: Float[Tensor, "B F V"] | None,
    ) -> Revision:
        """Return the tokens after the step.

        Args:
            process: Names the mask or draws fresh noise.
            sight: What the step sees.
            chosen: What the select part chose.
            past: What earlier steps left behind.
            shadow: Beliefs that leave the own token out, where ``shadows``.
        """
        ...


class After(NamedTuple):
    """The whole canvas after a step has written.

    Attributes:
        tokens: What stands there.
        undecided: True where a token is still to be written.
        finished: The tokens if the active block were written out now: as proposed in its last
            step, as the likeliest text otherwise.
        tail: True where an end token ends the text: not given, and nothing given follows.
        eos_ids: Tokens that end the text, as the strategy knows them.
    """

    tokens: Int[Tensor, "B L"]
    undecided: Bool[Tensor, "B L"]
    finished: Int[Tensor, "B L"]
    tail: Bool[Tensor, "B L"]
    eos_ids: tuple[int, ...]


class Verdict(NamedTuple):
    """What may be written at once, after which no evaluation is spent on it.

    Attributes:
        block: Rows whose active block is written as proposed.
        canvas: Rows whose whole canvas is written as proposed.
        cut: First canvas position of each row that no longer matters and is filled with the end
            of the text; the canvas's length where all matter.
        end: The token it is filled with.
        region: The positions ``canvas`` speaks of; ``None`` for all.
    """

    block: Bool[Tensor, " B"]
    canvas: Bool[Tensor, " B"]
    cut: Int[Tensor, " B"]
    end: int = -1
    region: Bool[Tensor, "B L"] | None = None


@runtime_checkable
class Stop(Protocol):
    """Says when the rest may be written at once."""

    reads: ClassVar[Reach]
    needs_eos: ClassVar[bool]  # its own ``eos_ids``, or else the strategy's, must be set
    processes: ClassVar[tuple[str, ...]]

    def judge(self, sight: Sight, chosen: Chosen, past: Past, after: After) -> Verdict:
        """Return what may be written at once.

        Args:
            sight: What the step sees.
            chosen: What it chose to write.
            past: What earlier steps left behind; ``calm`` counts this step.
            after: The canvas after the step.
        """
        ...


@runtime_checkable
class Ending(Protocol):
    """A part with end tokens of its own, which go before the strategy's."""

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Tokens that end the text; empty for the strategy's."""
        ...


def certainty(belief: Float[Tensor, "B F V"], token: Places) -> Float[Tensor, "B F"]:
    """Return the tokens' probabilities, float64; anything where ``token`` is no token.

    From what speaks against a token, whose relative precision float32 keeps: near-certain ones
    still differ, as they would had the softmax been taken in float64.
    """
    return tiled(_certainty, belief, token.clamp(max=belief.shape[-1] - 1))


def _certainty(belief: Float[Tensor, "*N V"], token: Int[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    at = token[..., None]
    # Softmax of what is normalised: exp, which on a CPU is slow where it underflows.
    against = belief.softmax(-1).scatter_(-1, at, 0.0).sum(-1, dtype=torch.float64)
    said = belief.gather(-1, at)[..., 0].double().exp()
    return torch.where(said > 0.5, 1 - against, said)
