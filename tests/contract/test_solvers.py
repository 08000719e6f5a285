"""What every solver of continuous diffusion promises, over the whole table."""

import math
from copy import copy
from dataclasses import fields
from functools import cache
from itertools import product

import pytest
import torch
from torch import Tensor

from unison.decode.continuous import GRIDS, SOLVERS, Solver, Span, State, solve
from unison.decode.continuous.budget import intervals_within
from unison.exact.mixtures import flow
from unison.exact.zoo import ZOO
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import VariancePreserving
from unison.types import Event, Law, Level

HIGH, LOW = 20.0, 0.05
NFES = (5, 8, 10, 15, 20)
EVERY = sorted(SOLVERS)
DETERMINISTIC = [name for name in EVERY if SOLVERS[name].law is Law.GREEDY]
STOCHASTIC = [name for name in EVERY if SOLVERS[name].law is not Law.GREEDY]


def _made(name: str) -> Solver:
    return SOLVERS[name]()


def _levels(intervals: int, high: float = HIGH, low: float = LOW) -> tuple[float, ...]:
    steps = (i / intervals for i in range(intervals))
    return (*(high * (low / high) ** share for share in steps), low)


def _key(rows: int, step: int = 0) -> Key:
    return Key(rng.rows(3, 0, rows), step)


def _start(rows: int, size: int = 2, high: float = HIGH) -> Tensor:
    return high * rng.normal(_key(rows), 77, size)


def _wavy(x: Event, level: Level) -> Event:
    """A denoiser without any structure, one element at a time."""
    s = level.view(-1, *[1] * (x.ndim - 1))
    return torch.sin(x) / (1 + s) + x / (1 + s.square())


def _gaussian(x: Event, level: Level) -> Event:
    """The mean of data of variance 1 around 0."""
    return x / (1 + level.square()).view(-1, *[1] * (x.ndim - 1))


class Counted:
    """A denoiser that remembers at which levels it was asked."""

    def __init__(self) -> None:
        self.levels: list[float] = []

    def __call__(self, x: Event, level: Level) -> Event:
        self.levels.append(float(level[0]))
        return _wavy(x, level)


@pytest.mark.parametrize("name", EVERY)
def test_the_evaluations_announced_are_those_made(name: str) -> None:
    solver = _made(name)
    for intervals in (1, 2, 3, 4, 7):
        denoise = Counted()
        drawn = solve(solver, _levels(intervals), denoise, _start(3), _key(3))
        assert len(denoise.levels) == drawn.nfe == solver.evaluations(intervals)


@pytest.mark.parametrize("name", EVERY)
def test_a_grid_that_ends_at_zero_costs_one_evaluation_more(name: str) -> None:
    solver, denoise = _made(name), Counted()
    drawn = solve(solver, (*_levels(3), 0.0), denoise, _start(3), _key(3))
    assert drawn.nfe == solver.evaluations(3) + 1
    assert denoise.levels[-1] == LOW


@pytest.mark.parametrize("name", EVERY)
def test_no_evaluation_is_made_outside_the_grid(name: str) -> None:
    denoise = Counted()
    solve(_made(name), _levels(6), denoise, _start(3), _key(3))
    assert min(denoise.levels) >= LOW
    assert max(denoise.levels) <= HIGH


@pytest.mark.parametrize("name", EVERY)
def test_a_step_is_pure(name: str) -> None:
    solver, levels = _made(name), _levels(6)
    states = [State(_start(3))]
    solve(solver, levels, _wavy, states[0].x, _key(3), lambda done, state: states.append(state))
    middle = states[4]  # the first entry is there twice
    before = middle.x.clone()
    again = [solver.step(levels, _wavy, middle, _key(3, 3)) for _ in range(2)]
    assert torch.equal(again[0].x, again[1].x)
    assert torch.equal(again[0].x, states[5].x)
    assert torch.equal(middle.x, before)


