"""DC-Solver: ratios of 1 change nothing, searched ones help, predicted ones help elsewhere."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unison.decode.continuous import GRIDS, Span, solve
from unison.decode.continuous.coordinates import InTime
from unison.decode.continuous.dc_regression import Cascade, Case, fit, load, save
from unison.decode.continuous.dc_search import greedy, joint, reference
from unison.decode.continuous.dc_solver import DCSolver
from unison.decode.continuous.unipc import UniPC
from unison.exact.mixtures import flow
from unison.exact.zoo import Guided, gmm5, guided, part
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import VariancePreserving
from unison.types import Event, EventDenoiser, Level

HIGH, LOW = 157.4, 0.01


def _key(rows: int, seed: int = 5) -> Key:
    return Key(rng.rows(seed, 0, rows))


def _start(rows: int, seed: int = 5) -> Tensor:
    return HIGH * rng.normal(_key(rows, seed), 1, 2)


def _levels(count: int, grid: str = "time") -> tuple[float, ...]:
    return GRIDS[grid]().levels(Span(HIGH, LOW, VariancePreserving()), count)


@cache
def _held_out(law: str) -> tuple[EventDenoiser, Tensor, Tensor]:
    denoise = guided() if law == "guided" else gmm5()
    start = _start(300)
    return denoise, start, flow(denoise, start, HIGH, LOW, 400)


def _error(solver: DCSolver, count: int, law: str, grid: str) -> float:
    denoise, start, exact = _held_out(law)
    end = solve(solver, _levels(count, grid), denoise, start, _key(300)).x
    return (end - exact).square().sum(1).mean().sqrt().item()


@pytest.mark.parametrize("inner", [UniPC(), UniPC(3, "bh1"), UniPC(2, basis="noise")])
def test_ratios_of_one_leave_the_solver_as_it_is_bit_by_bit(inner: UniPC) -> None:
    for ratios in ((), (1.0,) * 9):
        ours = solve(DCSolver(inner, ratios), _levels(9), gmm5(), _start(40), _key(40)).x
        assert torch.equal(ours, solve(inner, _levels(9), gmm5(), _start(40), _key(40)).x)


def test_the_answer_is_replaced_by_the_quadratic_through_three_answers() -> None:
    levels = (20.0, 9.0, 4.0, 1.5)
    values = {20.0: 3.0, 9.0: -1.0, 4.0: 2.0}

    def denoise(x: Event, level: Level) -> Event:
        return torch.full_like(x, values[float(level[0])])

    ratio, times = 0.7, VariancePreserving()
    t = [float(times.time_of(torch.tensor(level).double())) for level in (4.0, 9.0, 20.0)]
    at = ratio * t[0] + (1 - ratio) * t[1]
    matrix = torch.tensor([[1.0, one, one * one] for one in t], dtype=torch.float64)
    bend = torch.linalg.solve(matrix, torch.tensor([2.0, -1.0, 3.0]).double())
    expected = (bend[0] + bend[1] * at + bend[2] * at * at).item()
    solver = DCSolver(UniPC(), (1.0, 1.0, ratio), coordinate=InTime())
    states = []
    solve(solver, levels, denoise, _start(2), _key(2), lambda i, state: states.append(state))
    found = states[-1].history[0].mean
    torch.testing.assert_close(found, torch.full_like(found, expected), rtol=1e-9, atol=1e-9)


def test_references_stand_at_the_levels_of_the_grid() -> None:
    denoise, start, levels = guided(), _start(5, 77), _levels(4)
    found = reference(denoise, start, levels)
    assert len(found) == 5
    assert torch.equal(found[0], start)
    for level, event in zip(levels[1:], found[1:], strict=True):
        exact = flow(denoise, start, HIGH, level, 100)
        torch.testing.assert_close(event, exact, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize(("law", "grid"), [("guided", "time"), ("gmm5", "logsnr")])
@pytest.mark.parametrize("count", [5, 6, 8])
def test_ratios_of_ten_trajectories_help_new_ones(law: str, grid: str, count: int) -> None:
    denoise, few = _held_out(law)[0], _start(10, 77)
    levels = _levels(count, grid)
    found = greedy(DCSolver(), levels, denoise, reference(denoise, few, levels), rounds=20)
    assert found.ratios[:2] == (1.0, 1.0)
    plain = _error(DCSolver(), count, law, grid)
    assert _error(found, count, law, grid) <= (0.5 if law == "guided" else 0.96) * plain


def test_a_joint_search_improves_the_end_for_the_trajectories_it_sees() -> None:
    denoise, few, levels = guided(), _start(10, 77), _levels(6)
    truth = reference(denoise, few, levels)

    def end(solver: DCSolver) -> float:
        found = solve(solver, levels, denoise, few, _key(10, 77)).x
        return (found - truth[-1]).square().mean().item()

    first = greedy(DCSolver(), levels, denoise, truth, rounds=10)
    better = joint(first, levels, denoise, truth, rounds=30)
    assert end(better) < 0.8 * end(first)
    assert end(first) < 0.5 * end(DCSolver())


def test_a_cascade_gives_back_what_cascades_made(tmp_path: Path) -> None:
    numbers = rng.normal(_key(1, 9), 1, 36)[0] * 0.3
    true = Cascade(tuple(numbers.tolist()))
    settings = [(float(g), n) for g in (1, 4, 8, 12) for n in (7, 10, 16, 25)]
    found = fit([Case(g, true.ratios(g, n)) for g, n in settings])
    for guidance, steps in ((2.5, 12), (10.0, 20)):
        assert found.ratios(guidance, steps) == pytest.approx(
            true.ratios(guidance, steps), abs=1e-4
        )
        assert found.ratios(guidance, steps)[:2] == (1.0, 1.0)
    save(found, tmp_path / "cascade.json")
    assert load(tmp_path / "cascade.json") == found
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="does not hold cascade polynomials"):
        load(tmp_path / "other.json")


def test_the_cascade_is_the_polynomial_of_the_paper() -> None:
    numbers = torch.arange(36.0).double().tolist()
    guidance, steps, step = 6.0, 25, 5
    place, strength, length = step / steps, guidance / 12, steps / 50
    expected = 1.0
    for p in range(4):
        for q in range(3):
            inner = sum(numbers[9 * p + 3 * q + r] * length**r for r in range(3))
            expected += inner * strength**q * place**p
    found = Cascade(tuple(numbers)).ratios(guidance, steps)
    assert found[step] == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
def test_predicted_ratios_keep_most_of_the_gain_in_an_unseen_setting() -> None:
    few = _start(10, 77)

    def law(weight: float) -> Guided:
        return Guided(gmm5(), part(gmm5(), (2,)), weight)

    def searched(weight: float, count: int) -> DCSolver:
        levels = _levels(count)
        truth = reference(law(weight), few, levels)
        return greedy(DCSolver(), levels, law(weight), truth, rate=0.02)

    cases = [
        Case(weight, searched(weight, count).ratios)
        for weight in (3.0, 4.0, 5.0)
        for count in (6, 8, 10)
        if (weight, count) != (4.0, 8)
    ]
    weight, count, start = 3.5, 7, _start(200)
    exact = flow(law(weight), start, HIGH, LOW, 400)

    def error(solver: DCSolver) -> float:
        end = solve(solver, _levels(count), law(weight), start, _key(200)).x
        return (end - exact).square().sum(1).mean().sqrt().item()

    predicted = replace(DCSolver(), ratios=fit(cases).ratios(weight, count))
    # a cubic of the place cannot follow every turn of searched ratios
    assert error(predicted) < 1.5 * error(searched(weight, count))
    assert error(predicted) < 0.7 * error(DCSolver())


def test_what_cannot_be_compensated_or_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="answers must be 2 to 5"):
        DCSolver(answers=1)
    with pytest.raises(ValueError, match="a reference at each"):
        greedy(DCSolver(), (2.0, 1.0, 0.5), gmm5(), (_start(2),))
    with pytest.raises(ValueError, match="a cascade is 36 numbers"):
        Cascade((1.0,))
    with pytest.raises(ValueError, match="nothing to fit"):
        fit([Case(4.0, (1.0, 1.0))])
