"""A network that lies in a large one is an ordinary network, and shares the large one's weights."""

import copy
import dataclasses
import itertools
from typing import Any

import pytest
import tiny
import torch

from unison import checkpoints
from unison.compress.elastic import Choice, Elastic, cut, view
from unison.compress.elastic.ordering import ordered
from unison.compress.elastic.space import layers_of, shape_of
from unison.language_model import LanguageModel
from unison.models import MixtureConfig, Transformer, sharing

SHAPES = {
    "timed": {},
    "llama": {"mlp": "swiglu", "norm": "rms", "time": "none", "tied": True, "qk_norm": True},
    "grouped": {"kv_heads": 2, "qkv_bias": True, "out_bias": True},
    "learned": {"positions": "learned", "mlp_hidden": 24, "head_width": 6, "norm_bias": True},
}
CHOICES = [Choice(3, 4, 64), Choice(2, 4, 20), Choice(3, 2, 64), Choice(1, 2, 11)]


def _model(shape: str, **changes) -> LanguageModel:
    settings = {"hidden": 16, "heads": 4, "depth": 3, **SHAPES[shape], **changes}
    family = "mdlm" if settings.get("time") == "none" else "duo"
    return tiny.model(family, **{n: v for n, v in settings.items() if n != "time"})


def _network(model: LanguageModel) -> Transformer:
    assert isinstance(model.network, Transformer)
    return model.network


def _choice(model: LanguageModel, choice: Choice) -> Choice:
    return choice._replace(mlp=min(choice.mlp, model.network.config.mlp_width))


def _asked(network: Transformer) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(network.config.vocab_size, (5, 16), generator=generator)
    return network(tokens, torch.tensor([0.1, 0.5, 1.0, 2.0, 4.0]))


