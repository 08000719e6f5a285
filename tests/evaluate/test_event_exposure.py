"""Exposure bias of samplers whose marginals are known."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from unison.decode.continuous import solve
from unison.decode.continuous.ddim import DDIM
from unison.decode.continuous.heun import Heun
from unison.evaluate.continuous.exposure import Visited, exposure, spectrum, visited
from unison.exact.mixtures import Mixture, gaussian
from unison.exact.zoo import gmm5
from unison.prob import rng
from unison.prob.rng import Key

ROWS = 1500
KEY = Key(rng.rows(0, 0, ROWS))
HIGH = 4.0
VARIANCES = torch.tensor([1.0, 0.3, 0.05], dtype=torch.float64)
GAUSS = gaussian(torch.zeros(3, dtype=torch.float64), VARIANCES.diag())
DATA = Key(rng.rows(1, 0, 2 * ROWS))


@dataclass(frozen=True)
class Biased:
    """A mean that is off by a constant: dy/du = y - D - bias."""

    law: Mixture
    bias: float

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        return self.law(x, level) + self.bias


def grid(steps, low=0.05):
    return tuple(HIGH * (low / HIGH) ** (i / steps) for i in range(steps + 1))


def run(law, solver, levels, denoise=None):
    start = law.sample(KEY) + levels[0] * rng.normal(KEY, 7, law.means.shape[1])
    return visited(solver, levels, denoise or law, start, KEY)


@pytest.mark.parametrize("law", [gmm5(), GAUSS])
def test_exact_means_and_many_steps_show_no_bias(law):
    states = run(law, Heun(), grid(30))[::5]
    found = exposure(law, states, law.sample(DATA), 5, reference=law)
    assert [part.level for part in found] == list(grid(30))[::5]
    for part in found:
        assert part.errors is not None
        assert part.errors[0].value == part.errors[1].value == 0
        assert part.shift.value < 6 / ROWS**0.5
        for ratio in (part.variance, part.noise):
            assert 0 < ratio.stderr < 0.1
            assert abs(ratio.value - 1) < 5.5 * ratio.stderr
        assert part.distance < 3 * part.floor
        assert part.spectrum < 1.0


def test_what_coarse_steps_do_to_the_variances_of_a_gaussian_is_recovered():
    levels = grid(6)
    found = exposure(GAUSS, run(GAUSS, DDIM(), levels), GAUSS.sample(DATA), 5)
    variances = VARIANCES + HIGH**2
    for number, part in enumerate(found):
        if number:  # y' = (s'/s) y + (1 - s'/s) c / (c + s^2) y
            high, low = levels[number - 1 : number + 1]
            gain = VARIANCES / (VARIANCES + high**2)
            variances = variances * (low / high + (1 - low / high) * gain).square()
        known = variances.sum() / (VARIANCES + part.level**2).sum()
        assert abs(part.variance.value - known) < 5.5 * part.variance.stderr
    assert float(known) < 0.9  # steps this coarse shrink the data: the test has something to see
    assert found[-1].distance > 2 * found[-1].floor


def test_a_constant_error_of_the_mean_moves_states_by_a_known_path():
    levels, bias = grid(60), 0.3
    law = gmm5()
    states = run(law, Heun(), levels, Biased(law, bias))
    ends = (states[0], states[-1])
    found = exposure(Biased(law, bias), ends, law.sample(DATA), 5, reference=law)
    assert found[-1].errors is not None
    assert found[-1].errors[0].value == pytest.approx(bias**2)
    assert found[0].shift.value < 6 / ROWS**0.5
    assert found[-1].shift.value > 0.15
    # a Gaussian of variance c: m' = m s^2 / (c + s^2) - bias in u, in each coordinate
    states = run(GAUSS, Heun(), levels, Biased(GAUSS, bias))
    last = exposure(GAUSS, states[-1:], GAUSS.sample(DATA), 5)[0]
    moved, steps = torch.zeros(3, dtype=torch.float64), 4000
    width = math.log(levels[-1] / HIGH) / steps
    for step in range(steps):
        square = HIGH**2 * math.exp(2 * width * (step + 0.5))
        moved = moved + width * (moved * square / (VARIANCES + square) - bias)
    known = (moved.square().mean() / (VARIANCES + levels[-1] ** 2).mean()).sqrt()
    assert abs(last.shift.value - known) < 5.5 * last.shift.stderr + 2e-3


def test_an_error_that_grows_off_the_data_drifts():
    law = gmm5()

    @dataclass(frozen=True)
    class Worse:
        """Right near the origin, wrong far away."""

        def __call__(self, x: Tensor, level: Tensor) -> Tensor:
            return law(x, level) + 0.1 * x.norm(dim=1, keepdim=True) * x

    states = [
        Visited(0.3, 2 * law.sample(KEY)),
        Visited(0.3, law.sample(KEY) + 0.3 * rng.normal(KEY, 7, 2)),
    ]
    wide, plain = exposure(Worse(), states, law.sample(DATA), 5, reference=law)
    assert wide.errors is not None
    assert plain.errors is not None
    assert wide.errors[0].value > 5 * wide.errors[1].value
    off = plain.errors[0].value - plain.errors[1].value
    assert abs(off) < 5.5 * (plain.errors[0].stderr ** 2 + plain.errors[1].stderr ** 2) ** 0.5
    assert exposure(Worse(), states, law.sample(DATA), 5)[0].errors is None


def test_observing_changes_no_event():
    law, levels = gmm5(), (*grid(5), 0.0)
    start = HIGH * rng.normal(KEY, 7, 2)
    seen = visited(DDIM(), levels, law, start, KEY)
    assert [state.level for state in seen] == list(levels[:-1])
    plain = solve(DDIM(), levels[:-1], law, start, KEY).x
    assert torch.equal(seen[-1].x, plain)


def test_the_spectrum_of_white_noise_is_flat_and_of_a_wave_one_line():
    noise = rng.normal(Key(rng.rows(3, 0, 400)), 2, 256).view(400, 1, 16, 16)
    assert torch.allclose(spectrum(2 * noise), torch.full((8,), 4.0).double(), rtol=0.1)
    along = torch.arange(64, dtype=torch.float64)
    wave = (2 * math.pi * 20 / 64 * along).cos().view(1, 1, 64)  # of the highest frequency 32
    power = spectrum(wave)
    assert power.argmax() == 5
    assert float(power[5] / power.sum()) > 0.999
    points = torch.tensor([[1.0, 0], [-1, 0], [0, 2], [0, -2]]).double()
    assert torch.allclose(spectrum(points), torch.tensor([2 / 3, 8 / 3]).double())


def test_a_blurred_event_has_less_power_at_high_frequencies():
    noise = rng.normal(Key(rng.rows(3, 0, 40)), 2, 256).view(40, 1, 16, 16)
    blurred = torch.nn.functional.avg_pool2d(noise, 3, 1, 1)
    ratio = spectrum(blurred) / spectrum(noise)
    assert ratio[0] > 5 * ratio[-1]


def test_too_little_data_is_refused():
    law = gmm5()
    with pytest.raises(ValueError, match="twice as many"):
        exposure(law, run(law, DDIM(), grid(2)), law.sample(KEY), 5)
