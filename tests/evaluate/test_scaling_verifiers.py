"""An erring verifier accepts what enumeration says, and trying stops where it pays to stop."""

import itertools
import math

import laws
import numpy as np
import pytest

from unison.evaluate.scaling import (
    BetaDifficulty,
    ScalingError,
    Tries,
    Types,
    Verifier,
    Worth,
    accepted,
    attempt_values,
    best_attempts,
    ceiling,
    pass_table,
    verified_table,
)

PUBLISHED = Types(np.array([0.58, 0.42]), np.array([0.87, 0.13]))
LENIENT = Verifier(1.0, 0.75)


def upto(most):
    return np.arange(1, most + 1)


def enumerated(rate, verifier, attempts):
    """Over every sequence of (right, accepted): what the first accepted try is."""
    c, s = verifier.completeness, verifier.soundness
    kinds = {
        (True, True): rate * c,
        (True, False): rate * (1 - c),
        (False, True): (1 - rate) * (1 - s),
        (False, False): (1 - rate) * s,
    }
    found = {True: 0.0, False: 0.0}
    for sequence in itertools.product(kinds, repeat=attempts):
        first = next((right for right, taken in sequence if taken), None)
        if first is not None:
            found[first] += math.prod(kinds[kind] for kind in sequence)
    return found[True], found[False]


@pytest.mark.parametrize(("c", "s"), [(1.0, 0.75), (0.6, 0.9), (0.3, 0.4), (1.0, 1.0), (0.0, 1.0)])
def test_the_closed_form_is_the_sum_over_all_outcomes(c, s):
    types = Types(np.array([0.5, 0.3, 0.2]), np.array([0.8, 0.25, 0.0]))
    found = accepted(types, Verifier(c, s), upto(5))
    for k in range(1, 6):
        each = [enumerated(rate, Verifier(c, s), k) for rate in types.rate]
        assert found.right[k - 1] == pytest.approx(types.prior @ [r for r, _ in each], abs=1e-12)
        assert found.wrong[k - 1] == pytest.approx(types.prior @ [w for _, w in each], abs=1e-12)


def test_published_numbers_are_reproduced():
    best = [best_attempts(PUBLISHED, LENIENT, Worth(1.0, wrong)) for wrong in (-0.7, -1.0, -2.0)]
    assert best == [3, 2, 1]
    assert ceiling(PUBLISHED, LENIENT).right[0] == pytest.approx(0.716, abs=5e-4)


def test_the_ceiling_is_where_many_tries_lead():
    top, many = ceiling(PUBLISHED, LENIENT), accepted(PUBLISHED, LENIENT, upto(400))
    assert top.right[0] == pytest.approx(many.right[-1], abs=1e-12)
    assert top.wrong[0] == pytest.approx(many.wrong[-1], abs=1e-12)
    assert top.right[0] + top.wrong[0] == pytest.approx(1.0)


def test_a_perfect_verifier_leads_to_all_that_can_be_solved():
    types = Types(np.array([0.25, 0.75]), np.array([0.0, 1e-9]))
    assert ceiling(types, Verifier()).right[0] == pytest.approx(0.75)
    assert ceiling(types, Verifier()).wrong[0] == 0.0
    assert accepted(types, Verifier(), upto(1000)).right[-1] == pytest.approx(0.75e-6, rel=1e-5)


def test_values_of_attempts_are_differences_of_what_is_accepted():
    worth = Worth(2.0, -0.5, 0.01)
    found = accepted(PUBLISHED, LENIENT, upto(6))
    total = 2.0 * found.right - 0.5 * found.wrong
    waiting = 1 - found.right - found.wrong
    reached = np.concatenate([[1.0], waiting[:-1]])
    want = np.diff(total, prepend=0.0) - 0.01 * reached
    np.testing.assert_allclose(attempt_values(PUBLISHED, LENIENT, 6, worth), want, atol=1e-14)


def brute_best(types, verifier, worth, most):
    total = np.concatenate([[0.0], np.cumsum(attempt_values(types, verifier, most, worth))])
    return total, int(total.argmax())


