"""The duality operator: how often the largest Gaussian coordinate is the true one."""

import numpy as np
import pytest
import torch
from laws import assert_law
from oracle.processes import argmax_survival
from scipy import stats

from unison.process.duality import Duality, gamma_at, survival

WINDOWS = [  # K, then gamma where T is 0.95, 0.5 and 0.05: adaptive quadrature, three decimals
    (27, -2.702, -1.411, 1.575),
    (35, -2.750, -1.508, 1.309),
    (64, -2.853, -1.710, 0.755),
    (128, -2.959, -1.908, 0.226),
    (256, -3.054, -2.077, -0.202),
    (512, -3.140, -2.224, -0.552),
    (1024, -3.219, -2.354, -0.841),
    (2048, -3.291, -2.470, -1.084),
    (4096, -3.358, -2.574, -1.292),
    (8192, -3.420, -2.669, -1.473),
    (30522, -3.527, -2.829, -1.761),
    (32000, -3.531, -2.834, -1.770),
    (50257, -3.565, -2.884, -1.855),
    (128256, -3.632, -2.979, -2.016),
]


def of(gamma, vocab):
    return survival(np.asarray(gamma, dtype=np.float64), vocab)


@pytest.mark.parametrize(("vocab", "high", "half", "low"), WINDOWS)
def test_the_window_is_the_tabulated_one(vocab, high, half, low):
    got = [gamma_at(a, vocab) for a in (0.95, 0.5, 0.05)]
    assert got == pytest.approx([high, half, low], abs=1e-3)
    assert Duality(vocab).window == (got[0], got[2])


@pytest.mark.parametrize("vocab", [2, 3, 27, 2048, 50257, 128256])
def test_it_is_the_integral(vocab):
    """Adaptive quadrature to 1e-11."""
    gamma = np.array([-4.0, -3.0, -2.0, -0.5, 1.0, 3.0])
    mean = np.exp(-gamma / 2)
    want = [(vocab * argmax_survival(mu, vocab) - 1) / (vocab - 1) for mu in mean]
    assert of(gamma, vocab)[0] == pytest.approx(want, abs=1e-11)


def test_two_tokens_have_a_closed_form():
    """K = 2: the difference of two unit normals is positive with probability Phi(mu / sqrt 2)."""
    gamma = np.linspace(-6, 12, 50)
    mu = np.exp(-gamma / 2)
    value, slope = of(gamma, 2)
    assert value == pytest.approx(2 * stats.norm.cdf(mu / np.sqrt(2)) - 1, abs=1e-13)
    want = -mu / 2 * np.sqrt(2) * stats.norm.pdf(mu / np.sqrt(2))
    assert slope == pytest.approx(want, abs=1e-13)


@pytest.mark.parametrize("vocab", [2, 27, 50257])
def test_it_falls_from_one_to_nothing(vocab):
    value, slope = of(np.linspace(-6, 30, 400), vocab)
    assert (np.diff(value) < 1e-15).all()
    assert (slope <= 0).all()
    assert value[0] > 1 - 1e-6
    assert abs(of(40.0, vocab)[0]) < 1e-7


@pytest.mark.parametrize("vocab", [2, 27, 2048, 50257])
def test_its_slope_is_a_finite_difference(vocab):
    gamma, h = np.linspace(-4, 3, 29), 1e-4
    ahead, behind = (of(gamma + d, vocab)[0] for d in (h, -h))
    assert of(gamma, vocab)[1] == pytest.approx((ahead - behind) / (2 * h), abs=1e-8)


@pytest.mark.law
@pytest.mark.parametrize("vocab", [2, 7, 256])
@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_the_largest_coordinate_survives_at_this_rate(vocab, t):
    """P(argmax = m) = alpha + (1 - alpha) / K, over 40 000 latents; false alarms 1e-6."""
    duality, n = Duality(vocab), 40_000
    a, s = (float(x) for x in duality.signal(torch.tensor([t])))
    latent = s * np.random.default_rng(5).standard_normal((n, vocab), dtype=np.float32)
    latent[:, 0] += a
    alpha = float(duality.alpha(torch.tensor([t]))[0])
    hit = alpha + (1 - alpha) / vocab
    assert_law((latent.argmax(1) == 0).tolist(), {True: hit, False: 1 - hit})


@pytest.mark.parametrize("vocab", [2, 27, 256, 50257, 128256])
def test_interpolation_is_the_quadrature(vocab):
    """Off the nodes, to 1e-9 for T; its slope to 1e-6 of a slope of order one."""
    duality = Duality(vocab)
    t = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, 500))
    value, slope = duality.alpha(t)
    low, high = duality.window
    want, want_slope = of(duality.gamma(t).numpy(), vocab)
    assert value.numpy() == pytest.approx(want, abs=1e-9)
    assert slope.numpy() == pytest.approx(want_slope * (high - low), abs=1e-6)


def test_the_ends_of_time_are_the_ends_of_the_window():
    value, slope = Duality(27, alpha_max=0.9, alpha_min=0.1).alpha(torch.tensor([0.0, 1.0]))
    assert value.dtype == torch.float64
    assert value.tolist() == pytest.approx([0.9, 0.1], abs=1e-10)
    assert (slope < 0).all()


def test_signal_and_noise_share_a_unit_of_variance():
    duality = Duality(27)
    t = torch.linspace(0, 1, 11)
    a, s = duality.signal(t)
    torch.testing.assert_close(a.square() + s.square(), torch.ones(11).double())
    torch.testing.assert_close(-2 * (a / s).log(), duality.gamma(t.double()))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1,), "vocab_size must be at least 2, got 1"),
        ((9, 0.1, 0.2), "alpha"),
        ((9, 1.0, 0.2), "alpha"),
    ],
)
def test_an_impossible_window_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Duality(*arguments)


def test_an_impossible_survival_is_refused():
    with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\), got 1.0"):
        gamma_at(1.0, 27)
