"""A drafter that is compared, guess by guess, with one that has just read the whole text."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch

from unison.speculation.parts import Drafter, Text


@dataclass(frozen=True, eq=False)
class Watched:
    """Another drafter, and how far its guesses ever were from those of a fresh one."""

    copies: ClassVar[bool] = False
    drafter: Drafter
    target: object
    gaps: list = field(default_factory=list)

    @property
    def taps(self):
        return self.drafter.taps

    def open(self, target, rows):
        texts = [[] for _ in range(rows)]
        return WatchedDrafting(self, self.drafter.open(target, rows), texts)


class WatchedDrafting:
    def __init__(self, how, inner, texts):
        self.how, self.inner, self.read, self.fresh = how, inner, texts, None

    def begin(self, text, scores):
        for own, row, n in zip(self.read, text.tokens.tolist(), text.length.tolist(), strict=True):
            own.extend(row[:n])
        self.inner.begin(text, scores)

    def guess(self, tree, frontier):
        if self.fresh is None:
            self.fresh = [begun(self.how.drafter, self.how.target, text) for text in self.read]
        got = self.inner.guess(tree, frontier)
        for row, fresh in enumerate(self.fresh):
            part = type(tree)(*(f[row : row + 1] if torch.is_tensor(f) else f for f in tree))
            there = part.live.gather(1, frontier[row : row + 1])[0]
            want = fresh.guess(part, frontier[row : row + 1]).logq[0]
            gap = (got.logq[row].exp() - want.exp()).abs()[there]
            self.how.gaps.append(float(gap.max()) if gap.numel() else 0.0)
        return got

    def texts(self, plan):
        raise NotImplementedError

    def finish(self, tree):
        return self.inner.finish(tree)

    def observe(self, outcome):
        self.fresh = None
        for own, row, n in zip(self.read, outcome.tokens.tolist(), outcome.count, strict=True):
            own.extend(row[:n])
        self.inner.observe(outcome)

    def keep(self, rows):
        return WatchedDrafting(
            self.how, self.inner.keep(rows), [self.read[row] for row in rows.tolist()]
        )


def begun(drafter, target, text):
    """Return the drafting of one text that was read at once."""
    tokens = torch.tensor([text])
    reading = target.open(1, drafter.taps)
    scores = reading.read(tokens[:, :-1], torch.tensor([len(text) - 1]))
    drafting = drafter.open(target, 1)
    drafting.begin(Text(tokens, torch.tensor([len(text)])), scores)
    return drafting


def agreement(drafter, target, text, depths, first=1):
    """Return, for each depth, how often the likeliest guess behind a prefix is the target's own.

    The drafter follows the text itself on the way down, as a chain of drafts would.

    Args:
        drafter: The drafter.
        target: The target.
        text: One text, the begin token first.
        depths: Levels.
        first: Shortest prefix, in inputs.
    """
    from unison.speculation import tree as trees
    from unison.speculation.tree import Level

    everything = torch.tensor([text])
    told = target.open(1).read(everything, torch.tensor([len(text)]), logits=True)
    truth = told.logits[0].argmax(-1).tolist()
    hits = [0] * depths
    for end in range(first, len(text)):
        drafting = begun(drafter, target, text[: end + 1])
        tree = trees.planted(torch.tensor([text[end]]), target.vocab_size)
        for depth in range(min(depths, len(text) - end)):
            node = torch.tensor([[depth]])
            said = drafting.guess(tree, node).logq[0, 0].argmax()
            hits[depth] += int(said) == truth[end + depth]
            if end + depth + 1 == len(text):
                break
            token = torch.tensor([[text[end + depth + 1]]])
            zero = torch.zeros_like(token)
            level = Level(token, node, zero, zero, zero.float(), zero + 1.0, zero == 0)
            tree = trees.sized(trees.grown(tree, level), 1, depth + 1)
    return hits
