"""Restoration of a mixture in the plane, whose posterior is known: how far are the samples?"""

from itertools import pairwise

import pytest
import torch

from unison.decode.continuous import solve
from unison.decode.continuous.posterior_step import PosteriorStep
from unison.exact.distances import directions, sliced_wasserstein
from unison.exact.restoration import ExactRestoration
from unison.exact.zoo import gmm5
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import RESIDUAL

ROWS, NOISE, STEPS = 1500, 0.7, (1, 2, 4, 8, 15)
LAW, SEEN = gmm5(), torch.tensor([0.3, 0.2], dtype=torch.float64)
EXACT = LAW.posterior(torch.eye(2, dtype=torch.float64), SEEN, NOISE)
ALONG = directions(Key(rng.rows(9, 0, 32)), 2)


def distances(name: str, corrected: bool, eta: float = 1.0) -> list[float]:
    """Sliced Wasserstein-2 from exact samples after 1, 2, 4, 8 and 15 evaluations."""
    process = RESIDUAL[name]()
    degraded = SEEN.expand(ROWS, 2).clone()
    denoise = ExactRestoration(LAW, process, degraded, NOISE)
    solver = PosteriorStep(process, degraded, eta, corrected)
    key = Key(rng.rows(1, 0, ROWS))
    drawn = EXACT.sample(Key(rng.rows(5, 0, 4 * ROWS)))
    found = []
    for steps in STEPS:
        times = [k / steps for k in range(steps, 0, -1)] + [1e-9 if corrected else 0.0]
        out = solve(solver, times, denoise, process_start(name, degraded, key), key)
        assert out.nfe == steps
        found.append(sliced_wasserstein(out.x, drawn, ALONG).item())
    return found


def process_start(name: str, degraded: torch.Tensor, key: Key) -> torch.Tensor:
    """x_1, written out: the published starts."""
    noise = rng.normal(key, 77, 2)
    return {
        "ouve": lambda: degraded + RESIDUAL["ouve"]().variance(one()).sqrt() * noise,
        "resfusion": lambda: degraded / 2 + 0.75**0.5 * noise,
        "resshift": lambda: degraded + 2 * 0.99 * noise,
        "sbve": lambda: degraded,
    }[name]()


def one() -> torch.Tensor:
    return torch.ones((), dtype=torch.float64)


@pytest.mark.law
@pytest.mark.parametrize("name", RESIDUAL)
def test_samples_near_the_posterior_with_every_evaluation(name: str) -> None:
    plain, corrected = distances(name, False), distances(name, True)
    assert all(few > 1.1 * many for few, many in pairwise(plain)), plain
    assert all(left < 0.75 * right for left, right in zip(corrected, plain, strict=True))
    assert corrected[0] > corrected[2] > 0.8 * corrected[4]
    assert plain[4] < 0.2
    assert corrected[3] < 0.1


@pytest.mark.law
@pytest.mark.parametrize("name", ["ouve", "resfusion", "resshift", "sbve"])
def test_the_corrected_step_needs_no_noise_of_the_chain(name: str) -> None:
    assert distances(name, True, eta=0.0)[3] < 0.1


def test_the_exact_restoration_is_the_mean_over_the_posterior_grid() -> None:
    """Bayes on a grid of clean points, against two views joined in closed form."""
    axis = torch.linspace(-4, 4, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    x, t = torch.tensor([[0.5, -0.4]], dtype=torch.float64), torch.tensor([0.4]).double()
    for process in (make() for make in RESIDUAL.values()):
        mean = process.alpha(t) * grid + process.shift(t) * SEEN
        logits = LAW.log_prob(grid, torch.zeros(len(grid), dtype=torch.float64))
        logits = logits - (x - mean).square().sum(1) / (2 * process.variance(t))
        logits = logits - (SEEN - grid).square().sum(1) / (2 * NOISE**2)
        shares = logits.softmax(0)[:, None]
        centre = (shares * grid).sum(0)
        spread = (shares * (grid - centre).square()).sum(0)
        found = ExactRestoration(LAW, process, SEEN[None], NOISE).moments(x, t)
        assert torch.allclose(found[0][0], centre, atol=1e-6)
        assert torch.allclose(found[1][0], spread, atol=1e-6)
