"""Selective contrast with a lame prompt, against the paper's steps written out."""

import causal
import numpy as np
import pytest
from contrasting import Brancher, asked
from speculating import TableDrafter, joint, random_law

from unison.speculation import Speculation, Table, prove, speculate
from unison.speculation.builders.chain import Chain
from unison.speculation.builders.given import Given
from unison.speculation.policies.plain import Plain
from unison.speculation.policies.uscd import Uscd
from unison.speculation.proof import own_law
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.second import Prompt
from unison.speculation.verifiers.match import Match
from unison.speculation.verifiers.token import Token

LAW = random_law(1)
LAME = (Prompt((2, 0), 3),)  # in place of a prompt of three tokens
PROMPT = (1, 2, 2)


def mixed(sure: float, least: float, strong: float, weak: float):
    """The law of the next token behind the prompt, step by step; and whether it was contrasted."""

    def law(text: tuple[int, ...]):
        p, n = np.array(LAW((*PROMPT, *text))), np.array(LAW((2, 0, *text)))
        if p.std(ddof=1) > sure:
            return p.tolist()
        score = np.where(p >= least * p.mean(), strong * p - abs(weak) * n, 0.0)
        score = np.maximum(score, 0.0)
        return (score / score.sum()).tolist() if score.sum() > 0 else p.tolist()

    return law


def same(found, want):
    assert found.keys() == want.keys()
    assert max(abs(found[text] - want[text]) for text in want) < 1e-12


SETTINGS = {
    "always": (9.0, 0.0, 1.0, 0.7),
    "gate": (0.3, 0.0, 1.0, 0.7),
    "filter": (9.0, 0.9, 1.0, 0.4),
    "strong": (0.3, 0.5, 2.0, 0.5),
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_law_is_that_of_the_papers_steps(settings):
    sure, least, strong, weak = settings
    policy = Uscd(LAME, sure, least, strong, weak)
    want = joint(mixed(*settings), (), 3)
    same(own_law(policy, Table(LAW, 3), PROMPT, 3), want)
    plain = joint(lambda text: LAW((*PROMPT, *text)), (), 3)
    assert max(abs(want.get(text, 0.0) - plain[text]) for text in plain) > 0.01


def test_where_the_model_always_counts_as_sure_the_law_is_its_own():
    plain = joint(lambda text: LAW((*PROMPT, *text)), (), 3)
    same(own_law(Uscd(LAME, 0.0), Table(LAW, 3), PROMPT, 3), plain)


def test_the_same_prompt_with_no_weight_is_plain_decoding():
    plain = joint(lambda text: LAW((*PROMPT, *text)), (), 3)
    policy = Uscd((Prompt(PROMPT, 3),), 9.0, 0.0, 1.0, 0.0)
    same(own_law(policy, Table(LAW, 3), PROMPT, 3), plain)


def test_the_same_prompt_leaves_the_law_as_it_is_at_any_weight_below_the_first():
    plain = joint(lambda text: LAW((*PROMPT, *text)), (), 3)
    policy = Uscd((Prompt(PROMPT, 3),), 9.0, 0.0, 1.0, 0.7)
    same(own_law(policy, Table(LAW, 3), PROMPT, 3), plain)


def test_where_the_difference_leaves_nothing_the_law_is_the_models_own():
    plain = joint(lambda text: LAW((*PROMPT, *text)), (), 2)
    same(own_law(Uscd((Prompt(PROMPT, 3),), 9.0, 0.0, 1.0, 2.0), Table(LAW, 3), PROMPT, 2), plain)


def test_speculation_writes_the_mixed_law():
    policy = Uscd(LAME, 0.3, 0.5, 1.0, 0.5)
    how = Speculation(TableDrafter(random_law(3)), Chain(sampled=True), Token(), Fixed(2), policy)
    proof = prove(how, Table(LAW, 3), PROMPT, 3)
    assert proof.error < 1e-12
    assert proof.forwards < 4  # that of the prompt is one of them


@pytest.mark.parametrize("trees", [False, True], ids=["chains", "trees"])
def test_on_a_network_trees_of_drafts_write_what_one_token_at_a_time_does(trees: bool):
    target = causal.target(31)
    lame = (Prompt((1,), 3), Prompt((), 0), Prompt((6, 2, 3), 2))
    policy = Uscd(lame, 0.34, 0.1, 1.0, 0.9, Plain(0.0))
    alone = speculate(Speculation(policy=policy), target, asked())
    drafter, builder = Brancher(), Given()
    if not trees:
        drafter, builder = TableDrafter(random_law(5, 7), 7), Chain()
    found = speculate(Speculation(drafter, builder, Match(), Fixed(3), policy), target, asked())
    assert found.tokens == alone.tokens
    assert alone.tokens != speculate(Speculation(policy=Plain(0.0)), target, asked()).tokens
    each = [
        speculate(
            Speculation(policy=Uscd((lame[row],), 0.34, 0.1, 1.0, 0.9, Plain(0.0))),
            target,
            asked([prompt], [room]),
        ).tokens[0]
        for row, (prompt, room) in enumerate(
            zip([[0, 3, 4, 1], [0], [0, 6, 2]], [7, 9, 5], strict=True)
        )
    ]
    assert alone.tokens == each


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sure": -1.0}, "sure and least must be at least 0, got -1.0"),
        ({"sure": 0.1, "least": -2.0}, "got 0.1 and -2.0"),
        ({"sure": 0.1, "strong": 0.0}, "strong must be above 0"),
        ({"sure": 0.1, "weak": -0.7}, "weak at least 0, got 1.0 and -0.7"),
    ],
)
def test_settings_out_of_range_are_refused(settings, said: str):
    with pytest.raises(ValueError, match=said):
        Uscd(LAME, **settings)
