"""Test sibling after sibling, each against what the ones before have left."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch

from unison.speculation import descent
from unison.speculation.choosing import Chooser
from unison.speculation.descent import Descent, children
from unison.speculation.parts import Law, Scores, Verdict
from unison.speculation.rejection import chance, drawn_from, guessed, left_over
from unison.speculation.tree import How, Node, Tree, nobody


@dataclass(frozen=True)
class Recursive:
    """Accept x ~ d with min(1, r(x) / d(x)), from r = p on; else r <- norm(max(r - d, 0)).

    Recursive rejection sampling. What d is, the tree says: the parent's law q for siblings drawn
    independently (SpecInfer, Miao et al., 2023, arXiv:2305.09781), q without the siblings before
    for those drawn without replacement (recursive speculative decoding, Jeon et al., 2024,
    arXiv:2402.14160), and certainty for those not drawn. After the last, the token is drawn from
    what is left.

    Law: the target's. What counts is that each draft was drawn from d given those before it, so
    whether there is another sibling may depend on them.
    """

    lossless: ClassVar[bool] = True
    takes: ClassVar[frozenset[How]] = frozenset(How)
    branches: ClassVar[bool] = True

    def verify(self, tree: Tree, law: Law, scores: Scores, choose: Chooser) -> Verdict:
        """Return the way of accepted drafts, and the correction of the last level's."""
        del scores
        return descent.walked(tree, partial(_level, tree, law, choose))


def _level(tree: Tree, law: Law, choose: Chooser, way: Descent) -> Descent:
    """Return the way after the children at its end were tested."""
    below, q = children(tree, way), guessed(tree, way)
    left = law.at(way.node).double().exp()
    passed: Node = torch.full_like(way.node, -1)
    for number in range(below.node.shape[1]):
        tested = below.there[:, number] & (passed < 0)
        if nobody(tested):
            break
        token, drawn = below.token[:, number], drawn_from(below, number, q)
        accepted = choose.accept(chance(left, drawn, token), below.node[:, number], tested)
        passed = torch.where(tested & accepted, token, passed)
        failed = tested & ~accepted
        left = torch.where(failed[:, None], left_over(left, drawn), left)
    token = choose.write(left.log(), way.depth, way.going & (passed < 0))
    return way.down(tree, passed, way.going & (passed >= 0)).stopped(token, passed < 0)
