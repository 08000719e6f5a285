"""What does a model ask of a strategy, and how is a strategy told?"""

from typing import NamedTuple, Protocol, runtime_checkable

from unison.decode.api import Canvas, Strategy
from unison.decode.blocks import Anchor


class Facts(NamedTuple):
    """What a strategy may need to know of a model.

    Attributes:
        process: Its name in ``unison.process.PROCESSES``.
        eos_ids: Tokens that end a text; empty if it has none.
        block_length: Positions of its blocks; ``None`` if it sees the whole canvas at once.
        anchor: Where its blocks are counted from.
    """

    process: str
    eos_ids: tuple[int, ...] = ()
    block_length: int | None = None
    anchor: Anchor = "canvas"


@runtime_checkable
class Fitting(Strategy, Protocol):
    """A strategy whose settings a model or a caller may fill in.

    Others work on the whole canvas, take the tempered belief for the model's, and need to know
    nothing.
    """

    def fitted(self, facts: Facts) -> "Fitting":
        """Return the strategy with what the model says filled in where it is unset.

        Raises:
            ValueError: A setting contradicts the model.
        """
        ...

    def tempered(
        self, temperature: float | None, top_k: int | None, top_p: float | None
    ) -> "Fitting":
        """Return the strategy with other settings of how tokens are drawn; ``None`` keeps one."""
        ...

    def paced(self) -> bool:
        """Return whether a number of steps decides how many tokens a step writes."""
        ...

    def carries(self, process: str) -> bool:
        """Return whether each step hands its belief to the next."""
        ...

    def refuse(self, canvas: Canvas) -> None:
        """Raise ValueError if a canvas cannot be written in the steps that are set."""
        ...


def blocks_of(facts: Facts, length: int | None, anchor: Anchor) -> tuple[int | None, Anchor]:
    """Return block length and anchor of a strategy on a model.

    Raises:
        ValueError: The model's blocks are others. Where it counts them from the end of the
            prompt, shorter ones will do.
    """
    own = facts.block_length
    if own is None:
        return length, anchor
    shorter = length is not None and length < own and facts.anchor == "answer"
    if length not in (None, own) and not shorter:
        raise ValueError(
            f"block_length={length} is a block length that does not fit: this model's blocks have "
            f"{own} tokens, counted from the {facts.anchor}'s first; leave block_length out."
        )
    return length or own, facts.anchor
