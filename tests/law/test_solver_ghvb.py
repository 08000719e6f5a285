"""Momentum solvers: against published numbers, closed forms and measured orders."""

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from unison.decode.continuous import Solver, solve
from unison.decode.continuous.coordinates import Power
from unison.decode.continuous.ghvb import GHVB, HeavyBall, fitted, published
from unison.decode.continuous.multistep import Multistep
from unison.exact.mixtures import flow
from unison.exact.zoo import gmm5
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event, Level

UNEVEN = (20.0, 17.0, 9.0, 8.5, 4.0, 3.2, 1.1, 0.9, 0.5)


def _key(rows: int) -> Key:
    return Key(rng.rows(5, 0, rows))


def _even(count: int, high: float = 2.0, low: float = 1.0) -> tuple[float, ...]:
    return tuple(high + (low - high) * i / count for i in range(count + 1))


def _paper(order: int, beta: float) -> list[float]:
    """The table of arXiv:2307.11118, over beta."""
    rows = {
        1: ([beta], 1),
        2: ([2 + beta, -(2 - beta)], 2),
        3: ([18 + 5 * beta, -(24 - 8 * beta), 6 - beta], 12),
        4: ([46 + 9 * beta, -(78 - 19 * beta), 42 - 5 * beta, -(10 - beta)], 24),
        5: (
            [
                1650 + 251 * beta,
                -(3420 - 646 * beta),
                2880 - 264 * beta,
                -(1380 - 106 * beta),
                270 - 19 * beta,
            ],
            720,
        ),
    }
    numbers, over = rows[order]
    return [number / over / beta for number in numbers]


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_the_published_coefficients_are_derived(order: int) -> None:
    for beta in (0.2, 0.5, 0.9, 1.0):
        assert published(order, beta) == pytest.approx(_paper(order, beta), rel=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_on_equal_steps_the_fitted_weights_become_the_published_ones(order: int) -> None:
    for beta in (0.5, 0.8):
        levels = _even(60)
        width = levels[-1] - levels[-2]
        weights = fitted(levels, order, beta, "noise", Power(1.0))
        assert weights == pytest.approx([width * w for w in published(order, beta)], rel=1e-8)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_noise_that_is_a_polynomial_is_followed_exactly_on_any_grid(order: int) -> None:
    powers = range(order)

    def denoise(x: Event, level: Level) -> Event:
        u = level.log()[:, None]
        shown = torch.stack([(k + 1) * u**k for k in powers]).sum(0)
        return x - level[:, None] * shown

    # a polynomial needs as many evaluations as it has coefficients: steps before that are left out
    solver, seen = GHVB(order - 0.4, final="full"), []
    solve(solver, UNEVEN, denoise, torch.zeros(1, 1).double(), _key(1), lambda i, s: seen.append(s))
    fine = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    for step in range(order - 1, len(UNEVEN) - 1):
        high, low = math.log(UNEVEN[step]), math.log(UNEVEN[step + 1])
        u = high + (low - high) * fine
        values = u.exp() * torch.stack([(k + 1) * u**k for k in powers]).sum(0)
        exact = torch.trapezoid(values, u).item()
        moved = (seen[step + 1].x - seen[step].x).item()
        assert moved == pytest.approx(exact, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("weights", ["actual", "published"])
@pytest.mark.parametrize("order", [0.3, 1.5, 2.5, 3.2, 4.7])
def test_constant_noise_is_solved_exactly_for_any_beta(order: float, weights: str) -> None:
    toward = torch.tensor([[1.5, -0.5]], dtype=torch.float64)

    def denoise(x: Event, level: Level) -> Event:
        return x - level[:, None] * toward

    start = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    solver = GHVB(order, "actual" if weights == "actual" else "published")
    end = solve(solver, UNEVEN, denoise, start, _key(1)).x
    torch.testing.assert_close(end, start + (0.5 - 20.0) * toward, rtol=1e-10, atol=1e-10)
    for nesterov in (False, True):
        ball = solve(HeavyBall(2, 0.4, nesterov), UNEVEN, denoise, start, _key(1)).x
        torch.testing.assert_close(ball, start + (0.5 - 20.0) * toward, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("basis", ["noise", "data"])
def test_a_whole_order_is_the_rule_of_adams_and_bashforth(order: int, basis: str) -> None:
    named = "noise" if basis == "noise" else "data"
    start = 20 * rng.normal(_key(30), 1, 2)
    momentum = solve(GHVB(float(order), basis=named), UNEVEN, gmm5(), start, _key(30)).x
    plain = solve(Multistep(order, named), UNEVEN, gmm5(), start, _key(30)).x
    torch.testing.assert_close(momentum, plain, rtol=1e-8, atol=1e-8)


def test_a_heavy_ball_of_beta_one_is_the_rule_of_adams_and_bashforth() -> None:
    start = 20 * rng.normal(_key(30), 1, 2)
    plain = solve(Multistep(2, "noise"), UNEVEN, gmm5(), start, _key(30)).x
    for nesterov in (False, True):
        ball = solve(HeavyBall(2, 1.0, nesterov), UNEVEN, gmm5(), start, _key(30)).x
        torch.testing.assert_close(ball, plain, rtol=1e-9, atol=1e-9)


def _highest_stable(solver: Solver) -> float:
    """Return the largest kappa times width with which y' = -kappa y does not grow."""
    levels = _even(100)

    def grows(product: float) -> bool:
        kappa = product * 100

        def denoise(x: Event, level: Level) -> Event:
            # time runs down with s, so that noise kappa y decays
            return x - level[:, None] * kappa * x

        end = solve(solver, levels, denoise, torch.ones(1, 1).double(), _key(1)).x
        return abs(end.item()) > 1

    low, high = 0.0, 16.0
    for _ in range(9):
        middle = (low + high) / 2
        low, high = (low, middle) if grows(middle) else (middle, high)
    return low


def test_the_region_of_stability_grows_as_beta_falls() -> None:
    first = [_highest_stable(GHVB(beta, "published")) for beta in (1.0, 0.6, 0.3)]
    for beta, found in zip((1.0, 0.6, 0.3), first, strict=True):
        assert found == pytest.approx(2 * (2 - beta) / beta, rel=0.05)  # of heavy balls, exactly
    for whole in (1, 2):
        limits = [_highest_stable(GHVB(whole + beta, "published")) for beta in (1.0, 0.6, 0.3)]
        assert limits[0] < 0.95 * limits[1]
        assert limits[1] < 0.95 * limits[2]
    fit = [_highest_stable(GHVB(1 + b, coordinate=Power(1.0))) for b in (1.0, 0.6, 0.3)]
    assert fit[0] < 0.95 * fit[1]
    assert fit[1] < 0.95 * fit[2]


@cache
def _reference() -> tuple[Tensor, Tensor]:
    start = 20 * rng.normal(_key(30), 1, 2)
    return start, flow(gmm5(), start, 20.0, 0.05, 800)


def _orders(solver: Solver) -> float:
    """Return the slope of the median error on an uneven grid, from 60 to 240 intervals."""
    start, exact = _reference()
    errors = []
    for count in (60, 240):
        levels = tuple((20**0.25 + (0.05**0.25 - 20**0.25) * i / count) ** 4 for i in range(count))
        end = solve(solver, (*levels, 0.05), gmm5(), start, _key(30)).x
        errors.append((end - exact).norm(dim=1).median().item())
    return math.log(errors[0] / errors[1]) / math.log(4)


def test_fitted_weights_reach_the_order_that_published_ones_lose_on_uneven_grids() -> None:
    assert _orders(GHVB(2.5, final="full", warm=True)) == pytest.approx(3, abs=0.3)
    assert _orders(GHVB(1.5, final="full", warm=True)) == pytest.approx(2, abs=0.3)
    assert _orders(GHVB(2.5, "published", final="full")) < 2.3
    assert _orders(HeavyBall(2, 0.7)) == pytest.approx(1, abs=0.3)


def test_orders_and_weights_that_do_not_exist_are_refused() -> None:
    for order in (0.0, -1.0, 5.5, math.nan):
        with pytest.raises(ValueError, match="order must be above 0 and at most 5"):
            GHVB(order)
    with pytest.raises(ValueError, match="published weights are for the noise"):
        GHVB(2.5, "published", "data")
    for beta in (0.0, 1.5):
        with pytest.raises(ValueError, match="beta must be above 0 and at most 1"):
            HeavyBall(2, beta)


def test_velocities_are_carried_as_rows_first() -> None:
    start, states = 20 * rng.normal(_key(4), 1, 2), []
    solve(GHVB(), UNEVEN, gmm5(), start, _key(4), lambda i, state: states.append(state))
    velocities: tuple[Tensor, ...] = states[-1].memory
    first = (start - gmm5()(start, torch.full((4,), 20.0).double())) / 20
    assert len(velocities) == 3
    torch.testing.assert_close(states[1].memory[0], first)
    assert all(velocity.shape == (4, 2) for velocity in velocities)
