"""What if the target is any law at all? One given by a function, for proofs and tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.speculation.parts import Scores
from unison.speculation.tree import Node, Tree

NextLaw = Callable[[tuple[int, ...]], Sequence[float]]


@dataclass(frozen=True)
class Table:
    """A left-to-right model from texts to probabilities of the next token.

    Attributes:
        law: Of a text, the begin token left out.
        vocab_size: V.
        branches: Whether it claims to read trees.
        max_length: Most inputs.
        begin: The begin token.
    """

    law: NextLaw
    vocab_size: int
    branches: bool = True
    max_length: int = 1 << 20
    begin: int = 0

    def open(self, rows: int, taps: Sequence[int] = ()) -> "TableReading":
        """Return the reading of empty texts; its streams are all zero."""
        return TableReading(self, tuple(taps), [[] for _ in range(rows)])


class TableReading:
    """A table in the middle of a batch of texts."""

    def __init__(self, table: Table, taps: tuple[int, ...], inputs: list[list[int]]) -> None:
        self.table, self.taps, self.inputs = table, taps, inputs
        self.tree: Tree | None = None

    def read(self, tokens: Int[Tensor, "B M"], count: Node, logits: bool = False) -> Scores:
        """See ``Reading``."""
        said = []
        for text, row, n in zip(self.inputs, tokens.tolist(), count.tolist(), strict=True):
            texts = [text + row[: i + 1] for i in range(len(row))]
            said.append([self._law(one) for one in texts])
            text.extend(row[:n])
        return self._scores(said, tokens.shape)

    def score(self, tree: Tree, since: int = 0) -> Scores:
        """See ``Reading``."""
        self.tree = tree
        said = []
        rows = zip(self.inputs, tree.tokens.tolist(), tree.parent.tolist(), strict=True)
        for text, tokens, parent in rows:
            ways: list[list[int]] = []
            for token, before in zip(tokens, parent, strict=True):
                ways.append((ways[before] if before >= 0 else []) + [max(token, 0)])
            said.append([self._law(text + way) for way in ways[since:]])
        return self._scores(said, tree.tokens[:, since:].shape)

    def commit(self, path: Int[Tensor, "B D"]) -> None:
        """See ``Reading``."""
        assert self.tree is not None
        rows = zip(self.inputs, self.tree.tokens.tolist(), path.tolist(), strict=True)
        for text, tokens, nodes in rows:
            text.extend(tokens[node] for node in nodes if node >= 0)
        self.tree = None

    def cut(self, length: Node) -> None:
        """See ``Reading``."""
        for text, most in zip(self.inputs, length.tolist(), strict=True):
            del text[most:]

    def keep(self, rows: Int[Tensor, " R"]) -> "TableReading":
        """See ``Reading``."""
        return TableReading(self.table, self.taps, [self.inputs[row] for row in rows.tolist()])

    def _law(self, inputs: list[int]) -> list[float]:
        return list(self.table.law(tuple(inputs[1:])))

    def _scores(self, said: Any, shape: torch.Size) -> Scores:
        law = torch.tensor(said, dtype=torch.float64).reshape(*shape, self.table.vocab_size)
        zero: Float[Tensor, "B M 1"] = torch.zeros(*shape, 1)
        return Scores(law.log(), zero, dict.fromkeys(self.taps, zero))
