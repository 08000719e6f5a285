"""What a clean sample is worth: Fisher information, EM under noise, and closed-form denoisers."""

import math

import pytest
import torch
from scipy import integrate, stats

from unison.evaluate.continuous.ambient import (
    Lesson,
    arms,
    compared,
    information,
    regressed,
    worth,
)
from unison.evaluate.continuous.deconvolution import fitted
from unison.exact.mixtures import Mixture, gaussian
from unison.exact.zoo import gmm5, ring8
from unison.prob import rng
from unison.prob.rng import Key

TOLD = Key(rng.rows(2, 0, 20_000))
EVEN = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
PAIR = Mixture(
    EVEN,
    torch.tensor([[-1.0], [1.0]], dtype=torch.float64),
    torch.full((2, 1, 1), 0.25, dtype=torch.float64),
)


def exact_information(noise):
    """The 2 x 2 matrix for PAIR by quadrature."""
    spread = math.sqrt(0.25 + noise**2)

    def entry(i, j):
        def value(x):
            parts = [0.5 * stats.norm.pdf(x, m, spread) for m in (-1, 1)]
            slopes = [
                p * (x - m) / spread**2 / sum(parts) for p, m in zip(parts, (-1, 1), strict=True)
            ]
            return sum(parts) * slopes[i] * slopes[j]

        return integrate.quad(value, -12, 12)[0]

    return torch.tensor([[entry(i, j) for j in range(2)] for i in range(2)])


@pytest.mark.parametrize("noise", [0.0, 0.8])
def test_the_information_about_the_means_is_that_of_quadrature(noise):
    found = information(PAIR, noise, TOLD)
    exact = exact_information(noise)
    assert torch.allclose(found, exact.double(), atol=0.05 * float(exact.max()))


def test_a_noisy_sample_of_one_gaussian_is_worth_the_quotient_of_variances():
    law = gaussian(torch.zeros(2, dtype=torch.float64), 0.25 * torch.eye(2).double())
    price = 0.25 / (0.25 + 0.5**2)
    assert worth(law, 100, 300, 0.5, TOLD) == pytest.approx(100 + 300 * price, rel=0.02)
    assert worth(law, 0, 300, 0.5, TOLD) == pytest.approx(300 * price, rel=0.02)


def test_the_errors_of_em_under_noise_are_those_that_information_promises():
    """60 fits of two means: the error is a chi-square of 120 degrees, false alarm 1e-6."""
    clean, noisy, noise = 60, 540, 0.6
    known = torch.cat([torch.zeros(clean), torch.full((noisy,), noise)]).double()
    errors = []
    for repeat in range(60):
        key = Key(rng.rows(repeat, 0, clean + noisy))
        points = PAIR.sample(key) + known[:, None] * rng.normal(key, 9, 1)
        found = fitted(PAIR, points, known, 15, means_only=True)
        errors.append((found.means - PAIR.means).square().sum())
    promised = clean * exact_information(0.0) + noisy * exact_information(noise)
    variance = float(torch.linalg.inv(promised).diagonal().sum())
    assert 0.45 < float(torch.stack(errors).mean()) / variance < 1.75
    # a noisy sample tells something here, though less than a clean one
    assert clean * 1.5 < worth(PAIR, clean, noisy, noise, TOLD) < 0.5 * (clean + noisy)


def test_the_least_ambient_loss_is_the_exact_mean_above_the_noise():
    law, noise = gmm5(), 0.4
    key = Key(rng.rows(3, 0, 6000))
    known = torch.full((6000,), noise, dtype=torch.float64)
    seen = law.sample(key) + noise * rng.normal(key, 9, 2)
    model = regressed(Lesson((3.0, 0.8, 0.2)), seen, known, key)
    assert sorted(model.tables) == [0.8, 3.0]  # nothing is known below the noise
    fresh = Key(rng.rows(4, 0, 2000))
    for level in model.tables:
        x = law.sample(fresh) + level * rng.normal(fresh, 9, 2)
        levels = torch.full((2000,), level, dtype=torch.float64)
        exact = law(x, levels)
        off = (model(x, levels) - exact).square().mean()
        assert float(off) < 0.03 * float(exact.var())


def test_a_tenth_of_clean_data_and_the_rest_noisy_is_almost_as_good_as_clean():
    levels = tuple(8 * (0.03 / 8) ** (i / 16) for i in range(17))
    found = compared(ring8(), arms(600, 0.1), 0.8, Lesson(levels, copies=4), 3, 600)
    clean, mixed, few, noisy = found
    assert [outcome.arm.name for outcome in found] == ["clean", "mixed", "few clean", "noisy"]
    assert (mixed.arm.clean, mixed.arm.noisy, noisy.arm.clean) == (60, 540, 0)
    assert mixed.distance.value < 0.85 * few.distance.value
    assert mixed.distance.value < 1.7 * clean.distance.value
    assert noisy.distance.value > 1.5 * mixed.distance.value
    assert clean.worth == pytest.approx(600)
    assert few.worth == pytest.approx(60)
    assert few.worth < mixed.worth < clean.worth


def test_a_denoiser_of_some_levels_refuses_others():
    law, key = gmm5(), Key(rng.rows(3, 0, 100))
    known = torch.full((100,), 0.5, dtype=torch.float64)
    model = regressed(Lesson((2.0, 1.0), cells=4), law.sample(key), known, key)
    with pytest.raises(ValueError, match="knows the levels"):
        model(law.sample(key), torch.full((100,), 1.5, dtype=torch.float64))
    with pytest.raises(ValueError, match="noisier than the highest level"):
        regressed(Lesson((0.4, 0.3), cells=4), law.sample(key), known, key)
