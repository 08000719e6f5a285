"""A network of any precision is the network of the weights it holds."""

import copy
import dataclasses
import functools

import numpy as np
import pytest
import torch
from torch import nn

from unison.engine import precision
from unison.engine.quantised import activations, kernel, quantised
from unison.engine.quantised.dynamic import DynamicGelu, DynamicLinear, DynamicSwiGlu
from unison.engine.quantised.halves import HalfLinear
from unison.engine.quantised.network import named
from unison.models import Transformer, TransformerConfig, packed
from unison.models.config import MixtureConfig
from unison.models.network import Call

LLAMA = TransformerConfig(
    vocab_size=41, num_states=43, hidden=64, depth=2, heads=4, kv_heads=2, max_length=64,
    attention="causal", time="none", norm="rms", mlp="swiglu", mlp_hidden=96, tied=True,
)  # fmt: skip
DIFFUSION = TransformerConfig(
    vocab_size=41, num_states=41, hidden=64, depth=2, heads=2, max_length=64, cond_dim=16
)
SHAPES = {
    "llama": LLAMA,
    "diffusion": DIFFUSION,
    "tied": dataclasses.replace(DIFFUSION, tied=True),
    "biased": dataclasses.replace(DIFFUSION, qkv_bias=True, out_bias=True, qk_norm=True),
    "odd": dataclasses.replace(DIFFUSION, hidden=40, mlp_ratio=1.5),
    "mixture": dataclasses.replace(
        LLAMA, tied=False, mixture=MixtureConfig(experts=3, chosen=2, hidden=32, shared=64)
    ),
}


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
def made(shape, bits):
    """One such network, to be read, not changed."""
    return quantised(network(shape), bits)


def dense(of):
    """The ordinary network with the weights that another holds."""
    plain = Transformer(of.config)
    plain.load_state_dict(of.state_dict())
    return plain.eval()


def canvas(rows, length):
    drawn = np.random.default_rng(1).integers(0, 41, (rows, length))
    return torch.from_numpy(drawn), torch.linspace(0.1, 2, rows)


def apart(one, other):
    return float((one - other).norm() / other.norm())


def rounding(plain):
    """The dense network whose layers round every vector they read to bytes, as an oracle."""

    def rounded(layer, given):
        levels, scale = activations._rounded(given[0].flatten(0, -2))
        return ((levels * scale[:, None]).view_as(given[0]),)

    for name, layer in plain.named_modules():
        if isinstance(layer, nn.Linear) and name.rpartition(".")[2] in (
            "qkv", "out", "gate_up", "up", "down", "head",
        ):  # fmt: skip
            layer.register_forward_pre_hook(rounded)
    return plain


@torch.no_grad()
@pytest.mark.parametrize("shape", ["diffusion", "biased", "odd", "mixture"])
def test_bytes_of_both_are_the_dense_network_that_rounds_what_its_layers_read(shape):
    ours, (text, sigma) = made(shape, "dynamic8"), canvas(3, 20)
    plain = dense(ours)
    exact, said = plain(text, sigma), ours(text, sigma)
    want = rounding(plain)(text, sigma)
    # Rounding is a tenth of what it would be if any layer were forgotten; ties may fall apart.
    assert apart(said, want) < 0.3 * apart(want, exact)
    assert apart(said, exact) < 0.04


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("bits", "close"), [("dynamic8", 0.05), ("bfloat16", 0.02)])
def test_logits_are_close_to_those_of_the_network_given(shape, bits, close):
    text, sigma = canvas(3, 20)
    said, want = made(shape, bits)(text, sigma), network(shape)(text, sigma)
    assert said.dtype == torch.float32
    assert 0 < apart(said, want) < close


@torch.no_grad()
@pytest.mark.parametrize("shape", ["llama", "diffusion", "tied", "biased"])
def test_adaptive_grids_have_the_logits_of_the_weights_they_hold(shape):
    ours, (text, sigma) = made(shape, "adaptive4"), canvas(3, 20)
    want = dense(ours)(text, sigma)
    torch.testing.assert_close(ours(text, sigma), want, rtol=1e-4, atol=1e-4)
    assert apart(want, network(shape)(text, sigma)) < 0.4


