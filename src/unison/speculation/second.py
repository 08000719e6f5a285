"""What does another reader say about the same tree? A second context, kept in step with the first.

It may be another network, the same with other routing, or the same behind another prompt.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from unison.speculation.parts import Reading, Scores, Target, Text
from unison.speculation.tree import Tree


class Prompt(NamedTuple):
    """What one row's second context has in place of the prompt.

    Attributes:
        tokens: Another prompt, its begin token left out.
        first: Tokens of the text that it stands for: those of the prompt.
    """

    tokens: tuple[int, ...]
    first: int


class Second:
    """A reader in the middle of a batch of texts."""

    def __init__(self, target: Target, reading: Reading, prompts: Sequence[Prompt] | None) -> None:
        self.target, self.reading, self.prompts = target, reading, prompts
        self._root: Int[Tensor, " B"] | None = None  # instead of the tree's, in the first round

    def begin(self, text: Text) -> None:
        """Read the prompt, all but its last input.

        Raises:
            ValueError: A text is shorter than the prompt that another one stands for.
        """
        own = text if self.prompts is None else _replaced(text, self.prompts, self.target.begin)
        self.reading.read(own.tokens[:, : own.tokens.shape[1] - 1], own.length - 1)
        self._root = own.tokens.gather(1, own.length[:, None] - 1)[:, 0]

    def score(self, tree: Tree) -> Scores:
        """Return what it says about every node.

        Raises:
            ValueError: It reads chains alone and the tree branches.
        """
        if not (tree.straight or self.target.branches):
            raise ValueError(
                "the second model of a contrast reads chains alone and the drafts branch; use the "
                "Chain builder."
            )
        if self._root is not None:
            tokens = torch.cat([self._root[:, None], tree.tokens[:, 1:]], dim=1)
            tree = tree._replace(tokens=tokens)
        return self.reading.score(tree)

    def commit(self, path: Int[Tensor, "B D"]) -> None:
        """Hear what is written."""
        self.reading.commit(path)
        self._root = None

    def keep(self, rows: Int[Tensor, " R"]) -> "Second":
        """Return the reader of some rows; this one is used up."""
        prompts = None if self.prompts is None else [self.prompts[row] for row in rows.tolist()]
        kept = Second(self.target, self.reading.keep(rows), prompts)
        kept._root = None if self._root is None else self._root[rows]
        return kept


def opened(
    second: Target, target: Target, rows: int, prompts: Sequence[Prompt] | None = None
) -> Second:
    """Return a reader of empty texts beside a target.

    Args:
        second: Reads.
        target: What it is compared with.
        rows: Texts.
        prompts: What it reads in place of the prompt: the same for all rows, or one for each;
            ``None`` for the prompt itself.

    Raises:
        ValueError: Its tokens are not the target's, or there are not as many prompts as rows.
    """
    if second.vocab_size != target.vocab_size:
        raise ValueError(
            f"the models of a contrast share their tokens; the target has {target.vocab_size} and "
            f"the second model {second.vocab_size}."
        )
    if prompts is not None and len(prompts) not in (1, rows):
        raise ValueError(
            f"there are {len(prompts)} second prompts and {rows} rows; give one for all, or one "
            "for each."
        )
    if prompts is not None and len(prompts) < rows:
        prompts = list(prompts) * rows
    return Second(second, second.open(rows), prompts)


def _replaced(text: Text, prompts: Sequence[Prompt], begin: int) -> Text:
    """Return the texts with their prompts replaced."""
    rows = []
    for prompt, tokens, length in zip(
        prompts, text.tokens.tolist(), text.length.tolist(), strict=True
    ):
        if length - 1 < prompt.first:
            raise ValueError(
                f"a second prompt stands for the first {prompt.first} tokens of a text, and the "
                f"text has {length - 1}."
            )
        rows.append([begin, *prompt.tokens, *tokens[1 + prompt.first : length]])
    longest = max(map(len, rows))
    padded = [row + [begin] * (longest - len(row)) for row in rows]
    device = text.tokens.device
    length = torch.tensor([len(row) for row in rows], device=device)
    return Text(torch.tensor(padded, device=device), length)
