"""The limits of writing in parallel equal brute force over all groups and outcomes."""

import math

import numpy as np
import pytest
from oracle import parallel

from unison.suites.limits.closed_forms import (
    Certain,
    Limits,
    Permutation,
    Replacement,
    divergence,
    even,
    groups_of,
    latin_correlation,
    latin_one_shot,
    least_divergence,
    safe_threshold,
    sampled_threshold,
    total_correlation,
)
from unison.suites.limits.displacement import insertion, removal
from unison.suites.limits.listed import Listed, TooLargeError, listed
from unison.suites.limits.posteriors import Enumerated, Shuffled
from unison.suites.limits.recognised import limits_of

CLOSED = {
    "copy": Certain,
    "replace_random": Replacement,
    "insert_random": insertion,
    "remove_random": removal,
    "shuffle": Permutation,
    "shuffle_changed": lambda n: Permutation(n, differs=True),
}
CASES = [(family, n) for family in parallel.FAMILIES for n in (3, 4, 5)]


def uniform(right: list[tuple[int, ...]]) -> Listed:
    return Listed(np.array(right), np.full(len(right), 1 / len(right)))


def both(family: str, n: int) -> tuple[Limits, Listed, parallel.Agreement]:
    right = parallel.answers(family, n)
    return CLOSED[family](n), uniform(right), parallel.Agreement(right)


def test_published_numbers_are_reproduced():
    correlations = {
        1.2877: Replacement(5),
        1.4355: Replacement(100),
        4.7027: Permutation(5),
        11.4282: Permutation(10),
        0.0: Certain(7),
    }
    for bits, limits in correlations.items():
        assert total_correlation(limits.entropies()) == pytest.approx(bits, abs=5e-5)
    assert Replacement(5).accuracy([5]) == pytest.approx(0.4096, abs=1e-12)
    assert latin_correlation(4) == pytest.approx(32 - math.log2(576), abs=1e-12)


@pytest.mark.parametrize(("family", "n"), CASES)
def test_entropies_are_those_of_all_sets_of_items(family: str, n: int):
    closed, enumerated, oracle = both(family, n)
    exact = [oracle.mean_entropy(m) for m in range(oracle.length + 1)]
    assert closed.length == oracle.length
    assert closed.entropies() == pytest.approx(exact, abs=1e-12)
    assert enumerated.entropies() == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize(("family", "n"), CASES)
def test_accuracy_is_right_for_groups_of_any_sizes(family: str, n: int):
    closed, enumerated, oracle = both(family, n)
    for sizes in parallel.compositions(oracle.length):
        if family.startswith("shuffle") and n == 5 and max(sizes) < 2:
            continue  # one by one is always right, and slow to count
        exact = oracle.accuracy(sizes)
        assert closed.accuracy(sizes) == pytest.approx(exact, abs=1e-12)
        assert enumerated.accuracy(sizes) == pytest.approx(exact, abs=1e-12)
    assert closed.accuracy([1] * oracle.length) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("family", parallel.FAMILIES)
def test_wrong_starts_never_end_right(family: str):
    """The accuracy is that of the whole tree of outcomes, wrong branches written out."""
    right = parallel.answers(family, 3)
    oracle = parallel.Agreement(right)
    for sizes in parallel.compositions(oracle.length):
        for groups in parallel.partitions(oracle.length, sizes):
            law = parallel.written(right, groups)
            assert sum(law.values()) == 1
            exact = sum(float(law.get(y, 0)) for y in right)
            assert uniform(right).accuracy_in(groups) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize(("family", "n"), CASES)
