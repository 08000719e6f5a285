"""Draw from the target and see whether a draft agrees."""

from dataclasses import dataclass
from typing import ClassVar

from unison.speculation import descent
from unison.speculation.choosing import Chooser
from unison.speculation.descent import Descent
from unison.speculation.parts import Law, Scores, Verdict
from unison.speculation.tree import How, Tree


@dataclass(frozen=True)
class Match:
    """Draw y ~ p at each node; go on to the child that holds y, else write y and stop.

    The rule of deterministic trees (EAGLE-2, Li et al., 2024, arXiv:2406.16858; Medusa, Cai et
    al., 2024, arXiv:2401.10774), and the best possible for them: a level passes with the
    probability that p gives the children. One draw a level; at temperature 0 the greedy path.

    Law: the target's, and with it the text of plain decoding itself, seed by seed.
    """

    lossless: ClassVar[bool] = True
    # Which drafts are there does not depend on the target's draw, however they came about.
    takes: ClassVar[frozenset[How]] = frozenset(How)
    branches: ClassVar[bool] = True

    def verify(self, tree: Tree, law: Law, scores: Scores, choose: Chooser) -> Verdict:
        """Return the way down that the target's own draws take."""
        del scores

        def level(way: Descent) -> Descent:
            token = choose.write(law.at(way.node), way.depth, way.going)
            found = descent.child_with(tree, way, token)
            return way.down(tree, token, way.going & found).stopped(token, ~found)

        return descent.walked(tree, level)
