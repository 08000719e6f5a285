"""Every lossless rule writes the target's law: the whole engine, gone through choice by choice."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from speculating import TableDrafter, random_law

from unison.speculation import Speculation, Table, prove
from unison.speculation.builders.chain import Chain
from unison.speculation.builders.greedy import Greedy
from unison.speculation.builders.gumbel import Gumbel
from unison.speculation.builders.multi import Multi
from unison.speculation.builders.top_k import TopK
from unison.speculation.parts import Builder
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.tree import How
from unison.speculation.verifiers.block import Block
from unison.speculation.verifiers.greedy import Greedy as Optimal
from unison.speculation.verifiers.kseq import KSeq
from unison.speculation.verifiers.match import Match
from unison.speculation.verifiers.recursive import Recursive
from unison.speculation.verifiers.token import Token

EXACT = 1e-12

SHAPES = [((2,), 1), ((3,), 1), ((3, 1), 2), ((2,), 2)]  # branching and depth
CASES = [
    *[(rule, Chain(sampled=drawn), 3) for rule in (Token, Block) for drawn in (True, False)],
    *[(rule, Chain(sampled=True), 2) for rule in (Recursive, KSeq, Match)],
    *[(rule, Multi(wide), depth) for rule in (Recursive, KSeq, Match) for wide, depth in SHAPES],
    *[(rule, Gumbel(wide), depth) for rule in (Recursive, Match) for wide, depth in SHAPES],
    *[
        (rule, Greedy(wide), depth)
        for rule in (Recursive, Match, Optimal)
        for wide, depth in SHAPES
    ],
    *[(rule, TopK(2, 4), 2) for rule in (Recursive, Match, Optimal)],
]


def sparse(law, seed: int, vocab: int):
    """Return a law without some of its tokens; which ones depends on the text."""
    gaps = np.random.default_rng(seed).random((5, vocab + 1, vocab)) < 0.4

    def gapped(text):
        weights = np.array(law(text))
        out = gaps[min(len(text), 4), [-1, *text][-1]].copy()
        out[int(weights.argmax())] = False
        weights = np.where(out, 0.0, weights)
        return (weights / weights.sum()).tolist()

    return gapped


def laws(kind: str, vocab: int):
    """Return a target's and a drafter's law."""
    p, q = random_law(11, vocab), random_law(12, vocab)
    if kind == "sharp":
        p, q = random_law(13, vocab, 6.0), random_law(14, vocab, 4.0)
    if kind == "zeros":
        p, q = sparse(p, 1, vocab), sparse(q, 2, vocab)
    if kind == "equal":
        q = p
    return functools.cache(p), functools.cache(q)


KINDS = ("zeros", "sharp", "random", "equal")


def quick(number: int, kind: str) -> bool:
    """Whether a case is always run: laws with gaps, where most can go wrong, and one kind more."""
    return kind == "zeros" or (number % 2 == 0 and kind == KINDS[1 + number // 2 % 3])


@pytest.mark.parametrize(
    ("rule", "builder", "depth", "kind"),
    [
        pytest.param(*case, kind, marks=[] if quick(number, kind) else pytest.mark.slow)
        for number, case in enumerate(CASES)
        for kind in KINDS
    ],
)
def test_a_lossless_rule_writes_the_targets_law(rule, builder, depth, kind):
    vocab = 2 if depth > 1 else 3
    p, q = laws(kind, vocab)
    how = Speculation(TableDrafter(q, vocab), builder, rule(), Fixed(depth))
    assert how.lossless
    assert prove(how, Table(p, vocab), [1], depth + 1).error <= EXACT


@pytest.mark.parametrize(
    ("rule", "builder"),
    [(KSeq, Multi((4,))), (Recursive, Gumbel((3,))), (Optimal, Greedy((3,))), (Block, Chain(True))],
)
def test_four_tokens_of_a_sharp_law_are_exact_too(rule, builder):
    p, q = laws("sharp", 4)
    how = Speculation(TableDrafter(q, 4), builder, rule(), Fixed(1))
    assert prove(how, Table(p, 4), [1], 2).error <= EXACT


@pytest.mark.parametrize("rule", [Recursive, KSeq, Match])
def test_drafts_that_repeat_each_other_go_on_together(rule):
    """Two chains alike in their first token are two guesses of the second."""
    law = functools.cache(lambda text: [1.0, 0.0] if len(text) < 2 else [0.5, 0.5])
    both, one = (
        Speculation(TableDrafter(law, 2), Multi(wide), rule(), Fixed(2)) for wide in ((2, 1), (1,))
    )
    if rule is Match:  # y agrees with one of two drafts: 3/4, not 1/2; a third token otherwise
        assert passes(both, law, 2) == pytest.approx(1 + 3 / 4)
        assert passes(one, law, 2) == pytest.approx(1 + 1 / 2)
    assert prove(both, Table(law, 2), [1], 3).error <= EXACT


def passes(how: Speculation, law, vocab: int) -> float:
    """Return the mean number of drafts accepted in a round with room for all of them."""
    proof = prove(how, Table(law, vocab), [1], 3)
    # One forward reads the prompt, one is of the round; a third where a draft failed.
    return 2 - (proof.forwards - 2)


def test_block_verification_accepts_more_than_token_by_token():
    p, q = laws("random", 2)
    target = Table(p, 2)
    by = {
        rule: prove(Speculation(TableDrafter(q, 2), Chain(True), rule(), Fixed(3)), target, [1], 4)
        for rule in (Token, Block)
    }
    assert by[Block].forwards < by[Token].forwards - 0.01


@dataclass(frozen=True)
class Mislabelled:
    """A builder that says its drafts were drawn independently."""

    copies: ClassVar[bool] = False
    branches: ClassVar[bool] = True
    builder: Builder

    @property
    def draws(self) -> frozenset[How]:
        return frozenset({How.IID})

    def size(self, depth: int) -> int:
        return self.builder.size(depth)

    def build(self, root, drafting, plan, choose, go_on):
        tree = self.builder.build(root, drafting, plan, choose, go_on)
        return tree._replace(how=torch.where(tree.depth > 0, int(How.IID), tree.how))


def test_drafts_without_replacement_are_biased_under_the_rule_with_replacement():
    far = []
    for seed in range(5):
        p, q = random_law(seed, 5, 1.0), random_law(seed + 100, 5, 1.0)
        proof = prove(
            Speculation(TableDrafter(q, 5), Mislabelled(Gumbel((3,))), Recursive(), Fixed(1)),
            Table(p, 5),
            [1],
            1 + 1,
        )
        far.append(proof.distance)
    assert 0.03 < np.mean(far) < 0.15


@pytest.mark.parametrize(
    ("rule", "builder"),
    [(KSeq, Gumbel()), (KSeq, TopK()), (Optimal, Multi()), (Optimal, Gumbel()), (KSeq, Greedy())],
)
def test_drafts_that_a_rule_is_not_lossless_for_are_refused(rule, builder):
    with pytest.raises(ValueError, match="biased"):
        Speculation(TableDrafter(random_law(1)), builder, rule())


@pytest.mark.parametrize("rule", [Token, Block])
def test_trees_are_refused_by_rules_of_chains(rule):
    with pytest.raises(ValueError, match="chains"):
        Speculation(TableDrafter(random_law(1)), Multi(), rule())
