"""What do the parts of a composed strategy see, and what may each of them decide?

One step of a composed strategy looks at the active block of every row, proposes a token for each
position (temper), ranks the positions (order), chooses which of them to write (select), takes
back or rewrites others (revise) and asks whether the rest may be written at once (stop). Every
part is a frozen dataclass with one pure method, in its own file.
"""

from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.prob.rng import Key
from unison.process import Absorbing, Uniform

Reach = Literal["open", "block", "canvas"]
"""Whose answers a part reads: the open positions of the active block, all positions of it that
were not given, or every position of the canvas that was not given."""

Places = Int[Tensor, "B F"]
Chosen = Bool[Tensor, "B F"]
Score = Float[Tensor, "B F"]
SITE_TARGET, SITE_ORDER, SITE_REVISE, SITE_EXTRA = 16, 17, 18, 19


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
    belief: Float[Tensor, "B F V"]
    candidate: Places
    confidence: Float[Tensor, "B F"]
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
        """Return how many steps more than positions it may need where steps are not set."""
        ...

    def write(
        self,
        process: Absorbing | Uniform,
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


class Verdict(NamedTuple):
    """What may be written at once, after which no evaluation is spent on it.

    Attributes:
        block: Rows whose active block is written as proposed.
        canvas: Rows whose whole canvas is written as proposed.
        cut: First canvas position of each row that no longer matters and is filled with the end
            of the text; the canvas's length where all matter.
        end: The token it is filled with.
    """

    block: Bool[Tensor, " B"]
    canvas: Bool[Tensor, " B"]
    cut: Int[Tensor, " B"]
    end: int = -1


@runtime_checkable
class Stop(Protocol):
    """Says when the rest may be written at once."""

    reads: ClassVar[Reach]
    needs_eos: ClassVar[bool]

    def judge(
        self, sight: Sight, chosen: Chosen, past: Past, tokens: Int[Tensor, "B L"]
    ) -> Verdict:
        """Return what may be written at once.

        Args:
            sight: What the step sees.
            chosen: What it chose to write.
            past: What earlier steps left behind; ``calm`` counts this step.
            tokens: The canvas after the step.
        """
        ...
