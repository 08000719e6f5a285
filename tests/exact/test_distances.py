"""Distances of laws against closed forms and scipy."""

import pytest
import torch
from scipy import optimize, stats

from unison.exact.distances import (
    directions,
    energy_distance,
    gaussian_wasserstein,
    sliced_wasserstein,
)
from unison.prob import rng
from unison.prob.rng import Key

ALONG = directions(Key(rng.rows(1, 0, 400)), 3)


def points(seed, count, size=3):
    return rng.normal(Key(rng.rows(seed, 0, count)), 1, size)


def test_directions_are_unit_vectors_without_a_preferred_side():
    assert torch.allclose(ALONG.norm(dim=1), torch.ones(400, dtype=torch.float64))
    second = directions(Key(rng.rows(3, 0, 100_000)), 3).T.cov()
    assert torch.allclose(second, torch.eye(3, dtype=torch.float64) / 3, atol=0.01)


def test_a_shift_moves_the_sliced_distance_by_its_projections():
    x = points(2, 50)
    shift = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    expected = (ALONG @ shift).square().mean().sqrt()
    assert torch.allclose(sliced_wasserstein(x, x + shift, ALONG), expected)
    assert float(sliced_wasserstein(x, x.flip(0), ALONG)) < 1e-12


def test_one_dimension_agrees_with_an_assignment_and_with_a_linear_programme():
    along = torch.ones(1, 1, dtype=torch.float64)
    left, right = points(4, 7, 1), points(5, 5, 1)
    mass, other = points(12, 7, 1)[:, 0].exp(), points(13, 5, 1)[:, 0].exp()
    mass, other = mass / mass.sum(), other / other.sum()
    cost = (left - right.T).square()
    rows = torch.kron(torch.eye(7), torch.ones(1, 5)), torch.kron(torch.ones(1, 7), torch.eye(5))
    found = optimize.linprog(
        cost.flatten().numpy(), A_eq=torch.cat(rows).numpy(), b_eq=torch.cat([mass, other]).numpy()
    )
    assert float(sliced_wasserstein(left, right, along, (mass, other))) == pytest.approx(
        found.fun**0.5, abs=1e-9
    )


def test_weights_mean_repeated_points():
    x, y = points(6, 4), points(7, 9)
    times = torch.tensor([1, 3, 0, 2])
    shares = times.double() / 6
    plain = sliced_wasserstein(x.repeat_interleave(times, 0), y, ALONG)
    assert torch.allclose(sliced_wasserstein(x, y, ALONG, (shares, None)), plain)


def test_the_energy_distance_in_one_dimension_is_that_of_scipy_without_its_bias():
    left, right = points(8, 40, 1), points(9, 60, 1) + 0.5
    biased = stats.energy_distance(left[:, 0], right[:, 0]) ** 2
    own = [torch.cdist(x, x).mean() / (len(x) - 1) for x in (left, right)]
    assert float(energy_distance(left, right)) == pytest.approx(float(biased - sum(own)), abs=1e-9)


def test_gaussians_that_share_their_axes_differ_by_their_deviations():
    axes, _ = torch.linalg.qr(points(10, 3))
    one, two = torch.tensor([1.0, 4.0, 0.0]).double(), torch.tensor([9.0, 1.0, 0.25]).double()
    mean = torch.zeros(3).double()
    shift = torch.tensor([1.0, 0.0, 2.0]).double()
    found = gaussian_wasserstein((mean, axes * one @ axes.T), (shift, axes * two @ axes.T))
    expected = 5 + (one.sqrt() - two.sqrt()).square().sum()
    assert float(found) ** 2 == pytest.approx(float(expected))


def test_what_cannot_be_compared_is_refused():
    x = points(11, 4)
    with pytest.raises(ValueError, match="sum to 2"):
        sliced_wasserstein(x, x, ALONG, (torch.full((4,), 0.5), None))
    with pytest.raises(ValueError, match="no points"):
        sliced_wasserstein(x[:0], x, ALONG)
    with pytest.raises(ValueError, match="two points"):
        energy_distance(x[:1], x)
