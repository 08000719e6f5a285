"""The order at which each solver's error falls is the one that it states.

Deterministic solvers: the distance to the exact path of a mixture. Stochastic ones: a Gaussian's
variance, computed without sampling from the response to every single noise, since all steps are
linear there.
"""

import math
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from unison.decode.continuous import SOLVERS, Solver, State, solve
from unison.decode.continuous.ancestral import Ancestral
from unison.decode.continuous.api import asked
from unison.decode.continuous.coordinates import InTime, Power
from unison.decode.continuous.deis import DEIS
from unison.decode.continuous.dpm_solver import DPMSolver
from unison.decode.continuous.dpm_solver_sde import DPMSolverSDE
from unison.decode.continuous.dpm_solver_single import DPMSolverSingle
from unison.decode.continuous.ipndm import IPNDM
from unison.decode.continuous.multistep import Multistep
from unison.decode.continuous.runge_kutta import RungeKutta
from unison.decode.continuous.sa_solver import SASolver
from unison.decode.continuous.unipc import UniPC
from unison.exact.mixtures import flow
from unison.exact.zoo import gmm5
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event, Level

HIGH, LOW = 1.5, 0.5
KEY = Key(rng.rows(0, 0, 64))

# as they are: one step of order 1 at either end leaves order 2
AS_THEY_ARE = {
    "dc_solver": 2,
    "ddim": 1,
    "deis": 2,
    "dpm_solver": 2,
    "dpm_solver_single": 2,
    "dpm_solver_v3": 2,
    "gaussian_basis": 2,
    "ghvb": 2,
    "heavy_ball": 1,
    "heun": 2,
    "ipndm": 2,
    "multistep": 2,
    "runge_kutta": 2,
    "unipc": 2,
}
# with the order kept to the end, and a warm start where the first step would set the limit
KEPT: list[tuple[Solver, int]] = [
    (Multistep(2, "data", final="full"), 2),
    (Multistep(3, "data", final="full"), 2),
    (Multistep(3, "data", final="full", warm=True), 3),
    (Multistep(3, "noise", final="full", warm=True), 3),
    (Multistep(3, "noise", Power(1.0), final="full", warm=True), 3),
    (Multistep(3, "data", InTime(), final="full", warm=True), 3),
    (Multistep(4, "data", final="full", warm=True), 4),
    (Multistep(4, "noise", final="full", warm=True), 4),
    (DEIS(2, "tab", final="full"), 2),
    (DEIS(2, "rhoab", final="full"), 2),
    (DPMSolver(1), 1),
    (DPMSolver(2, "data", "heun", "full"), 2),
    (DPMSolver(2, "noise", "midpoint", "full"), 2),
    (DPMSolver(3, "data", final="full"), 2),
    (DPMSolver(3, "noise", final="full"), 2),
    (DPMSolverSingle(1), 1),
    (DPMSolverSingle(2, "noise"), 2),
    (DPMSolverSingle(2, "data", "heun"), 2),
    (DPMSolverSingle(3), 3),
    (DPMSolverSingle(3, "noise"), 3),
    (DPMSolverSingle(3, last=(2, 1)), 2),
    (RungeKutta("midpoint"), 2),
    (RungeKutta("heun", "log"), 2),
    (RungeKutta("kutta3"), 3),
    (RungeKutta("kutta3", "log"), 3),
    (RungeKutta("rk4"), 4),
    (RungeKutta("rk4", "log"), 4),
    (UniPC(1, final="full"), 2),
    (UniPC(2, final="full"), 3),
    (UniPC(2, "bh1", final="full"), 3),
    (UniPC(2, "bh2", "noise", "full"), 3),
    (UniPC(3, final="full"), 3),
    (SASolver(tau=0.0), 2),
    (SASolver(2, 0, tau=0.0), 2),
]
EQUAL_STEPS: list[tuple[IPNDM, int]] = [
    (IPNDM(2, "full"), 2),
    (IPNDM(3, "full", warm=True), 3),
    (IPNDM(4, "full", warm=True), 4),
]
# of the variance: noise that an extrapolated answer misses in one step it has in the next
WEAK = {
    "ancestral": 1,
    "dpm_solver_sde": 2,
    "heun_churn": 2,
    "restart": 2,
    "sa_solver": 2,
}
WEAK_TOO: list[tuple[Solver, int]] = [
    (Ancestral(0.5), 1),
    (DPMSolverSDE(1), 1),
    (DPMSolverSDE(2, "heun", 0.5), 2),
    (SASolver(2, 0), 2),
    (SASolver(1, 1), 2),
]
TUNED = frozenset({"tuned", "learned"})  # fitted to few steps: they have no order


def _geometric(intervals: int) -> tuple[float, ...]:
    return (*(HIGH * (LOW / HIGH) ** (i / intervals) for i in range(intervals)), LOW)


def _equal(intervals: int) -> tuple[float, ...]:
    return (*(HIGH + (LOW - HIGH) * i / intervals for i in range(intervals)), LOW)


