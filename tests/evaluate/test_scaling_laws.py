"""Fitted laws find what was planted, and say so where there is nothing to find."""

import laws
import numpy as np
import pytest
from scipy import integrate, stats

from unison.evaluate.scaling import (
    BetaDifficulty,
    PowerLaw,
    ScalingError,
    Tries,
    doubling,
    extrapolate,
    fit_beta,
    fit_beta_with_never,
    fit_power_law,
    power_law,
)


def planted(rng, problems, n, alpha, beta, never=0.0):
    rates = rng.beta(alpha, beta, problems) * (rng.random(problems) >= never)
    return Tries(np.full(problems, n), rng.binomial(n, rates))


@pytest.mark.parametrize(("a", "b"), [(-3.0, -0.4), (-0.2, -1.5), (-9.0, -0.9)])
def test_a_planted_power_law_is_found_exactly(a, b):
    k = doubling(1024)
    found = power_law(k, PowerLaw(a, b).coverage(k))
    assert found.a == pytest.approx(a, rel=1e-6)
    assert found.b == pytest.approx(b, rel=1e-6)
    assert PowerLaw(a, b).coverage(np.array([1, 32]))[1] == pytest.approx(np.exp(a * 32**b))


def test_the_fit_is_the_least_squares_of_coverage_and_not_of_its_logs():
    k = doubling(256)
    covered = PowerLaw(-3.0, -0.4).coverage(k) + 0.01 * (-1.0) ** np.arange(len(k))
    found = power_law(k, covered)

    def loss(a, b):
        return float(((np.exp(a * k.astype(float) ** b) - covered) ** 2).sum())

    best = loss(found.a, found.b)
    for a, b in ((1.001, 1), (0.999, 1), (1, 1.001), (1, 0.999)):
        assert loss(found.a * a, found.b * b) > best


def test_points_of_coverage_one_count_in_the_fit():
    k = doubling(16)
    covered = np.array([0.3, 0.6, 0.9, 1.0, 1.0])
    assert power_law(k, covered) != power_law(k[:3], covered[:3])


def test_beta_difficulties_look_like_a_power_law_to_within_0_017():
    law = BetaDifficulty(0.3, 3.0)
    k = np.arange(1, 8193)
    found = power_law(doubling(8192), law.coverage(doubling(8192)))
    worst = np.abs(found.coverage(k) - law.coverage(k)).max()
    assert worst <= 0.017
    assert worst > 0.005  # a description, not the law itself


@pytest.mark.parametrize("right", [0, 8])
def test_a_power_law_needs_coverage_between_0_and_1(right):
    tries = Tries(np.full(5, 8), np.full(5, right))
    with pytest.raises(ScalingError, match="strictly between 0 and 1"):
        fit_power_law(tries)


def test_problems_solved_always_or_never_have_no_power_law():
    with pytest.raises(ScalingError, match="always or never"):
        fit_power_law(Tries(np.full(5, 8), np.array([0, 8, 8, 0, 0])))


def test_one_try_of_each_problem_tells_no_law():
    once = Tries(np.ones(6, dtype=np.int64), np.array([0, 1, 1, 0, 0, 1]))
    with pytest.raises(ScalingError, match="two numbers of tries"):
        fit_power_law(once)
    for fit in (fit_beta, fit_beta_with_never):
        with pytest.raises(ScalingError, match="at least 2 tries"):
            fit(once)


@pytest.mark.parametrize("right", [0, 8])
@pytest.mark.parametrize("fit", [fit_beta, fit_beta_with_never])
def test_a_law_of_rates_needs_right_and_wrong_tries(fit, right):
    with pytest.raises(ScalingError, match="some must be right and some wrong"):
        fit(Tries(np.full(5, 8), np.full(5, right)))


@pytest.mark.parametrize(
    ("alpha", "beta", "never"), [(0.3, 3.0, 0.0), (2.0, 0.5, 0.0), (1.2, 4.0, 0.3)]
)
def test_coverage_is_the_mean_over_rates(alpha, beta, never):
    law = BetaDifficulty(alpha, beta, never)
    for k in (1, 2, 7, 100):
        mean, _ = integrate.quad(
            lambda p, k=k: 1 - (1 - p) ** k, 0, 1, weight="alg", wvar=(alpha - 1, beta - 1)
        )
        mean *= (1 - never) / integrate.quad(
            lambda p: 1.0, 0, 1, weight="alg", wvar=(alpha - 1, beta - 1)
        )[0]
        assert law.coverage(np.array([k]))[0] == pytest.approx(mean, rel=1e-9)


def test_coverage_keeps_its_digits_where_almost_nothing_is_solved():
    law = BetaDifficulty(0.3, 1e5)
    assert law.coverage(np.array([1]))[0] == pytest.approx(0.3 / (1e5 + 0.3), rel=1e-12)


def test_missing_problems_fall_like_k_to_the_minus_alpha():
    law = BetaDifficulty(0.4, 2.0)
    missed = 1 - law.coverage(np.array([50_000, 100_000]))
    assert np.log(missed[0] / missed[1]) / np.log(2) == pytest.approx(0.4, rel=1e-4)


@pytest.mark.parametrize(
    ("alpha", "beta"), [(0.3, 3.0), (1e-5, 1e5), (1e5, 1e5), (1e5, 1e-5), (0.5, 0.5), (1.0, 1.0)]
)
def test_nodes_stand_for_the_law_in_every_mean_they_promise(alpha, beta):
    types = BetaDifficulty(alpha, beta, never=0.25).types(nodes=8)
    moments = np.cumprod([(alpha + i) / (alpha + beta + i) for i in range(15)])
    for power, moment in enumerate(moments, 1):
        assert types.prior @ types.rate**power == pytest.approx(0.75 * moment, rel=1e-9)
    assert types.prior.sum() == pytest.approx(1.0, abs=1e-12)