@torch.no_grad()
def _silenced(network: Transformer, choice: Choice) -> Transformer:
    """The large network with everything but a choice made to add nothing."""
    made = copy.deepcopy(network)
    kept = layers_of(len(made.blocks), choice.depth)
    blocks: Any = made.blocks
    for number, block in enumerate(blocks):
        attention, mlp = block.attention, block.mlp
        attention.out.weight[:, choice.heads * attention.head_dim :] = 0
        mlp.down.weight[:, choice.mlp :] = 0
        if number in kept:
            continue
        for linear in (attention.out, mlp.down):
            linear.weight.zero_()
            if linear.bias is not None:
                linear.bias.zero_()
    return made


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_a_network_in_a_large_one_is_the_large_one_with_the_rest_silenced(shape, choice):
    model = _model(shape)
    network, choice = _network(model), _choice(model, choice)
    torch.testing.assert_close(
        _asked(view(network, choice)), _asked(_silenced(network, choice)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_what_is_cut_out_answers_as_what_lay_inside_to_the_last_bit(shape, choice, tmp_path):
    model = _model(shape)
    choice = _choice(model, choice)
    small = cut(model, choice)
    wanted = _asked(view(_network(model), choice))
    assert torch.equal(_asked(_network(small)), wanted)
    checkpoints.save(small, tmp_path)
    loaded = checkpoints.load(tmp_path)
    assert torch.equal(_asked(_network(loaded)), wanted)
    assert loaded.network.config == shape_of(model.network.config, choice)
    assert loaded.notes["cut"] == choice._asdict()


def test_gradients_of_an_inside_network_land_on_the_large_one_where_its_weights_lie():
    model = _model("timed")
    network, choice = _network(model), Choice(2, 2, 11)
    small = _network(cut(model, choice))
    for one in (view(network, choice), small):
        _asked(one).square().sum().backward()
    grads: Any = {n: w.grad for n, w in small.named_parameters()}
    blocks: Any = network.blocks
    for number, layer in enumerate(layers_of(3, 2)):
        large = blocks[layer].mlp.up.weight.grad
        torch.testing.assert_close(large[:11], grads[f"blocks.{number}.mlp.up.weight"])
        assert not large[11:].any()
        out = blocks[layer].attention.out.weight.grad
        torch.testing.assert_close(out[:, :8], grads[f"blocks.{number}.attention.out.weight"])
        assert not out[:, 8:].any()
        qkv = blocks[layer].attention.qkv.weight.grad.unflatten(0, (3, 16))
        wanted = grads[f"blocks.{number}.attention.qkv.weight"].unflatten(0, (3, 8))
        torch.testing.assert_close(qkv[:, :8], wanted)
        assert not qkv[:, 8:].any()
    assert all(w.grad is None for w in blocks[1].parameters())
    torch.testing.assert_close(network.embed.weight.grad, grads["embed.weight"])


def test_the_whole_is_the_large_network_itself():
    network = _network(_model("timed"))
    whole = view(network, Choice(3, 4, 64))
    assert whole.config is network.config
    assert torch.equal(_asked(whole), _asked(network))
    assert list(whole.parameters()) == list(network.parameters())


def test_a_network_whose_weights_share_holds_others_too():
    model = _model("timed")
    small = sharing.shared(_network(model), 0.5, 1)
    expanded = sharing.expanded(small)
    for choice in CHOICES:
        assert torch.equal(_asked(view(small, choice)), _asked(view(expanded, choice)))


@pytest.mark.parametrize(
    "choice", [Choice(4, 4, 64), Choice(3, 0, 64), Choice(3, 4, 65), Choice(1, 3, 8)]
)
def test_what_does_not_lie_inside_is_refused(choice):
    with pytest.raises(ValueError, match="does not lie in Choice"):
        view(_network(_model("grouped")), choice)


def test_networks_of_other_libraries_and_experts_are_refused():
    wrapped: Any = torch.nn.Linear(2, 2)
    wrapped.config = tiny.SHAPE
    with pytest.raises(ValueError, match="only unison's own"):
        cut(dataclasses.replace(_model("timed"), network=wrapped), CHOICES[0])
    with pytest.raises(ValueError, match="experts cannot be made elastic"):
        Elastic().space(dataclasses.replace(tiny.SHAPE, mixture=MixtureConfig(2, 1, 8)))


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_in_another_order_units_and_heads_add_up_to_the_same_function(shape):
    network = _network(_model(shape))
    sorted_ = ordered(network)
    torch.testing.assert_close(_asked(sorted_), _asked(network), rtol=1e-4, atol=1e-5)
    blocks: Any = sorted_.blocks
    for block in blocks:
        width = block.mlp.down.weight.shape[1]
        into = (block.mlp.gate_up if hasattr(block.mlp, "gate_up") else block.mlp.up).weight
        score = into.square().sum(1).view(-1, width).sum(0) * block.mlp.down.weight.square().sum(0)
        assert (score.diff() <= 0).all()


def test_settings_say_which_networks_there_are():
    config = _model("grouped").network.config
    space = Elastic(depths=(0.4, 1.0), heads=(0.1, 1.0), mlps=(0.5, 1.0)).space(config)
    assert {one.depth for one in space.choices} == {1, 3}
    assert {one.heads for one in space.choices} == {2, 4}  # two heads share keys and values
    assert {one.mlp for one in space.choices} == {32, 64}
    assert space.choices[-1] == Choice(3, 4, 64)
    assert list(space.complexity) == sorted(space.complexity)
    assert [*space.between] == [*range(1, 7)]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"depths": (0.5,)}, "1 among them"),
        ({"mlps": (0.0, 1.0)}, r"shares in \(0, 1\]"),
        ({"depths": (1.0,), "heads": (1.0,), "mlps": (1.0,)}, "smaller than the whole"),
        ({"drawn": -1}, "at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        Elastic(**settings).space(_model("timed").network.config)


def test_an_unknown_way_of_drawing_is_refused():
    with pytest.raises((ValueError, TypeError), match="often"):  # types are checked first, in tests
        Elastic(sampling="often")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("depth", "kept"), [(d, k) for d in range(1, 9) for k in range(1, d + 1)])
def test_kept_layers_are_spread_evenly(depth, kept):
    layers = layers_of(depth, kept)
    assert len(set(layers)) == kept
    assert layers == sorted(layers)
    assert [depth - 1 - layer for layer in reversed(layers)] == pytest.approx(layers, abs=1)
    gaps = [b - a for a, b in itertools.pairwise(layers)]
    assert not gaps or max(gaps) - min(gaps) <= 1
