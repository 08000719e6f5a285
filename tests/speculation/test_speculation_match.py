"""Drafts verified by agreement change nothing: the text is plain decoding's, seed by seed."""

import functools

import pytest
import tiny
import torch
from speculating import TableDrafter, random_law

import unison
from unison.decode import decode, start
from unison.decode.autoregressive.left_to_right import LeftToRight
from unison.drafters.early_exit import EarlyExit
from unison.drafters.lookup import Lookup
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Sequential
from unison.speculation import Ask, Speculation, Table, Text, speculate
from unison.speculation.builders.beam import Beam
from unison.speculation.builders.chain import Chain
from unison.speculation.builders.given import Given
from unison.speculation.builders.greedy import Greedy
from unison.speculation.builders.gumbel import Gumbel
from unison.speculation.builders.multi import Multi
from unison.speculation.builders.top_k import TopK
from unison.speculation.policies.plain import Plain
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.schedulers.heuristic import Heuristic
from unison.speculation.verifiers.match import Match
from unison.speculation.verifiers.recursive import Recursive

VOCAB, ROWS, ROOM = 5, 16, 9
P, Q = (functools.cache(random_law(seed, VOCAB)) for seed in (41, 42))
PROMPTS = ((1, 4, 0), (), (2,))
BUILDERS = {
    "chain": Chain(),
    "drawn chain": Chain(sampled=True),
    "top k": TopK(3, 9),
    "multi": Multi((3, 2, 1)),
    "gumbel": Gumbel((3, 2)),
    "greedy": Greedy((3, 2)),
    "beam": Beam(3),
}
SAMPLED = [name for name in BUILDERS if name not in ("chain", "top k")]


@functools.cache
def plainly(prompt: tuple[int, ...]) -> list[list[int]]:
    """Texts by ``decode``, token by token."""

    def denoise(xt, t, focus=None, earlier=None):
        del t, earlier
        assert focus is not None
        rows = zip(xt.tolist(), focus.positions.tolist(), strict=True)
        laws = [[P(tuple(row[:place])) for place in places] for row, places in rows]
        return torch.tensor(laws).log()

    key, process = Key(rng.rows(7, 0, ROWS)), Sequential(VOCAB)
    tokens = torch.tensor([*prompt, *[0] * ROOM]).expand(ROWS, -1)
    given = (torch.arange(tokens.shape[1]) < len(prompt)).expand(ROWS, -1)
    canvas = start(process, tokens, given, key)
    written = decode(LeftToRight(), process, denoise, canvas, key).tokens
    return written[:, len(prompt) :].tolist()


def speculated(prompt: list[int], how: Speculation) -> list[list[int]]:
    text = Text(torch.tensor([[0, *prompt]] * ROWS), torch.full((ROWS,), 1 + len(prompt)))
    ask = Ask(text, [ROOM] * ROWS, rng.rows(7, 0, ROWS))
    return speculate(how, Table(P, VOCAB), ask).tokens


@pytest.mark.parametrize("name", BUILDERS)
def test_agreement_writes_the_text_of_left_to_right_seed_by_seed(name):
    how = Speculation(TableDrafter(Q, VOCAB), BUILDERS[name], Match(), Fixed(3))
    for prompt in PROMPTS:
        assert speculated(list(prompt), how) == plainly(prompt)


def test_how_much_is_drafted_when_changes_no_text():
    how = Speculation(TableDrafter(Q, VOCAB), Chain(sampled=True), Match(), Heuristic(1))
    for prompt in PROMPTS:
        assert speculated(list(prompt), how) == plainly(prompt)


@pytest.mark.parametrize("name", SAMPLED)
def test_another_lossless_rule_writes_other_texts_of_the_same_law(name):
    """What the test above sees is the rule, not the engine: the recursive rule draws otherwise."""
    how = Speculation(TableDrafter(Q, VOCAB), BUILDERS[name], Recursive(), Fixed(3))
    assert speculated([2], how) != plainly((2,))


HOWS = {
    "first blocks, likeliest tree": Speculation(EarlyExit(1), TopK(3, 8), scheduler=Fixed(3)),
    "first blocks, drawn tree": Speculation(EarlyExit(1), Gumbel((2, 2)), scheduler=Fixed(2)),
    "copies": Speculation(Lookup(candidates=3), Given(), scheduler=Fixed(4)),
    "nothing": Speculation(),
}


@pytest.fixture(scope="module")
def model():
    return tiny.model("ar", length=40, depth=2, strength=3.0)


@pytest.mark.parametrize("name", HOWS)
@pytest.mark.parametrize("sampling", [{"temperature": 1.0}, {"temperature": 0.8, "top_k": 5}])
def test_a_network_writes_the_text_of_left_to_right_seed_by_seed(model, name, sampling):
    asked = {"num": 2, "new_tokens": 14, "seed": 5} | sampling
    prompts = ["", "the the the"]
    plain = unison.generate(model, prompts, strategy=LeftToRight(stop_at_end=True), **asked)
    drafted = unison.generate(model, prompts, strategy=HOWS[name], **asked)
    assert [one.tokens for one in drafted] == [one.tokens for one in plain]
    assert len({tuple(one.tokens) for one in plain}) == len(plain)
    assert isinstance(HOWS[name].policy, Plain)
