"""A quantised network is the network of the weights it holds."""

import copy
import dataclasses
import functools

import numpy as np
import pytest
import torch

from unison.engine.quantised import QuantisedEmbedding, QuantisedLinear, kernel, quantised
from unison.engine.quantised.block import QuantisedBlock
from unison.models import Transformer, TransformerConfig, stepping
from unison.models.network import Call
from unison.models.packed import packed as together
from unison.models.view import remember

LLAMA = TransformerConfig(
    vocab_size=41, num_states=43, hidden=64, depth=2, heads=4, kv_heads=2, max_length=64,
    attention="causal", time="none", norm="rms", mlp="swiglu", mlp_hidden=96, tied=True,
)  # fmt: skip
GPT = dataclasses.replace(
    LLAMA, norm="layer", mlp="gelu", tied=False, kv_heads=None, qkv_bias=True, out_bias=True
)
QWEN = dataclasses.replace(LLAMA, qk_norm=True, qkv_bias=True)
BIASED = dataclasses.replace(LLAMA, qkv_bias=True, out_bias=True)
SHAPES = {"llama": LLAMA, "biased": BIASED, "gpt": GPT, "qwen": QWEN}


@pytest.fixture(params=["compiled", "dense"])
def way(request, monkeypatch):
    if request.param == "compiled":
        pytest.importorskip("numba", reason="needs the extra 'fast'")
    else:
        monkeypatch.setattr(kernel, "available", lambda: False)
        monkeypatch.setattr("unison.engine.quantised.block._able", lambda: False)
    return request.param


def network(shape):
    """Weights of all layers, norms and biases at random."""
    made, draw = Transformer(SHAPES[shape]), np.random.default_rng(0)
    with torch.no_grad():
        for weight in made.parameters():
            spread = weight.shape[-1] ** -0.5 if weight.ndim > 1 else 0.3
            drawn = torch.from_numpy(draw.standard_normal(weight.shape)).float() * spread
            weight.copy_(drawn if weight.ndim > 1 else 1 + drawn)
    return made.eval()


@functools.cache
def packed(shape, bits, way="compiled"):
    """One such network, quantised: to be read, not changed; blocks are chosen as it is made."""
    del way
    return quantised(network(shape), bits)


def dense(of):
    """The ordinary network with the weights that a quantised one holds."""
    made = Transformer(of.config)
    made.load_state_dict(of.state_dict())
    return made.eval()


def tokens(rows, length):
    drawn = np.random.default_rng(1).integers(0, 41, (rows, length))
    return torch.from_numpy(drawn)


def causal(start, count, rows=1):
    places = torch.arange(start, start + count).repeat(rows, 1)
    return places, torch.arange(start + count) <= places[..., None]


