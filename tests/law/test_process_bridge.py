"""Light Schroedinger bridges against quadrature, Gaussians in closed form and Sinkhorn."""

import math

import pytest
import torch

from unison.exact.distances import directions, sliced_wasserstein
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous.bridge import (
    LightBridge,
    between,
    gaussian_bridge,
    light_loss,
)
from unison.process.continuous.bridge_fit import BridgeFit, fit_bridge

F64 = torch.float64
EPSILON = 0.5
AXIS = torch.linspace(-12, 12, 4001, dtype=F64)


def some_bridge() -> LightBridge:
    """Three components on the line, of no symmetry."""
    return LightBridge(
        torch.tensor([0.1, -0.4, 0.7], dtype=F64),
        torch.tensor([[-1.0], [0.3], [0.9]], dtype=F64),
        torch.tensor([[[0.2]], [[0.6]], [[0.35]]], dtype=F64),
        EPSILON,
    )


def potential(bridge: LightBridge, at: torch.Tensor) -> torch.Tensor:
    """log v, one component after another."""
    spread = bridge.epsilon * bridge.shapes[:, 0, 0]
    away = at[:, None] - bridge.centres[:, 0]
    logits = bridge.log_weights - away.square() / (2 * spread) - (2 * math.pi * spread).log() / 2
    return logits.logsumexp(1)


def test_beliefs_are_those_of_the_plan_and_of_its_heat_flow() -> None:
    """x_1 given x_t is as N(x_1; x_t, (1 - t) epsilon) exp(x_1^2 / 2 epsilon) v(x_1), on a grid."""
    bridge = some_bridge()
    assert torch.allclose(
        bridge.log_potential(AXIS[1000:3000, None]), potential(bridge, AXIS)[1000:3000]
    )
    width = AXIS[1] - AXIS[0]
    for x in (-1.3, 0.2, 1.1):
        point = torch.tensor([[x]], dtype=F64)
        total = (x * AXIS / EPSILON + potential(bridge, AXIS)).logsumexp(0) + width.log()
        assert bridge.log_normaliser(point).item() == pytest.approx(total.item(), abs=1e-9)
        for t in (0.0, 0.3, 0.9):
            logits = potential(bridge, AXIS) + AXIS.square() / (2 * EPSILON)
            logits = logits - (AXIS - x).square() / (2 * EPSILON * (1 - t))
            mean = (logits.softmax(0) * AXIS).sum()
            time = torch.tensor([t], dtype=F64)
            assert bridge(point, time).item() == pytest.approx(mean.item(), abs=1e-8)
            drift = (mean.item() - x) / (1 - t)
            assert bridge.drift(point, time).item() == pytest.approx(drift, abs=1e-7)


def test_the_scalar_gaussian_bridge_has_the_closed_covariance_and_is_sinkhorns() -> None:
    one = torch.ones(1, 1, dtype=F64)
    bridge = gaussian_bridge((0 * one[0], one), (0.7 * one[0], 0.36 * one), EPSILON)
    closed = (math.sqrt(4 * 0.36 + EPSILON**2) - EPSILON) / 2
    assert closed == pytest.approx(0.4)
    assert bridge.shapes.item() == pytest.approx(closed)
    grid = torch.linspace(-5, 5, 401, dtype=F64)
    laws = [(-((grid - m) ** 2) / (2 * s**2)).log_softmax(0) for m, s in ((0.0, 1.0), (0.7, 0.6))]
    cost = -(grid[:, None] - grid).square() / (2 * EPSILON)
    left, right = torch.zeros_like(grid), torch.zeros_like(grid)
    for _ in range(200):
        left = laws[0] - (cost + right).logsumexp(1)
        right = laws[1] - (cost + left[:, None]).logsumexp(0)
    plan = (cost + left[:, None] + right).exp()
    together = (plan * grid[:, None] * grid).sum()
    assert together.item() == pytest.approx(closed, abs=1e-4)
    row = plan[240] / plan[240].sum()
    time = torch.zeros(1, dtype=F64)
    assert (row * grid).sum().item() == pytest.approx(
        bridge(grid[240].view(1, 1), time).item(), abs=1e-4
    )


def test_the_matrix_gaussian_bridge_lands_on_the_second_law_and_is_a_minimum() -> None:
    noise = rng.normal(Key(rng.rows(1, 0, 6)), 2, 3)
    covariances = [
        part.T @ part / 3 + 0.1 * torch.eye(3, dtype=F64) for part in noise.view(2, 3, 3)
    ]
    means = rng.normal(Key(rng.rows(2, 0, 2)), 2, 3)
    bridge = gaussian_bridge((means[0], covariances[0]), (means[1], covariances[1]), EPSILON)
    shape = bridge.shapes[0]
    assert torch.allclose(shape @ covariances[0] @ shape + EPSILON * shape, covariances[1])
    assert torch.allclose(bridge.centres[0] + shape @ means[0], means[1])
    # cubature points of both laws: means of quadratics are exact
    values = (bridge.centres.clone().requires_grad_(), bridge.shapes.clone().requires_grad_())
    sigma = math.sqrt(3) * torch.cat([torch.eye(3), -torch.eye(3)]).double()
    sets = [m + sigma @ torch.linalg.cholesky(c).T for m, c in zip(means, covariances, strict=True)]
    loss = light_loss(LightBridge(bridge.log_weights, *values, EPSILON), sets[0], sets[1])
    centre, slope = torch.autograd.grad(loss, values)
    assert centre.abs().max() < 1e-9
    assert (slope + slope.mT).abs().max() < 1e-9