def test_the_best_number_of_attempts_is_that_of_a_search():
    rng = np.random.default_rng(6)
    finite = 0
    for _ in range(200):
        types = Types(rng.dirichlet(np.ones(4)), rng.random(4) ** 3)
        verifier = Verifier(*rng.random(2) ** 0.3)
        worth = Worth(1.0, -3 * rng.random() ** 2, 0.05 * rng.random())
        best = best_attempts(types, verifier, worth)
        total, peak = brute_best(types, verifier, worth, 4000)
        if best is None:
            assert total[-1] == pytest.approx(total.max(), abs=1e-9)
        else:
            finite += 1
            assert best < 4000
            assert total[int(best)] == pytest.approx(total[peak], abs=1e-12)
    assert 100 < finite < 200  # both kinds are among them


def test_a_sound_verifier_or_a_harmless_error_is_asked_for_ever():
    assert best_attempts(PUBLISHED, Verifier(0.5, 1.0), Worth(1.0, -9.0)) is None
    assert best_attempts(PUBLISHED, LENIENT, Worth(1.0, 0.0)) is None


def test_a_cost_stops_even_a_perfect_verifier():
    types = Types(np.array([1.0]), np.array([0.2]))
    assert best_attempts(types, Verifier(), Worth(1.0, -1.0, 0.19)) is None
    assert best_attempts(types, Verifier(), Worth(1.0, -1.0, 0.21)) == 0
    mixed = Types(np.array([0.5, 0.5]), np.array([0.2, 0.0]))
    # The k-th try is worth 0.5 * 0.8^(k-1) (0.2 - 0.05) - 0.5 * 0.05: not below 0 up to k = 5.
    assert best_attempts(mixed, Verifier(), Worth(1.0, -1.0, 0.05)) == 5


def test_an_uninformative_verifier_is_all_or_nothing():
    coin = Verifier(0.5, 0.5)
    assert best_attempts(PUBLISHED, coin, Worth(1.0, -1.0)) is None  # right more often than not
    assert best_attempts(PUBLISHED, coin, Worth(1.0, -2.0)) == 0
    # One that prefers wrong tries: the first is worth less than nothing, all together more.
    backward, types = Verifier(0.2, 0.1), Types(np.array([0.9, 0.1]), np.array([1.0, 0.0]))
    worth = Worth(1.0, -2.0 - 1e-3)
    assert attempt_values(types, backward, 1, worth)[0] < 0.001
    assert best_attempts(types, backward, worth) is None


def test_the_best_number_is_found_however_far_off():
    types = Types(np.array([1 - 1e-9, 1e-9]), np.array([0.01, 0.0]))
    best = best_attempts(types, Verifier(1.0, 0.999), Worth(1.0, -1.0))
    values = attempt_values(types, Verifier(1.0, 0.999), int(best) + 1, Worth(1.0, -1.0))
    assert best > 1000
    assert values[-1] < 0 <= values[-2]


@pytest.mark.parametrize(("c", "s"), [(1.0, 0.75), (0.6, 0.9), (1.0, 1.0), (0.0, 0.0)])
def test_a_pool_is_judged_in_every_order(c, s):
    tries = Tries(np.array([5, 5, 6]), np.array([2, 0, 6]))
    found = verified_table(tries, Verifier(c, s), 4)
    for problem, (n, right) in enumerate(zip(tries.tried, tries.right, strict=True)):
        pool = [True] * right + [False] * (n - right)
        wanted = np.zeros((2, 4))
        orders = list(itertools.permutations(pool, 4))
        for order in orders:
            waiting = 1.0
            for k, is_right in enumerate(order):
                taken = waiting * (c if is_right else 1 - s)
                wanted[0 if is_right else 1, k:] += taken / len(orders)
                waiting -= taken
        np.testing.assert_allclose(found.right[problem], wanted[0], atol=1e-13)
        np.testing.assert_allclose(found.wrong[problem], wanted[1], atol=1e-13)


