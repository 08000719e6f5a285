"""Votes and verifiers choose what they choose in every subset, ties at random."""

import itertools
from collections import Counter

import numpy as np
import pytest

from unison.evaluate.scaling import (
    MOST_VOTERS,
    ScalingError,
    best_curve,
    curve_table,
    rank_average,
    shortlist,
    vote,
    vote_at_k,
    vote_curve,
    votes_of_tests,
)


def voted(reads, scores, weights=None):
    """Expected score of the most voted read, ties and empty ballots averaged."""
    votes = Counter()
    for i, read in enumerate(reads):
        if read:
            votes[read] += 1 if weights is None else weights[i]
    if not votes:
        return sum(scores) / len(scores)
    top = max(votes.values())
    winners = [read for read, count in votes.items() if abs(count - top) < 1e-9]
    means = [np.mean([s for r, s in zip(reads, scores, strict=True) if r == w]) for w in winners]
    return float(np.mean(means))


def over_subsets(choose, n, k):
    subsets = list(itertools.combinations(range(n), k))
    return sum(choose(subset) for subset in subsets) / len(subsets)


def test_the_answer_with_most_votes_wins_and_ties_are_shared():
    assert vote(["a", "b", "a"], np.array([0.0, 1.0, 0.0])) == 0.0
    assert vote(["a", "b", "a", "b", "c"], np.array([0.0, 1.0, 0.0, 1.0, 1.0])) == 0.5
    assert vote(["", "", "b"], np.array([0.0, 0.0, 1.0])) == 1.0
    assert vote(["", "", ""], np.array([0.0, 0.6, 0.0])) == pytest.approx(0.2)


def test_weights_count_votes_and_rounding_breaks_no_tie():
    scores = np.array([1.0, 0.0, 0.0, 0.0])
    assert vote(["a", "b", "b", "c"], scores, np.array([0.9, 0.4, 0.4, 0.2])) == 1.0
    weights = np.array([0.3, 0.1, 0.2, 1e-3])  # 0.1 + 0.2 is not 0.3 in binary
    assert vote(["a", "b", "b", "c"], scores, weights) == 0.5


@pytest.mark.parametrize("seed", range(12))
def test_majorities_of_all_sizes_agree_with_all_subsets(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 10))
    reads = [["a", "b", "c", "d", ""][i] for i in rng.choice(5, n, p=[0.35, 0.25, 0.1, 0.1, 0.2])]
    scores = rng.random(n)  # tries that read the same need not be worth the same
    curve = vote_curve(reads, scores)
    for k in range(1, n + 1):
        # The score of the winner is the mean over all tries that read like it, in the subset.
        want = over_subsets(lambda s: voted([reads[i] for i in s], [scores[i] for i in s]), n, k)
        assert curve[k - 1] == pytest.approx(want, abs=1e-12)


def test_a_large_vote_is_the_drawn_one_to_its_error():
    rng = np.random.default_rng(3)
    reads = [str(i) for i in rng.choice(30, 120, p=np.arange(1, 31) / 465)]
    scores = np.array([float(r in ("29", "3")) for r in reads])
    curve = vote_curve(reads, scores)
    assert curve[0] == pytest.approx(scores.mean(), abs=1e-12)
    assert curve[-1] == pytest.approx(vote(reads, scores), abs=1e-12)
    drawn = vote_at_k(reads, scores, 25, rng=rng, draws=4000)
    assert drawn.n == 4000
    assert 0 < drawn.stderr < 0.01
    assert abs(drawn.value - curve[24]) < 4.9 * drawn.stderr


def test_small_votes_are_enumerated_with_weights_too():
    rng = np.random.default_rng(0)
    reads, scores, weights = ["a", "b", "a", "c", "b", ""], rng.random(6), rng.random(6)
    for k in range(1, 7):
        found = vote_at_k(reads, scores, k, rng=rng, weights=weights)
        want = over_subsets(
            lambda s: voted(*([column[i] for i in s] for column in (reads, scores, weights))), 6, k
        )
        assert found.value == pytest.approx(want, abs=1e-12)
        assert found.stderr == 0.0


@pytest.mark.parametrize("seed", range(6))
def test_the_best_judged_of_all_sizes_agree_with_all_subsets(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 10))
    scores, judged = rng.random(n), rng.integers(0, 4, n).astype(float)  # ties among them

    def chosen(subset):
        top = max(judged[i] for i in subset)
        return np.mean([scores[i] for i in subset if judged[i] == top])

    curve = best_curve(scores, judged)
    for k in range(1, n + 1):
        assert curve[k - 1] == pytest.approx(over_subsets(chosen, n, k), abs=1e-12)


def test_a_verifier_that_knows_is_coverage_and_one_that_does_not_is_chance():
    scores = np.array([0.0, 1.0, 0.0, 0.0])
    np.testing.assert_allclose(best_curve(scores, scores), [0.25, 0.5, 0.75, 1.0], atol=1e-14)
    np.testing.assert_allclose(best_curve(scores, np.zeros(4)), 0.25, atol=1e-14)
    falls = best_curve(scores, np.array([-np.inf, 1.0, 2.0, np.inf]))
    np.testing.assert_allclose(falls, [1 / 4, 1 / 6, 0.0, 0.0], atol=1e-14)


def test_ranks_of_verifiers_are_averaged_without_their_scales():
    judged = np.array([[0.1, 0.2, 0.3], [3e6, 1e6, 1e6]])
    assert rank_average(judged).tolist() == [(1 + 3) / 2, (2 + 1.5) / 2, (3 + 1.5) / 2]


def test_tests_vote_and_ties_are_shared():
    passed = np.array([[1, 1, 0], [1, 0, 1], [0, 0, 1]], dtype=bool)
    assert votes_of_tests(passed).tolist() == [2, 2, 1]
    assert best_curve(np.array([1.0, 0.0, 0.0]), votes_of_tests(passed))[-1] == 0.5


def test_a_shortlist_holds_most_tests_then_shortest_and_no_text_twice():
    passed = np.array([[1, 1], [1, 0], [1, 1], [0, 1], [1, 1]], dtype=bool)
    texts = ["long text", "b", "long text", "cc", "short"]
    assert shortlist(passed, texts) == [4, 0, 1]
    assert shortlist(passed, texts, keep=10) == [4, 0, 1, 3]
    assert shortlist(passed, texts, keep=1) == [4]


def test_curves_of_different_lengths_meet_where_all_reach():
    table = curve_table([np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.6])], np.array([2, 1]))
    assert table.tolist() == [[0.2, 0.1], [0.6, 0.5]]
    with pytest.raises(ScalingError, match="at most 2"):
        curve_table([np.zeros(3), np.zeros(2)], np.array([3]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: vote([], np.zeros(0)),
        lambda: vote(["a"], np.zeros(2)),
        lambda: vote(["a"], np.zeros(1), np.zeros(1)),
        lambda: vote_curve(["a"] * (MOST_VOTERS + 1), np.zeros(MOST_VOTERS + 1)),
        lambda: vote_at_k(["a"], np.zeros(1), 2, rng=np.random.default_rng(0)),
        lambda: best_curve(np.zeros(2), np.array([0.0, np.nan])),
        lambda: shortlist(np.zeros((2, 1), dtype=bool), ["a"]),
        lambda: shortlist(np.zeros((1, 1), dtype=bool), ["a"], keep=0),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(make):
    with pytest.raises(ScalingError, match=r"got|nan"):
        make()
