"""Test the drafts of a chain together."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unison.speculation import descent
from unison.speculation.choosing import Chooser
from unison.speculation.descent import Descent, children
from unison.speculation.parts import Law, Scores, Verdict
from unison.speculation.rejection import chance, drawn_from, guessed, left_over
from unison.speculation.tree import How, Tree, nobody


@dataclass(frozen=True)
class Block:
    """Accept as many drafts as the longest one whose own test passes, never mind those before.

    Block verification (Sun et al., 2024, arXiv:2403.10444). Along the chain pi_0 = 1 and
    pi_i = min(1, pi_{i-1} p(x_i) / q(x_i)). The test of the last draft passes with pi; that of an
    earlier one with s / (s + 1 - pi), where s = sum_y max(pi p(y) - q(y), 0) over what follows it.
    The token behind the accepted drafts is drawn from norm(max(pi p - q, 0)). On average at least
    as many drafts pass as with ``Token``.

    Law: the target's. A prefix of drafts is accepted, or a longer one, with pi exactly; hence a
    chain may end early depending on the drafts so far.
    """

    lossless: ClassVar[bool] = True
    takes: ClassVar[frozenset[How]] = frozenset({How.FIXED, How.IID, How.PROBE})
    branches: ClassVar[bool] = False

    def verify(self, tree: Tree, law: Law, scores: Scores, choose: Chooser) -> Verdict:
        """Return the longest prefix that passes, and the token behind it."""
        del scores
        links = _links(tree, law)
        way, pi = links[0].way, links[0].pi  # the empty prefix always passes
        found = ~way.going
        for link in reversed(links[1:]):
            tested = link.there & ~found
            passed = tested & choose.accept(link.test, link.way.node, tested)
            way, pi = way.where(passed, link.way), torch.where(passed, link.pi, pi)
            found = found | passed
        token = choose.write(_behind(tree, law, way, pi).log(), way.depth, way.going)
        return descent.verdict(tree, way.stopped(token, way.going))


class _Link(NamedTuple):
    """A prefix of a chain.

    Attributes:
        way: The way to its last draft.
        there: Whether the row's chain is that long.
        pi: Chance that it is accepted, or a longer one.
        test: Chance that its own test passes.
    """

    way: Descent
    there: Bool[Tensor, " B"]
    pi: Float[Tensor, " B"]
    test: Float[Tensor, " B"]


def _links(tree: Tree, law: Law) -> list[_Link]:
    """Return the prefixes of every length, the empty one first."""
    way = Descent.at_root(tree)
    there = way.going
    pi = torch.ones(len(there), dtype=torch.float64, device=there.device)
    links: list[_Link] = []
    for _ in range(tree.height):
        below = children(tree, way)
        more = there & below.there[:, 0]
        p, draft = law.at(way.node).double().exp(), below.token[:, 0]
        drawn = drawn_from(below, 0, guessed(tree, way))
        s = (pi[:, None] * p - drawn).clamp(min=0).sum(1)
        links.append(_Link(way, there, pi, torch.where(more, _test(pi, s), pi)))
        if nobody(more):
            return links
        pi = torch.where(more, chance(pi[:, None] * p, drawn, draft), pi)
        way, there = way.down(tree, draft, more), more
    return [*links, _Link(way, there, pi, pi)]


def _test(pi: Float[Tensor, " B"], s: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Return s / (s + 1 - pi); 1 where nothing is left that a longer prefix could not bring."""
    whole = s + (1 - pi)
    return torch.where(whole > 0, s / whole.clamp(min=torch.finfo(s.dtype).tiny), 1.0)


def _behind(tree: Tree, law: Law, way: Descent, pi: Float[Tensor, " B"]) -> Float[Tensor, "B V"]:
    """Return the law of the token behind a prefix, unnormalised."""
    p, below = law.at(way.node).double().exp(), children(tree, way)
    if not tree.width:
        return p
    left = left_over(pi[:, None] * p, drawn_from(below, 0, guessed(tree, way)))
    return torch.where(below.there[:, :1], left, p)
