"""Take the longest way whose tokens are all likely enough."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.speculation import descent
from unison.speculation.choosing import Chooser
from unison.speculation.descent import Descent
from unison.speculation.parts import Law, Scores, Verdict
from unison.speculation.tree import How, Node, Tree, ancestors, committable


@dataclass(frozen=True)
class Typical:
    """Accept x where p(x) > min(epsilon, delta exp(-H(p))), H the entropy of p in nats.

    Medusa's typical acceptance (Cai et al., 2024, arXiv:2401.10774). Of the longest ways whose
    drafts all pass, the one likeliest under the target is written, and a token behind it.

    Law: none; it prefers what the drafter drafts.

    Attributes:
        epsilon: No draft more probable than this fails.
        delta: Share of exp(-H(p)) that suffices where the target is unsure.
        greedy: The token behind the way, on which the next drafts rest, is the likeliest, as in
            the paper; else drawn from the target.
    """

    lossless: ClassVar[bool] = False
    takes: ClassVar[frozenset[How]] = frozenset(How)
    branches: ClassVar[bool] = True
    epsilon: float = 0.09
    delta: float = 0.3
    greedy: bool = True

    def __post_init__(self) -> None:
        if not (0 <= self.epsilon <= 1 and 0 <= self.delta <= 1):
            raise ValueError(
                f"epsilon and delta must be in [0, 1], got {self.epsilon} and {self.delta}; 1 and "
                "1 accept almost nothing, 0 whatever is possible."
            )

    def verify(self, tree: Tree, law: Law, scores: Scores, choose: Chooser) -> Verdict:
        """Return the longest way, and the token behind it."""
        del scores
        node, depth = self._best(tree, law)
        at = torch.zeros_like(tree.live).scatter(1, node[:, None], True)
        way = Descent.at_root(tree)._replace(at=at, node=node, depth=depth)
        logp = law.at(node)
        token = logp.argmax(1) if self.greedy else choose.write(logp, depth, way.going)
        return descent.verdict(tree, way.stopped(token, way.going))

    def _best(self, tree: Tree, law: Law) -> tuple[Node, Node]:
        """Return the last node of the best way and its depth."""
        typical = torch.ones_like(tree.live)
        logp = torch.zeros(tree.tokens.shape, dtype=torch.float64, device=tree.tokens.device)
        for number in range(tree.tokens.shape[1]):
            own = law.at(torch.full_like(tree.tokens[:, 0], number)).double()
            entropy = torch.special.entr(own.exp()).sum(1)
            least = (self.delta * torch.exp(-entropy)).clamp(max=self.epsilon)
            after = own.gather(1, tree.tokens.clamp(min=0))
            here = tree.parent == number
            typical = torch.where(here, after.exp() > least[:, None], typical)
            logp = torch.where(here, after, logp)
        way = ancestors(tree)
        passed = (~way | typical[:, None]).all(2) & committable(tree)
        likely = torch.where(way & passed[..., None], logp[:, None], 0.0).sum(2)
        depth = torch.where(passed, tree.depth, -1)
        longest = depth == depth.max(1, keepdim=True).values
        best = torch.where(longest, likely, -torch.inf).argmax(1)
        return best, tree.depth.gather(1, best[:, None])[:, 0]
