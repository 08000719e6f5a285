"""The instrument itself: it stays quiet on the truth and speaks up on a lie."""

import laws
import numpy as np
import pytest

TRUTH = np.random.default_rng(0).dirichlet(np.full(27, 0.7))
LAW = dict(enumerate(TRUTH))


def draw(p, seed, n=20_000):
    return np.random.default_rng(seed).choice(len(p), size=n, p=p / p.sum()).tolist()


def bent(p, distance):
    """A law at total-variation distance ``distance`` from p."""
    order = p.argsort()[::-1]
    lie = p.copy()
    lie[order[0]] -= distance
    lie[order[1:4]] += distance / 3
    return lie


def test_quiet_on_the_truth():
    """The smallest of 200 p-values is not small: expected 1/200, below 1e-4 in 2 % of seeds."""
    found = [laws.p_value(draw(TRUTH, seed), LAW) for seed in range(200)]
    assert min(found) > 1e-4
    assert 0.3 < np.mean(found) < 0.7


def test_loud_on_a_lie():
    """A total-variation error of 4 % is caught by 20 000 rows, for every one of 200 seeds."""
    lie = bent(TRUTH, 0.04)
    assert max(laws.p_value(draw(lie, seed), LAW) for seed in range(200)) < laws.ALPHA


def test_an_impossible_value_is_enough():
    samples = [*draw(TRUTH, 0), 27]
    assert laws.p_value(samples, {**LAW, 27: 0.0}) == 0
    assert laws.p_value(samples, LAW) == 0


def test_rare_cells_are_pooled_not_dropped():
    """A thousand cells of 1e-6 each: 20 hits are the truth, 200 are not."""
    law = {**dict.fromkeys(range(1000), 1e-6), -1: 0.999}
    assert laws.p_value([-1] * 19_980 + list(range(20)), law) > 1e-4
    assert laws.p_value([-1] * 19_800 + list(range(200)), law) < laws.ALPHA


def test_a_law_that_lost_mass_is_refused():
    with pytest.raises(AssertionError, match="mass"):
        laws.assert_law([0, 1], {0: 0.5, 1: 0.4})


def test_counts_are_judged_on_both_sides():
    laws.assert_count(50, 1000, 0.05)
    for hits in (5, 110):
        with pytest.raises(AssertionError):
            laws.assert_count(hits, 1000, 0.05)
