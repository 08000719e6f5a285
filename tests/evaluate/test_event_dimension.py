"""Readings of the local dimension, against laws whose manifold is known."""

import math

import pytest
import torch

from unison.evaluate.continuous.dimension import (
    counted,
    dimensions,
    flipd,
    stretches,
    trace_dimension,
)
from unison.exact.mixtures import finite, gaussian
from unison.exact.zoo import random_mixture
from unison.prob import rng
from unison.prob.rng import Key

KEY = Key(rng.rows(0, 0, 64))
VARIANCES = torch.tensor([1.0, 0.6, 0.3, 0, 0, 0, 0, 0], dtype=torch.float64)


def turned(size):
    return torch.linalg.qr(rng.normal(Key(rng.rows(1, 0, size)), 1, size))[0]


def rank_three():
    axes = turned(8)
    return gaussian(torch.zeros(8, dtype=torch.float64), axes * VARIANCES @ axes.T)


def circle(points, size):
    angles = torch.arange(points, dtype=torch.float64) / points * 2 * math.pi
    flat = torch.stack([angles.cos(), angles.sin()], 1)
    return finite(flat @ turned(size)[:2])


def sphere(points, size):
    """A spiral that covers the sphere evenly."""
    along = torch.arange(points, dtype=torch.float64) + 0.5
    height, angle = 1 - 2 * along / points, along * math.pi * (1 + 5**0.5)
    wide = (1 - height.square()).sqrt()
    flat = torch.stack([wide * angle.cos(), wide * angle.sin(), height], 1)
    return finite(flat @ turned(size)[:3])


@pytest.mark.parametrize(("level", "known"), [(0.5, 2.05), (0.1, 2.94), (0.02, 2.998)])
def test_the_trace_of_a_flat_gaussian_is_a_sum_over_its_axes(level, known):
    law = rank_three()
    exact = (VARIANCES / (VARIANCES + level**2)).sum()
    assert abs(exact - known) < 5e-3
    clean = law.sample(KEY)
    found = trace_dimension(law, clean, level, KEY)
    assert torch.allclose(found, exact.expand(64), atol=1e-9)
    probed = dimensions(trace_dimension(law, clean, level, KEY, probes=8))
    assert 0 < probed.stderr < 0.1
    assert abs(probed.value - exact) < 5 * probed.stderr


@pytest.mark.parametrize("level", [0.05, 0.4])
def test_flipd_is_the_derivative_of_the_log_density(level):
    law = random_mixture(3, 4)
    clean = law.sample(KEY)
    step = 1e-4
    high, low = (
        law.log_prob(clean, torch.full((64,), level * math.exp(way), dtype=torch.float64))
        for way in (step, -step)
    )
    assert torch.allclose(flipd(law, clean, level, KEY), 4 + (high - low) / (2 * step), atol=1e-5)


@pytest.mark.parametrize(("law", "known"), [(circle(200, 5), 1), (sphere(1500, 4), 2)])
def test_curved_manifolds_have_their_own_dimension(law, known):
    few = Key(rng.rows(5, 0, 16))
    clean, level = law.sample(few), 0.1
    assert abs(dimensions(flipd(law, clean, level, few)).value - known) < 0.03
    found = dimensions(trace_dimension(law, clean, level, few))
    assert abs(found.value - known) < 5 * found.stderr + 0.05


def test_below_the_distance_of_neighbours_a_finite_set_is_points():
    law = circle(40, 5)
    clean = law.sample(KEY)
    assert dimensions(flipd(law, clean, 0.2, KEY)).value == pytest.approx(1, abs=0.05)
    assert dimensions(flipd(law, clean, 0.01, KEY)).value == pytest.approx(0, abs=1e-6)


def test_the_flow_stretches_each_axis_of_a_gaussian_by_the_known_factor():
    law, levels = rank_three(), [0.001 * 10 ** (i / 15) for i in range(31)]
    found = stretches(law, law.sample(Key(rng.rows(0, 0, 3))), levels)
    known = ((VARIANCES + levels[0] ** 2) / (VARIANCES + levels[-1] ** 2)).sqrt()
    assert torch.allclose(found, known.expand(3, 8), rtol=1e-4)
    assert counted(found, levels[0], levels[-1]).tolist() == [3, 3, 3]


def test_the_flow_counts_the_dimensions_of_a_circle_a_plane_and_a_point():
    levels = [0.03 * 20 ** (i / 16) for i in range(17)]
    few = Key(rng.rows(2, 0, 4))
    full = gaussian(torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))
    point = finite(torch.ones(1, 3, dtype=torch.float64))
    for law, known in ((circle(200, 3), 1), (full, 3), (point, 0)):
        found = stretches(law, law.sample(few), levels)
        assert counted(found, levels[0], levels[-1]).tolist() == [known] * 4


def test_patches_of_digits_fill_far_fewer_dimensions_than_they_have_numbers():
    datasets = pytest.importorskip("sklearn.datasets")
    digits = torch.tensor(datasets.load_digits().images, dtype=torch.float64) / 16
    patches = digits[:400, 2:6, 2:6].reshape(400, 16)
    few, law = Key(rng.rows(0, 0, 12)), finite(patches)
    near, far = (dimensions(flipd(law, patches[:12], s, few)) for s in (0.1, 0.5))
    assert near.value < 0.5  # so few patches are points
    assert 1.5 < far.value < 5


def test_what_cannot_be_measured_is_refused():
    law, clean = rank_three(), rank_three().sample(Key(rng.rows(0, 0, 2)))
    with pytest.raises(ValueError, match="must rise from above 0"):
        stretches(law, clean, [0.1, 0.1])
    with pytest.raises(ValueError, match="up to 512"):
        stretches(law, torch.zeros(1, 513, dtype=torch.float64), [0.1, 0.2])
    with pytest.raises(ValueError, match="probes must be at least 0"):
        trace_dimension(law, clean, 0.1, KEY, probes=-1)
    with pytest.raises(ValueError, match="gradients=True"):
        flipd(lambda x, level: x.detach(), clean, 0.1, KEY)
