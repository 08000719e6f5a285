"""Semi-discrete transport has an exact solution on a line, and right cell masses everywhere."""

import math

import pytest
import torch
from scipy import stats

from unison.decode.continuous import DDIM, solve
from unison.distil.continuous.transport_start import (
    Potential,
    TransportStart,
    diffused,
    fitted,
    masses,
    of_gaussians,
    started,
    transported,
)
from unison.exact.distances import directions, sliced_wasserstein
from unison.exact.zoo import gmm5
from unison.prob import rng
from unison.prob.rng import Key

POINTS = torch.tensor([-1.1, -0.2, 0.1, 0.9, 1.7], dtype=torch.float64)[:, None]
MASSES = torch.tensor([0.1, 0.3, 0.2, 0.25, 0.15], dtype=torch.float64)
LAW = gmm5()


def key(seed, rows):
    return Key(rng.rows(seed, 0, rows))


def normals(seed, rows, size=2):
    return rng.normal(key(seed, rows), 1, size)


def exact_heights(points, shares):
    """Cells are intervals between quantiles b_i: h_i - h_{i+1} = b_i (y_{i+1} - y_i)."""
    ends = torch.tensor(stats.norm.ppf(shares.cumsum(0)[:-1].numpy()))
    falls = ends * points[:, 0].diff()
    heights = torch.cat([torch.zeros(1, dtype=torch.float64), -falls.cumsum(0)])
    return heights - heights.mean()


@pytest.fixture(scope="module")
def line():
    return fitted(POINTS, TransportStart(steps=400, samples=100), MASSES)


@pytest.fixture(scope="module")
def plane():
    latents = diffused(LAW.sample(key(2, 32)), 0.3, key(3, 32))
    return fitted(latents, TransportStart(steps=600, samples=30))


def test_on_a_line_the_heights_are_those_of_quantile_cells(line):
    torch.testing.assert_close(
        line.potential.heights, exact_heights(POINTS, MASSES), atol=0.01, rtol=0.0
    )


def test_on_a_line_noise_is_carried_to_its_quantile(line):
    z = torch.linspace(-3, 3, 2001, dtype=torch.float64)[:, None]
    expected = torch.searchsorted(MASSES.cumsum(0)[:-1], torch.special.ndtr(z[:, 0]))
    wrong = (line.potential.cells(z) != expected).double().mean()
    assert float(wrong) < 0.01


def test_every_cell_gets_its_mass(plane):
    """At 1 / 32 of 100 000 draws the noise of a cell is 5.5e-4."""
    found = masses(plane.potential, normals(4, 100_000))
    flat = masses(Potential(plane.potential.latents, torch.zeros_like(found)), normals(4, 20_000))
    assert float((found - 1 / 32).abs().max()) < 5e-3 < 0.02 < float((flat - 1 / 32).abs().max())
    assert plane.empty == 0


def test_no_permutation_of_the_targets_fits_the_noise_better(plane):
    """The map is cyclically monotone: E <z, T(z)> is the largest of all that share its masses."""
    z = normals(5, 1500)
    carried = plane.potential(z)
    best = float((z * carried).sum(1).mean())
    shuffles = [rng.uniform(key(seed, 1), 3, len(z))[0].argsort() for seed in range(50)]
    assert all(float((z * carried[order]).sum(1).mean()) < best for order in shuffles)
    gaps = (z[:, None] - z[None]) * (carried[:, None] - carried[None])
    assert float(gaps.sum(-1).min()) > -1e-9


def test_chunks_change_no_cell(plane):
    z = normals(6, 1000)
    whole = plane.potential.cells(z)
    small = Potential(plane.potential.latents, plane.potential.heights, chunk=7)
    assert torch.equal(small.cells(z), whole)