def test_a_law_with_a_heavy_tail_is_judged_far_beyond_its_nodes_degree():
    law, k = BetaDifficulty(0.3, 3.0), np.array([100, 1000, 8192])
    np.testing.assert_allclose(
        accepted(law.types(), Verifier(), k).right, law.coverage(k), rtol=1e-9
    )


def test_judging_a_pool_is_unbiased_for_fresh_tries():
    n, rate, verifier = 7, 0.35, Verifier(0.8, 0.7)
    every = verified_table(Tries(np.full(n + 1, n), np.arange(n + 1)), verifier, n)
    chance = np.array([math.comb(n, c) * rate**c * (1 - rate) ** (n - c) for c in range(n + 1)])
    fresh = accepted(Types(np.ones(1), np.array([rate])), verifier, upto(n))
    np.testing.assert_allclose(chance @ every.right, fresh.right, atol=1e-13)
    np.testing.assert_allclose(chance @ every.wrong, fresh.wrong, atol=1e-13)


def test_a_perfect_verifier_turns_coverage_into_accuracy():
    tries = Tries(np.array([300, 300]), np.array([7, 299]))
    found = verified_table(tries, Verifier(), 300)
    np.testing.assert_allclose(found.right, pass_table(tries, np.arange(1, 301)), atol=1e-12)
    assert (found.wrong == 0).all()


def test_a_law_of_rates_is_judged_like_its_problems():
    law, verifier = BetaDifficulty(0.4, 1.5, never=0.2), Verifier(0.9, 0.8)
    found = accepted(law.types(), verifier, upto(6))
    # p^a (1-p)^b has a Beta mean in closed form: expand the k-th attempt in such terms.
    right = 0.0
    for k in range(6):
        for a in range(k + 1):
            rejected = math.comb(k, a) * 0.1**a * 0.8 ** (k - a)
            rising = math.prod(0.4 + i for i in range(a + 1))
            rising *= math.prod(1.5 + i for i in range(k - a))
            right += 0.8 * 0.9 * rejected * rising / math.prod(1.9 + i for i in range(k + 1))
    assert found.right[-1] == pytest.approx(right, rel=1e-12)


@pytest.mark.law
def test_simulated_trying_agrees():
    rng, runs, attempts = np.random.default_rng(12), 200_000, 4
    kind = rng.random(runs) < PUBLISHED.prior[0]
    rate = np.where(kind, *PUBLISHED.rate)
    right = rng.random((attempts, runs)) < rate
    taken = rng.random((attempts, runs)) < np.where(right, 0.7, 0.25)
    first = taken.argmax(0)
    settled = taken.any(0)
    hit = settled & right[first, np.arange(runs)]
    found = accepted(PUBLISHED, Verifier(0.7, 0.75), upto(attempts))
    laws.assert_count(int(hit.sum()), runs, float(found.right[-1]))
    laws.assert_count(int((settled & ~hit).sum()), runs, float(found.wrong[-1]))


def test_measured_types_are_the_problems_themselves():
    types = Types.measured(Tries(np.array([4, 8]), np.array([1, 8])))
    assert types.prior.tolist() == [0.5, 0.5]
    assert types.rate.tolist() == [0.25, 1.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Verifier(1.1, 0.5),
        lambda: Verifier(0.5, -0.1),
        lambda: Types(np.array([0.5, 0.4]), np.array([0.1, 0.2])),
        lambda: Types(np.array([1.5, -0.5]), np.array([0.1, 0.2])),
        lambda: Types(np.array([1.0]), np.array([1.2])),
        lambda: accepted(PUBLISHED, LENIENT, np.array([3, 0])),
        lambda: attempt_values(PUBLISHED, LENIENT, 0, Worth()),
        lambda: best_attempts(PUBLISHED, LENIENT, Worth(1.0, 1.0)),
        lambda: verified_table(Tries(np.array([4, 3]), np.array([1, 1])), LENIENT, 4),
    ],
)
def test_impossible_settings_are_refused_with_the_value(make):
    with pytest.raises(ScalingError, match=r"got"):
        make()
