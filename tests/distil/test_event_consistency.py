"""Consistency students answer with the end of the flow, which is known exactly here."""

import itertools
import math

import pytest
import torch

from unison.decode.continuous import DDIM, solve
from unison.distil.continuous.consistency import (
    Consistency,
    ConsistencySteps,
    answered,
    consistency,
    consistency_loss,
    drawn_intervals,
    pseudo_huber,
    walked,
)
from unison.event_denoising import Preconditioned
from unison.exact.distances import directions, sliced_wasserstein
from unison.exact.mixtures import flow, gaussian
from unison.exact.zoo import gmm5
from unison.models.continuous import PointsConfig, build
from unison.prob import rng
from unison.prob.rng import Key
from unison.train.config import Optimizer

VARIANCES = torch.tensor([0.5, 2.0], dtype=torch.float64)
LAW = gaussian(torch.zeros(2, dtype=torch.float64), torch.diag(VARIANCES))


def key(seed, rows):
    return Key(rng.rows(seed, 0, rows))


def flow_to(y, high, low):
    """The exact path of LAW, y(s) ~ sqrt(c + s^2) in each coordinate."""
    shrink = (VARIANCES + low[:, None] ** 2) / (VARIANCES + high[:, None] ** 2)
    return y * shrink.sqrt()


def flow_end(y, level):
    return flow_to(y, level, torch.zeros_like(level))


def pairs(rows, ratio):
    """Points of exact paths, and the levels they stand at."""
    high = torch.logspace(-1, 1, rows, dtype=torch.float64)
    y = high[:, None] * rng.normal(key(5, rows), 1, 2)
    return y, (high, high * ratio)


def test_a_step_of_the_teacher_follows_its_flow_to_third_order():
    errors = []
    for ratio in (0.8, 0.9):
        y, ends = pairs(30, ratio)
        errors.append(float((walked(LAW, y, ends) - flow_to(y, *ends)).abs().max()))
    assert errors[0] < 0.03
    assert 6 < errors[0] / errors[1] < 12  # (0.2 / 0.1)^3 = 8


def test_a_step_to_level_zero_is_the_teachers_answer():
    y, (high, _) = pairs(10, 0.5)
    found = walked(LAW, y, (high, torch.zeros_like(high)))
    torch.testing.assert_close(found, LAW(y, high))


def test_at_level_zero_the_answer_is_the_event_and_no_network_is_asked():
    def asked_above_zero(y, level):
        assert bool((level > 0).all())
        return torch.full_like(y, math.nan)

    y = rng.normal(key(6, 3), 1, 2)
    level = torch.tensor([0.0, 0.0, 0.0], dtype=torch.float64)
    assert torch.equal(answered(asked_above_zero, y, level), y)


def test_the_flow_map_alone_has_no_loss_along_exact_paths():
    """Among y (c / (c + s^2))^p, p = 1/2 is the flow, p = 1 the denoiser."""

    def loss(power):
        def student(y, level):
            return y * (VARIANCES / (VARIANCES + level[:, None] ** 2)) ** power

        y, ends = pairs(60, 0.8)
        return float(consistency_loss(student, student, (y, flow_to(y, *ends)), ends))

    found = {power: loss(power) for power in (0.3, 0.45, 0.5, 0.55, 1.0)}
    assert found[0.5] < 1e-6
    assert min(value for power, value in found.items() if power != 0.5) > 0.02


def test_gradients_come_from_the_higher_level_alone():
    gain = torch.ones(2, dtype=torch.float64, requires_grad=True)

    def student(y, level):
        return gain * flow_end(y, level)

    y, ends = pairs(20, 0.7)
    pair = (y, flow_to(y, *ends) + 0.3)
    consistency_loss(student, student, pair, ends).backward()

    fixed = flow_end(pair[1], ends[1])
    other = torch.ones(2, dtype=torch.float64, requires_grad=True)
    off = other * flow_end(y, ends[0]) - fixed
    c = 0.00054 * 2**0.5
    distance = (off.square().sum(1) + c**2).sqrt()
    (distance / (ends[0] - ends[1])).mean().backward()
    torch.testing.assert_close(gain.grad, other.grad)


def test_pseudo_huber_is_square_below_its_scale_and_linear_above():
    off = torch.tensor([[1e-4, 0.0], [30.0, 40.0]], dtype=torch.float64)
    c = 0.1 * 2**0.5
    found = pseudo_huber(off, 0.1)
    assert float(found[0]) == pytest.approx(1e-8 / (2 * c), rel=1e-4)
    assert float(found[1]) == pytest.approx(50 - c, rel=1e-4)


