"""The diagnostics are the quantities they name, on laws where those are known."""

import itertools

import numpy as np
import pytest

from unison.evaluate.scaling import (
    BetaDifficulty,
    Branches,
    ScalingError,
    Tries,
    anti_concentration,
    anti_concentration_under,
    heterogeneity,
    rate_variance,
    value_variance,
)


def binomial(n, p):
    """Counts and their chances."""
    from math import comb

    return [(c, comb(n, c) * p**c * (1 - p) ** (n - c)) for c in range(n + 1)]


def test_the_variance_of_values_is_unbiased_over_steps_and_rollouts():
    values, chances, rollouts = (0.1, 0.5, 0.9), (0.2, 0.5, 0.3), 3
    law = [
        (c, chance * p)
        for value, chance in zip(values, chances, strict=True)
        for c, p in binomial(rollouts, value)
    ]
    mean = sum(
        np.prod([p for _, p in drawn])
        * value_variance(Branches(np.array([c for c, _ in drawn]), np.full(2, rollouts)))
        for drawn in itertools.product(law, repeat=2)
    )
    truth = np.dot(chances, np.square(values)) - np.dot(chances, values) ** 2
    assert mean == pytest.approx(truth, abs=1e-12)


def test_values_along_all_traces_add_up_to_the_variance_of_the_reward():
    """A tree of two coin flips whose leaves are right at given chances, followed exactly."""
    leaf = {"hh": 1.0, "ht": 0.25, "th": 0.5, "tt": 0.0}
    value = {"h": 0.625, "t": 0.25, "": 0.4375}
    big = 10**6  # rollouts so many that shares are values

    def branches(prefix):
        after = [{**leaf, **value}[prefix + step] for step in "ht"]
        # Two equally likely steps: their sample variance over every pair drawn has mean 2/4 of it.
        return Branches(np.array([round(v * big) for v in after]), np.full(2, big))

    first = value_variance(branches("")) / 2
    second = np.mean([value_variance(branches(step)) / 2 for step in "ht"])
    last = np.mean([p * (1 - p) for p in leaf.values()])  # the leaf's own coin
    assert first + second + last == pytest.approx(0.4375 * (1 - 0.4375), abs=1e-5)


def test_heterogeneity_sums_along_traces_and_averages_over_prompts():
    uneven = Branches(np.array([10, 0]), np.array([10, 10]))  # variance 1/2, no noise
    even = Branches(np.array([10, 10]), np.array([10, 10]))
    found = heterogeneity([[[uneven, uneven], [even, even]], [[even]]])
    assert found.value == pytest.approx((0.5 + 0.0) / 2)
    assert found.stderr == pytest.approx(0.25)
    assert found.n == 2


def test_solvers_that_are_all_alike_show_none():
    rng = np.random.default_rng(0)
    steps = [
        [[Branches(rng.binomial(4, 0.3, 5), np.full(5, 4)) for _ in range(3)]] for _ in range(3000)
    ]
    found = heterogeneity(steps)
    assert abs(found.value) < 4.9 * found.stderr
    assert found.stderr < 0.005


def test_the_variance_of_rates_is_unbiased_and_its_error_is_the_jackknifes():
    rates = (0.1, 0.5, 0.9)
    law = [(c, p / 3) for rate in rates for c, p in binomial(3, rate)]
    mean = sum(
        np.prod([p for _, p in drawn])
        * rate_variance(Tries(np.full(3, 3), np.array([c for c, _ in drawn]))).value
        for drawn in itertools.product(law, repeat=3)
    )
    assert mean == pytest.approx(np.var(rates), abs=1e-12)

    tries = Tries(np.array([4, 9, 5, 7]), np.array([1, 8, 0, 3]))
    without = [rate_variance(tries.take(np.delete(np.arange(4), i))).value for i in range(4)]
    assert rate_variance(tries).stderr == pytest.approx(np.sqrt(3 * np.var(without)), rel=1e-12)


def test_the_variance_of_rates_is_what_separates_two_tries_from_one():
    law = BetaDifficulty(0.7, 1.3)
    one, two = law.coverage(np.array([1, 2]))
    variance = 0.7 * 1.3 / (2.0**2 * 3.0)
    assert two == pytest.approx(2 * one - one**2 - variance, abs=1e-12)


def test_anti_concentration_of_zeros_and_ones_is_a_range_of_rates():
    rewards = np.zeros((10, 10))
    for problem, right in enumerate([0, 1, 2, 3, 4, 5, 6, 7, 8, 10]):
        rewards[problem, :right] = 1.0
    # kappa = 1: rates in [0.15, 0.5]; the prompt that is always right reaches its own mean.
    found = anti_concentration(rewards, 1.0, least=0.15)
    assert found.value == pytest.approx(6 / 10)  # 2, 3, 4, 5, and 0 and 10, which have no spread
    assert found.n == 10


def test_graded_rewards_are_held_against_their_own_spread():
    rewards = np.array([[0.0, 0.2, 0.4, 1.0], [0.5, 0.5, 0.5, 0.6]])
    # Means 0.4 and 0.525, spreads 0.374 and 0.0433: only the last of each is a spread above.
    assert anti_concentration(rewards, 1.0, least=0.25).value == 1.0
    assert anti_concentration(rewards, 1.0, least=0.26).value == 0.0
    assert anti_concentration(rewards, 2.75, least=0.25).value == 0.5  # 1.0 < 0.4 + 1.66 * 0.374


def test_the_law_of_rates_says_the_same_without_rollout_noise():
    law = BetaDifficulty(2.0, 2.0, never=0.5)
    # Beta(2, 2) has distribution function 3 x^2 - 2 x^3.
    want = 0.5 * ((3 / 4 - 2 / 8) - (3 * 0.04 - 2 * 0.008))
    assert anti_concentration_under(law, 1.0, least=0.2) == pytest.approx(want, abs=1e-12)
    assert anti_concentration_under(law, 9.0, least=0.2) == 0.0

    rng = np.random.default_rng(1)
    rates = rng.beta(2, 2, 4000) * (rng.random(4000) < 0.5)
    rewards = (rng.random((4000, 400)) < rates[:, None]).astype(float)
    some = rewards[rewards.any(1)]  # without spread every reward is its mean
    found = anti_concentration(some, 1.0, least=0.2)
    assert found.value * len(some) / 4000 == pytest.approx(want, abs=0.05)


@pytest.mark.parametrize(
    "make",
    [
        lambda: value_variance(Branches(np.array([1]), np.array([3]))),
        lambda: value_variance(Branches(np.array([1, 0]), np.array([3, 1]))),
        lambda: heterogeneity([[]]),
        lambda: rate_variance(Tries(np.array([2, 2]), np.array([1, 1]))),
        lambda: rate_variance(Tries(np.array([2, 1, 2]), np.array([1, 1, 0]))),
        lambda: anti_concentration(np.zeros((2, 2)), -1.0),
        lambda: anti_concentration_under(BetaDifficulty(1.0, 1.0), 1.0, least=0.0),
    ],
)
def test_too_little_is_refused(make):
    with pytest.raises(ScalingError, match="at least"):
        make()
