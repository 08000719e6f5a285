"""One guess after another."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.speculation.choosing import Chooser, Live
from unison.speculation.growth import noted
from unison.speculation.parts import Drafting, GoOn, Guess, Plan, rows_of
from unison.speculation.tree import How, Level, Node, Tree, grown, sized, told


@dataclass(frozen=True)
class Chain:
    """Draft one token after another, as in Leviathan et al. (2023, arXiv:2211.17192).

    Attributes:
        sampled: Draw each draft from the drafter's law; else take the likeliest.
    """

    copies: ClassVar[bool] = False
    branches: ClassVar[bool] = False
    sampled: bool = False

    @property
    def draws(self) -> frozenset[How]:
        """How its nodes come about."""
        return frozenset({How.IID if self.sampled else How.FIXED})

    def size(self, depth: int) -> int:
        """Return ``depth``."""
        return depth

    def build(
        self, root: Tree, drafting: Drafting, plan: Plan, choose: Chooser, go_on: GoOn
    ) -> Tree:
        """Return the chain."""
        tree, device = root, root.tokens.device
        room = rows_of([min(d, n) for d, n in zip(*plan, strict=True)], device)
        last = torch.zeros_like(root.tokens[:, 0])
        going = room > 0
        for depth in range(max((min(d, n) for d, n in zip(*plan, strict=True)), default=0)):
            going = going & go_on(tree) & (room > depth)
            if tree.tokens.device.type == "cpu" and not bool(going.any()):
                break
            guess = drafting.guess(tree, last[:, None])
            tree = noted(tree, last[:, None], guess)
            logq = guess.logq[:, 0]
            if self.sampled:
                token, how = choose.guess(logq, last, 0, going), How.IID
                tree = told(tree, last[:, None], guess.logq)
            else:
                token, how = logq.argmax(1), How.FIXED
            number = tree.tokens.shape[1]
            tree = grown(tree, _link(token, last, going, how, guess))
            tree = sized(tree, 1, depth + 1)
            last = torch.where(going, number, last)
        return tree


def _link(token: Node, last: Node, live: Live, how: How, guess: Guess) -> Level:
    at = token[:, None]
    zero = torch.zeros_like(at)
    logq = guess.logq[:, 0].gather(1, at)
    sure = torch.ones_like(logq) if guess.confidence is None else guess.confidence
    return Level(at, last[:, None], zero, zero + int(how), logq, sure, live[:, None])
