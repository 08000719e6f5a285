"""Toy models and drafters for tests of speculation."""

import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from unison.speculation.parts import Guess, Scores, Target, Text
from unison.speculation.tree import Tree

V = 3


def random_law(seed: int, vocab: int = V, sharp: float = 1.5):
    """Return a law of the next token that depends on the last two tokens and the length."""
    noise = np.random.default_rng(seed).normal(size=(7, vocab + 1, vocab + 1, vocab)) * sharp

    def law(text: tuple[int, ...]):
        before = [-1, -1, *text][-2:]
        logits = noise[min(len(text), 6), before[0], before[1]]
        weights = np.exp(logits - logits.max())
        return (weights / weights.sum()).tolist()

    return law


def joint(law, prompt: tuple[int, ...], horizon: int, vocab: int = V) -> dict:
    """Return the probability of every text of some length."""
    result = {}
    for text in itertools.product(range(vocab), repeat=horizon):
        chance = 1.0
        for i, token in enumerate(text):
            chance *= law((*prompt, *text[:i]))[token]
        if chance > 0:
            result[text] = chance
    return result


@dataclass(frozen=True)
class TableDrafter:
    """A drafter whose law is a table, like the target's."""

    copies: ClassVar[bool] = False
    law: object
    vocab: int = V
    sure: object = None  # confidence of a text

    @property
    def taps(self) -> tuple[int, ...]:
        return ()

    def open(self, target: Target, rows: int) -> "TableDrafting":
        return TableDrafting(self, [[] for _ in range(rows)])


class TableDrafting:
    def __init__(self, drafter: TableDrafter, texts: list[list[int]]) -> None:
        self.drafter, self.written = drafter, texts

    def begin(self, text: Text, scores: Scores) -> None:
        for own, row, n in zip(
            self.written, text.tokens.tolist(), text.length.tolist(), strict=True
        ):
            own.extend(row[1:n])

    def guess(self, tree: Tree, frontier) -> Guess:
        laws, sure = [], []
        rows = zip(
            self.written,
            tree.tokens.tolist(),
            tree.parent.tolist(),
            frontier.tolist(),
            strict=True,
        )
        for text, tokens, parent, nodes in rows:
            own, confident = [], []
            for node in nodes:
                way, at = [], node
                while parent[at] >= 0:
                    way.append(tokens[at])
                    at = parent[at]
                own.append(list(self.drafter.law((*text, *way[::-1]))))
                confident.append(
                    1.0 if self.drafter.sure is None else self.drafter.sure((*text, *way[::-1]))
                )
            laws.append(own)
            sure.append(confident)
        return Guess(torch.tensor(laws, dtype=torch.float64).log(), torch.tensor(sure))

    def texts(self, plan):
        raise NotImplementedError

    def finish(self, tree: Tree) -> Tree:
        return tree

    def observe(self, outcome) -> None:
        for own, row, n in zip(self.written, outcome.tokens.tolist(), outcome.count, strict=True):
            own.extend(row[:n])

    def keep(self, rows):
        return TableDrafting(self.drafter, [self.written[i] for i in rows.tolist()])
