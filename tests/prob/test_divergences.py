"""The weights of f-divergences against derivatives of the divergences themselves, by quadrature."""

import math

import pytest
import torch

from unison.prob.divergences import DIVERGENCES, divergence

GRID = torch.linspace(-9.0, 9.0, 24001, dtype=torch.float64)
WIDTH, SHIFT = 0.8, 0.4

# Integrands over dx of each divergence, from its textbook definition.
INTEGRALS = {
    "rkl": lambda p, q: q * (q / p).log(),
    "kl": lambda p, q: p * (p / q).log(),
    "js": lambda p, q: p * (2 * p / (p + q)).log() / 2 + q * (2 * q / (p + q)).log() / 2,
    "softened_rkl": lambda p, q: (p + q) * ((p + q) / (2 * p)).log(),
    "hellinger": lambda p, q: (p.sqrt() - q.sqrt()) ** 2,
    "jeffreys": lambda p, q: (p - q) * (p / q).log(),
    "neyman": lambda p, q: (p - q) ** 2 / p,
}


def normal(x, mean, std):
    return (-((x - mean) ** 2) / (2 * std**2)).exp() / (std * math.sqrt(2 * math.pi))


def target(x):
    """A bimodal law with tails heavier than those of the generator."""
    return 0.35 * normal(x, -1.5, 0.9) + 0.65 * normal(x, 1.6, 1.1)


def target_score(x):
    left, right = 0.35 * normal(x, -1.5, 0.9), 0.65 * normal(x, 1.6, 1.1)
    return (-left * (x + 1.5) / 0.9**2 - right * (x - 1.6) / 1.1**2) / (left + right)


def integral(values):
    return torch.trapezoid(values, GRID)


def measured(name, shift):
    """D_f of a generator x = shift + WIDTH z, by quadrature."""
    return integral(INTEGRALS[name](target(GRID), normal(GRID, shift, WIDTH)))


def test_every_divergence_has_its_textbook_integral_here():
    assert set(INTEGRALS) == set(DIVERGENCES)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_f_is_the_textbook_divergence(name):
    p, q = target(GRID), normal(GRID, SHIFT, WIDTH)
    found = integral(q * DIVERGENCES[name].f(p / q))
    assert float(found) == pytest.approx(float(measured(name, SHIFT)), rel=1e-9)
    assert float(found) > 0.05


@pytest.mark.parametrize("name", DIVERGENCES)
def test_f_is_zero_where_both_laws_agree_and_its_curvature_gives_the_weight(name):
    kind = DIVERGENCES[name]
    r = torch.tensor([0.1, 0.5, 1.0, 2.0, 17.0], dtype=torch.float64, requires_grad=True)
    assert float(kind.f(torch.ones(1, dtype=torch.float64))) == pytest.approx(0.0, abs=1e-12)
    (slope,) = torch.autograd.grad(kind.f(r).sum(), r, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), r)
    torch.testing.assert_close(kind.weight(r.detach()), curvature * r.detach() ** 2)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_weighted_difference_of_scores_is_the_derivative_of_the_divergence(name):
    width = 1e-3
    ahead, behind = measured(name, SHIFT + width), measured(name, SHIFT - width)
    numeric = (ahead - behind) / (2 * width)
    q, ratio = normal(GRID, SHIFT, WIDTH), target(GRID) / normal(GRID, SHIFT, WIDTH)
    scores = -(GRID - SHIFT) / WIDTH**2 - target_score(GRID)
    formula = integral(q * DIVERGENCES[name].weight(ratio) * scores)
    assert abs(float(formula)) > 0.05
    assert float(formula) == pytest.approx(float(numeric), rel=1e-6, abs=1e-6)


def test_an_unknown_divergence_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown divergence 'jensen'; known: rkl, kl, js"):
        divergence("jensen")
