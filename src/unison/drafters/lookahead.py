"""What do parallel guesses of the future say about each other? N-grams from a Jacobi window."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from unison.drafters.copying import packed, prompts, written
from unison.speculation.parts import Guess, Outcome, Plan, Scores, Target, Text
from unison.speculation.tree import How, Level, Nodes, Tree, grown

_SPREAD = 0x9E3779B1  # an odd number: first guesses are tokens of the text, well mixed


@dataclass(frozen=True)
class Lookahead:
    """Collect n-grams from a window of Jacobi iterations; draft those that begin as the text ends.

    Lookahead decoding (Fu et al., 2024, arXiv:2402.02057). The window has ``window`` columns and
    ``size`` - 1 rows, the older above; a cell stands one place behind the cell above it and sees
    it, what that saw, and the top row before it. The target reads it beside the drafts (as probes,
    which no draft sees) and says the next token of every column: ``window`` new n-grams. Then the
    top row leaves and what was said becomes the last.

    Attributes:
        window: Columns.
        size: N, tokens of an n-gram, its first the key.
        guesses: Most n-grams of one key, the least recent forgotten; as many are drafted.
        seeded: Whether the prompt's own n-grams are collected first.
    """

    copies: ClassVar[bool] = True
    window: int = 7
    size: int = 5
    guesses: int = 7
    seeded: bool = True

    def __post_init__(self) -> None:
        if self.window < 1 or self.size < 2 or self.guesses < 1:
            raise ValueError(
                "window and guesses must be at least 1 and size at least 2, got "
                f"window={self.window}, guesses={self.guesses} and size={self.size}."
            )

    @property
    def taps(self) -> tuple[int, ...]:
        """No streams."""
        return ()

    def open(self, target: Target, rows: int) -> "LookaheadDrafting":
        """Return the drafting of empty texts.

        Raises:
            ValueError: The target reads chains alone.
        """
        if not target.branches:
            raise ValueError(
                "lookahead reads its window beside the drafts, and this target reads chains alone; "
                "use lookup, suffix or jacobi."
            )
        return LookaheadDrafting(self, target, [Pool(self) for _ in range(rows)])


class Pool:
    """The n-grams of one text, and its window.

    Args:
        lookahead: The settings.
    """

    def __init__(self, lookahead: Lookahead) -> None:
        self.lookahead = lookahead
        self.text: list[int] = []
        self.window: list[list[int]] = []  # rows from the top; the text's end is its first cell
        self.grams: dict[int, OrderedDict[tuple[int, ...], None]] = {}

    def begin(self, tokens: Sequence[int]) -> None:
        """Read the prompt and fill the window with some of its tokens."""
        self.text = list(tokens)
        self._fill()
        size = self.lookahead.size
        if self.lookahead.seeded:
            for i in range(len(self.text) - size + 1):
                self._collect(self.text[i : i + size])

    def continuations(self, depth: int) -> list[list[int]]:
        """Return what followed the last token, the most recent first."""
        if depth <= 0 or not self.text:
            return []
        known = self.grams.get(self.text[-1], OrderedDict())
        return [list(rest[:depth]) for rest in reversed(known)]

    def advance(self, said: Sequence[int], tokens: Sequence[int]) -> None:
        """Hear what was written, and what the target said below each column; none if unasked."""
        if said and self.window:
            first = self.text[-1]
            for column, token in enumerate(said):
                cells = [row[column] for row in self.window]
                key = first if column == 0 else cells[0]
                self._collect([key, *cells[1:], token])
            self.window = [*self.window[1:], list(said)]
        self.text += tokens
        if not self.window:
            self._fill()

    def _fill(self) -> None:
        columns, rows = self.lookahead.window, self.lookahead.size - 1
        if self.text:
            some = [self.text[i * _SPREAD % len(self.text)] for i in range(columns * rows)]
            self.window = [some[i * columns : (i + 1) * columns] for i in range(rows)]

    def _collect(self, gram: Sequence[int]) -> None:
        known = self.grams.setdefault(gram[0], OrderedDict())
        rest = tuple(gram[1:])
        known[rest] = None
        known.move_to_end(rest)
        if len(known) > self.lookahead.guesses:
            known.popitem(last=False)


class LookaheadDrafting:
    """The drafting of a batch.

    Args:
        lookahead: The settings.
        target: Says how long a text may be.
        rows: The texts.
    """

    def __init__(self, lookahead: Lookahead, target: Target, rows: list[Pool]) -> None:
        self.lookahead, self.target, self.rows = lookahead, target, rows
        self._probed = [False] * len(rows)
        self._nodes = 0  # before the probes

    def begin(self, text: Text, scores: Scores) -> None:
        """Hear the prompt."""
        del scores
        for row, tokens in zip(self.rows, prompts(text), strict=True):
            row.begin(tokens)

    def guess(self, tree: Tree, frontier: Nodes) -> Guess:
        """Never asked."""
        raise ValueError("a pool of n-grams has no laws of the next token; build with Given.")

    def texts(self, plan: Plan) -> Int[Tensor, "B K D"]:
        """Return the n-grams that go on from each text."""
        pairs = zip(self.rows, plan.depth, strict=True)
        return packed([row.continuations(depth) for row, depth in pairs])

    def finish(self, tree: Tree) -> Tree:
        """Return the tree with the window as probes, where a row has room for it."""
        self._nodes = tree.tokens.shape[1]
        columns, rows = self.lookahead.window, self.lookahead.size - 1
        deepest = columns + rows - 2
        most = self.target.max_length - 1 - deepest
        self._probed = [bool(row.window) and len(row.text) <= most for row in self.rows]
        cells = [(i, j) for i in range(rows) for j in range(columns)][1:]
        if not any(self._probed) or not cells:
            return tree
        above = [self._number((i - 1, j) if i else (0, j - 1)) for i, j in cells]
        kept = [
            [row.window[i][j] for i, j in cells] if on else [-1] * len(cells)
            for row, on in zip(self.rows, self._probed, strict=True)
        ]
        token = torch.tensor(kept, device=tree.tokens.device)
        live = token >= 0
        parent = torch.tensor(above, device=token.device).expand_as(token)
        depth = torch.tensor([i + j for i, j in cells], device=token.device).expand_as(token)
        real = torch.zeros(token.shape, device=token.device)
        zero = torch.zeros_like(token)
        how = torch.full_like(token, How.PROBE)
        level = Level(token, parent * live, zero, how, real, real + 1, live)
        return grown(tree, level, torch.where(live, depth, 1))

    def observe(self, outcome: Outcome) -> None:
        """Hear what was written and what the target said below the window."""
        rows = self.lookahead.size - 2
        last = [self._number((rows, j)) for j in range(self.lookahead.window)]
        said: list[list[int]] = [[] for _ in self.rows]
        if any(self._probed):
            assert outcome.scores.logits is not None
            said = outcome.scores.logits[:, last].argmax(-1).tolist()
        texts = zip(self.rows, said, self._probed, written(outcome), strict=True)
        for row, below, on, tokens in texts:
            row.advance(below if on else [], tokens)

    def keep(self, rows: Int[Tensor, " R"]) -> "LookaheadDrafting":
        """Return the drafting of some rows."""
        kept = [self.rows[row] for row in rows.tolist()]
        return LookaheadDrafting(self.lookahead, self.target, kept)

    def _number(self, cell: tuple[int, int]) -> int:
        """Return the node of a cell, by row and column; the first is the root."""
        row, column = cell
        number = row * self.lookahead.window + column
        return self._nodes + number - 1 if number else 0