def test_the_search_starts_from_the_map_between_gaussians():
    """y = m + a z: the cell of z is the latent nearest to where the map takes it."""
    spread, middle = torch.tensor([0.5, 2.0], dtype=torch.float64), torch.tensor([3.0, -1.0])
    latents = middle + spread * normals(14, 4000)
    heights = of_gaussians(latents)
    z = normals(15, 200)
    carried = Potential(latents, heights)(z)
    scaled = (latents - latents.mean(0)) / latents.std(0, correction=0)
    measure = (scaled[None] - z[:, None]).square() * latents.std(0, correction=0)
    nearest = latents[measure.sum(-1).argmin(1)]
    torch.testing.assert_close(carried, nearest)
    assert abs(float(heights.mean())) < 1e-9


def test_the_search_stops_when_doubling_helps_no_more():
    config = TransportStart(steps=5000, samples=5, patience=5, doublings=2)
    found = fitted(POINTS, config)
    assert 15 <= found.steps < 1000
    one = fitted(POINTS[:1], config)
    assert (one.steps, one.gradient, one.empty) == (1, 0.0, 0)


def test_equal_seeds_find_equal_heights():
    config = TransportStart(steps=20)
    first, again = (fitted(POINTS, config).potential.heights for _ in range(2))
    other = fitted(POINTS, TransportStart(steps=20, seed=1)).potential.heights
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_latents_are_events_with_noise_of_the_level():
    events = torch.zeros(20_000, 1, dtype=torch.float64)
    found = diffused(events, 0.7, key(7, 20_000))
    assert float(found.std()) == pytest.approx(0.7, rel=0.03)
    assert abs(float(found.mean())) < 5 * 0.7 / 20_000**0.5


def test_noise_between_cells_that_are_far_apart_is_torn_and_drawn_again():
    latents = torch.tensor([[-2.0], [-1.9], [2.0]], dtype=torch.float64)
    potential = Potential(latents, torch.zeros(3, dtype=torch.float64))
    # planes -2 z, -1.9 z, 2 z: below 0 the two highest are the neighbours, above 0 they are not
    z = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    assert potential.torn(z, 0.5).tolist() == [False, True]
    apart = math.pi - 2 * math.atan2(1, 2)  # of (-2, -1) and (2, -1)
    assert potential.torn(z, apart + 0.01).tolist() == [False, False]
    plain, redrawn = (started(potential, key(8, 500), angle) for angle in (None, 0.5))
    assert 0.4 < float((plain > 0).double().mean()) < 0.6
    assert float((redrawn > 0).double().mean()) < 0.03


def test_few_steps_from_carried_noise_beat_as_many_from_noise():
    level, count = 0.4, 400
    latents = diffused(LAW.sample(key(9, count)), level, key(10, count))
    found = fitted(latents, TransportStart(level=level, steps=150))
    streams, sample, along = key(11, 1500), LAW.sample(key(12, 4000)), directions(key(13, 64), 2)
    below = (level, 0.15, 0.05, 0.0)
    short = transported(found.potential, DDIM(), below, LAW, streams)
    noise = (20.0**2 + 1) ** 0.5 * rng.normal(streams, 1, 2)
    plain = solve(DDIM(), (20.0, 1.0, 0.15, 0.0), LAW, noise, streams)
    near, far = (float(sliced_wasserstein(x, sample, along)) for x in (short.x, plain.x))
    assert short.nfe == plain.nfe == 3
    assert near < 0.5 * far, (near, far)


def test_what_has_no_transport_is_refused():
    with pytest.raises(ValueError, match="there are no latents"):
        fitted(torch.zeros(0, 2), TransportStart())
    with pytest.raises(ValueError, match="masses above 0 that sum to 1"):
        fitted(POINTS, TransportStart(), MASSES * 2)
    with pytest.raises(ValueError, match="one latent makes one cell"):
        Potential(POINTS[:1], torch.zeros(1, dtype=torch.float64)).torn(POINTS[:1], 0.1)
    with pytest.raises(ValueError, match=r"transport\.patience must be at least 1"):
        TransportStart(patience=0)
    with pytest.raises(ValueError, match="lr and tolerance above 0"):
        TransportStart(lr=0.0)