@pytest.fixture(scope="module")
def path() -> tuple[Tensor, Tensor]:
    """Noisy events, and where their exact paths end."""
    start = math.sqrt(1 + HIGH**2) * rng.normal(KEY, 5, 2)
    return start, flow(gmm5(), start, HIGH, LOW, 800)


def _last_step(solver: Solver, levels: tuple[float, ...], points: list[Tensor]) -> Tensor:
    """Return the end of the third step, if the evaluations before were made on the exact path."""
    law = gmm5()
    history = tuple(asked(law, points[step], levels[step]) for step in (1, 0))
    return solver.step(levels, law, State(points[2], history), KEY.at(2)).x


def _variance_error(solver: Solver, intervals: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """Return how wrong the variance of a Gaussian of variance 1/2 is at the end.

    Row 0 has the start alone, each other row one of the noises alone.
    """
    rows: dict[tuple[int, int], int] = {}

    def single(x: Event, key: Key, site: int) -> Event:
        row = rows.setdefault((key.step, site), len(rows) + 1)
        return torch.nn.functional.one_hot(torch.tensor(row), len(x)).to(x)[:, None]

    def answer(x: Event, level: Level) -> Event:
        return x * (0.5 / (0.5 + level.square()))[:, None]

    monkeypatch.setattr(sys.modules[type(solver).__module__], "noise_like", single)
    start = torch.nn.functional.one_hot(torch.tensor(0), intervals + 2).double()[:, None]
    ends = solve(solver, _geometric(intervals), answer, start, KEY).x[:, 0]
    return abs(float(ends[0] ** 2 * (0.5 + HIGH**2) + ends[1:].square().sum() - 0.5 - LOW**2))


def _measured(
    solver: Solver,
    grid: Callable[[int], tuple[float, ...]],
    path: tuple[Tensor, Tensor],
    intervals: tuple[int, int],
) -> float:
    start, end = path
    errors = [
        float((solve(solver, grid(n), gmm5(), start, KEY).x - end).norm(dim=1).median())
        for n in intervals
    ]
    return math.log(errors[0] / errors[1]) / math.log(intervals[1] / intervals[0])


@pytest.mark.parametrize(("name", "order"), AS_THEY_ARE.items())
def test_the_error_of_a_default_falls_with_its_order(
    name: str, order: int, path: tuple[Tensor, Tensor]
) -> None:
    assert abs(_measured(SOLVERS[name](), _geometric, path, (80, 160)) - order) < 0.2


@pytest.mark.parametrize(("solver", "order"), KEPT, ids=repr)
def test_the_error_falls_with_the_order_of_the_solver(
    solver: Solver, order: int, path: tuple[Tensor, Tensor]
) -> None:
    assert abs(_measured(solver, _geometric, path, (80, 160)) - order) < 0.2


@pytest.mark.parametrize(("solver", "order"), EQUAL_STEPS, ids=repr)
def test_fixed_coefficients_have_their_order_on_equal_steps(
    solver: Solver, order: int, path: tuple[Tensor, Tensor]
) -> None:
    assert abs(_measured(solver, _equal, path, (80, 160)) - order) < 0.2


@pytest.mark.parametrize(
    ("solver", "order"), [(SOLVERS[name](), order) for name, order in WEAK.items()] + WEAK_TOO
)
def test_the_error_of_a_gaussian_s_variance_falls_with_the_stated_order(
    solver: Solver, order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [_variance_error(solver, intervals, monkeypatch) for intervals in (96, 192)]
    assert abs(math.log2(errors[0] / errors[1]) - order) < 0.2


def test_every_solver_of_the_table_has_its_order_measured() -> None:
    assert {*AS_THEY_ARE, *WEAK} == {*SOLVERS} - TUNED


@pytest.mark.parametrize("basis", ["data", "noise"])
def test_the_published_third_order_rule_is_of_second_order_and_its_integral_of_third(
    basis: str, path: tuple[Tensor, Tensor]
) -> None:
    """One step from exact evaluations: the published weights, and those of the integral."""
    start = path[0]
    errors = {"published": [], "integral": []}
    for width in (0.02, 0.01):
        levels = tuple(HIGH * math.exp(-width * i) for i in range(4))
        points = [start, *(flow(gmm5(), start, HIGH, low, 100) for low in levels[1:])]
        rules = {
            "published": DPMSolver(3, basis, final="full"),  # pyright: ignore[reportArgumentType]
            "integral": Multistep(3, basis, final="full"),  # pyright: ignore[reportArgumentType]
        }
        for name, rule in rules.items():
            end = _last_step(rule, levels, points)
            errors[name].append(float((end - points[3]).norm(dim=1).median()))
    local = {name: math.log2(high / low) for name, (high, low) in errors.items()}
    assert abs(local["published"] - 3) < 0.2
    assert abs(local["integral"] - 4) < 0.2
