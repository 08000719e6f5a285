import functools
import itertools
import math

import causal
import laws
import pytest
import torch
from speculating import TableDrafter, joint, random_law

from unison.drafters.smaller import Smaller
from unison.prob import rng
from unison.speculation import Ask, Speculation, Table, Text, prove, speculate
from unison.speculation.builders.beam import Beam
from unison.speculation.builders.chain import Chain
from unison.speculation.builders.greedy import Greedy
from unison.speculation.builders.gumbel import Gumbel
from unison.speculation.builders.multi import Multi
from unison.speculation.builders.static import Static
from unison.speculation.builders.top_k import TopK
from unison.speculation.choosing import Keyed
from unison.speculation.loop import refusal
from unison.speculation.parts import Plan
from unison.speculation.policies.plain import Plain
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.tree import How, planted
from unison.speculation.verifiers import VERIFIERS

P, Q = functools.cache(random_law(1)), functools.cache(random_law(2))
# For trees with very many ways.
P2, Q2 = functools.cache(random_law(1, 2)), functools.cache(random_law(2, 2))
BUILDERS = {
    "static": Static(((0,), (0, 0), (1,), (1, 1), (0, 2))),
    "top_k": TopK(2, 4),
    "two chains": Multi((2, 1)),
    "one then two": Multi((1, 2)),
    "gumbel": Gumbel((2, 1)),
    "gumbel below": Gumbel((1, 2)),
    "greedy": Greedy((2, 1)),
    "greedy below": Greedy((1, 2)),
}
LOSSLESS = [name for name, kind in VERIFIERS.items() if kind.lossless]


def holey(law, seed: int):
    """Return the law with a token that cannot come here and there."""

    def thinned(text: tuple[int, ...]):
        weights = list(law(text))
        weights[(sum(text) + seed + len(text)) % 3] = 0.0
        if len(text) % 2:
            weights[(sum(text) + seed + len(text) + 1) % 3] = 0.0
        return [weight / sum(weights) for weight in weights]

    return thinned


@pytest.mark.parametrize("nodes", [None, 3])
@pytest.mark.parametrize("name", BUILDERS)
def test_every_tree_keeps_the_targets_law(name: str, nodes: int | None):
    tried = 0
    p, q, size = (P2, Q2, 2) if name in ("two chains", "one then two") else (P, Q, 3)
    for verifier in LOSSLESS:
        try:
            drafter = TableDrafter(q, size)
            how = Speculation(drafter, BUILDERS[name], VERIFIERS[verifier](), Fixed(2, nodes))
        except ValueError:
            continue
        proof = prove(how, Table(p, size), [1], 3)
        assert proof.error < 1e-12, verifier
        tried += 1
    assert tried >= 1


@pytest.mark.parametrize("name", ["one then two", "gumbel", "greedy", "top_k", "static"])
def test_laws_of_few_tokens_make_small_trees_and_no_bias(name: str):
    for verifier in LOSSLESS:
        drafter = TableDrafter(holey(Q, 1))
        try:
            how = Speculation(drafter, BUILDERS[name], VERIFIERS[verifier](), Fixed(2))
        except ValueError:
            continue
        assert prove(how, Table(P, 3), [1], 3).error < 1e-12, verifier


def test_children_drawn_without_replacement_are_refused_by_the_rule_for_independent_ones():
    how = Speculation(TableDrafter(Q), Multi((2, 1)), VERIFIERS["match"]())
    assert refusal(how) is None
    with pytest.raises(ValueError, match="WITHOUT"):
        Speculation(TableDrafter(Q), Gumbel((2,)), VERIFIERS["kseq"]())


def test_a_proof_of_a_stochastic_beam_is_refused():
    how = Speculation(TableDrafter(Q), Beam(2))
    with pytest.raises(ValueError, match="draws real numbers"):
        prove(how, Table(P, 3), [1], 3)


def beams(count: int, width: int, depth: int):
    """Return trees of a stochastic beam after the text (1), one for each of many seeds."""
    drafting = TableDrafter(Q).open(Table(P, 3), count)
    tokens = torch.tensor([[0, 1]]).expand(count, 2)
    drafting.begin(Text(tokens, torch.full((count,), 2)), None)  # type: ignore
    choose = Keyed(rng.rows(7, 0, count), torch.zeros(count).long(), torch.zeros(count).long())
    plan = Plan((depth,) * count, (width * depth,) * count)
    root = planted(torch.ones(count).long(), 3, torch.float64)
    return Beam(width).build(root, drafting, plan, choose, lambda tree: tree.live[:, 0])


def test_a_stochastic_beam_draws_whole_continuations_without_replacement():
    tree = beams(5_000, 2, 2)
    last = tree.tokens.shape[1] - 2
    above = tree.tokens.gather(1, tree.parent[:, last:])
    pairs = torch.stack([above, tree.tokens[:, last:]], dim=2).tolist()
    seen = [tuple(tuple(text) for text in row) for row in pairs]
    chance = joint(Q, (1,), 2)
    truth = {
        (a, b): chance[a] * chance[b] / (1 - chance[a])
        for a, b in itertools.permutations(chance, 2)
    }
    laws.assert_law(seen, truth)


def test_children_in_a_stochastic_beam_are_ranked_as_they_arrived():
    tree = beams(5_000, 2, 1)
    both = tree.tokens[:, 1:].tolist()
    q = Q((1,))
    truth = {(a, b): q[a] * q[b] / (1 - q[a]) for a, b in itertools.permutations(range(3), 2)}
    laws.assert_law([tuple(row) for row in both], truth)
    assert tree.rank[:, 1:].tolist() == [[0, 1]] * len(both)
    assert (tree.how[:, 1:] == How.WITHOUT).all()
    for row, (first, second) in enumerate(both[:20]):
        told = tree.logq[row, 1:].tolist()
        assert told == pytest.approx([math.log(q[first]), math.log(q[second])], abs=1e-6)


def test_a_stochastic_beam_keeps_the_targets_law():
    count = 5_000
    how = Speculation(TableDrafter(Q), Beam(2), VERIFIERS["rrs"](), Fixed(2))
    text = Text(torch.tensor([[0, 1]]).expand(count, 2), torch.full((count,), 2))
    ask = Ask(text, [3] * count, rng.rows(11, 0, count))
    spoken = speculate(how, Table(P, 3), ask)
    laws.assert_law([tuple(row) for row in spoken.tokens], joint(P, (1,), 3))


def test_a_model_that_drafts_for_itself_is_right_after_every_pruned_tree():
    target = causal.target(3)
    text = Text(torch.tensor([[0, 3, 1], [0, 2, 2]]), torch.tensor([3, 2]))
    ask = Ask(text, [25, 25], torch.zeros(2).long())
    how = Speculation(
        Smaller(target), TopK(2, 6), scheduler=Fixed(3), policy=Plain(temperature=0.0)
    )
    spoken = speculate(how, target, ask)
    plain = speculate(Speculation(policy=Plain(temperature=0.0)), target, ask)
    assert spoken.tokens == plain.tokens
    alone = Speculation(Smaller(target), Chain(), scheduler=Fixed(1), policy=Plain(temperature=0.0))
    assert sum(spoken.forwards) < sum(speculate(alone, target, ask).forwards)
