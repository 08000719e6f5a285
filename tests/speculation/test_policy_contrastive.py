"""Contrasts of two laws, against their formulas on tables and token by token on networks."""

import math

import causal
import pytest
import torch
from contrasting import Brancher, asked, softmax
from speculating import TableDrafter, joint, random_law

from unison.engine.contrast import WeaklyRouted
from unison.engine.reading import NetworkTarget
from unison.models import MixtureConfig
from unison.models.moe import Mixture, Routing, rerouted
from unison.speculation import Speculation, Table, prove, speculate
from unison.speculation.builders.chain import Chain
from unison.speculation.builders.given import Given
from unison.speculation.policies.contrastive import Contrastive
from unison.speculation.policies.plain import Plain
from unison.speculation.proof import own_law
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.second import Prompt
from unison.speculation.tree import planted
from unison.speculation.verifiers.match import Match
from unison.speculation.verifiers.token import Token

EXPERT, AMATEUR = random_law(1), random_law(2)
WEIGHTS = {"1 + beta": (1.5, 0.5), "original": (1.0, 1.0)}
MIXTURE = MixtureConfig(experts=4, chosen=2, hidden=24)


def contrast(strong: float, weak: float, plausible: float, amateur=AMATEUR):
    """The contrasted law of the next token, from the formula."""

    def law(text: tuple[int, ...]):
        p, a = EXPERT(text), amateur(text)
        scores = [
            strong * math.log(p[v]) - weak * math.log(a[v])
            if p[v] >= plausible * max(p)
            else -math.inf
            for v in range(3)
        ]
        return softmax(scores)

    return law


def same(found, want, error=1e-12):
    assert found.keys() == want.keys()
    assert max(abs(found[text] - want[text]) for text in want) < error


@pytest.mark.parametrize("plausible", [0.0, 0.1, 0.6])
@pytest.mark.parametrize(("strong", "weak"), WEIGHTS.values(), ids=WEIGHTS)
def test_the_law_is_the_contrast_of_two_laws(strong: float, weak: float, plausible: float):
    policy = Contrastive(Table(AMATEUR, 3), strong, weak, plausible)
    want = joint(lambda text: contrast(strong, weak, plausible)((1, *text)), (), 3)
    same(own_law(policy, Table(EXPERT, 3), [1], 3), want)


@pytest.mark.parametrize("strong", [1.0, 1.5, 4.0])
def test_an_amateur_that_agrees_changes_nothing(strong: float):
    policy = Contrastive(Table(EXPERT, 3), strong, strong - 1, 0.0)
    same(own_law(policy, Table(EXPERT, 3), [1], 3), joint(EXPERT, (1,), 3))


def test_speculation_writes_the_contrasted_law():
    policy = Contrastive(Table(AMATEUR, 3), plausible=0.2)
    for verifier, sampled in ((Token(), True), (Match(), False)):
        how = Speculation(TableDrafter(random_law(3)), Chain(sampled), verifier, Fixed(2), policy)
        proof = prove(how, Table(EXPERT, 3), [1], 3)
        assert proof.error < 1e-12
        assert proof.forwards < 4  # that of the prompt is one of them


def test_what_the_amateur_rules_out_is_not_ruled_out():
    def sure(text):
        return [0.0, 0.0, 1.0]

    policy = Contrastive(Table(sure, 3), 1.5, 0.5, 0.0)
    law = own_law(policy, Table(EXPERT, 3), [1], 1)
    assert sum(law.values()) == pytest.approx(1, abs=1e-12)
    assert law.get((2,), 0.0) == 0.0
    p = EXPERT((1,))
    assert law[0,] / law[1,] == pytest.approx((p[0] / p[1]) ** 1.5, rel=1e-6)


def test_the_amateur_may_read_another_prompt():
    prompts = (Prompt((2, 2, 0), 1),)
    policy = Contrastive(Table(EXPERT, 3), 1.5, 0.5, 0.0, prompts)
    law = contrast(1.5, 0.5, 0.0, lambda text: EXPERT((2, 2, 0, *text[1:])))
    want = joint(lambda text: law((1, *text)), (), 4)
    same(own_law(policy, Table(EXPERT, 3), [1], 4), want)
    how = Speculation(TableDrafter(random_law(3)), Chain(sampled=True), Token(), Fixed(2), policy)
    assert prove(how, Table(EXPERT, 3), [1], 3).error < 1e-12


@pytest.mark.parametrize("kind", ["amateur", "weak routing", "other prompt"])
@pytest.mark.parametrize("trees", [False, True], ids=["chains", "trees"])
def test_on_networks_trees_of_drafts_write_what_one_token_at_a_time_does(kind: str, trees: bool):
    target = causal.target(21, mixture=MIXTURE)
    amateur = {
        "amateur": causal.target(22, depth=1),
        "weak routing": WeaklyRouted(target),
        "other prompt": target,
    }[kind]
    prompts = None
    if kind == "other prompt":
        prompts = (Prompt((1,), 3), Prompt((5, 2), 0), Prompt((), 1))
    policy = Contrastive(amateur, 2.0, 1.0, 0.0, prompts, Plain(0.0))
    alone = speculate(Speculation(policy=policy), target, asked())
    drafter, builder = (
        (Brancher(), Given()) if trees else (TableDrafter(random_law(5, 7), 7), Chain())
    )
    found = speculate(Speculation(drafter, builder, Match(), Fixed(3), policy), target, asked())
    assert found.tokens == alone.tokens
    plain = speculate(Speculation(policy=Plain(0.0)), target, asked())
    assert alone.tokens != plain.tokens


