"""Contrastive search, against a loop that reads every candidate's text anew."""

import causal
import pytest
import torch
from contrasting import PROMPTS, ROOM, Brancher, V, asked
from speculating import TableDrafter, random_law

from unison.speculation import Speculation, Table, prove, speculate
from unison.speculation.builders.chain import Chain
from unison.speculation.builders.given import Given
from unison.speculation.policies.contrastive_search import ContrastiveSearch
from unison.speculation.policies.plain import Plain
from unison.speculation.proof import own_law
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.verifiers.match import Match
from unison.speculation.verifiers.token import Token


def hidden(made, inputs):
    with torch.no_grad():
        return made.features(torch.tensor([inputs]), torch.zeros(1))[0].double()


def searched(made, inputs, count: int, alpha: float, k: int) -> list[int]:
    """Write token by token, each candidate read with its whole text."""
    text = list(inputs)
    for _ in range(count):
        chance = causal.logits(made, text)[-1].softmax(0)
        before = torch.nn.functional.normalize(hidden(made, text), dim=-1)
        best, choice = -torch.inf, -1
        for token in chance.argsort(descending=True)[:k].tolist():
            own = torch.nn.functional.normalize(hidden(made, [*text, token])[-1], dim=0)
            score = float((1 - alpha) * chance[token] - alpha * (before @ own).max())
            if score > best:
                best, choice = score, token
        text.append(choice)
    return text[len(inputs) :]


@pytest.mark.parametrize("alpha", [0.0, 0.4, 0.6, 0.9, 1.0])
def test_it_is_the_search_of_the_paper_one_token_at_a_time(alpha: float):
    target = causal.target(11)
    policy = ContrastiveSearch(alpha, 4)
    found = speculate(Speculation(policy=policy), target, asked()).tokens
    for prompt, room, text in zip(PROMPTS, ROOM, found, strict=True):
        assert text == searched(target.network, prompt, room, alpha, 4)


def test_the_penalty_matters_here():
    target = causal.target(11)
    texts = {
        alpha: speculate(Speculation(policy=ContrastiveSearch(alpha, 4)), target, asked()).tokens
        for alpha in (0.0, 0.6, 1.0)
    }
    assert texts[0.0] != texts[0.6] != texts[1.0]


def test_without_penalty_it_is_greedy_and_with_one_candidate_too():
    target = causal.target(12)
    greedy = [causal.greedy(target.network, *one) for one in zip(PROMPTS, ROOM, strict=True)]
    for policy in (ContrastiveSearch(0.0, 5), ContrastiveSearch(1.0, 1)):
        assert speculate(Speculation(policy=policy), target, asked()).tokens == greedy


def test_with_the_penalty_alone_the_least_similar_candidate_is_written():
    target = causal.target(13)
    text = speculate(
        Speculation(policy=ContrastiveSearch(1.0, V)), target, asked([[0, 2, 3]], [1])
    ).tokens[0]
    before = torch.nn.functional.normalize(hidden(target.network, [0, 2, 3]), dim=-1)
    alike = [
        float((before @ torch.nn.functional.normalize(one, dim=0)).max())
        for one in (hidden(target.network, [0, 2, 3, token])[-1] for token in range(V))
    ]
    assert text == [min(range(V), key=alike.__getitem__)]


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("verifier", [Match(), Token()], ids=["match", "token"])
def test_speculation_on_top_equals_token_by_token(depth: int, verifier):
    target = causal.target(14)
    policy = ContrastiveSearch(0.6, 3)
    alone = speculate(Speculation(policy=policy), target, asked())
    how = Speculation(TableDrafter(random_law(1, V), V), Chain(), verifier, Fixed(depth), policy)
    assert speculate(how, target, asked()).tokens == alone.tokens


def test_trees_of_drafts_write_the_same_text():
    target = causal.target(14)
    policy = ContrastiveSearch(0.6, 3)
    alone = speculate(Speculation(policy=policy), target, asked())
    found = speculate(Speculation(Brancher(), Given(), Match(), Fixed(3), policy), target, asked())
    assert found.tokens == alone.tokens
    assert sum(found.forwards) < sum(alone.forwards)


def test_every_way_a_drawn_draft_can_fall_writes_the_same_text():
    target = causal.target(15, vocab=3)
    how = Speculation(
        TableDrafter(random_law(2)),
        Chain(sampled=True),
        Token(),
        Fixed(2),
        ContrastiveSearch(0.5, 2),
    )
    proof = prove(how, target, [1, 2], 3)
    assert proof.error < 1e-12
    assert proof.ways > 4
    assert len(own_law(how.policy, target, [1, 2], 3)) == 1


def test_a_good_draft_saves_evaluations():
    target = causal.target(11)
    policy = ContrastiveSearch(0.6, 4)
    text = searched(target.network, [0], 8, 0.6, 4)

    def knows(before):
        law = [0.0] * V
        law[text[len(before)] if tuple(text[: len(before)]) == before else 0] = 1.0
        return law

    how = Speculation(TableDrafter(knows, V), Chain(), Match(), Fixed(3), policy)
    spoken = speculate(how, target, asked([[0]], [8]))
    assert spoken.tokens == [text]
    assert spoken.forwards == [2]


def test_settings_out_of_range_and_targets_of_chains_are_refused():
    with pytest.raises(ValueError, match=r"alpha must be in .* got 1\.5"):
        ContrastiveSearch(1.5)
    with pytest.raises(ValueError, match="candidates must be at least 1, got 0"):
        ContrastiveSearch(0.5, 0)
    with pytest.raises(ValueError, match="reads chains alone"):
        ContrastiveSearch().open(Table(random_law(1), 3, branches=False), 1)


def test_a_table_has_no_hidden_states_so_the_search_is_greedy():
    table = Table(random_law(3), 3)
    assert own_law(ContrastiveSearch(0.6, 2), table, [1], 3) == own_law(Plain(0.0), table, [1], 3)
