"""Test the drafts of a chain one by one."""

from dataclasses import dataclass
from typing import ClassVar

from unison.speculation import descent
from unison.speculation.choosing import Chooser
from unison.speculation.descent import Descent, children
from unison.speculation.parts import Law, Scores, Verdict
from unison.speculation.rejection import chance, drawn_from, guessed, left_over
from unison.speculation.tree import How, Tree, nobody


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
        for _ in range(tree.height):
            below = children(tree, way)
            draft, there = below.token[:, 0], below.there[:, 0]
            if nobody(there):
                break
            p, drawn = law.at(way.node).double().exp(), drawn_from(below, 0, guessed(tree, way))
            passed = there & choose.accept(chance(p, drawn, draft), below.node[:, 0], there)
            failed = there & ~passed
            token = choose.write(left_over(p, drawn).log(), way.depth, failed)
            way = way.down(tree, draft, passed).stopped(token, failed)
        token = choose.write(law.at(way.node), way.depth, way.going)
        return descent.verdict(tree, way.stopped(token, way.going))
