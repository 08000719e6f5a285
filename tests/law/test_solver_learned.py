"""Learned solvers: what holds for every table, and what a fit must reach on known laws."""

import dataclasses
import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unison.decode.continuous import GRIDS, Levels, Span, solve
from unison.decode.continuous.fitted import (
    Fitting,
    LearnedGrid,
    LearnedSolver,
    Rule,
    beginnings,
    error_of,
    fit,
    load,
    reference,
)
from unison.decode.continuous.fitted.rollout import ended, linearised
from unison.decode.continuous.fitted.table import Layout
from unison.decode.continuous.grids import CosineSNR
from unison.exact.mixtures import gaussian
from unison.exact.zoo import ZOO, gmm5
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import VariancePreserving
from unison.types import Event, EventDenoiser, Level

# Forward derivatives make torch compile parts of itself with a tool it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is dep:DeprecationWarning")

SPAN = Span(157.4, 0.01, VariancePreserving())
SHORT = Span(20.0, 0.05, VariancePreserving())
QUICK = Fitting(rules=(Rule(CosineSNR(), "data", 2, "log"),), rounds=6)


def starts(seed: int, count: int, span: Span = SHORT) -> Tensor:
    return span.high * rng.normal(Key(rng.rows(seed, 0, count)), 5, 2)


def run(solver: LearnedSolver, law: EventDenoiser, y: Event, levels: Levels | None = None) -> Event:
    return solve(solver, levels or solver.grid, law, y, Key(rng.rows(0, 0, len(y)))).x


def some_table(seed: int, intervals: int = 5) -> LearnedSolver:
    layout = Layout(SHORT.high, SHORT.low, intervals)
    numbers = layout.numbers(GRIDS["logsnr"]().levels(SHORT, intervals))
    noise = rng.normal(Key(rng.rows(seed, 0, 1)), 6, len(numbers))[0]
    return layout.solver(numbers + 0.3 * noise)


@pytest.mark.parametrize("seed", range(5))
def test_any_table_solves_a_constant_mean_exactly(seed: int) -> None:
    centre = torch.tensor([0.7, -2.0], dtype=torch.float64)
    y = starts(1, 6)
    x = run(some_table(seed), lambda x, level: centre.expand_as(x), y)
    exact = centre + SHORT.low / SHORT.high * (y - centre)
    assert torch.allclose(x, exact, atol=1e-12)


@pytest.mark.parametrize("basis", ["data", "noise"])
def test_where_nothing_is_added_the_table_is_the_two_step_rule(basis: str) -> None:
    """The two-step exponential Adams-Bashforth rule, written out from its two integrals."""
    law, y = gmm5(), starts(2, 20)
    levels = GRIDS["logsnr"]().levels(SHORT, 6)
    layout = Layout(SHORT.high, SHORT.low, 6, 2, basis)  # type: ignore[arg-type]
    x = run(layout.solver(layout.numbers(levels)), law, y)
    want, before = y, None
    for i in range(6):
        s, after = levels[i : i + 2]
        h = math.log(after / s)
        mean = law(want, torch.full((20,), s, dtype=torch.float64))
        f = mean if basis == "data" else (want - mean) / s
        slope = 0.0
        if 0 < i < 5:
            assert before is not None
            slope = (f - before) / math.log(s / levels[i - 1])
        before = f
        if basis == "data":  # integral of -(e^(h-v)) v dv from 0 to h = h + 1 - e^h
            want = after / s * want + (1 - after / s) * f + (h + 1 - math.exp(h)) * slope
        else:  # integral of s e^v v dv from 0 to h = s (h e^h - e^h + 1)
            want = want + (after - s) * f + s * (h * math.exp(h) - math.exp(h) + 1) * slope
    assert torch.allclose(x, want, atol=1e-9)


def test_the_jacobian_is_that_of_finite_differences() -> None:
    law, y, layout = gmm5(), starts(3, 4), Layout(SHORT.high, SHORT.low, 4, 3, "noise", "level")
    numbers = layout.numbers(GRIDS["karras"]().levels(SHORT, 4))
    numbers = numbers + 0.05 * rng.normal(Key(rng.rows(4, 0, 1)), 6, len(numbers))[0]
    ends, moved = linearised(law, layout, numbers, y)
    assert torch.allclose(ends, ended(law, layout.table(numbers), y), atol=1e-12)
    for k in range(layout.size):
        step = torch.zeros_like(numbers)
        step[k] = 1e-5
        up, down = (ended(law, layout.table(numbers + sign * step), y) for sign in (1, -1))
        assert torch.allclose(moved[..., k], (up - down) / 2e-5, atol=1e-6)


def test_a_fit_holds_on_starts_it_never_saw_and_is_repeatable() -> None:
    law, y = gmm5(), starts(5, 200)
    ends = reference(law, y, (SHORT.high, SHORT.low), 100)
    found = fit(law, y, ends, SHORT, 5, QUICK)
    fresh = starts(6, 400)
    wanted = reference(law, fresh, (SHORT.high, SHORT.low), 100)
    levels = CosineSNR().levels(SHORT, 5)
    layout = Layout(SHORT.high, SHORT.low, 5)
    plain = run(layout.solver(layout.numbers(levels)), law, fresh)
    learned = run(found.solver, law, fresh)
    assert (learned - wanted).norm() < 0.4 * (plain - wanted).norm()
    assert found.held_out < 0.3 * found.begun
    assert fit(law, y, ends, SHORT, 5, QUICK) == found


