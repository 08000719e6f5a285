"""Clean means along a run: what they are, when they are decided, how they are drawn."""

import struct

import pytest
import torch

from unison.decode.continuous.ddim import DDIM
from unison.decode.continuous.heun import Heun
from unison.evaluate.continuous.targets import (
    Targets,
    decided,
    likeness,
    remaining,
    target_sheet,
    targets,
)
from unison.exact.mixtures import finite
from unison.exact.zoo import gmm5
from unison.prob import rng
from unison.prob.rng import Key

KEY = Key(rng.rows(0, 0, 12))
LEVELS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.0)


def test_the_means_of_first_order_steps_satisfy_their_recursion():
    law, start = gmm5(), 10 * rng.normal(KEY, 7, 2)
    found = targets(DDIM(), LEVELS, law, start, KEY)
    assert found.levels == LEVELS
    assert found.means.shape == (6, 12, 2)
    x = start
    for i, level in enumerate(LEVELS[:-1]):
        mean = law(x, torch.full((12,), level, dtype=torch.float64))
        assert torch.allclose(found.means[i], mean, atol=1e-12)
        x = mean + LEVELS[i + 1] / level * (x - mean)
    assert torch.allclose(found.means[-1], x, atol=1e-12)


def test_every_solver_is_seen_at_every_level():
    found = targets(Heun(), LEVELS, gmm5(), 10 * rng.normal(KEY, 7, 2), KEY)
    assert len(found.means) == len(LEVELS)
    gone = remaining(found)
    assert torch.equal(gone[-1], torch.zeros(12, dtype=torch.float64))
    assert bool((gone[0] > 0.1).all())
    assert bool((gone[-2] < 1e-3).all())


def test_two_far_points_are_decided_where_noise_is_as_wide_as_they_are_apart():
    """D = m tanh(m . y / s^2) for two points m and -m: nearly decided once s is below |m|."""
    law = finite(torch.tensor([[3.0, 0.0], [-3.0, 0.0]]))
    levels = tuple(100 * 10 ** (-i / 8) for i in range(33))
    start = law.sample(KEY) + 100 * rng.normal(KEY, 7, 2)
    found = targets(Heun(), levels, law, start, KEY)
    at, share = decided(found, 0.99)
    # sides are taken at the start, their certainty comes with the noise
    last = found.means[-1]
    assert torch.allclose(last.abs(), law.means[0].abs().expand(12, 2), atol=1e-6)
    centre = last.mean(0)
    cosine = likeness(found)
    for row in range(12):
        means = found.means[:, row] - centre
        by_hand = (means @ means[-1]) / means.norm(dim=1) / means[-1].norm()
        assert torch.allclose(cosine[:, row], by_hand)
        first = next(i for i in range(33) if bool((by_hand[i:] >= 0.99).all()))
        assert float(at[row]) == pytest.approx(levels[first])
    steps = [levels.index(level) / 32 for level in at.tolist()]
    assert share.value == pytest.approx(sum(steps) / 12)
    assert 0 < share.value < 1


def test_a_mean_that_comes_back_late_is_decided_late():
    path = torch.tensor([[1.0, 0], [1, 0], [-1, 0], [1, 0], [1, 0]]).view(5, 1, 1, 2)
    other = torch.tensor([-1.0, 0]).expand(5, 1, 1, 2)
    found = Targets((8.0, 4.0, 2.0, 1.0, 0.5), torch.cat([path, other], 1))
    level, share = decided(found)
    assert level.tolist() == [1.0, 8.0]
    assert share.value == pytest.approx((0.75 + 0.0) / 2)


def size_of(content):
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", content[16:24])


def test_the_sheet_has_a_row_for_each_event_and_a_column_for_each_level():
    means = rng.normal(Key(rng.rows(3, 0, 5 * 4)), 2, 64).view(5, 4, 1, 8, 8).float()
    found = Targets((8.0, 4.0, 2.0, 1.0, 0.0), means)
    wide, tall = size_of(target_sheet(found, rows=3))
    side = 8 * 12
    assert (wide, tall) == (5 * (side + 12) + 12, 3 * (side + 12) + 12)


def test_points_of_the_plane_share_one_row():
    found = targets(DDIM(), LEVELS, gmm5(), 10 * rng.normal(KEY, 7, 2), KEY)
    wide, tall = size_of(target_sheet(found))
    assert wide == len(LEVELS) * 97 + 1
    assert tall == 97 + 1


def test_a_share_outside_its_range_is_refused():
    found = Targets((2.0, 1.0), torch.ones(2, 3, 2))
    with pytest.raises(ValueError, match="above 0 and below 1"):
        decided(found, 1.0)
