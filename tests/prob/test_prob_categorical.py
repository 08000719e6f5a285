"""Tokens are drawn exactly: the inverse CDF, for any size, mask and uniform."""

import numpy as np
import pytest
import torch
from laws import assert_law

from unison.prob import categorical, rng
from unison.prob.rng import Key, uniform

SIZES = [1, 2, 63, 64, 65, 257, 50257]
EXTREMES = [2.0**-54, 2.0**-53, 0.5, 1 - 2.0**-52, 1 - 2.0**-53]


def log_weights(size, seed, rows=1, dtype=torch.float32):
    """Random, not normalised, spread over many orders of magnitude."""
    g = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(rows, size, generator=g, dtype=torch.float64)).to(dtype)


def inverse_cdf(weights, u):
    """The reference: float64 running sum, first index that exceeds u times the total."""
    running = np.cumsum(weights.astype(np.float64))
    return np.searchsorted(running, u * running[-1], side="right"), running / running[-1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_draw_is_the_inverse_cdf(size, dtype):
    """Equal to one float64 running sum, but for uniforms within 1e-12 of a boundary."""
    logp = log_weights(size, 0, dtype=dtype)
    draws = min(2000, 20_000_000 // size)
    u = torch.cat([uniform(Key(torch.tensor([7])), 0, draws)[0], torch.tensor(EXTREMES).double()])
    got = categorical.sample(logp.expand(len(u), -1), u).numpy()
    weights = (logp - logp.max()).exp().numpy()[0]
    want, cdf = inverse_cdf(weights, u.numpy())
    apart = got != want
    edge = np.minimum(got, want)[apart]
    assert (np.abs(cdf[edge] - u.numpy()[apart]) < 1e-12).all()
    assert apart.mean() < 0.01
    assert (weights[got] > 0).all()


@pytest.mark.law
@pytest.mark.parametrize("size", SIZES)
def test_draws_follow_the_law(size):
    """20 000 rows (4 000 of the largest); many tokens pool into 64 interleaved classes."""
    logp = log_weights(size, 1)
    law = logp[0].double().softmax(0).numpy()
    u = uniform(Key(torch.tensor([3])), 0, 20_000 if size < 1000 else 4000)[0]
    drawn = torch.cat([categorical.sample(logp.expand(len(p), -1), p) for p in u.split(16)])
    classes = min(size, 64)
    pooled = {c: float(law[c::classes].sum()) for c in range(classes)}
    assert_law((drawn % classes).tolist(), pooled)


@pytest.mark.parametrize("size", [2, 64, 65, 300])
def test_minus_infinity_is_never_drawn(size):
    g = torch.Generator().manual_seed(size)
    banned = torch.rand(200, size, generator=g) < 0.7
    banned[torch.arange(200), torch.randint(size, (200,), generator=g)] = False
    logp = log_weights(size, 2, rows=200).masked_fill(banned, -torch.inf)
    for u in [*EXTREMES, 0.1, 0.9]:
        drawn = categorical.sample(logp, torch.full((200,), u, dtype=torch.float64))
        assert torch.isfinite(logp.gather(1, drawn[:, None])).all()


def test_a_point_mass_is_always_drawn():
    logp = torch.full((65, 65), -torch.inf).fill_diagonal_(-4.0)
    for u in EXTREMES:
        drawn = categorical.sample(logp, torch.full((65,), u, dtype=torch.float64))
        assert torch.equal(drawn, torch.arange(65))


@pytest.mark.parametrize("place", [0, 63, 64, 999])
def test_a_tail_of_one_in_a_billion_has_its_interval(place):
    """Float32 Gumbel races lose such a token; here its interval of u has the right width."""
    logp = torch.zeros(1000).double()
    logp[place] = np.log(1e-9 * 999 / (1 - 1e-9))
    logp = logp.float()[None]
    start = place / 999 * (1 - 1e-9)
    for share, want in [(-0.5, place - 1), (0.05, place), (0.95, place), (1.5, place + 1)]:
        if 0 <= want <= 999:
            u = torch.tensor([start + share * 1e-9], dtype=torch.float64)
            assert int(categorical.sample(logp, u)) == want


def test_scaling_the_weights_changes_nothing():
    logp, u = log_weights(100, 4, rows=64), uniform(Key(rng.rows(0, 0, 64)), 0, 1)[:, 0]
    assert torch.equal(categorical.sample(logp, u), categorical.sample(logp + 64, u))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_drawing_where_wanted_equals_drawing_everywhere(share):
    g = torch.Generator().manual_seed(5)
    logp = log_weights(70, 6, rows=40).unflatten(0, (8, 5))
    u = uniform(Key(torch.arange(8)), 0, 5)
    wanted = torch.rand(8, 5, generator=g) < share
    want = torch.where(wanted, categorical.sample(logp, u), 0)
    assert torch.equal(categorical.sample_where(logp, u, wanted), want)
