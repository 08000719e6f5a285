"""The target's own blocks draft, some of them left out."""

import numpy as np
import pytest
import speculating
import tiny
import torch

from unison.drafters.early_exit import EarlyExit
from unison.engine.reading import target_of
from unison.models import Transformer
from unison.speculation import Ask, Speculation, Table, Text, speculate
from unison.speculation.builders.chain import Chain
from unison.speculation.parts import nothing
from unison.speculation.policies.plain import Plain
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.tree import planted
from unison.speculation.verifiers.token import Token


@pytest.fixture(scope="module")
def model():
    return tiny.model("ar", length=64, depth=4, strength=3.0)


def asked(target, room):
    tokens = torch.tensor(np.random.default_rng(1).integers(0, target.vocab_size, (3, 9)))
    tokens[:, 0] = target.begin
    return Ask(Text(tokens, torch.tensor([9, 3, 1])), room, torch.arange(3), (2,))


@pytest.mark.parametrize("drafter", [EarlyExit(), EarlyExit(1), EarlyExit(4, (1, 2)), EarlyExit(0)])
def test_at_temperature_0_the_text_is_plain_decodings(model, drafter):
    target = target_of(model)
    ask = asked(target, [30, 41, 22])
    plain = speculate(Speculation(policy=Plain(0.0)), target, ask)
    how = Speculation(drafter, scheduler=Fixed(3), policy=Plain(0.0))
    assert speculate(how, target, ask).tokens == plain.tokens


@pytest.mark.parametrize("sampled", [False, True])
def test_with_all_blocks_every_draft_passes(model, sampled):
    target = target_of(model)
    how = Speculation(
        EarlyExit(4),
        Chain(sampled=sampled),
        Token(),
        Fixed(4),
        Plain(1.0 if sampled else 0.0),
    )
    seen = []
    ask = asked(target, [30, 30, 30])._replace(ends=())
    spoken = speculate(how, target, ask, seen.append)
    assert [one.outcome.accepted for one in seen] == [(4, 4, 4)] * 6
    assert spoken.forwards == [7, 7, 6]  # the last prompt is its begin token alone


def test_it_says_what_a_network_of_those_blocks_alone_would(model):
    whole = model.network
    part = Transformer(tiny.dataclasses.replace(whole.config, depth=2)).eval()
    weights = dict(whole.state_dict())
    for name in part.state_dict():
        taken = name.replace("blocks.1.", "blocks.2.")  # block 1 is left out
        part.state_dict()[name].copy_(weights[taken])
    target = target_of(model)
    drafting = EarlyExit(3, (1,)).open(target, 1)
    tokens = torch.tensor([[target.begin, 3, 1, 4, 1, 5]])
    text = Text(tokens, torch.tensor([6]))
    drafting.begin(text, nothing(target.open(1).read(tokens, text.length)))
    guess = drafting.guess(planted(tokens[:, -1], target.vocab_size), torch.tensor([[0]]))
    with torch.no_grad():
        truth = part(tokens, torch.zeros(1))[0, -1].double().log_softmax(-1)
    torch.testing.assert_close(guess.logq[0, 0], truth, atol=1e-4, rtol=0)
    assert float(guess.confidence[0, 0]) == pytest.approx(float(truth.max().exp()), abs=1e-4)


def test_blocks_that_are_not_there_are_refused(model):
    target = target_of(model)
    with pytest.raises(ValueError, match="depth=5 must be at most"):
        EarlyExit(5).open(target, 1)
    with pytest.raises(ValueError, match="among the first 2"):
        EarlyExit(2, (3,)).open(target, 1)
    with pytest.raises(ValueError, match="no blocks to leave out"):
        EarlyExit().open(Table(speculating.random_law(1), 3), 1)
    with pytest.raises(ValueError, match="at least 0"):
        EarlyExit(-1)
