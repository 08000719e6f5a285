"""Gaussian processes: their schedules as published, and one problem behind all of them."""

import math
from itertools import pairwise

import pytest
import torch

from unison.exact.mixtures import flow
from unison.exact.zoo import gmm5
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import (
    EDM,
    GAUSSIAN,
    Cosine,
    FlowMatching,
    VarianceExploding,
    VariancePreserving,
)
from unison.process.continuous.gaussian import GaussianProcess, noisy, sigma

F64 = torch.float64
TIMES = torch.linspace(0.02, 1.0, 60, dtype=F64)


@pytest.mark.parametrize("name", GAUSSIAN)
def test_time_of_inverts_a_level_that_rises(name: str) -> None:
    process = GAUSSIAN[name]()
    levels = process.level(TIMES)
    assert bool((levels.diff() > 0).all())
    assert bool((process.alpha(TIMES) > 0).all())
    assert torch.allclose(process.time_of(levels), TIMES, rtol=1e-9)


@pytest.mark.parametrize("name", ["vp", "cosine"])
def test_the_variance_is_preserved(name: str) -> None:
    process = GAUSSIAN[name]()
    total = process.alpha(TIMES).square() + sigma(process, TIMES).square()
    assert torch.allclose(total, torch.ones_like(total), rtol=1e-12)


def test_the_discrete_rates_of_ddpm_become_the_continuous_ones() -> None:
    """log of alphas_cumprod with rates from 0.1 / T to 20 / T: the difference falls as 1 / T."""
    gaps = []
    for steps in (1000, 4000, 16_000):
        rates = torch.linspace(0.1 / steps, 20 / steps, steps, dtype=F64)
        cumulative = (1 - rates).log().cumsum(0)
        times = torch.arange(1, steps + 1, dtype=F64) / steps
        gaps.append((2 * VariancePreserving().alpha(times).log() - cumulative).abs().max().item())
    assert gaps[0] < 0.08
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.05)
    assert gaps[1] / gaps[2] == pytest.approx(4, rel=0.05)


def test_published_ends_come_out() -> None:
    ends = torch.tensor([0.0, 1.0], dtype=F64)
    assert EDM().level(ends).tolist() == pytest.approx([0.002, 80.0])
    assert VarianceExploding().level(ends).tolist() == pytest.approx([0.01, 50.0])
    assert VarianceExploding().level(ends.new_tensor([0.5])).item() == pytest.approx(0.5**0.5)
    middle = ends.new_tensor([0.5])
    root = (0.002 ** (1 / 7) + 80 ** (1 / 7)) / 2
    assert EDM().level(middle).item() == pytest.approx(root**7)
    cosine, straight = Cosine(), FlowMatching()
    assert cosine.alpha(middle).item() == pytest.approx(math.cos(math.atan(200) / 2))
    assert straight.alpha(middle).item() + sigma(straight, middle).item() == pytest.approx(1)
    assert cosine.level(ends)[1].item() == pytest.approx(200)
    assert straight.level(ends)[1].item() == pytest.approx(200)


@pytest.mark.parametrize("name", GAUSSIAN)
def test_every_process_ends_where_the_common_problem_ends(name: str) -> None:
    """RK4 of dx/dt = alpha' D + sigma' e in the process's own frame, against the flow of y."""
    process, law = GAUSSIAN[name](), gmm5()
    high, low = process.time_of(torch.tensor([8.0, 0.05], dtype=F64)).tolist()
    y = 8.0 * rng.normal(Key(rng.rows(1, 0, 4)), 3, 2)

    def slope(x: torch.Tensor, time: float) -> torch.Tensor:
        t = torch.tensor([time], dtype=F64)
        alpha, spread = process.alpha(t), sigma(process, t)
        rise = torch.func.grad(lambda at: process.alpha(at).sum())(t)
        fall = torch.func.grad(lambda at: sigma(process, at).sum())(t)
        mean = law(x / alpha, (spread / alpha).expand(len(x)))
        return rise * mean + fall * (x - alpha * mean) / spread

    x, steps = process.alpha(torch.tensor([high], dtype=F64)) * y, 200
    # equal steps in the root of time: the last levels of VE and EDM are crossed slowly
    marks = torch.linspace(high**0.5, low**0.5, steps + 1, dtype=F64).square().tolist()
    for here, there in pairwise(marks):
        width = there - here
        first = slope(x, here)
        second = slope(x + width / 2 * first, here + width / 2)
        third = slope(x + width / 2 * second, here + width / 2)
        x = x + width / 6 * (first + 2 * second + 2 * third + slope(x + width * third, there))
    end = x / process.alpha(torch.tensor([low], dtype=F64))
    assert (end - flow(law, y, 8.0, 0.05, 200)).abs().max() < 1e-4


@pytest.mark.parametrize("name", GAUSSIAN)
def test_noisy_events_are_the_weighted_sum_of_each_row(name: str) -> None:
    process = GAUSSIAN[name]()
    clean, noise = rng.normal(Key(rng.rows(2, 0, 2)), 3, 12).view(2, 2, 3, 2)
    t = torch.tensor([0.2, 0.9], dtype=F64)
    found = noisy(process, clean, noise, t)
    for row in range(2):
        alpha, level = process.alpha(t[row]), process.level(t[row])
        assert torch.allclose(found[row], alpha * (clean[row] + level * noise[row]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: VariancePreserving(beta_min=20.0, beta_max=0.1),
        lambda: VarianceExploding(lowest=2.0, highest=1.0),
        lambda: EDM(rho=0.0),
        lambda: Cosine(highest=-1.0),
        lambda: FlowMatching(highest=0.0),
    ],
)
def test_ends_out_of_order_are_refused(make: type[GaussianProcess]) -> None:
    with pytest.raises(ValueError, match="is needed, got"):
        make()
