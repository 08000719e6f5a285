"""What tests of target policies share: prompts, a drafter of trees, a table with other routing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from speculating import random_law

from unison.speculation import Ask, Text
from unison.speculation.parts import Target

V = 7
PROMPTS = [[0, 3, 4, 1], [0], [0, 6, 2]]
ROOM = [7, 9, 5]


def asked(prompts: Sequence[Sequence[int]] = PROMPTS, room: Sequence[int] = ROOM) -> Ask:
    """Return what to write behind prompts that begin with the begin token."""
    longest = max(map(len, prompts))
    tokens = torch.tensor([[*one, *[5] * (longest - len(one))] for one in prompts])
    length = torch.tensor([len(one) for one in prompts])
    return Ask(Text(tokens, length), list(room), torch.arange(len(prompts)))


@dataclass(frozen=True)
class Brancher:
    """A drafter that copies: three fixed continuations, which begin alike."""

    copies: ClassVar[bool] = True
    vocab: int = V

    @property
    def taps(self) -> tuple[int, ...]:
        return ()

    def open(self, target: Target, rows: int) -> "Branching":
        return Branching(self.vocab, rows)


class Branching:
    def __init__(self, vocab: int, rows: int) -> None:
        self.vocab, self.rows = vocab, rows

    def begin(self, text, scores) -> None:
        pass

    def guess(self, tree, frontier):
        raise NotImplementedError

    def texts(self, plan):
        ways = [[i % self.vocab, (i + j) % self.vocab, j] for i in range(4) for j in range(3)]
        return torch.tensor([ways] * self.rows)

    def finish(self, tree):
        return tree

    def observe(self, outcome) -> None:
        pass

    def keep(self, rows):
        return Branching(self.vocab, len(rows))


def softmax(scores: Sequence[float]) -> list[float]:
    """Return the law of unnormalised log-probabilities."""
    top = max(scores)
    weights = [math.exp(one - top) for one in scores]
    return [one / sum(weights) for one in weights]


__all__ = ["PROMPTS", "ROOM", "Brancher", "V", "asked", "random_law", "softmax"]
