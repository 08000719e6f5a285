"""What does a cache know before an evaluation, and what does it decide?

Keys and values of every canvas position are remembered. A policy decides which positions pass
through the network again; the others take part with what is remembered of them.
"""

from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unison.types import Mask, Tokens


class Standing(NamedTuple):
    """Where every row stands before an evaluation.

    Attributes:
        tokens: What the network reads at each position.
        seen: What it read there when the position was last computed; -1 if it never was.
        told: True where an earlier belief was mixed in then, as is done for one evaluation.
        undecided: True where the token may still be anything.
        prompt: True where it was decided before the row's first evaluation.
        needed: Positions whose outputs will be read; computed whatever the policy says.
        block: First position of the active block that is not prompt, and one past its last; the
            whole canvas where the strategy names no block.
        was: The same at the evaluation before; -1 before the first.
        calls: Evaluations of the row so far.
        since: Of these, how many in a row on the active block.
        unit: Positions that see each other among causal blocks: the network's block length, 1
            if it is causal, the canvas's length if all see all.
    """

    tokens: Tokens
    seen: Tokens
    told: Mask
    undecided: Mask
    prompt: Mask
    needed: Mask
    block: Int[Tensor, "B 2"]
    was: Int[Tensor, "B 2"]
    calls: Int[Tensor, " B"]
    since: Int[Tensor, " B"]
    unit: int

    @property
    def changed(self) -> Mask:
        """True where the network would read another token than when it last computed."""
        return self.tokens != self.seen

    def between(self, first: Int[Tensor, " B"], past: Int[Tensor, " B"] | None = None) -> Mask:
        """Return True from ``first`` to before ``past``, or to the canvas's end."""
        place = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        after = place >= first[:, None]
        return after if past is None else after & (place < past[:, None])

    def every(self, refresh: int) -> Bool[Tensor, "B 1"]:
        """Return True for rows at a ``refresh``-th evaluation of their block; 0 for never."""
        if refresh == 0:
            return torch.zeros_like(self.calls, dtype=torch.bool)[:, None]
        return (self.since % refresh == 0)[:, None]


@runtime_checkable
class Policy(Protocol):
    """One way to spare evaluations most of their positions.

    Implementations are frozen dataclasses whose fields are the configuration. ``refresh`` = 1
    computes everything at every evaluation, which is decoding without a cache, bit for bit.
    """

    exact: ClassVar[bool]  # beliefs are those without a cache, rounding aside
    exact_under_revision: ClassVar[bool]  # notices when decided text changes
    blocks: ClassVar[bool]  # works by the active block
    processes: ClassVar[tuple[str, ...]]  # names in unison.process.PROCESSES it goes with

    @property
    def refresh(self) -> int:
        """Evaluations of a block after which everything is computed again; 0 for never."""
        ...

    def stale(self, now: Standing) -> Mask:
        """Return the positions to compute, beside those needed. Pure; never waits."""
        ...


def check_refresh(refresh: int) -> None:
    """Raise ValueError if ``refresh`` is no number of evaluations."""
    if refresh < 0:
        raise ValueError(
            f"refresh must be at least 0, got {refresh}; 0 refreshes as the method itself says "
            "and no further, 1 computes everything at every evaluation."
        )
