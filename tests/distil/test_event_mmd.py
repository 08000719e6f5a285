"""Discrepancies of Gaussians are known in closed form; finetuned samplers come closer to data."""

import math
from dataclasses import replace

import pytest
import torch

from unison.distil.continuous.mmd import (
    Checkpointed,
    MMDFinetune,
    Polynomial,
    Radial,
    RandomFeatures,
    adjusted,
    discrepancy,
    drawn,
    finetuned,
    flat,
    mmd2,
)
from unison.event_denoising import Preconditioned
from unison.exact.distances import directions, sliced_wasserstein
from unison.exact.zoo import gmm5
from unison.models.continuous import PointsConfig, build
from unison.prob import rng
from unison.prob.rng import Key
from unison.train.config import Optimizer

LAW = gmm5()
QUICK = Optimizer(lr=3e-2, warmup=2, schedule="cosine")


def key(seed, rows):
    return Key(rng.rows(seed, 0, rows))


def normals(seed, rows, size=2):
    return rng.normal(key(seed, rows), 1, size)


def groups(kernel, shift, sets=60, size=120):
    """The estimate on many independent sets of two Gaussians that are ``shift`` apart."""
    left, right = normals(1, sets * size), normals(2, sets * size)
    right = right + torch.tensor([shift, 0.0], dtype=torch.float64)
    parts = zip(left.split(size), right.split(size), strict=True)
    return torch.stack([mmd2(one, two, kernel) for one, two in parts])


def assert_mean(found, exact):
    error = float(found.std() / len(found) ** 0.5)
    assert abs(float(found.mean()) - exact) < 5 * error, (float(found.mean()), exact, error)


def test_the_radial_discrepancy_of_two_gaussians_is_unbiased():
    """E k of N(m, 2 I) is b^2 / (b^2 + 2) exp(-m^2 / 2 (b^2 + 2)) in two dimensions; b = 2."""
    exact = 2 / 3 - 2 / 3 * math.exp(-0.25 / 12)
    assert_mean(groups(Radial((2.0,)), 0.5, sets=200), 2 * exact)
    assert_mean(groups(Radial((2.0,)), 0.0), 0.0)


def test_the_radial_kernel_of_unit_width_gives_the_known_number():
    """b = 1: 2 (1/3 - 1/3 exp(-.25 / 6)) = .0272."""
    exact = 2 / 3 - 2 / 3 * math.exp(-0.25 / 6)
    assert exact == pytest.approx(0.0272, abs=5e-5)
    assert_mean(groups(Radial((1.0,)), 0.5, sets=200), exact)


def test_the_cubic_discrepancy_is_that_of_moments_up_to_three():
    """(<x, y> / 2 + 1)^3 = 1 + 3 <x, y> / 2 + 3 <xx, yy> / 4 + <xxx, yyy> / 8, moments known."""
    m = 0.5
    first = m**2
    second = m**4  # E xx differs by m^2 in one place
    third = (3 * m + m**3) ** 2 + 3 * m**2  # E x1^3, and E x1 x2^2 in three places
    exact = 1.5 * first + 0.75 * second + third / 8
    assert_mean(groups(Polynomial(), m, sets=200), exact)


def test_the_radial_kernel_has_finite_gradients_where_rows_agree():
    rows = normals(3, 4).requires_grad_(True)
    Radial()(rows, rows).sum().backward()
    assert bool(rows.grad.isfinite().all())


def test_gradients_through_recomputed_steps_are_those_of_remembered_ones():
    config = MMDFinetune(levels=(5.0, 1.0, 0.2, 0.0))
    network = build(PointsConfig(width=16, depth=1), seed=1)
    with torch.no_grad():
        network.head.weight.copy_(0.1 * normals(4, 2, 16))
    student = Preconditioned(network, gradients=True)
    found = []
    for denoise in (student, Checkpointed(student)):
        network.zero_grad()
        drawn(denoise, config, key(5, 6), torch.zeros(6, 2)).square().sum().backward()
        found.append([w.grad.clone() for w in network.parameters()])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)
    assert any(float(part.abs().max()) > 1e-3 for part in found[0])


def test_two_numbers_a_step_bring_five_steps_nearer_to_the_data():
    """The exact denoiser in five DDIM steps: only the solver errs, and no reference is solved."""
    config = MMDFinetune(steps=50, optimizer=QUICK, report=800)
    tuned = adjusted(LAW, LAW.sample, config)
    assert tuned.after.trained < 0.5 * tuned.before.trained, tuned
    assert tuned.after.second < 0.6 * tuned.before.second, tuned
    along, sample = directions(key(6, 64), 2), LAW.sample(key(7, 3000))
    streams = key(8, 2000)
    errors = [
        float(sliced_wasserstein(drawn(kind, config, streams, sample[:2000]), sample, along))
        for kind in (LAW, tuned.denoise)
    ]
    assert errors[1] < 0.7 * errors[0], errors


def test_a_networks_weights_learn_through_all_steps_and_the_first_model_stays():
    network = build(PointsConfig(width=32, depth=2), seed=1)
    model = Preconditioned(network)
    before = {name: w.clone() for name, w in network.state_dict().items()}
    config = MMDFinetune(
        levels=(10.0, 1.0, 0.3, 0.0), steps=60, optimizer=replace(QUICK, lr=5e-3), report=800
    )

    def draw(streams):
        return LAW.sample(streams).float()

    tuned = finetuned(model, draw, config)
    assert tuned.after.trained < 0.3 * tuned.before.trained, tuned
    assert tuned.after.second < 0.5 * tuned.before.second, tuned
    assert all(torch.equal(w, before[name]) for name, w in network.state_dict().items())
    again = discrepancy(tuned.denoise, draw, config)
    assert again == tuned.after


def test_second_features_are_no_multiple_of_the_first_ones_and_are_seeded():
    events = normals(9, 20)
    assert torch.equal(RandomFeatures(seed=1)(events), RandomFeatures(seed=1)(events))
    assert not torch.equal(RandomFeatures(seed=1)(events), RandomFeatures(seed=2)(events))
    doubled = RandomFeatures()(2 * events)
    assert not torch.allclose(doubled, 2 * RandomFeatures()(events))
    assert torch.equal(flat(events.view(20, 1, 2)), events)


def test_what_makes_no_estimate_is_refused():
    with pytest.raises(ValueError, match="two rows on either side, got 1 and 5"):
        mmd2(normals(1, 1), normals(1, 5), Radial())
    with pytest.raises(ValueError, match="bandwidths must be some numbers above 0"):
        Radial((1.0, 0.0))
    with pytest.raises(ValueError, match="must be at least 2, got 1 and"):
        MMDFinetune(batch_size=1)
    with pytest.raises(ValueError, match=r"mmd\.steps must be at least 1"):
        MMDFinetune(steps=0)
