"""MAUVE is the area under the divergence curve; computing it is silent and repeatable."""

import itertools
import math
import socket

import numpy as np
import pytest

from unison.evaluate import divergence
from unison.evaluate.divergence import mauve, mauve_of_histograms

needs_mauve = pytest.mark.skipif(
    any(divergence.importlib.util.find_spec(name) is None for name in ("mauve", "faiss")),
    reason="needs the extra 'eval'",
)


def by_hand(p, q, scale=5.0, points=25):
    """The curve point by point and the trapezoids one by one, in plain Python."""
    p, q = ([x / sum(side) for x in side] for side in (p, q))
    curve = [(1.0, 0.0)]
    for i in range(points):
        w = 1e-6 + (1 - 2e-6) * i / (points - 1)
        mix = [w * a + (1 - w) * b for a, b in zip(p, q, strict=True)]
        kl_q = math.fsum(b * math.log(b / r) for b, r in zip(q, mix, strict=True) if b)
        kl_p = math.fsum(a * math.log(a / r) for a, r in zip(p, mix, strict=True) if a)
        curve.append((math.exp(-scale * kl_q), math.exp(-scale * kl_p)))
    curve.append((0.0, 1.0))

    def area(pairs):
        pairs = sorted(pairs)
        return math.fsum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(pairs))

    return (area(curve) + area([(y, x) for x, y in curve])) / 2


HISTOGRAMS = [
    ([3, 1], [1, 3]),
    ([5, 0, 2, 1], [1, 1, 0, 6]),
    ([1, 2, 3, 4, 5], [5, 4, 3, 2, 1]),
    ([0.5, 0.25, 0.25], [0.1, 0.8, 0.1]),
]


@pytest.mark.parametrize(("p", "q"), HISTOGRAMS)
def test_the_area_is_that_of_the_curve_computed_point_by_point(p, q):
    got = mauve_of_histograms(np.array(p), np.array(q))
    assert got == pytest.approx(by_hand(p, q), abs=1e-9)
    assert got == pytest.approx(mauve_of_histograms(np.array(q), np.array(p)), abs=1e-12)
    few = mauve_of_histograms(np.array(p), np.array(q), scale=1.0, points=7)
    assert few == pytest.approx(by_hand(p, q, 1.0, 7), abs=1e-9)


def test_equal_histograms_score_one_and_disjoint_ones_almost_nothing():
    same = np.array([2, 5, 0, 1])
    assert mauve_of_histograms(same, 3 * same) == pytest.approx(1, abs=1e-12)
    # Disjoint: the curve is (w^5, (1 - w)^5), with area Gamma(6)^2 / Gamma(11) = 1/252.
    apart = mauve_of_histograms(np.array([1, 0]), np.array([0, 1]), points=4001)
    assert apart == pytest.approx(1 / 252, rel=1e-4)


@pytest.mark.parametrize(
    ("p", "q", "message"),
    [([1, 2], [1], "share"), ([0, 0], [1, 1], "only zeros"), ([1, -1], [1, 1], "at least 0")],
)
def test_what_is_no_pair_of_histograms_is_refused(p, q, message):
    with pytest.raises(ValueError, match=message):
        mauve_of_histograms(np.array(p), np.array(q))


def clouds(shift, n=60, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, 5)), draw.normal(size=(n, 5)) + shift


@needs_mauve
def test_the_librarys_number_is_the_area_of_its_own_histograms():
    human, model = clouds(0.7)
    found = divergence._compute()(p_features=human, q_features=model, num_buckets=6, seed=3)
    got = mauve(human, model, buckets=6, seed=3)
    assert got.value == pytest.approx(float(found.mauve), abs=1e-12)
    assert got.value == pytest.approx(by_hand(list(found.p_hist), list(found.q_hist)), abs=1e-9)
    assert got[2:] == (120, "MAUVE")


@needs_mauve
def test_the_error_is_the_jackknife_over_texts_with_buckets_held():
    human, model = clouds(1.0, n=40)
    found = divergence._compute()(p_features=human, q_features=model, num_buckets=5, seed=0)
    p, q = (np.rint(40 * side) for side in (found.p_hist, found.q_hist))

    def leave_one_out(counts, measure):
        values = [
            measure(list(counts - np.eye(len(counts))[k]))
            for k in range(len(counts))
            for _ in range(int(counts[k]))
        ]
        return 39 / 40 * sum((v - np.mean(values)) ** 2 for v in values)

    variance = leave_one_out(p, lambda few: by_hand(few, list(q)))
    variance += leave_one_out(q, lambda few: by_hand(list(p), few))
    assert mauve(human, model, buckets=5).stderr == pytest.approx(math.sqrt(variance), rel=1e-6)


@needs_mauve
def test_equal_sets_score_one_apart_sets_almost_nothing_and_the_rest_lies_between():
    human, _ = clouds(0.0)
    assert mauve(human, human[::-1].copy()).value == pytest.approx(1, abs=1e-9)
    assert mauve(human, human).stderr < 0.05
    apart = mauve(np.eye(2)[[0] * 30], np.eye(2)[[1] * 30], buckets=2)
    assert apart.value == pytest.approx(by_hand([1, 0], [0, 1]), abs=1e-9)
    assert apart.stderr == 0
    scores = [mauve(*clouds(shift)).value for shift in (0.0, 1.0, 4.0)]
    assert scores == sorted(scores, reverse=True)
    assert 0.9 < scores[0] <= 1
    assert scores[2] < 0.1


@needs_mauve
def test_texts_that_features_cannot_tell_apart_score_one():
    assert mauve(np.ones((4, 3)), 2 * np.ones((5, 3)))[:3] == (1.0, 0.0, 9)


@needs_mauve
def test_it_is_repeatable_silent_and_offline(capfd, monkeypatch):
    def no_network(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    human, model = clouds(0.5)
    first = mauve(human, model, seed=4)
    assert mauve(human, model, seed=4) == first
    assert capfd.readouterr() == ("", "")
    print("seen", flush=True)
    assert capfd.readouterr().out == "seen\n"


@pytest.mark.parametrize("package", ["mauve", "faiss"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, package):
    find = divergence.importlib.util.find_spec
    monkeypatch.setattr(
        divergence.importlib.util, "find_spec", lambda n: None if n == package else find(n)
    )
    with pytest.raises(ValueError, match=r"pip install 'unison\[eval\]'"):
        mauve(*clouds(0.0))


@needs_mauve
@pytest.mark.parametrize(
    ("human", "model", "buckets", "message"),
    [
        (np.ones((3, 2)), np.ones((3, 4)), None, "same features"),
        (np.ones((0, 2)), np.ones((3, 2)), None, "two sets"),
        (np.ones((3, 2)), np.ones((3, 2)), 1, "2 to 6 buckets"),
        (np.ones((3, 2)), np.ones((3, 2)), 7, "2 to 6 buckets"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(human, model, buckets, message):
    with pytest.raises(ValueError, match=message):
        mauve(human, model, buckets=buckets)
