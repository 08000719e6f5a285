"""Take the first of several independent drafts that passes one and the same test."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.speculation import descent
from unison.speculation.choosing import Chooser
from unison.speculation.descent import Descent, children
from unison.speculation.parts import Law, Scores, Verdict
from unison.speculation.rejection import guessed
from unison.speculation.tree import How, Node, Tree, nobody

_HALVINGS = 30  # of rho's bracket, from at most k - 1 wide


@dataclass(frozen=True)
class KSeq:
    """Accept the first of k drafts x ~ q that passes with min(1, p(x) / (rho q(x))).

    SpecTr (Sun et al., 2023, arXiv:2310.15141). With beta(rho) = sum_x min(q(x), p(x) / rho) one
    of them passes with A = 1 - (1 - beta)^k; else the token is drawn from
    norm(p - min(q, p / rho) A / beta). This needs A <= rho beta; rho is the smallest such, by
    bisection. A level passes with at least 1 - (1 - 1/k)^k of what is possible.

    k may shrink from level to level: the drafts of a level are those below the nodes that hold
    the text so far, be they several.

    Law: the target's, where the number of siblings does not depend on their tokens.
    """

    lossless: ClassVar[bool] = True
    takes: ClassVar[frozenset[How]] = frozenset({How.IID, How.PROBE})
    branches: ClassVar[bool] = True

    def verify(self, tree: Tree, law: Law, scores: Scores, choose: Chooser) -> Verdict:
        """Return the way of accepted drafts, and the correction of the last level's."""
        del scores
        return descent.walked(tree, partial(_level, tree, law, choose))


def _level(tree: Tree, law: Law, choose: Chooser, way: Descent) -> Descent:
    """Return the way after the children at its end were tested."""
    below, q = children(tree, way), guessed(tree, way)
    p, count = law.at(way.node).double().exp(), below.there.sum(1)
    rho = smallest_rho(p, q, count)
    shared = torch.minimum(q, p / rho[:, None])
    ratio = (shared / q.clamp(min=torch.finfo(q.dtype).tiny)).gather(1, below.token)
    passed: Node = torch.full_like(way.node, -1)
    for number in range(below.node.shape[1]):
        tested = below.there[:, number] & (passed < 0)
        if nobody(tested):
            break
        accepted = choose.accept(ratio[:, number], below.node[:, number], tested)
        passed = torch.where(tested & accepted, below.token[:, number], passed)
    beta = shared.sum(1)
    part = _some(beta, count) / beta.clamp(min=torch.finfo(beta.dtype).tiny)
    left = (p - shared * part[:, None]).clamp(min=0)
    # Nothing is left only where a draft passes for sure, or none is there.
    left = torch.where((left.sum(1) > 0)[:, None], left, p)
    token = choose.write(left.log(), way.depth, way.going & (passed < 0))
    return way.down(tree, passed, way.going & (passed >= 0)).stopped(token, passed < 0)


def smallest_rho(
    p: Float[Tensor, "*N V"], q: Float[Tensor, "*N V"], count: Int[Tensor, "*N"]
) -> Float[Tensor, "*N"]:
    """Return the smallest rho >= 1 with 1 - (1 - beta)^k <= rho beta, or a hair more.

    Args:
        p: Probabilities of the target.
        q: Probabilities of the drafter.
        count: k, the number of drafts.
    """
    low = torch.ones_like(p[..., 0])
    high = count.to(p.dtype).clamp(min=1)
    for _ in range(_HALVINGS):
        rho = (low + high) / 2
        beta = torch.minimum(q, p / rho[..., None]).sum(-1)
        enough = _some(beta, count) <= rho * beta
        low, high = torch.where(enough, low, rho), torch.where(enough, rho, high)
    return high


def _some(beta: Tensor, count: Tensor) -> Tensor:
    """Return 1 - (1 - beta)^k, exactly where beta is tiny; sums may round to more than 1."""
    return -torch.expm1(count * torch.log1p(-beta.clamp(max=1)))