def test_events_of_any_shape_are_fitted_by_adam() -> None:
    flat = gmm5()

    def law(x: Event, level: Level) -> Event:
        return flat(x.reshape(-1, 2), level.repeat_interleave(3)).view_as(x)

    y = starts(7, 3 * 24).view(24, 1, 3, 2)
    ends = reference(law, y, (SHORT.high, SHORT.low), 40)
    how = dataclasses.replace(QUICK, jacobian=5, iterations=30)
    found = fit(law, y, ends, SHORT, 3, how)
    assert found.held_out < 0.6 * found.begun
    assert run(found.solver, law, y[:2]).shape == (2, 1, 3, 2)


def test_rows_do_not_see_their_batch() -> None:
    law, y, solver = gmm5(), starts(8, 9), some_table(1)
    assert torch.equal(run(solver, law, y)[4:6], run(solver, law, y[4:6]))


def test_the_reference_is_the_closed_form_on_a_gaussian() -> None:
    values = torch.tensor([2.0, 0.01], dtype=torch.float64)
    law = gaussian(torch.zeros(2, dtype=torch.float64), values.diag())
    y = starts(9, 5)
    exact = y * ((values + 0.05**2) / (values + 20.0**2)).sqrt()
    assert torch.allclose(reference(law, y, (20.0, 0.05)), exact, atol=1e-7)


def test_what_is_saved_is_loaded_to_the_last_bit(tmp_path: Path) -> None:
    solver = some_table(3)
    solver.save(tmp_path / "solver.json")
    assert load(tmp_path / "solver.json") == solver


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "version 99"),
        ({"format": "other"}, "no file of the format"),
        ({"weights": [[1.0]]}, "as many rows"),
        ({"weights": [[1.0], [0.5, 0.4]]}, "weights sum to 1"),
        ({"weights": [[1.0], [0.5, 0.25, 0.25]]}, "2 answers to weigh"),
        ({"levels": [2.0, 3.0, 1.0]}, "fall strictly"),
        ({"levels": [2.0, 1.0, 0.0]}, "ends above 0"),
        ({"scales": [2.0, 1.0, 0.7]}, "fitted for"),
        ({"scales": [2.0, -1.0, 0.5]}, "above 0"),
        ({"scales": None}, "lacks the numbers"),
    ],
)
def test_files_that_are_no_solver_are_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "solver.json"
    LearnedSolver((2.0, 1.0, 0.5), (2.0, 1.1, 0.5), ((1.0,), (-0.5, 1.5))).save(path)
    content = json.loads(path.read_text()) | change
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load(path)


def test_a_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "solver.json"
    path.write_text('{"format": "unison learned so')
    with pytest.raises(ValueError, match="no JSON"):
        load(path)


def test_other_levels_than_its_own_are_refused() -> None:
    solver = some_table(0)
    with pytest.raises(ValueError, match="its field `grid`"):
        run(solver, gmm5(), starts(1, 2), GRIDS["logsnr"]().levels(SHORT, 5))
    with pytest.raises(ValueError, match="fitted for 5 intervals"):
        solver.evaluations(6)


def test_what_cannot_be_fitted_is_refused() -> None:
    law, y = gmm5(), starts(1, 8)

    def frozen(x: Event, level: Level) -> Event:
        with torch.no_grad():
            return law(x, level)

    with pytest.raises(ValueError, match="no_grad"):
        fit(frozen, y, y, SHORT, 3, QUICK)
    with pytest.raises(ValueError, match="one shape"):
        fit(law, y, y[:4], SHORT, 3, QUICK)
    with pytest.raises(ValueError, match="too few"):
        fit(law, y[:1], y[:1], SHORT, 3, QUICK)
    with pytest.raises(ValueError, match="stays finite"):
        fit(law, y, y * math.nan, SHORT, 3, QUICK)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Fitting(held_out=1.0)
    with pytest.raises(ValueError, match="at least one rule"):
        Fitting(rules=())


def test_a_learned_grid_is_a_grid() -> None:
    solver = some_table(2)
    grid = solver.as_grid()
    assert grid.levels(SHORT, 5) == pytest.approx(solver.grid, rel=1e-12)
    for intervals in (1, 3, 17):
        levels = grid.levels(SPAN, intervals)
        assert len(levels) == intervals + 1
        assert (levels[0], levels[-1]) == (SPAN.high, SPAN.low)
        assert all(low < high for high, low in pairwise(levels))
    with pytest.raises(ValueError, match="rise strictly"):
        LearnedGrid((0.0, 0.6, 0.5, 1.0))
    with pytest.raises(ValueError, match="at least 1 interval"):
        grid.levels(SPAN, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "intervals"), [("gmm5", 8), ("gmm5", 15), ("ring8", 10)])
def test_a_fit_errs_less_than_a_third_of_every_plain_rule(name: str, intervals: int) -> None:
    law = ZOO[name]()
    y, fresh = starts(11, 1024, SPAN), starts(7, 1000, SPAN)
    ends, wanted = (reference(law, one, (157.4, 0.01)) for one in (y, fresh))
    found = fit(law, y, ends, SPAN, intervals)
    learned = run(found.solver, law, fresh)
    error = (learned - wanted).square().sum(1).mean().sqrt()
    best = min(error_of(one, law, fresh, wanted) for one in beginnings(SPAN, intervals))
    assert error < 0.3 * best