def likelihood(tries, alpha, beta, never):
    """The same, from scipy's own beta-binomial law."""
    law = stats.betabinom(tries.tried, alpha, beta)
    p = (1 - never) * law.pmf(tries.right) + never * (tries.right == 0)
    return float(np.log(p).sum())


@pytest.mark.parametrize(("alpha", "beta", "never"), [(0.4, 2.0, 0.0), (1.5, 1.5, 0.35)])
def test_fits_stand_at_the_top_of_the_likelihood(alpha, beta, never):
    tries = planted(np.random.default_rng(2), 300, 20, alpha, beta, never)
    plain, mixed = fit_beta(tries), fit_beta_with_never(tries)
    constant = likelihood(tries, 1.0, 1.0, 0.0) - BetaDifficulty(1.0, 1.0).log_likelihood(tries)
    for law in (plain, mixed):
        top = law.log_likelihood(tries)
        assert top + constant == pytest.approx(
            likelihood(tries, law.alpha, law.beta, law.never), rel=1e-10
        )
        for factor in (0.98, 1.02):
            assert likelihood(tries, law.alpha * factor, law.beta, law.never) < top + constant
            assert likelihood(tries, law.alpha, law.beta * factor, law.never) < top + constant
    assert mixed.log_likelihood(tries) >= plain.log_likelihood(tries) - 1e-6
    if never:
        for shift in (-0.01, 0.01):
            moved = BetaDifficulty(mixed.alpha, mixed.beta, mixed.never + shift)
            assert moved.log_likelihood(tries) < mixed.log_likelihood(tries)


def test_planted_difficulties_are_found():
    rng = np.random.default_rng(8)
    found = fit_beta(planted(rng, 20_000, 50, 0.3, 3.0))
    assert found.alpha == pytest.approx(0.3, rel=0.06)
    assert found.beta == pytest.approx(3.0, rel=0.1)
    mixed = fit_beta_with_never(planted(rng, 20_000, 50, 2.0, 5.0, never=0.4))
    assert mixed.never == pytest.approx(0.4, abs=0.02)
    assert mixed.alpha == pytest.approx(2.0, rel=0.06)


def test_problems_of_one_difficulty_give_the_binomial_limit():
    law = fit_beta(Tries(np.full(50, 10), np.full(50, 4)))
    np.testing.assert_allclose(law.coverage(np.array([1, 5])), [0.4, 1 - 0.6**5], atol=1e-3)


def test_the_law_of_rates_extrapolates_better_than_the_curve():
    rng = np.random.default_rng(4)
    tries, truth = planted(rng, 4000, 32, 0.2, 1.0), BetaDifficulty(0.2, 1.0)
    far = np.array([4096])
    miss = {fit: abs(fit(tries).coverage(far) - truth.coverage(far))[0] for fit in FITS}
    assert miss[fit_beta] < 0.02
    assert miss[fit_power_law] > 0.03


def test_an_extrapolation_repeats_with_its_seed_and_names_its_parameters():
    tries = planted(np.random.default_rng(1), 60, 16, 0.7, 2.0)
    k = doubling(256)
    one, two = (
        extrapolate(tries, fit_power_law, k, rng=np.random.default_rng(9), resamples=30)
        for _ in range(2)
    )
    assert (one.band.low == two.band.low).all()
    assert set(one.parameters) == {"a", "b"}
    assert (one.band.low < one.band.value).all()
    assert (one.band.value < one.band.high).all()
    assert one.parameters["b"][0] < one.law.b < one.parameters["b"][1]
    assert one.refused == 0.0


def test_resamples_without_a_fit_are_counted_and_too_many_refused():
    single = Tries(np.full(3, 4), np.array([0, 0, 2]))
    found = extrapolate(single, fit_beta, doubling(8), rng=np.random.default_rng(0), resamples=60)
    assert found.refused == pytest.approx((2 / 3) ** 3, abs=0.3)  # five deviations
    with pytest.raises(ScalingError, match="more problems"):
        extrapolate(
            Tries(np.full(3, 4), np.array([4, 3, 2])),
            fit_unless_repeated,  # which 21 of 27 resamples are
            doubling(8),
            rng=np.random.default_rng(0),
            resamples=60,
        )


def fit_unless_repeated(tries):
    if len(set(tries.right.tolist())) < len(tries):
        raise ScalingError("a problem came twice")
    return fit_beta(tries)


@pytest.mark.slow
@pytest.mark.law
@pytest.mark.parametrize("name", ["beta", "power"])
def test_extrapolated_intervals_hold_the_truth_as_often_as_they_say(name):
    """For the power law the truth is the law nearest to the exact curve: what more data tend to."""
    rng, trials, k = np.random.default_rng(21), 40, np.array([32, 1024])
    exact = BetaDifficulty(0.6, 2.0)
    grid = doubling(32)
    truth, fit = {
        "beta": (exact, fit_beta),
        "power": (power_law(grid, exact.coverage(grid)), fit_power_law),
    }[name]
    held, shape = np.zeros(2, dtype=int), 0
    for _ in range(trials):
        tries = planted(rng, 200, 32, 0.6, 2.0)
        found = extrapolate(tries, fit, k, rng=rng, resamples=50)
        held += (found.band.low <= truth.coverage(k)) & (truth.coverage(k) <= found.band.high)
        parameter = "alpha" if name == "beta" else "b"
        low, high = found.parameters[parameter]
        shape += low <= getattr(truth, parameter) <= high
    for hits in (*held, shape):
        laws.assert_count(int(hits), trials, 0.93)


FITS = (fit_beta, fit_power_law)