def test_bits_lost_are_the_divergence_of_what_is_written(family: str, n: int):
    closed, enumerated, oracle = both(family, n)
    profile = closed.entropies()
    for sizes in parallel.compositions(oracle.length):
        if n == 5 and math.prod(map(math.factorial, sizes)) < 4:
            continue  # many partitions, little to see
        assert divergence(profile, sizes) == pytest.approx(oracle.mean_divergence(sizes), abs=1e-11)
    places = list(range(oracle.length))
    for groups in ([places], [places[:2], places[2:]], [places[1:], places[:1]]):
        if all(groups):
            exact = oracle.divergence(groups)
            assert enumerated.divergence_in(groups) == pytest.approx(exact, abs=1e-11)
    assert total_correlation(profile) == pytest.approx(oracle.divergence([places]), abs=1e-11)


@pytest.mark.parametrize(("family", "n"), CASES)
def test_the_best_sizes_lose_least_and_more_steps_never_lose_more(family: str, n: int):
    closed, enumerated, oracle = both(family, n)
    profile, so_far = closed.entropies(), math.inf
    for steps in range(1, oracle.length + 1):
        plan = least_divergence(profile, steps)
        every = [s for s in parallel.compositions(oracle.length) if len(s) == steps]
        assert plan.sizes in every
        assert plan.bits == pytest.approx(min(divergence(profile, s) for s in every), abs=1e-12)
        assert plan.bits <= so_far + 1e-12
        chosen = enumerated.least_divergence(steps)
        assert chosen.bits <= plan.bits + 1e-12
        so_far = plan.bits
    assert so_far == pytest.approx(0, abs=1e-12)


def test_choosing_positions_spares_bits_where_positions_differ():
    """Brute force over all choices of two groups for an insertion."""
    oracle = parallel.Agreement(parallel.answers("insert_random", 4))
    exact = min(
        oracle.divergence(groups)
        for sizes in parallel.compositions(5)
        if len(sizes) == 2
        for groups in parallel.partitions(5, sizes)
    )
    plan = uniform(parallel.answers("insert_random", 4)).least_divergence(2)
    assert plan.bits == pytest.approx(exact, abs=1e-12)
    assert plan.bits < least_divergence(insertion(4).entropies(), 2).bits - 0.5


def test_the_worked_example_takes_two_groups():
    assert least_divergence(Permutation(5).entropies(), 2).sizes in {(2, 3), (3, 2)}
    assert least_divergence(Certain(4).entropies(), 4).sizes == (1, 1, 1, 1)


@pytest.mark.parametrize(("family", "n"), CASES)
def test_the_accuracy_is_at_least_two_to_the_bits_lost(family: str, n: int):
    closed, _, oracle = both(family, n)
    profile = closed.entropies()
    for sizes in parallel.compositions(oracle.length):
        assert closed.accuracy(sizes) >= 2 ** -divergence(profile, sizes) - 1e-12
    if family in ("replace_random", "shuffle"):  # all right answers equally likely to be written
        assert closed.accuracy([n]) == pytest.approx(2 ** -total_correlation(profile), abs=1e-12)


@pytest.mark.parametrize(("family", "n"), [*CASES, ("shuffle_changed", 2), ("replace_random", 2)])
def test_greedy_at_once_is_right_or_wrong_as_counted(family: str, n: int):
    closed, enumerated, _ = both(family, n)
    exact = float(parallel.greedy(parallel.answers(family, n)))
    assert closed.greedy() == exact
    assert enumerated.greedy() == exact


@pytest.mark.parametrize("n", [3, 5, 8, 15])
def test_one_shot_formulas_hold(n: int):
    changed = Permutation(n, differs=True).accuracy([n])
    own, other = math.factorial(n - 1) - 1, math.factorial(n - 1)
    fixed = [math.comb(n, f) * round_derangements(n - f) for f in range(n)]
    exact = sum(c * own**f * other ** (n - f) for f, c in enumerate(fixed))
    assert Replacement(n).accuracy([n]) == pytest.approx((1 - 1 / n) ** (n - 1), rel=1e-12)
    assert Permutation(n).accuracy([n]) == pytest.approx(math.factorial(n) / n**n, rel=1e-11)
    assert changed == pytest.approx(exact / (math.factorial(n) - 1) ** n, rel=1e-10)
    assert insertion(n).accuracy([n + 1]) == pytest.approx(
        math.factorial(n) * 2**n / (n + 1) ** (n + 1), rel=1e-12
    )
    assert removal(n).accuracy([n - 1]) == pytest.approx(
        math.factorial(n - 1) * 2 ** (n - 1) / n ** (n - 1), rel=1e-12
    )


