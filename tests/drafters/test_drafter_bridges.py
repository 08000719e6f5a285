"""One checkpoint that drafts by diffusion and verifies left to right."""

import dataclasses

import numpy as np
import pytest
import tiny
import torch

from unison.decode.diffusion.composed import Composed
from unison.drafters.both_modes import left_to_right, self_speculation
from unison.drafters.smaller import Smaller
from unison.models import Transformer, TransformerConfig
from unison.process import Absorbing
from unison.speculation import Ask, Speculation, Text, prove, speculate
from unison.speculation.builders.chain import Chain
from unison.speculation.policies.plain import Plain
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.verifiers.token import Token

SMALL = TransformerConfig(
    vocab_size=3,
    num_states=4,
    hidden=16,
    depth=2,
    heads=2,
    max_length=32,
    time="none",
    attention="block_causal",
    block_length=2,
)


def toy(**changes):
    """A language model with the smallest vocabulary; 3 is its mask and 2 its end."""
    network = Transformer(dataclasses.replace(SMALL, **changes)).eval()
    tiny.randomise(network, 2.0)
    return dataclasses.replace(
        tiny.model("mdlm"), network=network.double(), process=Absorbing(3), eos_ids=(2,)
    )


def by_definition(model, text):
    """The next token's law: blocks of one, asked about a mask behind the text or at its end."""
    config = model.network.config
    ones = dataclasses.replace(config, attention="block_causal", block_length=1, shifted=False)
    network = Transformer(ones).eval().double()
    network.load_state_dict(model.network.state_dict())
    inputs = [2, *text] if config.shifted else [2, *text, 3]
    with torch.no_grad():
        return network(torch.tensor([inputs]), torch.zeros(1))[0, -1].softmax(-1)


MODES = [
    {},
    {"shifted": True},
    {"attention": "causal", "block_length": None},
    {"attention": "causal", "block_length": None, "shifted": True},
    {"positions": "learned"},
]


@pytest.mark.parametrize("changes", MODES)
def test_the_left_to_right_mode_says_what_blocks_of_one_say(changes):
    model = toy(**changes)
    target = left_to_right(model)
    text = [0, 1, 1, 2, 0, 1]
    reading = target.open(1)
    scores = reading.read(torch.tensor([[2, *text]]), torch.tensor([4]), logits=True)
    said = scores.logits[0].softmax(-1)
    for i in range(len(text) + 1):
        truth = by_definition(model, text[:i]).float()
        torch.testing.assert_close(said[i], truth, atol=1e-5, rtol=0)
    again = reading.read(torch.tensor([[1, 0]]), torch.tensor([2]), logits=True)  # after 2 0 1 1
    truth = by_definition(model, [0, 1, 1, 1, 0]).float()
    torch.testing.assert_close(again.logits[0, -1].softmax(-1), truth, atol=1e-5, rtol=0)


@pytest.mark.parametrize("changes", MODES[:3])
@pytest.mark.parametrize("strategy", [None, Composed(steps=1)])
def test_self_speculation_keeps_the_law_of_the_left_to_right_mode(changes, strategy):
    target, drafter = self_speculation(toy(**changes), 2, strategy)
    sampled = strategy is None
    how = Speculation(drafter, Chain(sampled=sampled), Token(), Fixed(2))
    proof = prove(how, target, [1, 0], 2)
    assert proof.error <= 2e-7  # logits are single precision
    assert proof.forwards < 3


@pytest.mark.parametrize("changes", MODES[:2])
def test_at_temperature_0_the_text_is_that_of_the_definition(changes):
    model = toy(**changes)
    target, drafter = self_speculation(model, 3)
    tokens = torch.tensor([[2, 0, 1, 1], [2, 1, 0, 0]])
    ask = Ask(Text(tokens, torch.tensor([4, 2])), [16, 9], torch.arange(2))
    how = Speculation(drafter, scheduler=Fixed(3), policy=Plain(0.0))
    spoken = speculate(how, target, ask)
    for row, prompt in enumerate([[0, 1, 1], [1]]):
        text = list(prompt)
        for _ in range(ask.room[row]):
            text.append(int(by_definition(model, text).argmax()))
        assert spoken.tokens[row] == text[len(prompt) :]


def test_a_mode_that_reads_masks_drafts_for_itself_with_full_acceptance():
    target = left_to_right(toy())
    how = Speculation(Smaller(target), scheduler=Fixed(3), policy=Plain(0.0))
    ask = Ask(Text(torch.tensor([[2, 0, 1]]), torch.tensor([3])), [16], torch.tensor([0]))
    seen = []
    speculate(how, target, ask, lambda one: seen.append(one.outcome.accepted))
    assert seen == [(3,)] * 4


def test_accepted_drafts_leave_no_mask_in_memory():
    target = left_to_right(toy())
    text = np.random.default_rng(0).integers(0, 3, 9).tolist()
    ask = Ask(Text(torch.tensor([[2, *text]]), torch.tensor([10])), [15], torch.tensor([0]))
    drafter = self_speculation(toy(), 4)[1]
    how = Speculation(drafter, scheduler=Fixed(4), policy=Plain(0.0))
    plain = speculate(Speculation(policy=Plain(0.0)), target, ask)
    assert speculate(how, target, ask).tokens == plain.tokens


@pytest.mark.parametrize(
    ("family", "changes", "reason"),
    [
        ("mdlm", {}, "see what follows"),
        ("mdlm", {"shifted": True}, "see what follows"),
        ("duo", {}, "how noisy"),
    ],
)
def test_a_model_without_such_a_mode_is_refused_with_the_reason(family, changes, reason):
    with pytest.raises(ValueError, match=f"no left-to-right mode: .*{reason}"):
        left_to_right(tiny.model(family, **changes))


def test_a_model_that_reads_its_earlier_belief_is_refused():
    with pytest.raises(ValueError, match=r"no left-to-right mode: .*earlier belief"):
        left_to_right(toy(self_conditioning=True))
