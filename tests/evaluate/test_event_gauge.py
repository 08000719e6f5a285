"""Curl and the gauge condition, against fields whose Jacobian is known."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from unison.evaluate.continuous.gauge import Conservative, curl_index, gauge_residual
from unison.event_denoising import Preconditioned
from unison.exact.mixtures import flow, gaussian
from unison.exact.zoo import gmm5
from unison.models.continuous import build
from unison.models.continuous.mlp import PointsConfig
from unison.prob import rng
from unison.prob.rng import Key

KEY = Key(rng.rows(0, 0, 64))
SIZE = 3
SHAPE = torch.diag(torch.tensor([1.0, 0.5, 0.2], dtype=torch.float64))
CENTRE = torch.tensor([0.5, -1.0, 0.0], dtype=torch.float64)
LAW = gaussian(CENTRE, SHAPE)
SPIN = torch.tensor([[0, 1.0, -0.5], [-1.0, 0, 2.0], [0.5, -2.0, 0]], dtype=torch.float64)


@dataclass(frozen=True)
class Spun:
    """r = strength A (C + s^2)^-1 (y - m) with A antisymmetric: div r = 0 and r . score = 0."""

    strength: float
    lean: float = 0.0  # a symmetric part, which no gauge allows

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        total = SHAPE + level[0] ** 2 * torch.eye(SIZE, dtype=torch.float64)
        way = SPIN + self.lean * torch.eye(SIZE, dtype=torch.float64)
        return self.strength * torch.linalg.solve(total, (x - CENTRE).T).T @ way.T


@dataclass(frozen=True)
class Turned:
    """The exact mean of a Gaussian with that field added to its score."""

    field: Spun

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        return LAW(x, level) + level[:, None] ** 2 * self.field(x, level)


@dataclass(frozen=True)
class Linear:
    """D = M y."""

    matrix: Tensor

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        return x @ self.matrix.T


def noisy(level):
    return LAW.sample(KEY) + level * rng.normal(KEY, 7, SIZE)


def test_the_curl_of_a_linear_answer_is_that_of_its_matrix():
    matrix = rng.normal(Key(rng.rows(4, 0, 5)), 1, 5)
    known = float((matrix - matrix.T).norm() / matrix.norm())
    many = Key(rng.rows(8, 0, 500))
    found = curl_index(Linear(matrix), torch.zeros(500, 5, dtype=torch.float64), 1.0, many, 4)
    assert 0 < found.stderr < 0.02
    assert abs(found.value - known) < 5 * found.stderr
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    plane = torch.ones(64, 2, dtype=torch.float64)
    assert curl_index(Linear(turn), plane, 1.0, KEY).value == pytest.approx(2)


def test_exact_means_have_no_curl_and_a_rotation_is_seen():
    law = gmm5()
    x = law.sample(KEY) + 0.3 * rng.normal(KEY, 7, 2)
    assert curl_index(law, x, 0.3, KEY).value < 1e-12
    assert curl_index(Turned(Spun(0.5)), noisy(0.5), 0.5, KEY).value > 0.1


def test_a_rotation_moves_points_and_leaves_every_marginal_alone():
    high, low = 3.0, 0.05
    eye = torch.eye(SIZE, dtype=torch.float64)
    start = CENTRE + torch.cat([torch.zeros(1, SIZE, dtype=torch.float64), eye])
    ends = [flow(law, start, high, low, 400) for law in (LAW, Turned(Spun(0.6)))]
    assert float((ends[0] - ends[1])[1:].norm(dim=1).min()) > 0.1
    for end in ends:  # the flow of a Gaussian is linear: its columns are where unit vectors go
        assert torch.allclose(end[0], CENTRE)
        way = (end[1:] - end[0]).T
        assert torch.allclose(way @ (SHAPE + high**2 * eye) @ way.T, SHAPE + low**2 * eye)


def test_the_gauge_residual_is_zero_for_a_rotation_and_known_for_a_stretch():
    x, level = noisy(0.5), 0.5
    assert abs(gauge_residual(Spun(0.6), LAW, x, level, KEY).value) < 1e-20
    # r = S^-1 (y - m): div r = tr S^-1, r . score = -|S^-1 (y - m)|^2; a variance of chi-squares
    stretched = gauge_residual(Spun(0.6, 0.4), LAW, x, level, KEY)
    inverse = torch.linalg.inv(SHAPE + level**2 * torch.eye(SIZE, dtype=torch.float64))
    known = 0.24**2 * 2 * float(inverse.square().sum())
    many = Key(rng.rows(6, 0, 4000))
    more = LAW.sample(many) + level * rng.normal(many, 7, SIZE)
    found = gauge_residual(Spun(0.6, 0.4), LAW, more, level, many)
    assert stretched.value > 0.01
    assert abs(found.value - known) < 6 * found.stderr


def test_probed_residuals_have_no_bias():
    many = Key(rng.rows(6, 0, 3000))
    x = LAW.sample(many) + 0.5 * rng.normal(many, 7, SIZE)
    found = gauge_residual(Spun(0.6), LAW, x, 0.5, many, probes=2)
    assert found.stderr > 0
    assert abs(found.value) < 5 * found.stderr


def network():
    made = build(PointsConfig(channels=3, width=16, depth=2)).double()
    for number, weight in enumerate(made.parameters()):
        key = Key(rng.rows(number, 0, 1))
        fresh = rng.normal(key, 1, weight.numel()).view_as(weight)
        weight.data.copy_(0.7 * fresh)
    return Preconditioned(made.eval(), gradients=True, dtype=torch.float64)


def test_a_gradient_network_has_no_curl_where_a_plain_one_has():
    plain = network()
    x = noisy(0.5)
    assert curl_index(plain, x, 0.5, KEY).value > 0.1
    assert curl_index(Conservative(plain), x, 0.5, KEY).value < 1e-6


def test_a_gradient_network_answers_with_the_slope_of_its_energy():
    plain, x, level = network(), noisy(0.5).requires_grad_(), 0.5
    levels = torch.full((64,), level, dtype=torch.float64)
    energy = -(x - plain(x, levels)).square().sum() / (2 * level**2)
    (slope,) = torch.autograd.grad(energy, x)
    answer = Conservative(plain)(x.detach(), levels)
    assert torch.allclose(answer, x.detach() + level**2 * slope)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        curl_index(LAW, noisy(0.5), 0.5, KEY, 0)
    with pytest.raises(ValueError, match="must be even"):
        gauge_residual(Spun(1.0), LAW, noisy(0.5), 0.5, KEY, 3)
