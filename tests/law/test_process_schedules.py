"""Schedules are what they say: end points, monotone, and the derivative is the derivative."""

import math

import numpy as np
import pytest
import torch

from unison.process.schedule import SCHEDULES, Learned, Schedule, make_schedule

EPS = 1e-3
ENDS = {
    "log_linear": (1.0, EPS),
    "cosine": (1.0, 1 - math.cos(math.pi * EPS / 2)),
    "quarter_cosine": (1.0, EPS),
    "cosine_squared": (1.0, EPS),
    "geometric": (math.exp(-1e-3), math.exp(-10.0)),
    "learned": (1.0, EPS),
}
FORMULAS = {
    "log_linear": lambda t: 1 - (1 - EPS) * t,
    "cosine": lambda t: 1 - np.cos(np.pi / 2 * (1 - (1 - EPS) * t)),
    "quarter_cosine": lambda t: EPS + (1 - EPS) * np.cos(np.pi * t / 2),
    "cosine_squared": lambda t: EPS + (1 - EPS) * np.cos(np.pi * t / 2) ** 2,
    "geometric": lambda t: np.exp(-(1e-3 ** (1 - t) * 10.0**t)),
}


def bent():
    """A learned schedule that has learned something."""
    schedule = Learned(knots=5).double()
    with torch.no_grad():
        schedule.logits.copy_(torch.tensor([0.3, -1.0, 2.0, 0.0, -0.4]))
    return schedule


def make(name):
    return bent() if name == "learned" else make_schedule(name)


every_schedule = pytest.mark.parametrize("name", [*SCHEDULES, "learned"])


def test_every_schedule_in_the_table_has_its_ends_written_here():
    assert set(ENDS) == {*SCHEDULES, "learned"}


@every_schedule
def test_it_runs_from_clean_to_prior(name):
    ends = make(name).alpha(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert ends.tolist() == pytest.approx(ENDS[name], rel=1e-12, abs=1e-15)
    assert isinstance(make(name), Schedule)


@pytest.mark.parametrize("name", SCHEDULES)
def test_it_is_the_published_formula(name):
    t = np.linspace(0, 1, 101)
    got = make(name).alpha(torch.from_numpy(t)).numpy()
    assert got == pytest.approx(FORMULAS[name](t), rel=1e-12, abs=1e-15)


@every_schedule
def test_survival_falls(name):
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)
    schedule = make(name)
    assert (schedule.alpha(t).diff() < 0).all()
    assert (schedule.dalpha(t[1:-1]) < 0).all()


@every_schedule
def test_dalpha_is_the_derivative(name):
    t = torch.linspace(0.003, 0.997, 333, dtype=torch.float64, requires_grad=True)
    schedule = make(name)
    (want,) = torch.autograd.grad(schedule.alpha(t).sum(), t)
    torch.testing.assert_close(schedule.dalpha(t.detach()), want, rtol=1e-12, atol=1e-14)


@every_schedule
def test_single_precision_agrees_with_double(name):
    t = torch.linspace(0, 1, 33, dtype=torch.float64)
    schedule = make(name)
    torch.testing.assert_close(
        schedule.alpha(t.float()).double(), schedule.alpha(t), rtol=2e-5, atol=1e-7
    )


def test_a_learned_schedule_starts_log_linear():
    t = torch.linspace(0, 1, 50)
    torch.testing.assert_close(Learned().alpha(t), make_schedule("log_linear").alpha(t))


def test_a_learned_schedule_learns():
    schedule, t = bent(), torch.linspace(0.1, 0.9, 7, dtype=torch.float64)
    weights = torch.arange(7.0, dtype=torch.float64)

    def score(logits):
        return torch.func.functional_call(schedule, {"logits": logits}, (t,)).mul(weights).sum()

    schedule.forward = schedule.alpha
    assert torch.autograd.gradcheck(score, (schedule.logits.detach().requires_grad_(),))


def test_the_two_cosines_differ():
    t = torch.tensor([0.5])
    assert abs(make("cosine").alpha(t) - make("quarter_cosine").alpha(t)) > 0.3


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'linear'; known: log_linear, cosine"):
        make_schedule("linear")


@pytest.mark.parametrize("name", ["log_linear", "cosine", "quarter_cosine", "cosine_squared"])
@pytest.mark.parametrize("eps", [-0.1, 1.0])
def test_an_impossible_eps_is_refused(name, eps):
    with pytest.raises(ValueError, match=rf"eps must be in \[0, 1\), got {eps}"):
        SCHEDULES[name](eps=eps)


def test_an_impossible_geometric_or_learned_schedule_is_refused():
    with pytest.raises(ValueError, match=r"got 3\.0 and 2\.0"):
        SCHEDULES["geometric"](sigma_min=3.0, sigma_max=2.0)
    with pytest.raises(ValueError, match="knots must be at least 1, got 0"):
        Learned(knots=0)
