"""Coverage is the share of subsets it says it is, and its interval holds what it says it holds."""

import itertools
from fractions import Fraction
from math import comb

import laws
import numpy as np
import pytest

from unison.evaluate.scaling import (
    ScalingError,
    Tries,
    all_right_at_k,
    all_right_table,
    coverage,
    difference_band,
    doubling,
    mean_band,
    pass_at_k,
    pass_table,
)


def exact_pass(n, c, k):
    return 1 - Fraction(comb(n - c, k), comb(n, k))


def exact_all(n, c, k):
    return Fraction(comb(c, k), comb(n, k))


def test_pass_at_k_is_the_share_of_subsets_with_a_right_try():
    for n in range(1, 8):
        for c in range(n + 1):
            right = [True] * c + [False] * (n - c)
            for k in range(1, n + 1):
                subsets = list(itertools.combinations(right, k))
                assert pass_at_k(n, c, k) == pytest.approx(
                    sum(map(any, subsets)) / len(subsets), rel=1e-14, abs=0
                )
                assert all_right_at_k(n, c, k) == pytest.approx(
                    sum(map(all, subsets)) / len(subsets), rel=1e-13, abs=0
                )


@pytest.mark.parametrize("n", [100, 3000, 100_000])
def test_large_pools_agree_with_fractions_to_twelve_digits_at_both_ends(n):
    for c in (1, 2, n // 1000 + 1, n // 2, n - 2, n - 1):
        for k in (1, 2, 17, n // 3, n - 1, n):
            for ours, theirs in ((pass_at_k, exact_pass), (all_right_at_k, exact_all)):
                if min(k, n - k, c, n - c) > 3000:
                    continue  # fractions of that size take minutes
                want = theirs(n, c, k)
                # Below 1e-300 both are 0 for every purpose, and a double cannot say more.
                assert ours(n, c, k) == pytest.approx(float(want), rel=1e-11, abs=1e-300)
                assert ours(n, c, k) == pytest.approx(float(want), abs=1e-12)


def test_the_estimate_is_unbiased_for_fresh_tries():
    n, p = 9, Fraction(2, 7)
    weights = [comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    for k in range(1, n + 1):
        covered = sum(float(w) * pass_at_k(n, c, k) for c, w in enumerate(weights))
        every = sum(float(w) * all_right_at_k(n, c, k) for c, w in enumerate(weights))
        assert covered == pytest.approx(1 - (1 - float(p)) ** k, abs=1e-14)
        assert every == pytest.approx(float(p) ** k, abs=1e-14)


def test_tables_say_of_every_problem_what_the_single_numbers_say():
    tries = Tries(np.array([6, 9, 6, 7]), np.array([2, 9, 2, 0]))
    k = np.array([5, 1, 6])
    for table, single in ((pass_table, pass_at_k), (all_right_table, all_right_at_k)):
        want = [
            [single(int(n), int(c), int(j)) for j in k]
            for n, c in zip(tries.tried, tries.right, strict=True)
        ]
        np.testing.assert_allclose(table(tries, k), want, rtol=1e-14)


def test_a_curve_goes_over_all_k_of_which_every_problem_can_tell():
    tries = Tries.of([[True, False, False], [False] * 5])
    band = coverage(tries, rng=np.random.default_rng(0), resamples=50)
    assert band.k.tolist() == [1, 2, 3]
    np.testing.assert_allclose(band.value, [1 / 6, 1 / 3, 1 / 2], rtol=1e-14)
    assert (band.low <= band.value).all()
    assert (band.value <= band.high).all()
    again = coverage(tries, rng=np.random.default_rng(0), resamples=50)
    assert (again.low == band.low).all()


def test_the_bootstrap_has_the_spread_of_a_mean_over_problems():
    rng = np.random.default_rng(5)
    table = rng.random((400, 1)) ** 2
    band = mean_band(table, np.array([1]), rng=rng, resamples=5000)
    stderr = table.std() / 20
    assert band.high[0] - band.value[0] == pytest.approx(1.96 * stderr, rel=0.1)
    assert band.value[0] - band.low[0] == pytest.approx(1.96 * stderr, rel=0.1)


def test_problems_that_are_all_alike_do_not_make_a_certainty():
    never = Tries(np.full(20, 8), np.zeros(20, dtype=np.int64))
    band = coverage(never, rng=np.random.default_rng(0), resamples=50)
    assert band.value.tolist() == [0.0] * 8
    assert band.low == pytest.approx(np.zeros(8), abs=1e-15)
    np.testing.assert_allclose(band.high, 1.96**2 / (20 + 1.96**2), rtol=1e-4)  # Wilson at 0


def test_differences_are_taken_problem_by_problem():
    rng = np.random.default_rng(3)
    hard = rng.random((50, 2))
    band = difference_band(hard + 0.125, hard, np.array([1, 2]), rng=rng, resamples=200)
    for end in (band.value, band.low, band.high):
        np.testing.assert_allclose(end, 0.125, rtol=1e-12)


@pytest.mark.law
def test_intervals_hold_the_truth_as_often_as_they_say():
    rng, trials, problems, n = np.random.default_rng(11), 200, 150, 12
    k = np.array([1, 4, 12])
    alpha, beta = 0.8, 2.0
    misses = [np.prod([(beta + i) / (alpha + beta + i) for i in range(j)]) for j in k]
    held = np.zeros(len(k), dtype=int)
    for _ in range(trials):
        right = rng.binomial(n, rng.beta(alpha, beta, problems))
        band = coverage(Tries(np.full(problems, n), right), k, rng=rng, resamples=400)
        truth = 1 - np.array(misses)
        held += (band.low <= truth) & (truth <= band.high)
    for hits in held:
        laws.assert_count(int(hits), trials, 0.945)


def test_doubling_goes_up_to_the_tries_made():
    assert doubling(1).tolist() == [1]
    assert doubling(31).tolist() == [1, 2, 4, 8, 16]
    assert doubling(32).tolist() == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize(("n", "c", "k"), [(4, 2, 5), (4, 2, 0), (4, 5, 1), (4, -1, 1), (0, 0, 1)])
def test_impossible_numbers_are_refused(n, c, k):
    for single in (pass_at_k, all_right_at_k):
        with pytest.raises(ScalingError, match=r"\d"):
            single(n, c, k)


def test_problems_without_tries_are_refused():
    with pytest.raises(ScalingError, match="at least 1 try"):
        Tries.of([[True], []])
    with pytest.raises(ScalingError, match="0 and 0"):
        Tries.of([])
