"""Likelihood of event models against exact densities; the noise that singular data need."""

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

from unison.evaluate.continuous.deconvolution import begun, fitted, fitted_alike
from unison.evaluate.continuous.perturbed import best, log_likelihood, scanned, wasserstein_one
from unison.exact.mixtures import Mixture, gaussian
from unison.exact.zoo import gmm5, random_mixture
from unison.prob import rng
from unison.prob.rng import Key

KEY = Key(rng.rows(0, 0, 24))


def rising(low, high, steps):
    return [low * (high / low) ** (i / steps) for i in range(steps + 1)]


@pytest.mark.parametrize("law", [gmm5(), random_mixture(2, 3)])
def test_the_likelihood_along_the_flow_is_the_exact_density(law):
    low = 0.2
    y = law.sample(KEY) + low * rng.normal(KEY, 7, law.means.shape[1])
    exact = law.log_prob(y, torch.full((24,), low, dtype=torch.float64))
    found = log_likelihood(law, y, rising(low, 100.0, 120), KEY)
    assert torch.allclose(found, exact, atol=1e-3)


def test_probes_have_no_bias_and_an_error_that_falls():
    size = 6
    # a turned Gaussian: signs see its off-diagonal entries
    axes = torch.linalg.qr(rng.normal(Key(rng.rows(1, 0, size)), 1, size))[0]
    shape = axes * torch.logspace(0, -2, size, dtype=torch.float64) @ axes.T
    law, low = gaussian(torch.zeros(size, dtype=torch.float64), shape), 0.1
    one = law.sample(Key(rng.rows(2, 0, 1))) + low
    many = Key(rng.rows(3, 0, 400))
    exact = law.log_prob(one, torch.full((1,), low, dtype=torch.float64))
    levels = rising(low, 60.0, 25)
    few = log_likelihood(law, one.expand(400, size), levels, many, probes=1) - exact
    more = log_likelihood(law, one.expand(400, size), levels, many, probes=4) - exact
    for off in (few, more):
        assert abs(float(off.mean())) < 5.5 * float(off.std()) / 20 + 2e-3
    assert 0.3 < float(more.std() / few.std()) < 0.75


def circle(seed, count, size):
    angles = 2 * math.pi * rng.uniform(Key(rng.rows(seed, 0, count)), 3, 1)[:, 0]
    flat = torch.zeros(count, size, dtype=torch.float64)
    flat[:, 0], flat[:, 1] = angles.cos(), angles.sin()
    return flat


@dataclass(frozen=True)
class Decoder:
    """A generator that is scattered at first: points, or small Gaussians, moved by EM."""

    components: int
    atoms: bool

    def __call__(self, points, noise: float) -> Mixture:
        size = points.shape[1]
        means = 0.3 * rng.normal(Key(rng.rows(78, 0, self.components)), 1, size)
        shape = (0 if self.atoms else 0.01) * torch.eye(size, dtype=torch.float64)
        weights = torch.full((self.components,), -math.log(self.components)).double()
        start = Mixture(weights, means, shape.expand(self.components, size, size))
        return fitted_alike(start, points, noise, 40, self.atoms)


@pytest.mark.parametrize("size", [2, 20])
def test_the_distance_to_a_circle_is_least_at_some_noise_and_likelihood_finds_it(size):
    noises = (0.003, 0.06, 0.8)
    learnt, kept = circle(11, 200, size), circle(21, 200, size)
    trials = scanned(Decoder(24, True), learnt, kept, noises, common=0.05)
    low, middle, high = (trial.distance for trial in trials)
    assert middle < 0.95 * low
    assert middle < 0.6 * high
    assert best(trials).noise == 0.06
    assert best(trials).common.stderr > 0


def test_likelihood_grows_without_end_where_a_model_may_be_sharp_and_distance_does_not_gain():
    learnt, kept = circle(11, 200, 20), circle(21, 200, 20)
    trials = scanned(Decoder(12, False), learnt, kept, (0.003, 0.01, 0.03), common=0.03)
    likelihoods = [trial.own.value for trial in trials]
    # 18 directions are flat: each factor of noise is worth its logarithm in each of them
    assert likelihoods[0] - likelihoods[1] > 15 * math.log(10 / 3)
    assert likelihoods[1] - likelihoods[2] > 15 * math.log(3)
    distances = [trial.distance for trial in trials]
    assert max(distances) - min(distances) < 0.06


def test_a_mixture_is_found_again_under_noise_of_several_levels():
    law = Mixture(
        torch.tensor([0.3, 0.7], dtype=torch.float64).log(),
        torch.tensor([[-1.0, 0.5], [1.0, 0.0]], dtype=torch.float64),
        torch.tensor([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0], [0, 0.3]]], dtype=torch.float64),
    )
    rows = Key(rng.rows(4, 0, 6000))
    noise = torch.tensor([0.0, 0.2, 0.5], dtype=torch.float64).repeat(2000)
    points = law.sample(rows) + noise[:, None] * rng.normal(rows, 9, 2)
    found = fitted(begun(points, 2), points, noise, 60)
    order = found.means[:, 0].argsort()
    assert torch.allclose(found.means[order], law.means, atol=0.06)
    assert torch.allclose(found.covariances[order], law.covariances, atol=0.04)
    assert torch.allclose(found.log_weights[order].exp(), law.log_weights.exp(), atol=0.03)


def test_no_step_makes_the_likelihood_worse_and_both_ways_agree():
    law = gmm5()
    points = law.sample(Key(rng.rows(4, 0, 300))) + 0.3 * rng.normal(Key(rng.rows(4, 0, 300)), 9, 2)
    noise = torch.full((300,), 0.3, dtype=torch.float64)
    guess, values = begun(points, 3), []
    for _ in range(12):
        values.append(float(guess.log_prob(points, noise).mean()))
        guess = fitted(guess, points, noise, 1)
    assert all(after > before for before, after in pairwise(values))
    slow = fitted(guess, points, noise, 400)
    quick = fitted_alike(guess, points, 0.3, 400)
    one, two = (float(made.log_prob(points, noise).mean()) for made in (slow, quick))
    assert one == pytest.approx(two, abs=2e-3)


def test_the_matching_of_shifted_points_is_the_shift():
    left = circle(5, 40, 3)
    assert wasserstein_one(left, left.flip(0)) == pytest.approx(0, abs=1e-7)
    far = left * 0.001
    assert wasserstein_one(far, far + torch.tensor([3.0, 0, 4.0])) == pytest.approx(5, abs=1e-3)


def test_what_cannot_be_fitted_is_refused():
    points = circle(5, 4, 2)
    with pytest.raises(ValueError, match="from 1 to the 4 samples"):
        begun(points, 5)
    with pytest.raises(ValueError, match="level of at least 0"):
        fitted(begun(points, 2), points, torch.full((4,), -1.0))
    with pytest.raises(ValueError, match="must be above 0"):
        scanned(Decoder(2, True), points, points, (0.1, 0.0), 0.1)
    with pytest.raises(ValueError, match="two sets of one shape"):
        wasserstein_one(points, points[:2])
    with pytest.raises(ValueError, match="must rise"):
        log_likelihood(gmm5(), points, [1.0, 0.5], KEY)