@pytest.mark.parametrize("name", EVERY)
def test_a_row_does_not_see_its_batch(name: str) -> None:
    solver, levels, start, key = _made(name), _levels(6), _start(5, 3), _key(5)
    together = solve(solver, levels, _wavy, start, key).x
    alone = solve(solver, levels, _wavy, start[3:4], Key(key.seed[3:4])).x
    torch.testing.assert_close(alone, together[3:4], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_events_of_any_shape_and_of_float32_are_solved_alike(name: str) -> None:
    solver, levels, start, key = _made(name), _levels(6), _start(2, 12), _key(2)
    flat = solve(solver, levels, _wavy, start, key).x
    image = solve(solver, levels, _wavy, start.view(2, 3, 2, 2).float(), key).x
    assert image.dtype is torch.float32
    torch.testing.assert_close(image.view(2, 12).double(), flat, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_seeds_do_not_matter_to_a_deterministic_solver(name: str) -> None:
    solver, levels, start = _made(name), _levels(6), _start(3)
    one = solve(solver, levels, _wavy, start, _key(3)).x
    other = solve(solver, levels, _wavy, start, Key(rng.rows(4, 0, 3))).x
    assert torch.equal(one, other)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_seeds_matter_to_a_stochastic_solver(name: str) -> None:
    solver, levels, start = _made(name), _levels(6), _start(3)
    one = solve(solver, levels, _wavy, start, _key(3)).x
    other = solve(solver, levels, _wavy, start, Key(rng.rows(4, 0, 3))).x
    assert (one != other).all()


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_error_to_the_closed_form_of_a_gaussian_falls(name: str) -> None:
    start = _start(8)
    exact = start * math.sqrt((1 + LOW**2) / (1 + HIGH**2))
    errors = [
        (solve(_made(name), _levels(n), _gaussian, start, _key(8)).x - exact).abs().max().item()
        for n in (16, 64)
    ]
    assert errors[1] < 0.05
    assert errors[1] < max(0.4 * errors[0], 1e-9)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_gaussian_comes_out_with_its_variance(name: str) -> None:
    rows = 20_000
    start = math.sqrt(1 + HIGH**2) * rng.normal(_key(rows), 78, 1)
    drawn = solve(_made(name), _levels(60), _gaussian, start, _key(rows)).x
    ratio = float(drawn.square().mean()) / (1 + LOW**2)
    # 4.9 standard errors of a variance are passed once in a million; the rest is bias
    assert abs(ratio - 1) < 4.9 * math.sqrt(2 / rows) + 0.05


@pytest.mark.parametrize("name", EVERY)
def test_every_grid_and_budget_ends_with_finite_numbers(name: str) -> None:
    solver, laws = _made(name), [ZOO[law]() for law in ("gmm5", "guided", "ring8")]
    runs = 0
    for grid, budget in product(sorted(GRIDS), NFES):
        if solver.evaluations(1) > budget:
            continue
        span = Span(157.4, 0.01, VariancePreserving())
        levels = GRIDS[grid]().levels(span, intervals_within(solver, budget))
        drawn = solve(solver, levels, laws[runs % 3], _start(3, high=157.4), _key(3))
        assert drawn.x.isfinite().all()
        assert drawn.nfe <= budget
        runs += 1
    assert runs * len(EVERY) >= 500


@cache
def _solved(law: str) -> tuple[Tensor, Tensor]:
    """Return many starts, and where their paths end: a few near a watershed dominate the error."""
    start = _start(2000, high=157.4)
    return start, flow(ZOO[law](), start, 157.4, 0.01, 150)


@pytest.mark.parametrize("law", ["gmm5", pytest.param("guided", marks=pytest.mark.slow), "ring8"])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_more_evaluations_never_make_a_default_worse(name: str, law: str) -> None:
    solver, grid, denoise = _made(name), GRIDS["time"](), ZOO[law]()
    start, exact = _solved(law)
    last = math.inf
    for budget in NFES:
        span = Span(157.4, 0.01, VariancePreserving())
        levels = grid.levels(span, intervals_within(solver, budget))
        drawn = solve(solver, levels, denoise, start, _key(len(start)))
        error = float((drawn.x - exact).square().sum(1).mean().sqrt())
        assert error <= last
        last = error


@pytest.mark.parametrize("name", EVERY)
def test_an_order_that_a_solver_does_not_have_is_refused(name: str) -> None:
    made = _made(name)
    for field in ("order", "predictor"):
        if isinstance(getattr(made, field, None), int):
            for order in (0, 9):
                with pytest.raises(ValueError, match=rf"{field} must be 1 to \d, got {order}"):
                    SOLVERS[name](**{field: order})


@pytest.mark.parametrize("name", EVERY)
def test_a_word_that_a_solver_does_not_know_is_refused(name: str) -> None:
    made = _made(name)
    words = [
        field.name
        for field in fields(SOLVERS[name])  # pyright: ignore[reportArgumentType]
        if isinstance(getattr(made, field.name), str)
    ]
    for field in words:
        wrong = copy(made)
        object.__setattr__(wrong, field, "hune")  # past the checks of types that tests run under
        with pytest.raises(ValueError, match=f"{field} must be one of"):
            wrong.__post_init__()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", EVERY)
def test_answers_of_another_shape_and_without_numbers_are_refused(name: str) -> None:
    solver, levels, start = _made(name), _levels(4), _start(3)
    with pytest.raises(ValueError, match="the denoiser was given events"):
        solve(solver, levels, lambda x, level: x[:, :1], start, _key(3))
    with pytest.raises(ValueError, match="answer number 1 of"):
        solve(solver, levels, lambda x, level: x * math.nan, start, _key(3))


@pytest.mark.parametrize("name", EVERY)
def test_levels_that_do_not_fall_are_refused(name: str) -> None:
    for levels in ((1.0,), (1.0, 1.0), (1.0, 2.0), (2.0, 1.0, 1.0), (2.0, -1.0), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="level"):
            solve(_made(name), levels, _wavy, _start(3), _key(3))


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_stochastic_solver_wants_a_seed_for_each_row(name: str) -> None:
    with pytest.raises(ValueError, match="one seed for each of the 3 rows, got 2"):
        solve(_made(name), _levels(40), _wavy, _start(3), _key(2))
