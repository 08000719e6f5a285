"""Let a trained head overrule the target where a draft is good, if not what it would have said."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from unison.speculation import descent
from unison.speculation.choosing import Chooser
from unison.speculation.descent import Descent, children
from unison.speculation.parts import Law, Scores, Verdict
from unison.speculation.rejection import chance, drawn_from, guessed, left_over
from unison.speculation.tree import How, Tree, nobody


@dataclass(frozen=True)
class Judge:
    """Accept a draft that ``Token`` accepts, or that a head finds right.

    Judge decoding (Bachmann et al., 2025, arXiv:2501.19309). The head reads what the target's
    output layer reads after the draft; the first draft that fails is corrected by the target.

    Law: with a head that finds nothing right the target's, with one that finds all right the
    drafter's, up to the longest chain; in between neither.

    Attributes:
        head: From a vector to the logit that its token is right; ``None`` finds nothing right.
        threshold: Probability above which a draft is right.
    """

    lossless: ClassVar[bool] = False
    takes: ClassVar[frozenset[How]] = frozenset({How.FIXED, How.IID, How.PROBE})
    branches: ClassVar[bool] = False
    head: nn.Linear | None = None
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}.")
        if self.head is not None and self.head.out_features != 1:
            raise ValueError(
                f"the head of a judge says one number, got {self.head.out_features}; use "
                "nn.Linear(width, 1)."
            )

    def verify(self, tree: Tree, law: Law, scores: Scores, choose: Chooser) -> Verdict:
        """Return the drafts before the first that fails, and its correction."""
        way, right = Descent.at_root(tree), self._right(tree, scores)
        for _ in range(tree.height):
            below = children(tree, way)
            draft, there = below.token[:, 0], below.there[:, 0]
            if nobody(there):
                break
            p, drawn = law.at(way.node).double().exp(), drawn_from(below, 0, guessed(tree, way))
            fine = there & right.gather(1, below.node[:, :1])[:, 0]
            tested = there & ~fine
            accepted = choose.accept(chance(p, drawn, draft), below.node[:, 0], tested)
            failed = tested & ~accepted
            token = choose.write(left_over(p, drawn).log(), way.depth, failed)
            way = way.down(tree, draft, there & ~failed).stopped(token, failed)
        token = choose.write(law.at(way.node), way.depth, way.going)
        return descent.verdict(tree, way.stopped(token, way.going))

    def _right(self, tree: Tree, scores: Scores) -> Bool[Tensor, "B N"]:
        """Return which nodes the head finds right."""
        if self.head is None:
            return torch.zeros_like(tree.live)
        if self.head.in_features != scores.hidden.shape[-1]:
            raise ValueError(
                f"the head of the judge reads vectors of {self.head.in_features} and the target's "
                f"are {scores.hidden.shape[-1]} long: it was trained for another model."
            )
        with torch.no_grad():
            logit = self.head(scores.hidden.to(self.head.weight.dtype))[..., 0]
        return logit.sigmoid() > self.threshold