def weakly(network, text: list[int], routing: Routing) -> torch.Tensor:
    """The weak pass by a whole forward: of every layer the last token alone goes elsewhere."""
    other = rerouted(network, routing)
    mixtures = [part for part in network.modules() if isinstance(part, Mixture)]
    elsewhere = [part for part in other.modules() if isinstance(part, Mixture)]

    def hook(number):
        def last(module, inputs, output):
            return torch.cat([output[:, :-1], elsewhere[number](inputs[0][:, -1:])], dim=1)

        return last

    handles = [one.register_forward_hook(hook(i)) for i, one in enumerate(mixtures)]
    answer = causal.logits(network, text)[-1]
    for handle in handles:
        handle.remove()
    return answer


@pytest.mark.parametrize("routing", [Routing(2, 1), Routing(3, 1), Routing(1, 2)], ids=str)
def test_the_weak_pass_sees_the_past_as_the_strong_one_left_it(routing: Routing):
    target = causal.target(23, mixture=MIXTURE)
    reading = WeaklyRouted(target, *routing).open(2)
    reading.read(torch.tensor([[0, 3, 4], [0, 5, 5]]), torch.tensor([3, 1]))
    texts = [[0, 3, 4], [0]]
    for tokens in ([1, 2], [6, 6], [2, 3]):
        scores = reading.score(planted(torch.tensor(tokens), 7))
        assert scores.logits is not None
        reading.commit(torch.zeros(2, 1, dtype=torch.int64))
        for text, token, said in zip(texts, tokens, scores.logits[:, 0], strict=True):
            text.append(token)
            assert torch.allclose(said.double(), weakly(target.network, text, routing), atol=1e-4)


def test_on_a_tree_only_the_last_token_of_each_way_goes_elsewhere():
    from test_network_reading import ways
    from test_speculation_tree import random_tree

    target = causal.target(24, mixture=MIXTURE)
    reading = WeaklyRouted(target).open(2)
    prompts = [[0, 3, 4], [0, 2]]
    reading.read(torch.tensor([[0, 3, 4], [0, 2, 5]]), torch.tensor([3, 2]))
    tree = random_tree(6, rows=2, nodes=7)
    scores = reading.score(tree)
    assert scores.logits is not None
    for row in range(2):
        for node, way in enumerate(ways(tree, row)):
            want = weakly(target.network, prompts[row] + way, Routing(2, 1))
            assert torch.allclose(scores.logits[row, node].double(), want, atol=1e-4)


@pytest.mark.parametrize("beta", [0.0, 0.5, 3.0])
def test_a_weak_routing_that_is_the_strong_one_decodes_plainly(beta: float):
    target = causal.target(25, mixture=MIXTURE)
    policy = Contrastive(WeaklyRouted(target, 0, 2), 1 + beta, beta, 0.1, plain=Plain(0.0))
    plain = speculate(Speculation(policy=Plain(0.0)), target, asked())
    assert speculate(Speculation(policy=policy), target, asked()).tokens == plain.tokens


def test_rerouting_shares_the_weights_and_leaves_the_network_as_it_was():
    network = causal.network(26, mixture=MIXTURE)
    before = causal.logits(network, [0, 1, 2])
    other = rerouted(network, Routing(2, 1))
    for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
        assert mine is theirs
    assert torch.equal(causal.logits(network, [0, 1, 2]), before)
    assert not torch.allclose(causal.logits(other, [0, 1, 2]), before, atol=1e-2)
    again = rerouted(other, Routing(0, 2))
    assert torch.equal(causal.logits(again, [0, 1, 2]), before)


def test_one_expert_alone_answers_with_weight_one():
    mixture = causal.network(27, mixture=MIXTURE).blocks[0].mlp
    assert isinstance(mixture, Mixture)
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    scores = x @ mixture.router.weight.T
    expert = scores.argsort(-1, descending=True)[:, 2]
    want = []
    for one, number in zip(x, expert.tolist(), strict=True):
        gate, up = (mixture.gate_up[number] @ one).chunk(2)
        want.append(mixture.down[number] @ (torch.nn.functional.silu(gate) * up))
    assert torch.allclose(rerouted(mixture, Routing(2, 1))(x), torch.stack(want), atol=1e-5)


def test_what_cannot_be_contrasted_is_refused():
    with pytest.raises(ValueError, match="target has 3 and the second model 4"):
        Contrastive(Table(random_law(1, 4), 4)).open(Table(EXPERT, 3), 1)
    with pytest.raises(ValueError, match=r"plausible must be in .* got 2\.0"):
        Contrastive(Table(EXPERT, 3), plausible=2.0)
    with pytest.raises(ValueError, match=r"weak at least 0, got 1\.5 and -1\.0"):
        Contrastive(Table(EXPERT, 3), weak=-1.0)
    with pytest.raises(ValueError, match="no experts"):
        WeaklyRouted(causal.target(1))
    with pytest.raises(ValueError, match="may visit 4 experts"):
        WeaklyRouted(NetworkTarget(causal.network(1, mixture=MIXTURE), 0), 3, 2)
    prompts = (Prompt((), 0), Prompt((), 0))
    with pytest.raises(ValueError, match="2 second prompts and 3 rows"):
        Contrastive(Table(EXPERT, 3), prompts=prompts).open(Table(EXPERT, 3), 3)
    with pytest.raises(ValueError, match="first 4 tokens of a text, and the text has 1"):
        own_law(Contrastive(Table(EXPERT, 3), prompts=(Prompt((), 4),)), Table(EXPERT, 3), [1], 1)
