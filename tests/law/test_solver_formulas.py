"""Published solvers equal their published formulas, written here from the papers.

All in the frame y = x / alpha, s = sigma / alpha, lambda = -log s, r = s'/s, h = -log r.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from unison.decode.continuous import Solver, Span, State, solve
from unison.decode.continuous.ancestral import Ancestral
from unison.decode.continuous.api import asked
from unison.decode.continuous.budget import intervals_within
from unison.decode.continuous.ddim import DDIM
from unison.decode.continuous.deis import DEIS, Variant
from unison.decode.continuous.dpm_solver import DPMSolver
from unison.decode.continuous.dpm_solver_sde import DPMSolverSDE
from unison.decode.continuous.dpm_solver_single import DPMSolverSingle, divided
from unison.decode.continuous.exponential import Basis
from unison.decode.continuous.grids import AlignYourSteps
from unison.decode.continuous.heun import Heun, HeunChurn
from unison.decode.continuous.ipndm import IPNDM
from unison.decode.continuous.multistep import Multistep
from unison.decode.continuous.sa_solver import SASolver
from unison.decode.continuous.unipc import UniPC
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import VariancePreserving
from unison.types import Event, Level

LEVELS = (9.0, 5.0, 2.2, 1.3, 0.4, 0.15)
KEY = Key(rng.rows(5, 0, 4))
START = 9.0 * rng.normal(KEY, 1, 3)
Many = tuple[Tensor, ...]


def _wavy(x: Event, level: Level) -> Event:
    return torch.sin(x) / (1 + level[:, None]) + x / (1 + level[:, None].square())


def _at(x: Tensor, level: float) -> Tensor:
    return _wavy(x, torch.full((len(x),), level, dtype=x.dtype))


def _noise(x: Tensor, level: float) -> Tensor:
    return (x - _at(x, level)) / level


def _run(solver: Solver, levels: tuple[float, ...] = LEVELS) -> Tensor:
    return solve(solver, levels, _wavy, START, KEY).x


def _third_step(solver: Solver, history: int = 2) -> tuple[Tensor, list[Tensor]]:
    """Return the result of the third step, and the answers it read: newest first."""
    points = [START, START * 0.6 + 0.1, START * 0.3 - 0.2]
    past = [asked(_wavy, point, level) for point, level in zip(points, LEVELS, strict=False)]
    state = State(points[2], (past[1], past[0])[:history])
    return solver.step(LEVELS, _wavy, state, KEY.at(2)).x, [one.mean for one in past[::-1]]


def _close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def _widths(step: int) -> tuple[float, float, float]:
    """Return h, and the two steps before it relative to h."""
    lambdas = [-math.log(level) for level in LEVELS]
    h = lambdas[step + 1] - lambdas[step]
    before = lambdas[step] - lambdas[step - 1]
    return h, before / h, (lambdas[step - 1] - lambdas[step - 2]) / h


def test_first_orders_are_ddim() -> None:
    firsts: list[Solver] = [
        DEIS(1),
        DPMSolver(1),
        DPMSolver(1, "noise"),
        DPMSolverSDE(1, eta=0.0),
        DPMSolverSingle(1),
        Ancestral(0.0),
        IPNDM(1),
        Multistep(1),
        SASolver(1, 0, tau=0.0),
        UniPC(1, uncorrected=(0, 1, 2, 3, 4)),
    ]
    exact = _run(DDIM())
    for solver in firsts:
        _close(_run(solver), exact)


@pytest.mark.parametrize("form", ["midpoint", "heun"])
def test_dpm_solver_pp_2m(form: str) -> None:
    ours, (d0, d1, _) = _third_step(DPMSolver(2, form=form))  # pyright: ignore[reportArgumentType]
    h, q, _ = _widths(2)
    r = math.exp(-h)
    slope = (1 - r) / 2 if form == "midpoint" else 1 - (1 - r) / h
    y = START * 0.3 - 0.2
    _close(ours, r * y + (1 - r) * d0 + slope * (d0 - d1) / q)


def test_dpm_solver_pp_3m() -> None:
    ours, (d0, d1, d2) = _third_step(DPMSolver(3))
    h, q0, q1 = _widths(2)
    r = math.exp(-h)
    d10, d11 = (d0 - d1) / q0, (d1 - d2) / q1
    first = d10 + q0 / (q0 + q1) * (d10 - d11)
    second = (d10 - d11) / (q0 + q1)
    c2 = (r - 1) / h + 1
    c3 = (r - 1 + h) / h**2 - 0.5
    y = START * 0.3 - 0.2
    _close(ours, r * y + (1 - r) * d0 + c2 * first - c3 * second)


def test_dpm_solver_pp_2s_and_3s() -> None:
    h, y = math.log(9.0 / 2.0), START
    d0 = _at(y, 9.0)

    def part(share: float) -> tuple[float, float]:
        kept = math.exp(-share * h)
        return kept, 1 - kept

    kept, moved = part(0.5)
    middle = _at(kept * y + moved * d0, 9.0 * kept)
    r, whole = part(1.0)
    second = r * y + whole * (d0 + (middle - d0))
    _close(_run(DPMSolverSingle(2), (9.0, 2.0)), second)

    kept, moved = part(1 / 3)
    one = _at(kept * y + moved * d0, 9.0 * kept)
    kept, moved = part(2 / 3)
    u2 = kept * y + moved * d0 + 2 * (1 - moved / (2 * h / 3)) * (one - d0)
    two = _at(u2, 9.0 * kept)
    third = r * y + whole * d0 + 1.5 * (1 - whole / h) * (two - d0)
    _close(_run(DPMSolverSingle(3), (9.0, 2.0)), third)


def test_the_first_dpm_solver_in_its_second_and_third_order() -> None:
    h, y, end = math.log(9.0 / 2.0), START, 2.0
    e0 = _noise(y, 9.0)
    middle = math.sqrt(18.0)
    e1 = _noise(y - middle * math.expm1(h / 2) * e0, middle)
    _close(
        _run(DPMSolverSingle(2, "noise"), (9.0, 2.0)),
        y - end * math.expm1(h) * e0 - end * math.expm1(h) * (e1 - e0),
    )
    s1, s2 = 9.0 * math.exp(-h / 3), 9.0 * math.exp(-2 * h / 3)
    e1 = _noise(y - s1 * math.expm1(h / 3) * e0, s1)
    bend = 2 * (math.expm1(2 * h / 3) / (2 * h / 3) - 1)
    e2 = _noise(y - s2 * math.expm1(2 * h / 3) * e0 - s2 * bend * (e1 - e0), s2)
    third = y - end * math.expm1(h) * e0 - end * 1.5 * (math.expm1(h) / h - 1) * (e2 - e0)
    _close(_run(DPMSolverSingle(3, "noise"), (9.0, 2.0)), third)


@pytest.mark.parametrize("variant", ["tab", "rhoab", "logrho"])
def test_deis_integrates_a_polynomial_of_the_noise(variant: Variant) -> None:
    """The coefficients by adaptive quadrature over s."""
    process = VariancePreserving()

    def time(level: float) -> float:
        return float(process.time_of(torch.tensor(level, dtype=torch.float64)))

    axes: dict[str, Callable[[float], float]] = {
        "tab": time,
        "rhoab": lambda level: level,
        "logrho": math.log,
    }
    axis = axes[variant]
    ours, means = _third_step(DEIS(3, variant))
    nodes = [LEVELS[2], LEVELS[1], LEVELS[0]]
    points = [START * 0.3 - 0.2, START * 0.6 + 0.1, START]
    y = points[0].clone()
    for j, (point, mean) in enumerate(zip(points, means, strict=True)):

        def lagrange(level: float, j: int = j) -> float:
            value = 1.0
            for k, node in enumerate(nodes):
                if k != j:
                    value *= (axis(level) - axis(node)) / (axis(nodes[j]) - axis(node))
            return value

        weight = quad(lagrange, LEVELS[2], LEVELS[3], epsabs=1e-12)[0]
        y += weight * (point - mean) / nodes[j]
    torch.testing.assert_close(ours, y, rtol=1e-8, atol=1e-8)


def _bases(h: float, variant: str, basis: Basis) -> tuple[float, float]:
    """Return the signed width and B(h) of UniPC."""
    signed = -h if basis == "data" else h
    return signed, signed if variant == "bh1" else math.expm1(signed)


def _unipc_step(
    y: Tensor, steps: list[float], values: list[Tensor], ends: tuple[float, float], how: str
) -> Tensor:
    """Return UniP or UniC by its linear system.

    Args:
        y: The events at ``ends[0]``.
        steps: Where the other evaluations stand, relative to h.
        values: That at ``ends[0]``, then the others.
        ends: From where to where.
        how: The variant and the basis.
    """
    variant, basis = how.split()
    h = math.log(ends[0] / ends[1])
    signed, scale = _bases(h, variant, basis)  # pyright: ignore[reportArgumentType]
    count = len(steps)
    phi, factorial, rows, right = math.expm1(signed) / signed - 1, 1, [], []
    for k in range(1, count + 1):
        rows.append([step ** (k - 1) for step in steps])
        right.append(phi * factorial / scale)
        factorial *= k + 1
        phi = phi / signed - 1 / factorial
    solved = np.linalg.solve(np.array(rows), np.array(right)).tolist() if count else []
    shares = [0.5] if count == 1 else solved
    bend = sum(
        (
            share * (value - values[0]) / step
            for share, value, step in zip(shares, values[1:], steps, strict=True)
        ),
        torch.zeros_like(y),
    )
    if basis == "data":
        return ends[1] / ends[0] * y - math.expm1(-h) * values[0] - scale * bend
    return y - ends[1] * (math.expm1(h) * values[0] + scale * bend)


@pytest.mark.parametrize("how", ["bh1 data", "bh2 data", "bh1 noise", "bh2 noise"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_solves_its_linear_systems(order: int, how: str) -> None:
    variant, basis = how.split()
    solver = UniPC(order, variant, basis, "full")  # pyright: ignore[reportArgumentType]
    lambdas = [-math.log(level) for level in LEVELS]
    start, predicted, values = START, START, []
    for i in range(len(LEVELS) - 1):
        answer = _at(predicted, LEVELS[i])
        value = answer if basis == "data" else (predicted - answer) / LEVELS[i]
        values.insert(0, value)
        x = predicted
        if i > 0:
            h, used = lambdas[i] - lambdas[i - 1], min(order, i)
            past = [(lambdas[i - 1 - m] - lambdas[i - 1]) / h for m in range(1, used)]
            others = [*values[2 : used + 1], values[0]]
            ends = (LEVELS[i - 1], LEVELS[i])
            x = _unipc_step(start, [*past, 1.0], [values[1], *others], ends, how)
        h, used = lambdas[i + 1] - lambdas[i], min(order, i + 1)
        past = [(lambdas[i - m] - lambdas[i]) / h for m in range(1, used)]
        ends = (LEVELS[i], LEVELS[i + 1])
        start, predicted = x, _unipc_step(x, past, values[:used], ends, how)
    torch.testing.assert_close(_run(solver), predicted, rtol=1e-9, atol=1e-9)


def test_edm_takes_2n_minus_1_evaluations_and_follows_its_algorithm() -> None:
    y = START
    for high, low in ((9.0, 3.0), (3.0, 1.0), (1.0, 0.0)):
        slope = _noise(y, high)
        ahead = y + (low - high) * slope
        y = y + (low - high) * (slope + _noise(ahead, low)) / 2 if low else ahead
    drawn = solve(Heun(), (9.0, 3.0, 1.0, 0.0), _wavy, START, KEY)
    assert drawn.nfe == 5
    _close(drawn.x, y)
    _close(solve(HeunChurn(0.0), (9.0, 3.0, 1.0, 0.0), _wavy, START, KEY).x, y)


def test_an_ancestral_step_samples_the_posterior_of_the_forward_process() -> None:
    """Bayes: y' ~ N(x0, s'^2) and y | y' ~ N(y', s^2 - s'^2) give mean and variance of y' | y."""
    rows, high, low, clean = 20_000, 2.0, 1.2, 0.7
    start = torch.full((rows, 1), 1.9, dtype=torch.float64)
    key = Key(rng.rows(8, 0, rows))

    def answer(x: Event, level: Level) -> Event:
        return torch.full_like(x, clean)

    shrink = low**2 / high**2
    mean, variance = clean + shrink * (1.9 - clean), low**2 * (1 - shrink)
    for solver in (Ancestral(), DPMSolverSDE(1), SASolver(1, 0)):
        x = solve(solver, (high, low), answer, start, key).x
        assert abs(float(x.mean()) - mean) < 4.9 * math.sqrt(variance / rows)
        assert abs(float(x.var()) / variance - 1) < 4.9 * math.sqrt(2 / rows)


@pytest.mark.parametrize("form", ["midpoint", "heun"])
def test_sde_dpm_solver_pp_2m_without_its_noise(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where = "unison.decode.continuous.dpm_solver_sde.noise_like"
    monkeypatch.setattr(where, lambda x, key, site: torch.zeros_like(x))
    ours, (d0, d1, _) = _third_step(DPMSolverSDE(2, form))  # pyright: ignore[reportArgumentType]
    h, q, _ = _widths(2)
    whole = 1 - math.exp(-2 * h)
    slope = whole / 2 if form == "midpoint" else math.expm1(-2 * h) / (2 * h) + 1
    y = START * 0.3 - 0.2
    _close(ours, math.exp(-2 * h) * y + whole * d0 + slope * (d0 - d1) / q)


def test_a_stochastic_solver_without_noise_is_its_deterministic_one() -> None:
    _close(_run(SASolver(3, 0, tau=0.0)), _run(Multistep(3, "data")))
    _close(_run(DPMSolverSDE(2, eta=0.0)), _run(DPMSolver(2)))


def test_noise_from_a_path_makes_finer_grids_refine_the_same_events() -> None:
    def grid(intervals: int) -> tuple[float, ...]:
        return tuple(9.0 * (0.15 / 9.0) ** (i / intervals) for i in range(intervals + 1))

    for path, low, high in ((True, 0.0, 0.1), (False, 1.0, 5.0)):
        ends = [_run(DPMSolverSDE(path=path), grid(n)) for n in (20, 40)]
        away = float((ends[0] - ends[1]).square().mean().sqrt())
        assert low < away < high


def test_noise_from_a_path_has_the_variance_of_the_step() -> None:
    rows = 20_000
    start, key = torch.zeros(rows, 1, dtype=torch.float64), Key(rng.rows(9, 0, rows))
    for eta in (0.5, 1.0):
        solver = DPMSolverSDE(1, eta=eta, path=True)
        x = solve(solver, (2.0, 1.2), lambda x, level: torch.zeros_like(x), start, key).x
        variance = 1.2**2 * (1 - 0.6 ** (2 * eta))
        assert abs(float(x.square().mean()) / variance - 1) < 4.9 * math.sqrt(2 / rows)


def test_fixed_coefficients_are_those_of_equal_steps() -> None:
    levels = (5.0, 4.0, 3.0, 2.0, 1.0)
    for order in (2, 3, 4):
        _close(_run(IPNDM(order, "full"), levels), _run(DEIS(order, "rhoab", final="full"), levels))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_budget_is_divided_among_single_steps_without_a_rest(order: int) -> None:
    for budget in range(1, 14):
        solver, intervals = divided(DPMSolverSingle(order), budget)
        assert solver.evaluations(intervals) == budget
    assert [divided(DPMSolverSingle(3), budget)[1] for budget in (3, 4, 5, 6, 9)] == [2, 2, 2, 3, 4]
    with pytest.raises(ValueError, match="at least 1 evaluation, got 0"):
        divided(DPMSolverSingle(order), 0)


def test_a_budget_pays_for_whole_intervals() -> None:
    assert intervals_within(Heun(), 9) == 4
    assert intervals_within(Heun(), 9, final=1) == 4
    assert intervals_within(Multistep(3, warm=True), 9) == 8
    with pytest.raises(ValueError, match="Heun needs 2 evaluations for one interval"):
        intervals_within(Heun(), 1)


def test_aligned_levels_are_the_published_ones_at_their_own_count_and_fall_at_any() -> None:
    published = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152)
    grid, process = AlignYourSteps(), VariancePreserving()
    assert grid.levels(Span(14.615, 0.152, process), 9) == pytest.approx(published, rel=1e-12)
    twice = grid.levels(Span(14.615, 0.152, process), 18)
    assert twice[::2] == pytest.approx(published, rel=1e-12)
    assert twice[1] == pytest.approx(math.sqrt(14.615 * 6.475), rel=1e-12)
    for intervals in (1, 2, 25):
        levels = grid.levels(Span(100.0, 0.01, process), intervals)
        assert len(levels) == intervals + 1
        assert all(high > low for high, low in pairwise(levels))
