"""The laws by which networks are drawn are what they say, and draws follow them."""

import itertools

import numpy as np
import pytest
from scipy import stats

from unison.compress.elastic import curve, sampling

COMPLEXITY = np.array([1.0, 1.1, 1.5, 2.0, 2.0, 2.2, 2.4, 3.0, 3.1, 6.0])
LOSSES = np.array([5.0, 4.0, 4.5, 3.0, 3.5, 3.2, 2.5, 2.6, 2.0, 1.0])
SEEN = np.array([1.0, 2, 1, 1, 3, 1, 1, 1, 1, 1])
LEVEL = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 3])  # of four; the third is empty


def _law(kind, losses=LOSSES, seen=SEEN):
    return sampling.law(kind, COMPLEXITY, losses, seen, 4)


@pytest.mark.parametrize("kind", sampling.SAMPLINGS)
def test_a_law_is_one_and_forgets_nobody(kind):
    law = _law(kind)
    assert law.sum() == pytest.approx(1)
    assert (law > 0).all()


@pytest.mark.parametrize("kind", ["complexity", "struggling", "front"])
def test_levels_of_complexity_are_drawn_alike(kind):
    assert sampling.levels(COMPLEXITY, 4).tolist() == LEVEL.tolist()
    shares = np.bincount(LEVEL, _law(kind))
    assert shares == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])


def test_by_complexity_alone_a_level_is_spread_alike():
    assert _law("complexity") == pytest.approx([1 / 18] * 6 + [1 / 9] * 3 + [1 / 3])
    assert _law("uniform") == pytest.approx([0.1] * 10)


@pytest.mark.parametrize("kind", ["struggling", "front"])
def test_before_anything_is_known_the_law_is_that_of_complexity(kind):
    unknown = _law(kind, np.zeros(10), np.zeros(10))
    assert unknown == pytest.approx(_law("complexity"))


def test_half_of_the_draws_of_a_level_go_to_its_networks_on_the_front():
    on = [False, True, False, True, False, False, True, False, True, True]  # 4.0 3.0 2.5 2.0 1.0
    ours = curve.front(COMPLEXITY, LOSSES)
    assert ours.tolist() == [True, *on[1:]]  # the cheapest always is
    wanted = [(0.5 / 6 + 0.5 / 3) / 3 if front else 0.5 / 6 / 3 for front in [True, *on[1:6]]] + [
        (0.5 / 3 + 0.5 / 2) / 3,
        0.5 / 9,
        (0.5 / 3 + 0.5 / 2) / 3,
        1 / 3,
    ]
    assert _law("front") == pytest.approx(wanted)


def test_networks_above_the_curve_are_drawn_more_often():
    law = _law("struggling")
    excess = LOSSES - curve.fitted(COMPLEXITY, LOSSES, SEEN)
    for level in range(4):
        here = level == LEVEL
        order = np.argsort(excess[here])
        assert (np.diff(law[here][order]) >= -1e-15).all()
    spread = np.sqrt(np.mean(excess**2))
    weights = np.exp(excess[:6] / spread)
    assert law[:6] == pytest.approx((0.5 / 6 + 0.5 * weights / weights.sum()) / 3)


@pytest.mark.parametrize("kind", sampling.SAMPLINGS)
def test_draws_follow_their_law(kind):
    law, count = _law(kind), 20_000
    numbers = [n for step in range(4) for n in sampling.drawn(law, 11, step, count // 4)]
    seen = np.bincount(numbers, minlength=10)
    assert stats.chisquare(seen, law * count).pvalue > 1e-6


def test_draws_are_a_function_of_seed_and_step():
    law = _law("complexity")
    first = sampling.drawn(law, 3, 5, 50)
    assert first == sampling.drawn(law, 3, 5, 50)
    assert first[:7] == sampling.drawn(law, 3, 5, 7)
    assert first != sampling.drawn(law, 3, 6, 50)
    assert first != sampling.drawn(law, 4, 5, 50)


def test_the_curve_is_the_nearest_that_never_rises():
    order = np.argsort(COMPLEXITY, kind="stable")
    costs = COMPLEXITY[order]
    tied = [(3, 5)]  # two networks of complexity 2
    loss, weight = LOSSES.copy(), SEEN.copy()
    for low, high in tied:
        mean = np.average(loss[low:high], weights=weight[low:high])
        loss[low:high] = mean
    size = len(loss)

    def mean_of(a: int, b: int) -> float:
        return float(np.average(loss[a : b + 1], weights=weight[a : b + 1]))

    wanted = [  # the min-max formula of isotonic regression
        min(max(mean_of(a, b) for b in range(i, size)) for a in range(i + 1)) for i in range(size)
    ]
    ours = curve.fitted(costs, LOSSES, SEEN)
    assert ours == pytest.approx(wanted)


def test_unknown_losses_bend_no_curve():
    seen = SEEN * (np.arange(10) % 2)
    wild = np.where(seen > 0, LOSSES, 1e6)
    ours = curve.fitted(COMPLEXITY, wild, seen)
    assert ours[seen > 0] == pytest.approx(
        curve.fitted(COMPLEXITY[seen > 0], LOSSES[seen > 0], seen[seen > 0])
    )
    assert ours.max() <= LOSSES.max()


def test_the_front_is_what_nothing_cheaper_beats():
    generator = np.random.default_rng(0)
    for _ in range(50):
        cost, loss = generator.integers(0, 6, (2, 9)).astype(float)
        beaten = {
            i
            for i, j in itertools.permutations(range(9), 2)
            if cost[j] <= cost[i]
            and loss[j] <= loss[i]
            and (cost[j], loss[j]) != (cost[i], loss[i])
        }
        ours = curve.front(cost, loss)
        assert {i for i in range(9) if not ours[i]} == beaten
    assert curve.front(np.array([1.0, 2.0]), np.array([np.nan, 1.0])).tolist() == [False, True]
