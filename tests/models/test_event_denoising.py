"""Answers of every kind become the same mean: checked on a Gaussian, whose belief is known."""

import math

import pytest
import torch

from unison.event_denoising import (
    PREDICTIONS,
    Preconditioned,
    Residual,
    Spread,
    residual_scales,
)
from unison.models.continuous import PointsConfig, build
from unison.process.continuous import GAUSSIAN, RESIDUAL, FlowMatching, VariancePreserving

MEAN, STD = 0.7, 0.4
LEVELS = torch.tensor([1e-3, 0.05, 0.7, 3.0, 40.0, 150.0], dtype=torch.float64)


def clean_mean(y, s):
    return (MEAN * s**2 + y * STD**2) / (s**2 + STD**2)


def answer_of(prediction, y, s, c):
    """What a perfect network says, from the definitions; c is what scaled y before it."""
    x0 = clean_mean(y, s)
    noise = (y - x0) / s
    return {
        "clean": x0,
        "noise": noise,
        "velocity": c * noise - c * s * x0,
        "flow": noise - x0,
        "score": -(y - MEAN) / (STD**2 + s**2) / c,
        "edm": (x0 - STD**2 / (s**2 + STD**2) * y) * (s**2 + STD**2).sqrt() / (s * STD),
    }[prediction]


def points(rows=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, generator=g, dtype=torch.float64)


def perfect(prediction, process):
    """A network that undoes its inputs to answer as defined."""

    def network(x, noise, label=None, beside=None):
        if process is None:
            s = (4 * noise.double()).exp()[:, None]
            c = 1 / (s**2 + STD**2).sqrt()
        else:
            s, c = process.level(noise.double())[:, None], process.alpha(noise.double())[:, None]
        return answer_of(prediction, x.double() / c, s, c)

    return network


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", [None, *GAUSSIAN])
def test_every_prediction_gives_the_mean_of_a_gaussian(prediction, name):
    process = None if name is None else GAUSSIAN[name]()
    levels = LEVELS
    if process is not None:
        low, high = process.level(torch.tensor([0.01, 1.0], dtype=torch.float64)).tolist()
        levels = LEVELS.clamp(low, high)
    y = MEAN + (levels[:, None] ** 2 + STD**2).sqrt() * points()
    denoise = Preconditioned(
        perfect(prediction, process), prediction, STD, process, dtype=torch.float64
    )
    torch.testing.assert_close(
        denoise(y, levels), clean_mean(y, levels[:, None]), rtol=1e-8, atol=1e-8
    )


def test_velocity_and_flow_are_those_of_their_papers():
    """v = alpha noise - sigma x_0 where alpha^2 + sigma^2 = 1; u = noise - x_0 on a line."""
    t = torch.tensor([0.1, 0.6, 0.95], dtype=torch.float64)
    clean, noise = points(3, 1), points(3, 2)
    for process, prediction in ((VariancePreserving(), "velocity"), (FlowMatching(), "flow")):
        alpha = process.alpha(t)[:, None]
        sigma = alpha * process.level(t)[:, None]
        said = alpha * noise - sigma * clean if prediction == "velocity" else noise - clean
        denoise = Preconditioned(
            lambda x, *_, said=said: said, prediction, process=process, dtype=torch.float64
        )
        y = (alpha * clean + sigma * noise) / alpha
        torch.testing.assert_close(denoise(y, process.level(t)), clean, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("prediction", ["edm", "clean", "velocity", "flow"])
def test_float32_answers_lose_no_digits_at_high_levels(prediction):
    """The mean of size 1 is put together beside a y of size 150; noise and score cannot do it."""
    level = torch.full((64,), 157.0)
    y = 157.0 * points(64).float()
    exact = clean_mean(y.double(), 157.0)
    denoise = Preconditioned(perfect(prediction, None), prediction, STD)
    assert (denoise(y, level) - exact).abs().max() < 2e-6
    assert denoise(y, level).dtype == torch.float32


def test_the_network_sees_variance_one_and_a_quarter_of_the_log():
    seen = []
    denoise = Preconditioned(lambda *args: seen.append(args) or args[0], "edm", STD)
    y = (LEVELS[:, None] ** 2 + STD**2).sqrt() * torch.ones(6, 4, dtype=torch.float64)
    denoise(y, LEVELS)
    x, noise, label, beside = seen[0]
    torch.testing.assert_close(x, torch.ones(6, 4))
    torch.testing.assert_close(noise, LEVELS.log().float() / 4)
    assert label is None
    assert beside is None


def test_a_fresh_edm_network_says_what_a_gaussian_of_the_spread_would():
    denoise = Preconditioned(build(PointsConfig(3, 8, 1)), spread=0.5)
    y = points()
    torch.testing.assert_close(denoise(y, LEVELS), y * (0.25 / (0.25 + LEVELS**2))[:, None])
    assert (denoise(y, LEVELS)[0] - y[0]).abs().max() < 1e-5  # s -> 0: y itself
    assert denoise(y, LEVELS)[-1].abs().max() < 1e-4  # s large: the mean of centred data


def network_with_conditions():
    net = build(PointsConfig(3, 8, 1, classes=2, beside_channels=2)).double()
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(1))
    return net


def test_keep_chooses_rows_with_their_conditions():
    denoise = Preconditioned(
        network_with_conditions(),
        label=torch.tensor([0, 1, -1]),
        beside=points(3, 4)[:, :2],
        dtype=torch.float64,
    )
    y, level = points(3), torch.tensor([0.1, 1.0, 5.0], dtype=torch.float64)
    rows = torch.tensor([2, 0, 0, 1])
    torch.testing.assert_close(
        denoise.keep(rows)(y[rows], level[rows]), denoise(y, level)[rows], rtol=1e-12, atol=1e-12
    )
    with pytest.raises(ValueError, match=r"bound to 3 labels and was asked about 4 events"):
        denoise(y[rows], level[rows])


