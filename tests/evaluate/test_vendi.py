"""Vendi scores are the Hill numbers of the kernel's eigenvalues; twins are counted as they are."""

import itertools
import math

import numpy as np
import pytest
from scipy.sparse import csr_array

from unison.evaluate.duplicates import distinct, duplicates, near_duplicates
from unison.evaluate.features import Grams, coordinates, cosine, find, gram_counts, jaccard
from unison.evaluate.vendi import spectrum, spectrum_of, vendi, vendi_two, vendi_two_of

ORDERS = [0.0, 1e-9, 0.3, 0.5, 0.999, 1 - 1e-9, 1.0, 1 + 1e-12, 1.4, 1.6, 2.0, 7.5, 300.0, math.inf]


def hill(kernel, q):
    """The definition, with eigenvalues of the kernel over n, in extended precision."""
    values = np.linalg.eigvalsh(kernel / len(kernel)).astype(np.longdouble)
    values = values[values > 1e-13]
    if q == 0:
        return len(values)
    if q == math.inf:
        return float(1 / values.max())
    if abs(q - 1) < 1e-8:  # the next term of the expansion is below 1e-8 of the distance
        return float(np.exp(-(values * np.log(values)).sum()))
    scaled = (values / values.max()) ** np.longdouble(q)
    logarithm = q * np.log(values.max()) + np.log(scaled.sum())
    return float(np.exp(logarithm / (1 - np.longdouble(q))))


