"""Test the one draft that was drawn first, then see whether the target agrees with the others."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unison.speculation import descent
from unison.speculation.choosing import Chooser
from unison.speculation.descent import Children, Descent, children
from unison.speculation.parts import Law, Scores, Verdict
from unison.speculation.rejection import Weights, chance, guessed, left_over
from unison.speculation.tree import How, Node, Tree, nobody


@dataclass(frozen=True)
class Greedy:
    """Accept x ~ d with min(1, p(x) / d(x)), else draw y ~ norm(max(p - d, 0)): go on to y or stop.

    For the k - 1 likeliest tokens G and one more drawn from d, the drafter's law without them
    (Hu et al., 2025, arXiv:2502.18779). ``Token`` for the drawn draft, then ``Match`` for the
    others: a level passes with p(G) + sum_{x not in G} min(p(x), d(x)), the most that such drafts
    allow.

    Law: the target's.
    """

    lossless: ClassVar[bool] = True
    takes: ClassVar[frozenset[How]] = frozenset({How.FIXED, How.LAST, How.PROBE})
    branches: ClassVar[bool] = True

    def verify(self, tree: Tree, law: Law, scores: Scores, choose: Chooser) -> Verdict:
        """Return the way of accepted drafts, and the token behind it."""
        del scores
        way = Descent.at_root(tree)
        for _ in range(tree.height + 1):
            if nobody(way.going):
                break
            below, left = children(tree, way), law.at(way.node).double().exp()
            last = below.there & (below.how == How.LAST)
            node, draft = _at(below.node, last), _at(below.token, last)
            drawn = _drawn(below, guessed(tree, way))
            tested = way.going & last.any(1)
            accepted = tested & choose.accept(chance(left, drawn, draft), node, tested)
            failed = (tested & ~accepted)[:, None]
            left = torch.where(failed, left_over(left, drawn), left)
            token = choose.write(left.log(), way.depth, way.going & ~accepted)
            token = torch.where(accepted, draft, token)
            found = descent.child_with(tree, way, token)
            way = way.down(tree, token, way.going & found).stopped(token, ~found)
        return descent.verdict(tree, way)


def _drawn(below: Children, q: Weights) -> Weights:
    """Return the law of the drawn draft: without its fixed siblings."""
    fixed = (below.there & (below.how == How.FIXED)).to(q.dtype)
    rest = torch.where(torch.zeros_like(q).scatter_add(1, below.token, fixed) > 0, 0.0, q)
    return rest / rest.sum(1, keepdim=True).clamp(min=torch.finfo(q.dtype).tiny)


def _at(values: Int[Tensor, "B K"], where: Bool[Tensor, "B K"]) -> Node:
    """Return the value at the one place of each row, or 0."""
    return torch.where(where, values, 0).sum(1)
