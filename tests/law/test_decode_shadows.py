"""Shadows of a network: what they see, what sees them, and one layer deep what they say."""

import pytest
import torch

from unison import denoising
from unison.decode import Canvas, decode
from unison.decode.diffusion.composed import Composed
from unison.decode.revise import WINO
from unison.decode.select import Threshold
from unison.denoising import RowDenoiser
from unison.models import Transformer, TransformerConfig
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing, Uniform
from unison.types import Focus

SIZE, PROMPT = 7, 9


def network(depth=1, **changes):
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=SIZE, num_states=SIZE + 1, hidden=16, depth=depth, heads=2, max_length=24,
        time="none", **changes,
    )  # fmt: skip
    net = Transformer(config).eval()
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return net


def focused(*places, rows=1):
    where = torch.tensor([places]).expand(rows, -1)
    return Focus(where, torch.tensor([[0, PROMPT]]).expand(rows, -1))


def texts(rows=1):
    generator = torch.Generator().manual_seed(4)
    return torch.randint(SIZE, (rows, PROMPT), generator=generator)


WHEN = torch.ones(1, dtype=torch.float64)


def test_asking_for_shadows_changes_no_belief():
    """Tokens do not see shadows, at any depth."""
    denoise = RowDenoiser(network(3), Absorbing(SIZE))
    text, focus = texts(), focused(1, 4, 7)
    assert torch.allclose(
        denoise.shadow(text, WHEN, focus)[0], denoise(text, WHEN, focus), atol=1e-5
    )


def test_one_layer_deep_a_shadow_is_the_belief_with_its_own_token_masked():
    """Deeper down the other tokens have seen it and tell: only one layer is exact."""
    denoise = RowDenoiser(network(1), Absorbing(SIZE))
    text = texts()
    for place in range(PROMPT):
        focus = focused(place)
        _, shadow = denoise.shadow(text, WHEN, focus)
        hidden = text.index_fill(1, torch.tensor([place]), SIZE)
        assert torch.allclose(shadow, denoise(hidden, WHEN, focus), atol=1e-5)
        assert not torch.allclose(shadow, denoise(text, WHEN, focus), atol=1e-2)


def test_a_shadow_sees_every_token_but_its_own():
    """One layer deep, change one token at a time: it moves all shadows but the one beside it."""
    denoise, text, every = (
        RowDenoiser(network(1), Absorbing(SIZE)),
        texts(),
        focused(*range(PROMPT)),
    )
    _, before_ = denoise.shadow(text, WHEN, every)
    for place in range(PROMPT):
        other = text.clone()
        other[0, place] = (other[0, place] + 1) % SIZE
        moved = (denoise.shadow(other, WHEN, every)[1] - before_).abs().amax(-1)[0]
        assert moved[place] < 1e-5
        assert (torch.cat([moved[:place], moved[place + 1 :]]) > 1e-5).all()


def test_shadows_see_each_other_as_published():
    denoise, text = RowDenoiser(network(1), Absorbing(SIZE)), texts()
    alone = denoise.shadow(text, WHEN, focused(3))[1]
    beside = denoise.shadow(text, WHEN, focused(3, 5))[1][:, :1]
    assert not torch.allclose(alone, beside, atol=1e-4)


def test_a_shadow_under_block_causal_attention_sees_no_later_block():
    net = network(1, attention="block_causal", block_length=3)
    denoise, text = RowDenoiser(net, Absorbing(SIZE)), texts()
    every = focused(*range(PROMPT))
    _, before_ = denoise.shadow(text, WHEN, every)
    for place in range(PROMPT):
        other = text.clone()
        other[0, place] = (other[0, place] + 1) % SIZE
        moved = (denoise.shadow(other, WHEN, every)[1] - before_).abs().amax(-1)[0] > 1e-5
        assert moved.tolist() == [q // 3 >= place // 3 and q != place for q in range(PROMPT)]


def test_shadows_see_no_padding_and_no_filling():
    """A short row, alone or beside a longer one, with its focus filled up with copies."""
    net = network(2)
    text, valid = texts(2), torch.arange(PROMPT) < torch.tensor([[6], [PROMPT]])
    focus = focused(1, 4, 1, 1, rows=2)
    focus = focus._replace(positions=torch.tensor([[1, 4, 1, 1], [0, 3, 5, 8]]))
    both = RowDenoiser(net, Absorbing(SIZE), valid)
    _, shadow = both.shadow(text, WHEN.expand(2), focus)
    alone = RowDenoiser(net, Absorbing(SIZE))
    _, expected = alone.shadow(text[:1, :6], WHEN, focused(1, 4))
    assert torch.equal(shadow[0, :2], expected[0])
    assert torch.equal(shadow[0, 2], shadow[0, 0])
    again = both.keep(torch.tensor([0])).shadow(text[:1], WHEN, focused(1, 4, 1, 1))[1]
    assert torch.equal(again[0], shadow[0])


def test_on_a_gpu_copies_and_padding_stay_and_still_nobody_sees_them(monkeypatch):
    """There a row keeps its copies and its padding; the mask alone hides them."""
    denoise = RowDenoiser(network(2), Absorbing(SIZE), torch.arange(PROMPT)[None] < 6)
    text, focus = texts(), focused(1, 4, 1, 1)
    expected = denoise.shadow(text, WHEN, focus)
    monkeypatch.setattr(
        denoising,
        "_distinct",
        lambda read: (read, torch.arange(len(read)), torch.arange(len(read))),
    )
    monkeypatch.setattr(denoising, "_trimmed", lambda length, valid: (length, valid))
    for part, wanted in zip(denoise.shadow(text, WHEN, focus), expected, strict=True):
        assert torch.allclose(part[:, :2], wanted[:, :2], atol=1e-5)


def test_shadows_are_refused_where_they_could_not_speak():
    text = texts()
    with pytest.raises(ValueError, match="the Uniform process has no mask"):
        RowDenoiser(network(), Uniform(SIZE)).shadow(text, WHEN, focused(1))
    with pytest.raises(ValueError, match="answers about a position at the one before"):
        RowDenoiser(network(shifted=True), Absorbing(SIZE)).shadow(text, WHEN, focused(1))


def test_wino_decodes_a_network_and_rows_do_not_see_each_other():
    net, process = network(2), Absorbing(SIZE)
    tokens = torch.where(torch.arange(PROMPT) < 2, texts(4), SIZE)
    valid = torch.arange(PROMPT) < torch.tensor([[5], [PROMPT], [7], [PROMPT]])
    given = (torch.arange(PROMPT) < 2) | ~valid
    strategy = Composed(select=Threshold(0.3), revise=WINO(0.6), block_length=4)
    key = Key(rng.rows(0, 0, 4))
    canvas = Canvas(torch.where(valid, tokens, 0), given, valid=valid)
    together = decode(strategy, process, RowDenoiser(net, process, valid), canvas, key)
    assert (together.tokens[~given] < SIZE).all()
    for i in range(4):
        part = Canvas(canvas.tokens[i : i + 1], given[i : i + 1], valid=valid[i : i + 1])
        one = RowDenoiser(net, process, valid[i : i + 1])
        alone = decode(strategy, process, one, part, Key(key.seed[i : i + 1]))
        assert torch.equal(alone.tokens[0], together.tokens[i])
        assert alone.nfe[0] == together.nfe[i]
