"""What every drafter in the tables promises: whatever it guesses, the text is the target's own."""

import functools

import pytest
import tiny
import torch
from causal import greedy, network
from causal import target as target_of

from unison.drafters import DRAFTERS, KINDS
from unison.drafters.block_diffusion import BlockDiffusion
from unison.drafters.preparing import prepared
from unison.drafters.smaller import Smaller
from unison.models import Transformer, TransformerConfig
from unison.process import Absorbing
from unison.speculation import Ask, Speculation, Text, speculate
from unison.speculation.builders.chain import Chain
from unison.speculation.builders.given import Given
from unison.speculation.builders.gumbel import Gumbel
from unison.speculation.builders.top_k import TopK
from unison.speculation.policies.plain import Plain
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.tree import committable

VOCAB = 7
PROMPTS = [[1, 2, 3, 1, 2], [], [4], [5, 5, 5, 5]]
ROOMS = [7, 5, 6, 3]
LAWS = {"chain": Chain(), "drawn tree": Gumbel((2, 2))}


def masked() -> BlockDiffusion:
    """A diffusion model of the target's tokens, by hand: ``of`` reads it off language models."""
    config = TransformerConfig(
        vocab_size=VOCAB, num_states=VOCAB + 1, hidden=16, depth=1, heads=2, max_length=64,
        attention="bidirectional", time="none",
    )  # fmt: skip
    made = Transformer(config).eval()
    tiny.randomise(made, 2.0)
    process = Absorbing(VOCAB)

    def believing(valid):
        def denoise(xt, t, focus=None, earlier=None):
            del earlier
            with torch.no_grad():
                said = made(xt, t, valid).log_softmax(-1)
            if focus is None:
                return said
            return said.gather(1, focus.positions[..., None].expand(-1, -1, VOCAB))

        return denoise

    return BlockDiffusion(process, believing, 32, 4)


MADE = {
    "smaller": lambda: Smaller(target_of(5, depth=1)),
    "block_diffusion": masked,
}


@functools.cache
def fitted(table: str, name: str):
    """A drafter with its default settings and fresh weights, and the target it drafts for."""
    net, target = network(3), target_of(3)
    if table == "DRAFTERS":
        drafter = MADE.get(name, DRAFTERS[name])()
    else:
        torch.manual_seed(0)
        kind = KINDS[name]()
        drafter = kind.drafter(kind.module(net).eval(), net)
    return prepared(target, drafter), drafter


def asked(target, rows=(0, 1, 2, 3)) -> Ask:
    most = max(map(len, PROMPTS)) + 1
    tokens = [[target.begin, *PROMPTS[i], *[0] * (most - 1 - len(PROMPTS[i]))] for i in rows]
    length = torch.tensor([len(PROMPTS[i]) + 1 for i in rows])
    return Ask(Text(torch.tensor(tokens), length), [ROOMS[i] for i in rows], torch.tensor([*rows]))


@functools.cache
def plainly() -> list[list[int]]:
    return [greedy(network(3), [0, *p], room) for p, room in zip(PROMPTS, ROOMS, strict=True)]


@functools.cache
def drawn() -> list[list[int]]:
    return speculate(Speculation(), target_of(3), asked(target_of(3))).tokens


CASES = [
    *(("DRAFTERS", name) for name in DRAFTERS),
    *(("KINDS", name) for name in KINDS if name != "judge"),  # a judge verifies
]
each = pytest.mark.parametrize(("table", "name"), CASES, ids=[name for _, name in CASES])


def builders(drafter) -> dict:
    return {"given": Given()} if drafter.copies else LAWS


@each
def test_at_temperature_0_the_text_is_plain_greedy_whatever_is_drafted(table, name):
    target, drafter = fitted(table, name)
    for label, builder in builders(drafter).items():
        how = Speculation(drafter, builder, scheduler=Fixed(3), policy=Plain(0.0))
        assert how.lossless
        drafts = []
        spoken = speculate(
            how, target, asked(target), lambda seen, drafts=drafts: drafts.append(seen.outcome.tree)
        )
        assert spoken.tokens == plainly(), label
        assert any(bool((tree.live & (tree.depth > 0)).any()) for tree in drafts), label
        for tree in drafts:
            assert bool(((tree.depth <= 3) | ~committable(tree)).all()), label


@each
def test_at_temperature_1_the_text_is_plain_decodings_seed_by_seed(table, name):
    target, drafter = fitted(table, name)
    builder = Given() if drafter.copies else TopK(3, 9)
    how = Speculation(drafter, builder, scheduler=Fixed(3))
    together = speculate(how, target, asked(target))
    assert together.tokens == drawn()
    alone = speculate(how, target, asked(target, [2]))
    assert alone.tokens[0] == together.tokens[2]
    assert alone.rounds[0] == together.rounds[2]


def test_what_needs_no_model_needs_no_settings():
    assert DRAFTERS.keys() - MADE.keys() == {
        "early_exit", "jacobi", "lookahead", "lookup", "suffix"
    }  # fmt: skip
    for name in DRAFTERS.keys() - MADE.keys():
        assert DRAFTERS[name]() == DRAFTERS[name]()


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_known_by_its_own_name_or_as_settings_of_another(name):
    kind = KINDS[name]()
    assert KINDS[kind.name]().name == kind.name
    assert type(KINDS[kind.name]()) is type(kind)