@pytest.mark.parametrize("shape", ["llama", "diffusion", "tied"])
def test_adaptive_grids_take_sixteen_hundredths_of_the_memory(shape):
    ours, plain = made(shape, "adaptive4"), network(shape)
    layers = [m for m in ours.modules() if hasattr(m, "weights") and not getattr(m, "tied", False)]
    names = [name for name, layer in ours.named_modules() if any(layer is one for one in layers)]
    whole = sum(plain.get_submodule(name).weight.numel() for name in names)
    # Blocks of 16 rows are filled up: 41 rows take the room of 48.
    filled = {"embed": 48 / len(plain.embed.weight), "head": 48 / 41}
    taken = sum(
        one.weights.numel() / filled.get(name, 1) for name, one in zip(names, layers, strict=True)
    )
    assert len(layers) == 2 * 4 + (1 if plain.head is None else 2)
    assert taken <= 0.16 * 4 * whole


@torch.no_grad()
@pytest.mark.parametrize("shape", ["diffusion", "tied", "biased", "llama"])
@pytest.mark.parametrize("bits", ["dynamic8", "bfloat16"])
def test_a_row_of_canvas_has_the_same_logits_beside_others(shape, bits):
    ours, (text, sigma) = made(shape, bits), canvas(5, 24)
    together = ours(text, sigma)
    for row in range(5):
        assert torch.equal(ours(text[row : row + 1], sigma[row : row + 1])[0], together[row])


@torch.no_grad()
@pytest.mark.parametrize("bits", ["dynamic8", "bfloat16"])
def test_calls_that_pass_through_as_one_are_answered_as_if_alone(bits):
    ours, calls = made("diffusion", bits), [Call(*canvas(1, 9)), Call(*canvas(2, 24))]
    alone = [ours(*call) for call in calls]
    assert all(map(torch.equal, packed.packed(ours, calls), alone))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", ["dynamic8", "bfloat16"])
def test_the_state_is_that_of_the_dense_network(shape, bits):
    plain, ours = network(shape), made(shape, bits)
    assert list(ours.state_dict()) == list(plain.state_dict())
    again = quantised(dense(ours), bits)
    for name, weight in ours.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weight, rtol=1e-6, atol=1e-9)


def test_a_tied_head_of_bytes_and_the_embedding_are_one_table():
    ours = made("tied", "dynamic8")
    assert isinstance(ours.head, DynamicLinear)
    assert ours.head.levels.data_ptr() == ours.embed.levels.data_ptr()
    assert isinstance(made("tied", "bfloat16").head, HalfLinear)


def test_every_layer_but_those_of_the_noise_level_is_of_bytes():
    ours = made("diffusion", "dynamic8")
    left = {name for name, layer in ours.named_modules() if isinstance(layer, nn.Linear)}
    assert left == {
        "time.mlp.0", "time.mlp.2", "modulation", "blocks.0.modulation", "blocks.1.modulation",
    }  # fmt: skip
    assert isinstance(ours.blocks[0].mlp, DynamicGelu)
    assert isinstance(made("llama", "dynamic8").blocks[0].mlp, DynamicSwiGlu)


@pytest.mark.parametrize("bits", ["dynamic8", "bfloat16", "adaptive4"])
def test_the_network_given_stays_as_it_was(bits):
    plain = network("tied")
    before = copy.deepcopy(plain.state_dict())
    ours = quantised(plain, bits)
    with torch.no_grad():
        for weight in (*ours.parameters(), *ours.buffers()):
            weight.zero_()
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, before[name])


def test_a_precision_that_there_is_not_is_refused_with_those_there_are():
    listed = "exact, 4, 8, adaptive4, dynamic8, bfloat16, got '5'"
    with pytest.raises(ValueError, match=f"bits must be one of {listed}"):
        named("5")


def test_without_a_compiler_only_bfloat16_is_quick(monkeypatch):
    monkeypatch.setattr(kernel, "able", lambda: False)
    assert not precision.quick("dynamic8")
    assert precision.quick("bfloat16")
