"""Particles that follow VSD become samples of the target; those that follow SDS its modes."""

import pytest
import torch
from torch.distributions import Normal

from unison.distil.continuous.particles import Cloud
from unison.distil.continuous.vsd import VSD, Learning, gradient, rendered_loss, vsd
from unison.event_denoising import Preconditioned
from unison.exact.distances import directions, sliced_wasserstein
from unison.exact.mixtures import finite
from unison.exact.zoo import gmm5
from unison.models.continuous import PointsConfig, build
from unison.prob import rng
from unison.prob.rng import Key
from unison.train.config import Optimizer

LAW = gmm5()
COUNT = 96
SAMPLE = LAW.sample(Key(rng.rows(1, 0, 4000)))
ALONG = directions(Key(rng.rows(2, 0, 64)), 2)
START = 0.3 * rng.normal(Key(rng.rows(3, 0, COUNT)), 1, 2)


def distance(points):
    return float(sliced_wasserstein(points, SAMPLE, ALONG))


def noisy(seed, level, count=COUNT):
    noise = rng.normal(Key(rng.rows(seed, 0, count)), 2, 2)
    return torch.full((count,), level, dtype=torch.float64), noise


def test_a_cloud_is_denoised_as_the_finite_law_of_its_events():
    events, (level, noise) = START[:20], noisy(4, 0.4)
    y = SAMPLE[:COUNT] + 0.4 * noise
    law = finite(events)
    torch.testing.assert_close(Cloud(events)(y, level), law(y, level))


def test_the_density_of_a_cloud_is_a_mean_of_normal_densities():
    events, y = START[:7], SAMPLE[:5]
    level = torch.tensor([0.1, 0.3, 0.8, 2.0, 9.0], dtype=torch.float64)
    away = Normal(events[None], level[:, None, None]).log_prob(y[:, None]).sum(-1)
    torch.testing.assert_close(Cloud(events).log_prob(y, level), away.exp().mean(1).log())


def test_the_gradient_is_zero_where_the_generated_law_is_the_target():
    found = gradient(finite(START), Cloud(START), START, noisy(5, 0.6))
    assert float(found.abs().max()) < 1e-9
    away = gradient(finite(START + 1), Cloud(START), START, noisy(5, 0.6))
    assert float(away.abs().max()) > 0.05


def test_the_gradient_points_from_the_rival_to_the_target():
    there = START + torch.tensor([2.0, 0.0])
    found = gradient(Cloud(there), Cloud(START), START, noisy(6, 3.0))
    assert float(found[:, 0].mean()) < -0.1


def test_one_event_alone_follows_score_distillation():
    event, draws = START[:1], noisy(7, 0.7, 1)
    target = LAW
    added = 0.7 * draws[1]
    expected = 0.7 / (1 + 0.7**2) * (event - target(event + added, draws[0]))
    torch.testing.assert_close(gradient(target, Cloud(event), event, draws), expected)


def test_vsd_particles_become_samples_and_sds_particles_collapse():
    config = VSD(steps=250)
    spread = vsd(LAW, START, config)
    collapsed = vsd(LAW, START, VSD(rival="each", steps=250))
    assert distance(spread) < 0.16
    assert distance(collapsed) > 0.5
    torch.testing.assert_close(spread.std(0), SAMPLE.std(0), rtol=0.15, atol=0.0)
    assert float(collapsed.std(0).max()) < 0.4


def test_equal_seeds_move_particles_to_equal_places():
    config = VSD(steps=5)
    assert torch.equal(vsd(LAW, START, config), vsd(LAW, START, config))
    assert not torch.equal(vsd(LAW, START, config), vsd(LAW, START, VSD(steps=5, seed=1)))


def test_a_network_that_learns_the_generated_law_leads_particles_towards_the_target():
    config = VSD(steps=200, earliest=0.1)
    network = build(PointsConfig(width=32, depth=2), seed=1)
    rival = Learning(
        Preconditioned(network),
        lambda shares: config.level(shares, 0),
        Optimizer(lr=3e-3, warmup=10),
        config.steps,
    )
    moved = vsd(LAW, START.float(), config, rival)
    assert distance(moved) < 0.6 * distance(START)
    assert float(moved.std(0).min()) > 0.5


def test_a_generators_gradient_is_the_particles_pulled_back_through_it():
    shift = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    draws = noisy(9, 0.8)
    events = START + shift
    rendered_loss(LAW, Cloud(START), events, draws).backward()
    torch.testing.assert_close(shift.grad, gradient(LAW, Cloud(START), START, draws).mean(0))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"earliest": 0.6}, "vsd.earliest < vsd.late"),
        ({"steps": 0}, "vsd.steps must be at least 1, got 0"),
        ({"lr": 0.0}, "vsd.lr must be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        VSD(**settings)