def test_the_grid_rises_from_zero_and_doubles_along_the_run():
    config = Consistency(low=0.01, high=20.0, first=4, last=32, steps=400)
    assert [config.intervals(done) for done in (0, 99, 100, 250, 399)] == [4, 4, 8, 16, 32]
    for done in (0, 399):
        grid = config.grid(done)
        assert len(grid) == config.intervals(done) + 1
        assert all(low < high for low, high in itertools.pairwise(grid))
        assert (grid[0], grid[-1]) == (0.0, 20.0)
        assert grid[1] == pytest.approx(0.01)


def test_intervals_are_drawn_as_often_as_their_normal_mass():
    config = Consistency(mean=0.0, std=1.0)
    grid = torch.tensor([0.0, math.exp(-1), 1.0, math.e], dtype=torch.float64)
    shares = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    found = torch.bincount(drawn_intervals(grid, config, shares), minlength=3) / 100_000
    masses = torch.tensor([0.158655, 0.341345, 0.341345])
    torch.testing.assert_close(found, masses / masses.sum(), atol=1e-4, rtol=0.0)


@pytest.fixture(scope="module", params=["same", "ema"])
def student(request):
    law = gmm5()
    begin = Preconditioned(build(PointsConfig(width=48, depth=2), seed=1))
    config = Consistency(
        steps=250,
        last=40,
        target=request.param,
        decay=0.9,
        optimizer=Optimizer(lr=3e-3, warmup=10, schedule="cosine"),
    )
    return consistency(begin, lambda k: law.sample(k).float(), config, law)


def test_a_distilled_student_answers_near_the_exact_end_of_the_flow(student):
    law, high, rows = gmm5(), 20.0, 400
    noise = (high**2 + 1) ** 0.5 * rng.normal(key(9, rows), 1, 2)
    end = flow(law, noise, high, 1e-3, 120)
    once = solve(ConsistencySteps(), (high, 0.0), student, noise.float(), key(9, rows))
    four = solve(DDIM(), (high, 3.0, 1.0, 0.3, 0.0), law, noise, key(9, rows))

    def error(found):
        return float((found.double() - end).square().sum(1).mean().sqrt())

    assert (once.nfe, four.nfe) == (1, 4)
    assert error(once.x) < 0.5, error(once.x)
    assert error(once.x) < 1.1 * error(four.x), error(four.x)


def test_more_steps_of_the_student_are_still_samples_of_the_law(student):
    law, high, rows = gmm5(), 20.0, 2000
    noise = (high**2 + 1) ** 0.5 * rng.normal(key(9, rows), 1, 2).float()
    drawn = solve(ConsistencySteps(), (high, 1.0, 0.0), student, noise, key(9, rows))
    along, sample = directions(key(2, 64), 2), law.sample(key(1, 4000))
    assert drawn.nfe == 2
    assert float(sliced_wasserstein(drawn.x.double(), sample, along)) < 0.3


def test_each_step_answers_and_adds_fresh_noise_of_the_next_level():
    rows, spread = 4000, 0.7
    start = torch.zeros(rows, 1, dtype=torch.float64)
    drawn = solve(ConsistencySteps(), (3.0, spread), lambda x, level: x + 2.0, start, key(4, rows))
    assert drawn.nfe == 1
    z = float((drawn.x.mean() - 2.0) / (spread / rows**0.5))
    assert abs(z) < 5
    assert float(drawn.x.std()) == pytest.approx(spread, rel=0.06)


def test_training_without_a_teacher_also_finds_the_flow():
    """One dimension, one Gaussian: the flow's end is known for every start."""
    law = gaussian(torch.zeros(1, dtype=torch.float64), torch.eye(1, dtype=torch.float64))
    begin = Preconditioned(build(PointsConfig(channels=1, width=32, depth=1), seed=3))
    quick = Optimizer(lr=3e-3, warmup=10, schedule="cosine")
    config = Consistency(steps=200, last=40, optimizer=quick)
    student = consistency(begin, lambda k: law.sample(k).float(), config)
    y, level = 20.0 * torch.linspace(-2, 2, 21)[:, None], torch.full((21,), 20.0)
    end = y / (1 + 400.0) ** 0.5
    error = float((student(y, level) - end).square().mean().sqrt())
    untrained = float((begin(y, level) - end).square().mean().sqrt())
    assert error < 0.25 * untrained, (error, untrained)


def test_what_makes_no_student_is_refused():
    begin = Preconditioned(build(PointsConfig(width=8, depth=1)), prediction="clean")
    with pytest.raises(ValueError, match="prediction 'clean' need not"):
        consistency(begin, gmm5().sample, Consistency())
    for settings, said in (
        ({"low": 30.0}, "0 < low < high"),
        ({"last": 3}, "last must be at least first=10"),
        ({"std": 0.0}, "rho, std and huber must be above 0"),
        ({"ema": 1.0}, r"must be in \[0, 1\)"),
        ({"steps": 0}, "steps must be at least 1"),
    ):
        with pytest.raises(ValueError, match=said):
            Consistency(**settings)
