"""Test the drafts of a chain one by one."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from unison.speculation import descent
from unison.speculation.choosing import Chooser
from unison.speculation.descent import Descent
from unison.speculation.parts import Law, Scores, Verdict
from unison.speculation.tree import How, Tree, child, law_of


@dataclass(frozen=True)
class Token:
    """Accept x ~ q with min(1, p(x) / q(x)); else write a draw from norm(max(p - q, 0)).

    Speculative sampling (Leviathan et al., 2023, arXiv:2211.17192; Chen et al., 2023,
    arXiv:2302.01318). A draft that was not drawn counts as drawn from the law that is sure of it.

    Law: the target's. A draft passes with 1 - TV(p, q).
    """

    lossless: ClassVar[bool] = True
    takes: ClassVar[frozenset[How]] = frozenset({How.FIXED, How.IID, How.PROBE})
    branches: ClassVar[bool] = False

    def verify(self, tree: Tree, law: Law, scores: Scores, choose: Chooser) -> Verdict:
        """Return the drafts before the first that fails, and its correction."""
        del scores
        way = Descent.at_root(tree)
        for depth in range(tree.height + 1):
            logp = law.at(way.node)
            node, there = child(tree, way.node, 0)
            logq = drawn_from(tree, way.node, node)
            draft = tree.tokens.gather(1, node[:, None])
            ratio = (logp.gather(1, draft) - logq.gather(1, draft))[:, 0].double().exp()
            tested = way.going & there
            passed = tested & choose.accept(ratio.clamp(max=1), node, tested)
            left = torch.where(there[:, None], residual(logp, logq), logp.double())
            token = choose.write(left, way.depth, way.going & ~passed)
            way = way.down(node, passed, depth).stopped(token, ~passed)
        return descent.verdict(tree, way)


def drawn_from(tree: Tree, parent: Tensor, node: Tensor) -> Float[Tensor, "B V"]:
    """Return the law a child was drawn from: certainty where it was not drawn."""
    own = tree.tokens.gather(1, node[:, None]).clamp(min=0)
    sure = torch.full((len(own), tree.laws.shape[-1]), -torch.inf, device=own.device)
    sure = sure.to(tree.laws.dtype).scatter(1, own, 0.0)
    if not tree.laws.shape[1]:
        return sure
    fixed = tree.how.gather(1, node[:, None]) == How.FIXED
    return torch.where(fixed, sure, law_of(tree, parent))


def residual(logp: Float[Tensor, "B V"], logq: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
    """Return log norm(max(p - q, 0)), float64; log p where nothing is left.

    Nothing is left only where p = q, whose drafts never fail.
    """
    left = (logp.double().exp() - logq.double().exp()).clamp(min=0)
    empty = left.sum(1, keepdim=True) <= 0
    return torch.where(empty, logp.double(), left.log())
