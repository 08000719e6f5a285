"""What does the target say about its own last guesses? Jacobi iteration, one row of guesses."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Int
from torch import Tensor

from unison.drafters.copying import packed, prompts, written
from unison.speculation.parts import Guess, Outcome, Plan, Scores, Target, Text
from unison.speculation.tree import Nodes, Tree


@dataclass(frozen=True)
class Jacobi:
    """Draft what the target said behind the last drafts, each at its place.

    Jacobi decoding (Santilli et al., 2023, arXiv:2305.10427): guesses of the next tokens are all
    replaced at once by what the target finds likeliest behind them; those before the first change
    are settled. New places start as the text's last token.

    Attributes:
        window: Guesses.
    """

    copies: ClassVar[bool] = True
    window: int = 8

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"window must be at least 1, got {self.window}.")

    @property
    def taps(self) -> tuple[int, ...]:
        """No streams."""
        return ()

    def open(self, target: Target, rows: int) -> "JacobiDrafting":
        """Return the drafting of empty texts."""
        del target
        return JacobiDrafting(self, [None] * rows, [[] for _ in range(rows)])


class JacobiDrafting:
    """The drafting of a batch.

    Args:
        jacobi: The settings.
        last: The last token of each text; ``None`` where there is none.
        guesses: What the target said about the places behind it.
    """

    def __init__(self, jacobi: Jacobi, last: list[int | None], guesses: list[list[int]]) -> None:
        self.jacobi, self.last, self.guesses = jacobi, last, guesses

    def begin(self, text: Text, scores: Scores) -> None:
        """Hear the prompt."""
        del scores
        self.last = [tokens[-1] if tokens else None for tokens in prompts(text)]

    def guess(self, tree: Tree, frontier: Nodes) -> Guess:
        """Never asked."""
        raise ValueError("Jacobi drafts have no laws of the next token; build with Given.")

    def texts(self, plan: Plan) -> Int[Tensor, "B K D"]:
        """Return one row of guesses for each text."""
        rows = zip(self.last, self.guesses, plan.depth, strict=True)
        return packed([self._row(*row) for row in rows])

    def finish(self, tree: Tree) -> Tree:
        """Return the same tree."""
        return tree

    def observe(self, outcome: Outcome) -> None:
        """Hear what was written, and what the target said behind the drafts."""
        assert outcome.scores.logits is not None
        said = outcome.scores.logits.argmax(-1).tolist()
        drafts = outcome.tree.live.sum(1).tolist()
        self.last = [tokens[-1] for tokens in written(outcome)]
        # Node n, at depth n, speaks of depth n + 1; the new root stands at depth ``count``.
        self.guesses = [
            row[count:nodes] for row, count, nodes in zip(said, outcome.count, drafts, strict=True)
        ]

    def keep(self, rows: Int[Tensor, " R"]) -> "JacobiDrafting":
        """Return the drafting of some rows."""
        kept = rows.tolist()
        return JacobiDrafting(
            self.jacobi, [self.last[i] for i in kept], [self.guesses[i] for i in kept]
        )

    def _row(self, last: int | None, guesses: list[int], depth: int) -> list[list[int]]:
        if last is None or depth <= 0:
            return []
        filled = [*guesses, *[last] * self.jacobi.window][: self.jacobi.window]
        return [filled[:depth]]