def test_gradients_flow_where_they_are_asked_for_and_nowhere_else():
    net = network_with_conditions()
    bound = {"label": torch.tensor([0]), "beside": points(1)[:, :2], "dtype": torch.float64}
    level = torch.tensor([0.7], dtype=torch.float64)

    def mean(x, gradients):
        return Preconditioned(net, gradients=gradients, **bound)(x, level)

    x = points(1).requires_grad_()
    silent = mean(x, False)
    torch.testing.assert_close(  # what does not pass the network is a constant times x
        torch.autograd.grad(silent.sum(), x)[0], torch.full_like(x, 1 / (1 + 0.49))
    )
    slope = torch.autograd.grad(mean(x, True).sum(), x)[0]
    tiny = 1e-6
    with torch.no_grad():
        for i in range(3):
            moved = x.clone()
            moved[0, i] += tiny
            difference = (mean(moved, False) - mean(x, False)).sum() / tiny
            assert abs(difference - slope[0, i]) < 1e-5
    with torch.no_grad():
        assert not mean(x, True).requires_grad


def test_refusals_name_what_is_wrong():
    with pytest.raises(ValueError, match=r"spread of the data must be above 0, got 0\.0"):
        Preconditioned(lambda x, *_: x, spread=0.0)
    with pytest.raises(ValueError, match="span must rise"):
        Preconditioned(lambda x, *_: x, span=(1.0, 0.5))


def test_the_variance_of_a_fresh_network_is_what_a_gaussian_of_the_spread_leaves():
    mean = Preconditioned(build(PointsConfig(3, 8, 1)), spread=STD)
    both = Spread(mean, Preconditioned(build(PointsConfig(3, 8, 1), 1), spread=STD))
    y = points()
    told, variance = both.moments(y, LEVELS)
    torch.testing.assert_close(told, mean(y, LEVELS))
    torch.testing.assert_close(both(y, LEVELS), told)
    exact = 1 / (1 / STD**2 + 1 / LEVELS**2)
    torch.testing.assert_close(variance, exact[:, None].expand(-1, 3))
    with pytest.raises(ValueError, match="prediction 'edm', got 'noise'"):
        Spread(mean, Preconditioned(build(PointsConfig(3, 8, 1)), "noise"))


RESIDUAL_STD = 0.3


@pytest.mark.parametrize("name", RESIDUAL)
def test_a_fresh_restorer_is_exact_where_the_residual_is_gaussian(name):
    """x_0 = degraded + N(0, r^2): the posterior given x_t, from the joint covariance."""
    process = RESIDUAL[name]()
    t = torch.tensor([0.02, 0.3, 0.7, 0.98], dtype=torch.float64)
    degraded, x = points(4, 5), points(4, 6)
    a, b, v = (f(t)[:, None] for f in (process.alpha, process.shift, process.variance))
    net = build(PointsConfig(3, 8, 1, beside_channels=3))
    denoise = Residual(net, process, degraded, RESIDUAL_STD)
    gain = a * RESIDUAL_STD**2 / (a**2 * RESIDUAL_STD**2 + v)
    expected = degraded + gain * (x - (a + b) * degraded)
    torch.testing.assert_close(denoise(x, t), expected, rtol=1e-9, atol=1e-9)
    both = Spread(denoise, Residual(net, process, degraded, RESIDUAL_STD))
    left = RESIDUAL_STD**2 - gain * a * RESIDUAL_STD**2
    torch.testing.assert_close(both.moments(x, t)[1], left.expand(-1, 3), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", RESIDUAL)
def test_the_numbers_of_a_restorer_stay_finite_at_both_ends_of_time(name):
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    at = residual_scales(RESIDUAL[name](), ends, RESIDUAL_STD)
    assert all(part.isfinite().all() for part in at)
    if RESIDUAL[name]().variance(ends)[0] == 0:  # nothing is unknown of x_0 = x_t
        assert at.skip[0] == at.about[0] == 1
        assert at.out[0] == 0
    assert at.out[1] > 0


def test_a_restorer_shows_its_network_the_degraded_event_and_keeps_rows_together():
    seen = []

    def network(x, noise, label, beside):
        seen.append((noise, beside))
        return beside[:, :3] * x + noise[:, None]

    process = RESIDUAL["resshift"]()
    degraded, extra, x = points(3, 5), points(3, 7)[:, :1], points(3, 6)
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    denoise = Residual(network, process, degraded, 0.3, beside=extra, dtype=torch.float64)
    whole = denoise(x, t)
    torch.testing.assert_close(seen[0][0], t)
    torch.testing.assert_close(seen[0][1], torch.cat([degraded, extra], 1))
    rows = torch.tensor([2, 2, 0])
    torch.testing.assert_close(denoise.keep(rows)(x[rows], t[rows]), whole[rows])
    with pytest.raises(ValueError, match=r"shape \(3, 3\) and the noisy ones \(2, 3\)"):
        denoise(x[:2], t[:2])


def test_an_infinite_range_is_the_default_and_a_stated_one_is_told():
    assert Preconditioned(lambda x, *_: x).span == (0.0, math.inf)
    assert Preconditioned(lambda x, *_: x, span=(0.01, 80.0)).span == (0.01, 80.0)
