"""Networks of continuous data: halves that make a whole, rows alone, answers of 0 when fresh."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from unison.models.continuous import (
    NETWORKS,
    DiTConfig,
    PointsConfig,
    UNetConfig,
    WaveConfig,
    build,
    name_of,
)
from unison.models.continuous.wave import _folded, _unfolded

CASES = {
    "unet": (UNetConfig(2, 8, (1, 2, 2), 2, (1,), 3, 1), (2, 8, 12), (1, 8, 12)),
    "dit": (DiTConfig(2, 2, 16, 2, 2, 3, 1), (2, 4, 6), (1, 4, 6)),
    "wave": (WaveConfig(2, 8, (1, 2), 2, (1,), 2, 4, 3, 1), (2, 16), (1, 16)),
    "points": (PointsConfig(5, 16, 2, 3, 4), (5,), (4,)),
}
networks = pytest.mark.parametrize("name", sorted(CASES))


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def alive(config, seed=0):
    """A network none of whose weights is 0."""
    net = build(config, seed).double().eval()
    g = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for weight in net.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=g, dtype=torch.float64)
    return net


def case(name, rows=3):
    config, shape, beside = CASES[name]
    return (
        alive(config),
        drawn(rows, *shape),
        torch.linspace(-1.5, 1.1, rows, dtype=torch.float64),
        torch.tensor([0, -1, 2])[:rows],
        drawn(rows, *beside, seed=9),
    )


def test_every_network_of_the_table_has_a_case():
    assert CASES.keys() == NETWORKS.keys()
    assert all(name_of(config) == name for name, (config, _, _) in CASES.items())


@networks
def test_the_answer_of_a_fresh_network_is_zero_and_stays_finite_far_outside(name):
    config, shape, beside = CASES[name]
    net = build(config).double().eval()
    noise = torch.tensor([-3.0, 3.0], dtype=torch.float64)
    x = 1e4 * drawn(2, *shape)
    assert net(x, noise, torch.tensor([0, 1]), drawn(2, *beside)).abs().max() == 0
    _, x, noise, label, known = case(name)
    assert alive(config)(1e4 * x, noise, label, known).isfinite().all()


@networks
def test_equal_seeds_make_equal_weights_and_leave_the_global_stream_alone(name):
    config = CASES[name][0]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two, other = build(config, 3), build(config, 3), build(config, 4)
    assert torch.equal(torch.rand(3), expected)
    pairs = list(zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    others = other.state_dict().values()
    assert not all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), others, strict=True)
    )


@networks
def test_every_input_changes_the_answer(name):
    net, x, noise, label, beside = case(name)
    base = net(x, noise, label, beside)
    assert (net(x + 0.1, noise, label, beside) - base).abs().max() > 1e-4
    assert (net(x, noise + 0.1, label, beside) - base).abs().amax(tuple(range(1, x.ndim))).min() > 0
    assert (net(x, noise, label, beside + 0.1) - base).abs().max() > 1e-4
    moved = (net(x, noise, torch.tensor([1, -1, 2]), beside) - base).abs().flatten(1).amax(1)
    assert moved[0] > 1e-6
    assert moved[1:].max() < 1e-10


@networks
def test_label_minus_one_is_what_a_row_without_a_label_gets(name):
    net, x, noise, _, beside = case(name)
    none = net(x, noise, None, beside)
    torch.testing.assert_close(net(x, noise, torch.full((3,), -1), beside), none)
    for known in range(3):
        told = net(x, noise, torch.full((3,), known), beside)
        assert (told - none).abs().flatten(1).amax(1).min() > 1e-6


@networks
def test_a_row_does_not_see_its_batch(name):
    net, x, noise, label, beside = case(name)
    together = net(x, noise, label, beside)
    for i in range(len(x)):
        row = slice(i, i + 1)
        alone = net(x[row], noise[row], label[row], beside[row])
        torch.testing.assert_close(alone, together[row], rtol=1e-9, atol=1e-10)


@networks
def test_gradients_reach_the_events_and_every_weight(name):
    net, x, noise, label, beside = case(name)
    x.requires_grad_()
    net(x, noise, label, beside).square().sum().backward()
    assert x.grad.flatten(1).abs().amax(1).min() > 0
    silent = [n for n, w in net.named_parameters() if w.grad is None or w.grad.abs().max() == 0]
    assert silent == []


@networks
def test_dropout_works_while_training_only(name):
    config, shape, beside = CASES[name]
    net = alive(dataclasses.replace(config, dropout=0.5))
    args = (drawn(2, *shape), drawn(2), torch.tensor([0, 1]), drawn(2, *beside))
    assert torch.equal(net(*args), net(*args))
    net.train()
    assert (net(*args) - net(*args)).abs().max() > 1e-6


def test_a_unet_is_its_encoder_and_its_decoder():
    net, x, noise, label, beside = case("unet")
    features = net.encode(x, noise, label, beside)
    torch.testing.assert_close(
        net.decode(features, noise, label), net(x, noise, label, beside), rtol=0, atol=0
    )
    later = net.decode(features, noise - 0.2, label)
    assert (later - net(x, noise, label, beside)).abs().max() > 1e-6
    assert [h.shape[-2:] for h in [kept[0] for kept in features.skips]] == [(8, 12), (4, 6), (2, 3)]


@pytest.mark.parametrize("levels", [1, 2])
def test_the_outer_levels_of_a_unet_with_what_the_inner_gave_are_the_whole(levels):
    net, x, noise, label, beside = case("unet")
    inner = net.inner(net.encode(x, noise, label, beside), noise, label, levels)
    whole = net(x, noise, label, beside)
    again = net.outer(x, noise, inner, levels, label, beside)
    torch.testing.assert_close(again, whole, rtol=1e-12, atol=1e-12)
    stale = net.outer(x + 0.1, noise, inner, levels, label, beside)
    assert (stale - net(x + 0.1, noise, label, beside)).abs().max() > 1e-6
    with pytest.raises(ValueError, match="1 to 2 outer levels, got 3"):
        net.outer(x, noise, inner, 3, label, beside)


def test_an_image_transformer_sees_where_a_patch_is():
    net, x, noise, label, beside = case("dit")
    whole = net(x, noise, label, beside)
    for axis in (-1, -2):  # whole patches move, so that attention alone would move with them
        moved = net(x.roll(2, axis), noise, label, beside.roll(2, axis)).roll(-2, axis)
        assert (moved - whole).abs().max() > 1e-4


def test_waves_are_folded_into_patches_and_back():
    x = drawn(2, 3, 8)
    folded = _folded(x, 4)
    assert folded.shape == (2, 12, 2)
    assert folded[1, 2 * 4 + 3, 1] == x[1, 2, 1 * 4 + 3]
    assert torch.equal(_unfolded(folded, 4), x)


def test_a_fresh_image_transformer_is_a_patchwise_function():
    """adaLN-zero: with gates at 0 a patch speaks of itself alone, whatever the head."""
    config, shape, beside = CASES["dit"]
    net = build(config).double().eval()
    torch.nn.init.normal_(net.head.weight, generator=torch.Generator().manual_seed(0))
    args = (drawn(2), torch.tensor([0, 1]), drawn(2, *beside))
    x = drawn(2, *shape)
    touched = x.clone()
    touched[:, :, :2, :2] += 1
    moved = (net(touched, *args) - net(x, *args)).abs().amax(1)
    assert moved[:, :2, :2].min() > 1e-6
    assert F.pad(moved[:, :2, :2], (0, 4, 0, 2)).allclose(moved)


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("unet", (2, 8, 10), r"multiples of 4 .* got \(8, 10\)"),
        ("unet", (3, 8, 8), r"2 channels \(axis 1\), got shape \(1, 3, 8, 8\)"),
        ("dit", (2, 4, 5), r"multiples of the patch, 2, got \(4, 5\)"),
        ("wave", (2, 12), "multiple of 8 .* got 12"),
        ("points", (4,), r"5 channels"),
    ],
)
def test_events_of_a_wrong_shape_are_refused(name, shape, said):
    with pytest.raises(ValueError, match=said):
        alive(CASES[name][0])(drawn(1, *shape), drawn(1))


@networks
def test_conditions_that_do_not_fit_are_refused(name):
    net, x, noise, label, beside = case(name)
    with pytest.raises(ValueError, match="beside the events and got none"):
        net(x, noise, label)
    with pytest.raises(ValueError, match="must have shape"):
        net(x, noise, label, beside.repeat_interleave(2, 1))
    plain = alive(dataclasses.replace(CASES[name][0], classes=0, beside_channels=0))
    with pytest.raises(ValueError, match="network without classes"):
        plain(x, noise, label)
    with pytest.raises(ValueError, match="takes nothing there"):
        plain(x, noise, None, beside)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: UNetConfig(width=0), "unet.width must be at least 1, got 0"),
        (lambda: UNetConfig(multipliers=()), "unet.multipliers must be at least one"),
        (lambda: UNetConfig(attention=(2,)), r"levels \[2\]; there are 0 to 1"),
        (lambda: UNetConfig(dropout=1.0), r"unet.dropout must be in \[0, 1\)"),
        (lambda: WaveConfig(stride=3), "wave.stride must be an even number, got 3"),
        (lambda: DiTConfig(width=10), "dit.width must be a multiple of 4, got 10"),
        (lambda: DiTConfig(heads=5), "heads=5"),
        (lambda: PointsConfig(classes=-1), "at least 0, got -1 and 0"),
        (lambda: build("unet"), "makes no network of continuous data; known: DiTConfig"),
    ],
)
def test_impossible_configurations_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