def test_without_noise_the_bridge_is_the_map_of_optimal_transport() -> None:
    one = torch.ones(1, 1, dtype=F64)
    bridge = gaussian_bridge((0 * one[0], one), (0.7 * one[0], 0.36 * one), 1e-9)
    assert bridge.shapes.item() == pytest.approx(0.6, abs=1e-6)


@pytest.mark.law
def test_the_plan_and_the_sde_draw_one_law() -> None:
    bridge, rows = some_bridge(), 20_000
    key = Key(rng.rows(1, 0, rows))
    first = 0.8 * rng.normal(key, 3, 1) - 0.2
    direct, walked = bridge.plan(first, key), bridge.travel(first, key, 60)
    truth = torch.stack([bridge(x.view(1, 1), torch.zeros(1, dtype=F64)) for x in first[:50]])
    assert torch.isfinite(truth).all()
    for moment in (lambda x: x, lambda x: x.square(), lambda x: x * first):
        gap = moment(direct) - moment(walked)
        assert abs(gap.mean()) < 5.5 * gap.std() / rows**0.5 + 0.015
    mean = bridge(first, torch.zeros(rows, dtype=F64))
    off = direct - mean
    assert abs(off.mean()) < 5.5 * off.std() / rows**0.5
    assert abs((off * first).mean()) < 5.5 * (off * first).std() / rows**0.5


@pytest.mark.law
def test_a_fitted_gaussian_bridge_is_the_closed_one() -> None:
    rows = 4000
    spread = rng.normal(Key(rng.rows(1, 0, rows)), 3, 2)
    first, second = spread[:, :1], 0.7 + 0.6 * spread[:, 1:]
    fit = BridgeFit(components=1, epsilon=EPSILON, steps=300, batch=512, rate=0.03)
    bridge = fit_bridge(first, second, fit)
    assert bridge.shapes.item() == pytest.approx(0.4, abs=0.03)
    key = Key(rng.rows(2, 0, rows))
    drawn = bridge.plan(first, key)
    assert drawn.mean().item() == pytest.approx(second.mean().item(), abs=0.06)
    assert drawn.std().item() == pytest.approx(0.6, abs=0.05)
    assert ((first - first.mean()) * drawn).mean().item() == pytest.approx(0.4, abs=0.06)


def moons(seed: int, rows: int) -> torch.Tensor:
    key = Key(rng.rows(seed, 0, rows))
    angle = math.pi * rng.uniform(key, 1, 1)[:, 0]
    upper = rng.uniform(key, 2, 1)[:, 0] < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    return torch.stack([x, y], 1) + 0.05 * rng.normal(key, 3, 2)


@pytest.mark.law
@pytest.mark.parametrize("diagonal", [True, False])
def test_a_fitted_bridge_carries_a_gaussian_to_two_moons(diagonal: bool) -> None:
    rows = 1500
    first, second = rng.normal(Key(rng.rows(3, 0, rows)), 3, 2), moons(2, rows)
    fit = BridgeFit(components=16, epsilon=0.1, steps=250, rate=0.03, diagonal=diagonal)
    bridge = fit_bridge(first, second, fit, seed=1)
    fresh, key = rng.normal(Key(rng.rows(4, 0, rows)), 3, 2), Key(rng.rows(5, 0, rows))
    along, unseen = directions(Key(rng.rows(9, 0, 32)), 2), moons(6, 4 * rows)
    before = sliced_wasserstein(fresh, unseen, along)
    assert before > 0.4
    for carried in (bridge.plan(fresh, key), bridge.travel(fresh, key, 30)):
        assert sliced_wasserstein(carried, unseen, along) < 0.15 * before


def test_points_between_have_the_bridges_variance() -> None:
    first, second = torch.zeros(2, 3, dtype=F64), torch.ones(2, 3, dtype=F64)
    t = torch.tensor([0.25, 0.5], dtype=F64)
    found = between(first, second, torch.ones_like(first), t, EPSILON)
    expected = t + (EPSILON * t * (1 - t)).sqrt()
    assert torch.allclose(found, expected[:, None].expand(2, 3))


def test_what_cannot_be_is_refused() -> None:
    bridge, x = some_bridge(), torch.zeros(2, 1, dtype=F64)
    with pytest.raises(ValueError, match="epsilon must be above 0"):
        LightBridge(bridge.log_weights, bridge.centres, bridge.shapes, 0.0)
    with pytest.raises(ValueError, match="at least one step"):
        bridge.travel(x, Key(rng.rows(0, 0, 2)), 0)
    with pytest.raises(ValueError, match="at least 1"):
        BridgeFit(components=0)
    with pytest.raises(ValueError, match="above 0"):
        BridgeFit(rate=0.0)
