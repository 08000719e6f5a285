"""How does a drafter copy? One memory of each row's text, on the host; nothing is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from unison.speculation.parts import Guess, Outcome, Plan, Scores, Text
from unison.speculation.tree import Nodes, Tree


@runtime_checkable
class Memory(Protocol):
    """What is remembered of one text; grows in place."""

    def extend(self, tokens: Sequence[int]) -> None:
        """Read on."""
        ...

    def continuations(self, depth: int, nodes: int) -> list[list[int]]:
        """Return what may follow, likeliest first.

        Args:
            depth: Most tokens of each.
            nodes: Most tokens of all, those that begin alike counted once.
        """
        ...


@dataclass(frozen=True)
class Copying:
    """The drafting of a batch, each row by its own memory."""

    rows: Sequence[Memory]

    def begin(self, text: Text, scores: Scores) -> None:
        """Hear the prompt."""
        del scores
        for row, tokens in zip(self.rows, prompts(text), strict=True):
            row.extend(tokens)

    def guess(self, tree: Tree, frontier: Nodes) -> Guess:
        """Never asked."""
        raise ValueError("a drafter that copies has no laws of the next token; build with Given.")

    def texts(self, plan: Plan) -> Int[Tensor, "B K D"]:
        """Return the continuations, on the host, where builders read them."""
        rows = zip(self.rows, *plan, strict=True)
        return packed([row.continuations(depth, nodes) for row, depth, nodes in rows])

    def finish(self, tree: Tree) -> Tree:
        """Return the same tree."""
        return tree

    def observe(self, outcome: Outcome) -> None:
        """Hear what was written."""
        for row, tokens in zip(self.rows, written(outcome), strict=True):
            row.extend(tokens)

    def keep(self, rows: Int[Tensor, " R"]) -> "Copying":
        """Return the drafting of some rows."""
        return Copying([self.rows[row] for row in rows.tolist()])


def prompts(text: Text) -> list[list[int]]:
    """Return the tokens of each row's text, without the begin token."""
    rows = zip(text.tokens.tolist(), text.length.tolist(), strict=True)
    return [tokens[1:length] for tokens, length in rows]


def written(outcome: Outcome) -> list[list[int]]:
    """Return what a round wrote in each row."""
    rows = zip(outcome.tokens.tolist(), outcome.count, strict=True)
    return [tokens[:count] for tokens, count in rows]


def packed(rows: Sequence[Sequence[Sequence[int]]]) -> Int[Tensor, "B K D"]:
    """Return continuations of each row, -1 behind the last token of each and for those missing."""
    count = max((len(texts) for texts in rows), default=0)
    depth = max((len(text) for texts in rows for text in texts), default=0)
    filled = [
        [[*text, *[-1] * (depth - len(text))] for text in texts]
        + [[-1] * depth] * (count - len(texts))
        for texts in rows
    ]
    return torch.tensor(filled, dtype=torch.int64).reshape(len(rows), count, depth)
