"""Sample metrics have the values of hand computation, and errors that resampling confirms."""

import math
import random

import numpy as np
import pytest
import torch

from unison.evaluate.samples import (
    distinct_n,
    sample_metrics,
    self_repetition,
    unigram_entropy,
)


class TableJudge:
    """Judges from a table, so that sums are known."""

    name = "table"

    def __init__(self, table):
        self.table = table

    def nats(self, texts):
        return [self.table[text] for text in texts]


def brute_distinct(rows, n):
    grams = [tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1)]
    return len(set(grams)) / len(grams)


def random_rows(seed, count, length, vocabulary):
    draw = random.Random(seed)
    return [
        [int(vocabulary * draw.random() ** 2) for _ in range(length + draw.randrange(5))]
        for _ in range(count)
    ]


def test_entropy_is_the_mean_of_each_samples_own_entropy():
    rows = [[7, 7, 7, 7], [1, 2, 3, 4], [5, 5, 900000, 900000]]
    estimate = unigram_entropy(rows)
    parts = [0.0, math.log(4), math.log(2)]
    assert estimate.value == pytest.approx(np.mean(parts))
    assert estimate.stderr == pytest.approx(np.std(parts, ddof=1) / math.sqrt(3))
    assert estimate[2:] == (3, "nats/token")


def test_a_sample_without_tokens_has_no_entropy_to_offer():
    assert unigram_entropy([[], [1, 2]]).value == pytest.approx(math.log(2) / 2)
    assert unigram_entropy([[], []])[:3] == (0.0, 0.0, 2)


def test_tensors_and_lists_are_measured_alike():
    rows = torch.tensor([[1, 2, 2, 5, 1, 2], [3, 3, 3, 3, 3, 3]])
    for measure in (unigram_entropy, self_repetition, lambda r: distinct_n(r, 2)):
        assert measure(rows) == measure(rows.tolist())


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_distinct_n_counts_grams_of_the_whole_set_and_none_across_samples(n):
    rows = [*random_rows(0, 12, 6, 5), [1], []]
    assert distinct_n(rows, n).value == pytest.approx(brute_distinct(rows, n))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_error_of_distinct_n_is_the_jackknife_over_samples(n):
    rows = random_rows(1, 9, 5, 7)
    left_out = [brute_distinct(rows[:i] + rows[i + 1 :], n) for i in range(9)]
    estimate = distinct_n(rows, n)
    assert estimate.stderr == pytest.approx(
        math.sqrt(8 / 9 * np.sum((left_out - np.mean(left_out)) ** 2))
    )
    assert estimate.n == 9


def test_distinct_n_without_any_gram_is_not_a_number():
    assert math.isnan(distinct_n([[1], [2]], 2).value)
    assert distinct_n([[1], [2]], 2).n == 0
    assert distinct_n([[1], [2, 3]], 2).n == 1
    with pytest.raises(ValueError, match="at least 1"):
        distinct_n([[1]], 0)


def test_repetition_is_the_share_of_four_grams_already_seen_in_the_same_sample():
    # The first holds 1234 2341 3412 4123 1234: one of five returns; other samples do not count.
    rows = [[1, 2, 3, 4, 1, 2, 3, 4], [1, 2, 3, 4], [9, 9, 9, 9, 9, 9], [1, 2]]
    estimate = self_repetition(rows)
    assert estimate.value == pytest.approx((1 / 5 + 0 + 2 / 3) / 3)
    assert estimate.n == 3
    assert self_repetition([[1, 2]]).n == 0


def test_one_sample_has_a_value_and_no_error():
    rows, texts = [[1, 2, 3, 4]], ["a"]
    for estimate in sample_metrics(rows, texts, TableJudge({"a": (2.0, 4)})).values():
        assert math.isfinite(estimate.value)
        assert math.isnan(estimate.stderr)


def test_the_perplexity_of_samples_never_comes_without_their_diversity():
    judge = TableJudge({"a": (6.0, 3), "b": (2.0, 5), "c": (0.0, 0)})
    metrics = sample_metrics([[1, 2], [3, 3], []], ["a", "b", "c"], judge)
    assert list(metrics) == [
        "gen_ppl", "entropy", "distinct_1", "distinct_2", "distinct_3", "repetition",
    ]  # fmt: skip
    assert metrics["gen_ppl"].value == pytest.approx(math.exp(8 / 8))
    assert metrics["gen_ppl"].unit == "perplexity (table)"
    assert metrics["entropy"] == unigram_entropy([[1, 2], [3, 3], []])


def test_the_error_of_the_perplexity_is_the_spread_of_repeated_experiments():
    draw = np.random.default_rng(0)

    def experiment():
        counts = draw.integers(20, 80, 200)
        nats = counts * draw.normal(3, 0.5, 200)
        table = {str(i): (nats[i], counts[i]) for i in range(200)}
        return sample_metrics([[0]] * 200, list(table), TableJudge(table))["gen_ppl"]

    estimates = [experiment() for _ in range(300)]
    claimed = np.mean([estimate.stderr for estimate in estimates])
    # A spread of 300 draws has a relative error of 4 %; five of them are allowed.
    assert np.std([estimate.value for estimate in estimates]) == pytest.approx(claimed, rel=0.2)


@pytest.mark.parametrize(
    ("rows", "texts", "message"),
    [([[1]], [], "needs its text"), ([], [], "no samples"), ([[1]], [""], "no token")],
)
def test_samples_that_cannot_be_measured_are_refused(rows, texts, message):
    with pytest.raises(ValueError, match=message):
        sample_metrics(rows, texts, TableJudge({"": (0.0, 0)}))
