"""Generators under f-divergences: weights, directions, coverage of modes, a one-step student."""

import pytest
import torch

from unison.distil.continuous.f_distill import (
    Compared,
    FDistil,
    Judge,
    direction,
    f_distil,
    settled,
    weights,
)
from unison.distil.continuous.particles import Cloud
from unison.event_denoising import Preconditioned
from unison.exact.distances import directions, sliced_wasserstein
from unison.exact.mixtures import gaussian
from unison.exact.zoo import gmm5, ring8
from unison.models.continuous import PointsConfig, build
from unison.prob import rng
from unison.prob.divergences import DIVERGENCES
from unison.prob.rng import Key
from unison.train.config import Optimizer

EYE = torch.eye(2, dtype=torch.float64)


def key(seed, rows):
    return Key(rng.rows(seed, 0, rows))


def level(value, rows):
    return torch.full((rows,), value, dtype=torch.float64)


def entropy(points, law):
    """Nats of which mode is nearest."""
    near = torch.cdist(points, law.means).argmin(1)
    shares = torch.bincount(near, minlength=len(law.means)) / len(points)
    return float(torch.special.entr(shares).sum())


@pytest.mark.parametrize("name", DIVERGENCES)
def test_weights_are_those_of_the_divergence_up_to_their_mean(name):
    config = FDistil(divergence=name, bins=0)
    log_ratio = torch.linspace(-2.0, 2.5, 7, dtype=torch.float64)
    h = DIVERGENCES[name].weight(log_ratio.exp())
    torch.testing.assert_close(weights(config, log_ratio, level(1.0, 7)), h / h.mean())


def test_ratios_are_clipped_before_they_weigh():
    config = FDistil(divergence="kl", bins=0)
    found = weights(config, torch.tensor([-50.0, 50.0]), level(1.0, 2))
    assert float(found[1] / found[0]) == pytest.approx(20.0 / 0.1)


def test_a_factor_on_the_ratio_that_depends_on_the_level_is_divided_out():
    config = FDistil(divergence="js", low=0.1, high=10.0, bins=2, ratio_low=1e-4, ratio_high=1e4)
    levels = torch.tensor([0.2, 0.3, 0.5, 2.0, 3.0, 5.0], dtype=torch.float64)
    log_ratio = 0.3 * rng.normal(key(1, 1), 1, 6)[0]
    shifted = log_ratio + torch.tensor([1.5] * 3 + [-0.7] * 3, dtype=torch.float64)
    expected = weights(config, log_ratio, levels)
    torch.testing.assert_close(weights(config, shifted, levels), expected)


def test_the_direction_is_the_weighted_difference_of_scores():
    """Between two Gaussians of one width the means differ by a known constant."""
    width, s = 0.5, 0.8
    left = gaussian(torch.zeros(2, dtype=torch.float64), width**2 * EYE)
    right = gaussian(torch.tensor([1.0, 0.0], dtype=torch.float64), width**2 * EYE)
    events, noise = left.sample(key(2, 40)), rng.normal(key(3, 40), 1, 2)
    laws = Compared(right, left, lambda y, at: right.log_prob(y, at) - left.log_prob(y, at))
    found = direction(laws, events, (level(s, 40), noise), FDistil(divergence="rkl", bins=0))
    share = s**2 / (s**2 + width**2)
    real = right(events + s * noise, level(s, 40))
    scale = (events - real).abs().mean(1)
    torch.testing.assert_close(found[:, 0], -share / scale, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(found[:, 1], torch.zeros(40, dtype=torch.float64))


def test_forward_divergences_cover_more_modes_than_backward_ones():
    """From a cloud at one mode of eight, with noise that barely reaches the neighbours."""
    law = ring8()
    start = law.means[0] + 0.3 * rng.normal(key(3, 96), 1, 2)
    names = ("kl", "js", "jeffreys", "rkl", "neyman")
    found = {
        name: entropy(
            settled(
                law,
                start,
                FDistil(name, high=1.0, bins=0, ratio_low=1e-3, ratio_high=1e3, steps=150),
            ),
            law,
        )
        for name in names
    }
    assert min(found["kl"], found["js"]) > found["jeffreys"] > found["rkl"] > found["neyman"], found
    assert min(found["kl"], found["js"]) > found["rkl"] + 0.2, found


def test_forward_kl_has_weights_of_the_largest_variance_and_rkl_of_none():
    law, start = ring8(), ring8().means[0] + 0.3 * rng.normal(key(3, 500), 1, 2)
    cloud, s = Cloud(start), level(0.5, 500)
    y = start + 0.5 * rng.normal(key(4, 500), 1, 2)
    log_ratio = law.log_prob(y, s) - cloud.log_prob(y, s)
    config = {name: FDistil(name, bins=0, ratio_low=1e-3, ratio_high=1e3) for name in DIVERGENCES}
    spread = {name: float(weights(kind, log_ratio, s).var()) for name, kind in config.items()}
    assert spread["rkl"] == 0
    assert spread["kl"] > max(spread["js"], spread["hellinger"], spread["jeffreys"]), spread


def test_the_discriminator_reads_the_mean_of_a_networks_answer():
    network = build(PointsConfig(width=16, depth=1), seed=4)
    with torch.no_grad():
        network.head.bias.copy_(torch.tensor([1.0, 3.0]))
        network.head.weight.zero_()
    logits = Judge(network)(torch.zeros(5, 2), torch.ones(5))
    torch.testing.assert_close(logits, torch.full((5,), 2.0))


def test_a_one_step_student_generates_the_teachers_law():
    law = gmm5()
    begin = Preconditioned(build(PointsConfig(width=48, depth=2), seed=1))
    before = {name: w.clone() for name, w in begin.network.state_dict().items()}
    quick = Optimizer(lr=3e-3, warmup=10, schedule="cosine")
    config = FDistil(steps=120, fake_steps=2, optimizer=quick, fake_optimizer=quick)
    judge = build(PointsConfig(width=48, depth=2), seed=2)
    made = f_distil(law, begin, judge, law.sample, config)
    with torch.no_grad():
        events = made.generator(key(9, 2000)).double()
    along, sample = directions(key(2, 64), 2), law.sample(key(1, 2000))
    first = f_distil(law, begin, judge, law.sample, FDistil(steps=1, fake_steps=1)).generator
    with torch.no_grad():
        fresh = float(sliced_wasserstein(first(key(9, 2000)).double(), sample, along))
    found = float(sliced_wasserstein(events, sample, along))
    assert found < 0.5 < fresh, (found, fresh)
    assert float(events.std(0).min()) > 0.6
    assert all(torch.equal(w, before[name]) for name, w in begin.network.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"divergence": "total"}, "unknown divergence 'total'"),
        ({"low": 2.0, "high": 1.0}, "0 < low < high"),
        ({"ratio_low": 2.0}, "ratio_low < 1 <"),
        ({"fake_steps": 0}, "fake_steps must be at least 1"),
        ({"bins": -1}, "must be at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        FDistil(**settings)