def read(net, text, sizes):
    """Logits of a text read in pieces against a memory, which is grown past what is seen."""
    memory, start, said = remember(net.config, len(text), 50, torch.zeros(1)), 0, []
    with torch.no_grad():
        for count in sizes:
            places, sees = causal(start, count, len(text))
            step = stepping.Step(text[:, start : start + count], places, places, sees)
            said.append(stepping.logits(net, stepping.read(net, step, memory)))
            start += count
    return torch.cat(said, 1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", ["4", "8"])
def test_logits_are_those_of_the_dense_network_with_the_same_weights(way, shape, bits):
    made, text = packed(shape, bits, way), tokens(2, 20)
    with torch.no_grad():
        expected = dense(made)(text, torch.zeros(2))
        torch.testing.assert_close(made(text, torch.zeros(2)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sizes", [(20,), (1,) * 20, (7, 1, 12)])
def test_a_text_read_in_pieces_has_the_logits_of_the_whole(way, shape, sizes):
    made, text = packed(shape, "4", way), tokens(3, 20)
    with torch.no_grad():
        expected = dense(made)(text, torch.zeros(3))
    torch.testing.assert_close(read(made, text, sizes), expected, rtol=1e-5, atol=1e-5)


def test_pieces_and_neighbours_do_not_change_a_bit():
    pytest.importorskip("numba", reason="needs the extra 'fast'")
    made, text = packed("llama", "4"), tokens(3, 20)
    one = read(made, text[1:2], (1,) * 20)
    assert torch.equal(read(made, text[1:2], (20,)), one)
    assert torch.equal(read(made, text, (5, 15))[1:2], one)


def test_a_branch_of_a_tree_is_read_as_if_it_were_alone():
    pytest.importorskip("numba", reason="needs the extra 'fast'")
    made, text = packed("llama", "4"), tokens(1, 20)
    memory = remember(made.config, 1, 50, torch.zeros(1))
    places, sees = causal(0, 20)
    with torch.no_grad():
        stepping.read(made, stepping.Step(text, places, places, sees), memory)
        # A branch of two tokens beside another that shares neither slots nor sight.
        slots = torch.tensor([[20, 21, 22, 23]])
        where = torch.tensor([[20, 20, 21, 21]])
        seen = torch.zeros(1, 4, 24, dtype=torch.bool)
        seen[..., :20] = True
        for query, keys in enumerate([(20,), (21,), (20, 22), (21, 23)]):
            seen[0, query, list(keys)] = True
        drafts = torch.tensor([[3, 5, 7, 9]])
        tree = stepping.read(made, stepping.Step(drafts, where, slots, seen), memory)
    said = stepping.logits(made, tree)
    for branch, words in ((0, (3, 7)), (1, (5, 9))):
        line = torch.cat([text, torch.tensor([words])], 1)
        alone = read(made, line, (20, 1, 1))[:, -2:]
        torch.testing.assert_close(said[:, branch::2], alone, rtol=1e-6, atol=2e-6)


def test_the_state_is_that_of_the_dense_network():
    plain, made = network("llama"), packed("llama", "8")
    assert list(made.state_dict()) == list(plain.state_dict())
    again = quantised(dense(made), "exact")  # what lies on a grid stays there
    for name, weight in made.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)


def test_exactly_takes_the_fewest_bits_that_change_nothing():
    four = dense(packed("llama", "4"))
    made = quantised(four)
    assert {block.mlp.down.bits for block in made.blocks} == {4}
    assert made.embed.bits == made.head.bits == 8
    with torch.no_grad():
        four.blocks[1].mlp.down.weight.copy_(packed("llama", "8").blocks[1].mlp.down.weight)
    assert [block.mlp.down.bits for block in quantised(four).blocks] == [4, 8]


def test_weights_on_no_grid_are_refused_where_the_model_may_not_change():
    with pytest.raises(ValueError, match=r"blocks.0.attention.qkv: 256 of 256 groups .* bits='8'"):
        quantised(network("llama"))


def test_a_tied_head_and_the_embedding_are_one_table():
    made = packed("llama", "4")
    assert isinstance(made.embed, QuantisedEmbedding)
    assert isinstance(made.head, QuantisedLinear)
    assert made.head.weights.data_ptr() == made.embed.weights.data_ptr()
    assert sum(weight.numel() for weight in made.parameters()) == 5 * 64  # norms


def test_the_network_given_stays_as_it_was():
    plain = network("llama")
    before = copy.deepcopy(plain.state_dict())
    made = quantised(plain, "4")
    made.norm.weight.data.zero_()
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, before[name])


@pytest.mark.parametrize("changed", [copy.deepcopy, lambda net: net.double().float()])
def test_a_network_that_was_read_is_read_as_it_is_once_changed(way, changed):
    before, text = quantised(network("biased"), "4"), tokens(1, 9)
    first = read(before, text, (4, 5))
    after = changed(before)
    with torch.no_grad():
        for block in after.blocks:
            block.mlp_norm.weight.neg_()
            block.attention.qkv.bias.neg_()
        expected = dense(after)(text, torch.zeros(1))
    said = read(after, text, (4, 5))
    torch.testing.assert_close(said, expected, rtol=1e-5, atol=1e-5)
    assert float((said - first).abs().max()) > 0.1


def test_a_padded_batch_goes_the_way_of_any_block():
    made = packed("llama", "4")
    assert all(isinstance(block, QuantisedBlock) for block in made.blocks)
    text, valid = tokens(2, 9), torch.ones(2, 9, dtype=torch.bool)
    valid[1, 6:] = False
    with torch.no_grad():
        expected = dense(made)(text, torch.zeros(2), valid)
        torch.testing.assert_close(made(text, torch.zeros(2), valid), expected)


def test_layers_of_odd_width_are_refused():
    odd = Transformer(dataclasses.replace(LLAMA, hidden=16, heads=2))
    with pytest.raises(ValueError, match=r"blocks\.0\.attention\.qkv: a row of 16 weights is not"):
        quantised(odd, "8")


@pytest.mark.parametrize("shape", ["llama", "gpt"])
def test_whether_calls_pass_together_is_known_without_a_dense_embedding(shape, monkeypatch):
    """It is asked at every step, and a dense table would cost more than the step."""
    made = packed(shape, "8")
    calls = [Call(torch.arange(n)[None], torch.ones(1)) for n in (5, 9)]
    want = [made(*call) for call in calls]
    monkeypatch.setattr(QuantisedEmbedding, "weight", property(lambda _: pytest.fail("made dense")))
    for got, alone in zip(together(made, calls), want, strict=True):
        torch.testing.assert_close(got, alone, rtol=1e-5, atol=1e-5)