def points(seed, n=9, d=4):
    x = np.random.default_rng(seed).normal(size=(n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("q", ORDERS)
@pytest.mark.parametrize(("n", "d"), [(9, 4), (5, 12), (6, 6)])
def test_scores_of_every_order_equal_the_definition(q, n, d):
    x = points(n + d, n, d)
    wanted = hill(x @ x.T, q)
    tolerance = 1e-7 if 0 < abs(q - 1) < 1e-8 else 1e-9
    assert vendi(spectrum(x @ x.T), q).value == pytest.approx(wanted, rel=tolerance)
    assert vendi(spectrum_of(x), q).value == pytest.approx(wanted, rel=tolerance)
    assert vendi(spectrum_of(csr_array(x)), q).value == pytest.approx(wanted, rel=tolerance)


@pytest.mark.parametrize("q", ORDERS)
def test_texts_with_nothing_in_common_count_in_full_and_equal_ones_once(q):
    assert vendi(spectrum(np.eye(6)), q).value == pytest.approx(6, abs=1e-9)
    assert vendi(spectrum(np.ones((6, 6))), q).value == pytest.approx(1, abs=1e-9)
    assert vendi(spectrum(np.ones((1, 1))), q).value == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("s", [0.0, 0.2, 0.9, 1 - 1e-9])
def test_two_texts_have_the_closed_form(s):
    # Eigenvalues (1 + s) / 2 and (1 - s) / 2.
    large, small = (1 + s) / 2, (1 - s) / 2
    of = spectrum(np.array([[1, s], [s, 1]]))
    shannon = math.exp(-large * math.log(large) - small * math.log(small))
    assert vendi(of).value == pytest.approx(shannon, rel=1e-9)
    assert vendi(of, 2.0).value == pytest.approx(2 / (1 + s * s), rel=1e-9)
    assert vendi(of, 0.5).value == pytest.approx((large**0.5 + small**0.5) ** 2, rel=1e-9)
    assert vendi(of, math.inf).value == pytest.approx(2 / (1 + s), rel=1e-9)


def test_scores_do_not_grow_with_their_order_and_stay_between_one_and_n():
    for seed in range(20):
        of = spectrum_of(points(seed, 12, 5))
        scores = [vendi(of, q).value for q in ORDERS]
        assert all(a >= b - 1e-9 for a, b in itertools.pairwise(scores))
        assert scores[-1] >= 1
        assert scores[0] == 5


def test_the_limits_at_order_one_are_approached_from_both_sides():
    of = spectrum_of(points(3))
    at = vendi(of, 1.0).value
    for distance in (1e-3, 1e-6, 1e-9, 1e-12, 1e-15):
        below, above = vendi(of, 1 - distance).value, vendi(of, 1 + distance).value
        assert above <= at + 1e-12
        assert below >= at - 1e-12
        assert below - above == pytest.approx(0, abs=10 * distance + 1e-12)


def test_order_neither_of_texts_nor_of_axes_matters():
    x = points(5)
    turned = x @ np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    order = np.random.default_rng(1).permutation(len(x))
    for q in ORDERS:
        wanted = vendi(spectrum_of(x), q)
        for same in (turned, x[order], 3.5 * x):
            got = vendi(spectrum_of(same), q)
            assert got.value == pytest.approx(wanted.value, abs=1e-9)
            assert got.stderr == pytest.approx(wanted.stderr, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("q", ORDERS)
def test_counted_texts_score_as_if_written_out(q):
    x, counts = points(7, 6, 9), [1, 4, 1, 2, 7, 1]
    written = np.repeat(x, counts, axis=0)
    for few, many in (
        (spectrum(x @ x.T, counts), spectrum(written @ written.T)),
        (spectrum_of(points(8, 6, 3), counts), spectrum_of(np.repeat(points(8, 6, 3), counts, 0))),
    ):
        assert vendi(few, q).value == pytest.approx(vendi(many, q).value, rel=1e-9)
        assert vendi(few, q).stderr == pytest.approx(
            vendi(many, q).stderr, rel=1e-7, abs=1e-12, nan_ok=True
        )
        assert vendi(few, q).n == 16


def test_order_two_needs_no_eigenvalues():
    x, counts = points(2, 8, 5), [3, 1, 1, 2, 1, 1, 1, 5]
    for given in (None, counts):
        wanted = vendi(spectrum(x @ x.T, given), 2.0)
        for quick in (vendi_two(x @ x.T, given), vendi_two_of(x, given)):
            assert quick.value == pytest.approx(wanted.value, rel=1e-12)
            assert quick.stderr == pytest.approx(wanted.stderr, rel=1e-9)
    assert vendi_two(x @ x.T).value == pytest.approx(64 / np.sum((x @ x.T) ** 2), rel=1e-12)


@pytest.mark.parametrize("q", [0.5, 0.9, 1.0, 1.2, 2.0, 5.0])
def test_the_error_follows_from_the_slope_in_each_texts_weight(q):
    x, counts = points(4, 7, 5), np.array([1.0, 2, 1, 1, 3, 1, 1])
    n, step = counts.sum(), 1e-6
    base = vendi(spectrum_of(x, counts), q)

    def moved(place, by):
        shares = counts / n * (1 - by)
        shares[place] += by
        return vendi(spectrum_of(x, shares * 1000), q).value

    slopes = [(moved(i, step) - moved(i, -step)) / (2 * step) for i in range(7)]
    wanted = math.sqrt(np.sum(counts * np.square(slopes)) / (n * (n - 1)))
    assert base.stderr == pytest.approx(wanted, rel=1e-6)


def test_the_error_is_the_spread_of_repeated_experiments():
    draw, kinds = np.random.default_rng(0), points(11, 12, 6)
    scores = []
    for _ in range(300):
        chosen = np.bincount((12 * draw.random(400) ** 2).astype(int), minlength=12)
        scores.append(vendi(spectrum_of(kinds[chosen > 0], chosen[chosen > 0])))
    claimed = np.mean([score.stderr for score in scores])
    # A spread of 300 draws has a relative error of 4 %; five of them are allowed.
    assert np.std([score.value for score in scores]) == pytest.approx(claimed, rel=0.2)


def test_orders_without_a_derivative_come_without_an_error():
    of = spectrum_of(points(0))
    assert math.isnan(vendi(of, 0.0).stderr)
    assert math.isnan(vendi(of, math.inf).stderr)
    assert math.isnan(vendi(spectrum(np.eye(1)), 1.0).stderr)


@pytest.mark.parametrize(
    ("kernel", "counts", "message"),
    [
        (np.eye(3)[:2], None, "square"),
        (np.array([[1.0, 0.5], [0.2, 1.0]]), None, "symmetric"),
        (2 * np.eye(2), None, "diagonal"),
        (np.array([[1.0, math.nan], [math.nan, 1.0]]), None, "finite"),
        (np.array([[1, -0.9, -0.9], [-0.9, 1, -0.9], [-0.9, -0.9, 1]]), None, "semidefinite"),
        (np.eye(2), [1], "one for each of 2"),
        (np.eye(2), [1, 0], "positive"),
        (np.zeros((0, 0)), None, "no texts"),
    ],
)
def test_matrices_that_are_no_kernels_are_refused(kernel, counts, message):
    with pytest.raises(ValueError, match=message):
        spectrum(kernel, counts)


def test_orders_and_vectors_out_of_range_are_refused():
    of = spectrum(np.eye(2))
    for q in (-0.1, math.nan):
        with pytest.raises(ValueError, match="order"):
            vendi(of, q)
    with pytest.raises(ValueError, match="Vector 1"):
        spectrum_of(np.array([[1.0], [0.0], [1.0]]))


TEXTS = ["the cat sat on the mat", "the cat sat", "", "a", "on the mat the cat", "the cat sat"]


def grams_by_hand(text, n):
    units = text.split()
    return [tuple(units[i : i + n]) for i in range(len(units) - n + 1)] or [tuple(units)]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_kernels_of_words_equal_those_of_plain_counting(n):
    counts = gram_counts([text.split() for text in TEXTS], n)
    lists = [grams_by_hand(text, n) for text in TEXTS]
    for i, j in itertools.product(range(len(TEXTS)), repeat=2):
        both = sum(lists[i].count(g) * lists[j].count(g) for g in {*lists[i]})
        norms = math.prod(
            math.sqrt(sum(w.count(g) ** 2 for g in {*w})) for w in (lists[i], lists[j])
        )
        assert cosine(counts)[i, j] == pytest.approx(both / norms, abs=1e-12)
        a, b = {*lists[i]}, {*lists[j]}
        assert jaccard(counts)[i, j] == pytest.approx(len(a & b) / len(a | b), abs=1e-12)
    assert cosine(Grams("words", n).vectors(TEXTS)) == pytest.approx(cosine(counts), abs=1e-12)


def test_texts_and_tokens_are_counted_alike():
    letters = gram_counts(["abcab", "bc"], 2)
    numbers = gram_counts([[7, 8, 9, 7, 8], [8, 9]], 2)
    assert (letters.toarray() == numbers.toarray()).all()


def test_the_jaccard_kernel_has_no_negative_eigenvalue():
    draw = np.random.default_rng(2)
    for _ in range(20):
        texts = ["".join(draw.choice(list("ab"), draw.integers(1, 12))) for _ in range(15)]
        assert np.linalg.eigvalsh(jaccard(gram_counts(texts, 2))).min() > -1e-10


def test_dense_coordinates_keep_all_inner_products():
    vectors = Grams("chars", 3).vectors(TEXTS)
    dense = coordinates(vectors)
    assert dense.shape == (6, 6)
    assert dense @ dense.T == pytest.approx(cosine(vectors), abs=1e-12)


def test_features_are_found_by_name():
    assert find("words")() == Grams("words", 2)
    assert find("chars:7")() == Grams("chars", 7)
    assert find("words:1")().name == "word 1-grams"
    for wrong, message in (
        ("word", "did you mean 'words'"),
        ("words:x", "length"),
        ("chars:0", "1"),
    ):
        with pytest.raises(ValueError, match=message):
            find(wrong)


def brute_twins(texts, near):
    have = [any(near(a, b) for j, b in enumerate(texts) if j != i) for i, a in enumerate(texts)]
    return sum(have) / len(texts)


def jaccard_by_hand(a, b, n):
    x, y = ({t[i : i + n] for i in range(len(t) - n + 1)} or {t} for t in (a, b))
    return len(x & y) / len(x | y)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 1.0])
def test_near_duplicates_are_those_of_comparing_every_pair(threshold):
    draw = np.random.default_rng(4)
    texts = ["".join(draw.choice(list("abc"), draw.integers(0, 9))) for _ in range(40)]

    def near(a, b):
        return jaccard_by_hand(a, b, 2) >= threshold

    got = near_duplicates(texts, threshold=threshold, n=2)
    assert got.value == pytest.approx(brute_twins(texts, near))
    left_out = [brute_twins(texts[:i] + texts[i + 1 :], near) for i in range(40)]
    assert got.stderr == pytest.approx(math.sqrt(39 * np.var(left_out)))


def test_duplicates_are_equal_texts_and_their_error_is_the_jackknife():
    texts = ["a", "b", "a", "c", "c", "c", "d"]
    got = duplicates(texts)
    assert got.value == pytest.approx(5 / 7)
    left_out = [brute_twins(texts[:i] + texts[i + 1 :], lambda a, b: a == b) for i in range(7)]
    assert got.stderr == pytest.approx(math.sqrt(6 * np.var(left_out)))
    assert distinct(texts) == (["a", "b", "c", "d"], [2, 1, 3, 1])
    assert math.isnan(duplicates(["a"]).stderr)


def test_more_texts_than_fit_one_comparison_are_compared_all_the_same():
    texts = [f"text number {i % 300} of a set" for i in range(310)]
    assert near_duplicates(texts, threshold=1.0).value == pytest.approx(20 / 310)


def test_one_changed_word_makes_a_near_duplicate_and_another_text_does_not():
    text = "it was a bright cold day in april and the clocks were striking thirteen"
    assert near_duplicates([text, text.replace("cold", "warm")], threshold=0.7).value == 1
    assert near_duplicates([text, text[::-1]]).value == 0
    with pytest.raises(ValueError, match="threshold"):
        near_duplicates([text], threshold=0.0)
    with pytest.raises(ValueError, match="no texts"):
        duplicates([])