def round_derangements(n: int) -> int:
    return sum((-1) ** j * math.factorial(n) // math.factorial(j) for j in range(n + 1))


def test_a_model_that_does_not_know_the_rule_is_another_one():
    """(n! - 1) / n^n grades plain shuffles by the rule; a perfect model does better at n = 3."""
    assert Permutation(3, differs=True).accuracy([3]) == pytest.approx(28 / 125, abs=1e-12)
    assert 28 / 125 > 5 / 27


def test_long_lists_neither_overflow_nor_lose_precision():
    bits = [total_correlation(Replacement(n).entropies()) for n in (10, 1000, 100_000)]
    assert bits[0] < bits[1] < bits[2] < math.log2(math.e)
    assert bits[2] == pytest.approx(math.log2(math.e), abs=1e-4)
    assert total_correlation(Permutation(10_000).entropies()) == pytest.approx(
        10_000 * math.log2(math.e) - math.log2(2 * math.pi * 10_000) / 2, abs=1e-4
    )
    assert Permutation(2000).accuracy([1] * 2000) == pytest.approx(1, abs=1e-9)
    assert Permutation(100, differs=True).accuracy(groups_of(100, 2)) == pytest.approx(
        Permutation(100).accuracy(groups_of(100, 2)), rel=1e-9
    )
    assert removal(40).accuracy([1] * 39) == pytest.approx(1, abs=1e-9)


def test_sizes_are_divided_as_strategies_divide_them():
    assert groups_of(5, 2) == (2, 2, 1)
    assert groups_of(4, 9) == (4,)
    assert even(7, 3) == (3, 2, 2)
    assert even(3, 5) == (1, 1, 1)


@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize("family", ["replace_random", "shuffle", "shuffle_changed"])
def test_the_greedy_threshold_rule_is_right_above_its_bound_alone(family: str, n: int):
    right = parallel.answers(family, n)
    bound = safe_threshold(CLOSED[family](n))
    assert bound == pytest.approx((n - 1) / n if family == "replace_random" else 0.5)
    for threshold in np.linspace(0.05, 1, 39):
        exact = parallel.by_threshold(right, float(threshold), drawn=False)
        assert exact == float(threshold > bound)
    assert parallel.by_threshold(right, bound, drawn=False, strictly=True) == 1
    assert parallel.by_threshold(right, bound - 1e-6, drawn=False, strictly=True) == 0


@pytest.mark.parametrize("n", [3, 4])
@pytest.mark.parametrize("family", ["replace_random", "shuffle"])
def test_the_drawn_threshold_rule_is_right_as_often_as_counted(family: str, n: int):
    right = parallel.answers(family, n)
    for threshold in (0.1, 0.24, 0.26, 0.4, 0.51, 0.6, 0.7, 0.74, 0.76, 0.9):
        exact = parallel.by_threshold(right, threshold, drawn=True)
        assert sampled_threshold(CLOSED[family](n), threshold) == pytest.approx(exact, abs=1e-12)


def test_latin_squares_by_enumeration():
    squares = uniform(parallel.latin())
    rows = [range(4 * i, 4 * i + 4) for i in range(4)]
    assert squares.divergence_in([range(16)]) == pytest.approx(latin_correlation(4), abs=1e-9)
    assert squares.accuracy([16]) == pytest.approx(latin_one_shot(4), rel=1e-9)
    oracle = parallel.Agreement(parallel.latin())
    assert squares.accuracy_in(rows) == pytest.approx(oracle.chances(rows).sum(), rel=1e-9)
    assert squares.divergence_in(rows) == pytest.approx(oracle.divergence(rows), abs=1e-9)


def test_answers_of_unequal_chances_are_weighed():
    """Two bits that agree with probability 3/4, and a third that is their sum."""
    answers = np.array([[0, 0, 0], [1, 1, 0], [0, 1, 1], [1, 0, 1]])
    law = Listed(answers, np.array([0.5, 0.25, 0.125, 0.125]))

    def bits(*chances: float) -> float:
        return -sum(p * math.log2(p) for p in chances)

    single = bits(0.625, 0.375), bits(0.625, 0.375), bits(0.75, 0.25)
    whole = bits(0.5, 0.25, 0.125, 0.125)
    assert law.entropies() == pytest.approx([0, sum(single) / 3, whole, whole], abs=1e-12)
    marginals = [0.625**2 * 0.75, 0.375**2 * 0.75, 0.625 * 0.375 * 0.25, 0.375 * 0.625 * 0.25]
    assert law.accuracy([3]) == pytest.approx(sum(marginals), abs=1e-12)
    assert law.greedy() == 1
    found = listed(_Weighed(answers, law.chances))
    assert sorted(map(tuple, found.answers)) == sorted(map(tuple, answers))
    assert sorted(found.chances) == pytest.approx([0.125, 0.125, 0.25, 0.5], abs=1e-12)


class _Weighed:
    length, size = 3, 2

    def __init__(self, answers: np.ndarray, chances: np.ndarray) -> None:
        self._answers, self._chances = answers, chances

    def belief(self, items: np.ndarray) -> np.ndarray:
        agree = ((items[:, None] < 0) | (items[:, None] == self._answers)).all(-1)
        weight = agree * self._chances
        hot = np.eye(2)[self._answers]
        return np.einsum("ba,alv->blv", weight, hot) / weight.sum(1)[:, None, None]

    def right(self, items: np.ndarray) -> np.ndarray:
        return (items[:, None] == self._answers).all(-1).any(-1)


@pytest.mark.parametrize("family", parallel.FAMILIES)
def test_a_closed_form_is_recognised_in_the_law_of_a_task(family: str):
    right = parallel.answers(family, 5)
    law = Shuffled(5, changed=family != "shuffle") if "shuffle" in family else None
    found = limits_of(law or Enumerated.of(right))
    assert found == CLOSED[family](5)


def test_a_law_without_closed_form_is_enumerated():
    palindromes = [(a, b, a) for a in range(2) for b in range(3)]
    found = limits_of(Enumerated.of(palindromes))
    assert isinstance(found, Listed)
    assert total_correlation(found.entropies()) == pytest.approx(1, abs=1e-12)
    unnamed = limits_of(parallel.Counted(palindromes))
    assert unnamed.entropies() == pytest.approx(found.entropies(), abs=1e-12)


def test_what_is_too_large_says_so():
    with pytest.raises(TooLargeError, match="more than 100 answers"):
        listed(Shuffled(6), most=100)
    squares = uniform(parallel.latin())
    with pytest.raises(TooLargeError, match="draw instead"):
        squares.accuracy(groups_of(16, 2))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Replacement(3).accuracy([2, 2]), "sum to 3"),
        (lambda: Permutation(3).accuracy([3, 0]), "positive"),
        (lambda: Permutation(1, differs=True), "at least 2"),
        (lambda: groups_of(3, 0), "size must be at least 1"),
        (lambda: even(3, 0), "steps must be at least 1"),
        (lambda: least_divergence(Replacement(3).entropies(), 4), "1 to 3 steps"),
        (lambda: latin_correlation(9), "orders 1, 2, 3"),
        (lambda: sampled_threshold(Permutation(3, differs=True), 0.5), "given order"),
        (lambda: uniform([(0, 1)]).accuracy_in([[0]]), "each of 2 positions once"),
        (lambda: Listed(np.zeros((1, 2), int), np.array([0.5])), "sum to 1"),
    ],
)
def test_misuse_is_refused_in_words(call, said: str):
    with pytest.raises(ValueError, match=said):
        call()
