"""Two benches are compared only where they asked the same, and numbers say how sure they are."""

import dataclasses
import itertools
import math

import benching
import numpy as np
import pytest
from scipy import optimize, stats

from unison.bench import BenchError
from unison.bench.comparison.compare import compare, compared, content
from unison.bench.comparison.intervals import difference, holm, mcnemar, ratio, tango
from unison.bench.record import Asked

Z = 1.959963984540054


def score_statistic(delta, b, c, n):
    """Tango's statistic, the likelihood under the hypothesis maximised numerically."""

    def minus(q):
        terms = ((b, q + delta), (c, q), (n - b - c, 1 - 2 * q - delta))
        return -sum(k * math.log(max(p, 1e-300)) for k, p in terms if k)

    low, high = max(0.0, -delta), (1 - delta) / 2
    q = optimize.minimize_scalar(
        minus, bounds=(low, high), method="bounded", options={"xatol": 1e-13}
    ).x
    q = min((low, q, high), key=minus)
    return (b - c - n * delta) / math.sqrt(n * (2 * q + delta * (1 - delta)))


@pytest.mark.parametrize(
    ("b", "c", "n"), [(7, 2, 30), (0, 5, 12), (4, 0, 96), (1, 1, 10), (20, 15, 40), (0, 0, 25)]
)
def test_the_score_interval_ends_where_the_score_test_just_rejects(b, c, n):
    low, high = tango(b, c, n)
    assert low < (b - c) / n < high
    assert score_statistic(low, b, c, n) == pytest.approx(Z, abs=1e-4)
    assert score_statistic(high, b, c, n) == pytest.approx(-Z, abs=1e-4)


def test_the_score_interval_mirrors_when_the_benches_change_places():
    for b, c, n in [(7, 2, 30), (3, 0, 9), (5, 5, 10), (10, 0, 10)]:
        low, high = tango(b, c, n)
        assert tango(c, b, n) == pytest.approx((-high, -low))
        assert -1 <= low <= high <= 1


def test_even_a_clean_sweep_leaves_doubt_on_the_side_of_less():
    low, high = tango(10, 0, 10)
    assert high == 1.0
    assert low == pytest.approx((10 - Z * Z) / (10 + Z * Z))  # n(1 - d) = z sqrt(n(1 - d^2))


@pytest.mark.parametrize("n", [12, 24])
def test_the_score_interval_covers_the_truth_as_often_as_it_says(n):
    """Every outcome of a bench of n problems, weighted by its probability; nothing is drawn."""
    outcomes = [(b, c) for b in range(n + 1) for c in range(n + 1 - b)]
    intervals = np.array([tango(b, c, n) for b, c in outcomes])
    counts = np.array([(b, c, n - b - c) for b, c in outcomes])
    coverages = []
    for up, down in itertools.product((0.02, 0.1, 0.2, 0.35, 0.5), (0.02, 0.1, 0.25, 0.4)):
        weight = stats.multinomial.pmf(counts, n, [up, down, 1 - up - down])
        inside = (intervals[:, 0] <= up - down) & (up - down <= intervals[:, 1])
        coverages.append(float(weight @ inside))
    assert min(coverages) > 0.935
    assert 0.95 < np.mean(coverages) < 0.975


def test_mcnemar_counts_the_splits_that_are_as_uneven():
    for better, worse in itertools.product(range(6), range(6)):
        gap, total = abs(better - worse), better + worse
        flips = itertools.product((1, -1), repeat=total)
        share = sum(abs(sum(signs)) >= gap for signs in flips) / 2**total
        assert mcnemar(better, worse) == pytest.approx(share)


def test_holm_agrees_with_testing_every_set_of_hypotheses():
    for p in ([0.01, 0.04, 0.03, 0.005], [0.2, 0.2], [0.9, 0.001, 0.5], [0.6]):
        sets = [
            s for size in range(1, len(p) + 1) for s in itertools.combinations(range(len(p)), size)
        ]
        closed = [
            max(min(1.0, len(s) * min(p[j] for j in s)) for s in sets if i in s)
            for i in range(len(p))
        ]
        assert holm(p) == pytest.approx(closed)


def test_scores_between_0_and_1_get_students_interval():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 40) / 4, rng.integers(0, 5, 40) / 4
    found = difference(a.tolist(), b.tolist())
    test = stats.ttest_rel(b, a)
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert found.p == pytest.approx(test.pvalue)
    assert found.method == "Student, paired"


def test_scores_that_never_differ_do_not_make_a_difference_certain():
    for scores in ([0.5] * 20, [1.0] * 20, [0.25, 0.75]):
        found = difference(scores, scores)
        assert found.low < 0 < found.high
        assert (found.value, found.p) == (0, 1)


def test_partial_scores_too_few_for_student_get_an_interval_that_holds_his():
    a, b = [0.5, 0.25, 0.75, 0.5, 0.0], [0.75, 0.5, 0.75, 0.25, 0.5]
    found, student = difference(a, b), stats.ttest_rel(b, a).confidence_interval(0.95)
    assert found.method.startswith("Tango")
    assert found.low < student.low
    assert found.high > student.high


def test_a_ratio_of_paired_means_has_the_interval_that_resampling_finds():
    rng = np.random.default_rng(1)
    hard = rng.gamma(4.0, size=400)
    a, b = hard * rng.uniform(0.9, 1.1, 400), 2 * hard * rng.uniform(0.8, 1.2, 400)
    found = ratio([b.tolist()], [a.tolist()])
    picks = rng.integers(0, 400, (4000, 400))
    low, high = np.quantile(b[picks].sum(1) / a[picks].sum(1), [0.025, 0.975])
    assert found.value == pytest.approx(b.sum() / a.sum())
    assert (found.low, found.high) == pytest.approx((low, high), rel=2e-3)
    assert high - low < 0.1 * found.value  # what is hard for both cancels


def test_ratios_of_nothing_are_not_numbers_and_of_one_unit_have_no_interval():
    assert math.isnan(ratio([[0.0, 0.0]], [[1.0, 2.0]]).value)
    assert math.isnan(ratio([[1.0]], [[0.0]]).value)
    one = ratio([[6.0]], [[3.0]])
    assert one.value == 2.0
    assert math.isnan(one.low)


A_SCORES = [0, 0, 0, 1, 1, 1, 0, 1, 0, 0, 1, 0]
B_SCORES = [1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 1]


def cell(model="runs/m", task="copy", way="threshold", scores=A_SCORES, nfe=8, **changes):
    answers = benching.answers_of(scores, nfe=nfe, task="copy")
    return benching.done(Asked(model, task, way), answers, **changes), answers


def benches(tmp_path, a, b):
    return (
        benching.write_bench(tmp_path / "a", a, size=4),
        benching.write_bench(tmp_path / "b", b, size=4),
    )


def test_a_difference_is_told_with_its_interval_its_test_and_its_price(tmp_path):
    folders = benches(tmp_path, [cell()], [cell(scores=B_SCORES, nfe=4, seconds=1.0)])
    comparison = compare(*folders)
    [found] = comparison.compared
    assert comparison.how == "Cells are paired by task, model and strategy."
    assert found.score.value == pytest.approx(4 / 12)
    assert (found.score.better, found.score.worse) == (5, 1)
    assert (found.score.low, found.score.high) == pytest.approx(tango(5, 1, 12))
    assert found.score.p == pytest.approx(2 * 7 / 64)
    assert found.nfe == pytest.approx((0.5, 0.5, 0.5))
    assert found.speed == pytest.approx((2.0, 2.0, 2.0))
    assert found.incomparable == []


def test_several_texts_of_a_problem_count_once(tmp_path):
    def sampled(scores):
        answers = [
            benching.answer(f"copy/{i}", s, sample=n)
            for i, both in enumerate(scores)
            for n, s in enumerate(both)
        ]
        return benching.done(Asked("m", "copy", "s"), answers), answers

    folders = benches(tmp_path, [sampled([(0, 1)] * 12)], [sampled([(1, 1)] * 3 + [(0, 1)] * 9)])
    [found] = compare(*folders).compared
    assert found.score.n == 12
    assert found.score.value == pytest.approx(0.125)


def test_probabilities_are_corrected_for_the_number_of_pairs(tmp_path):
    ways = ("x", "y", "z")
    folders = benches(
        tmp_path,
        [cell(way=way) for way in ways],
        [cell(way=way, scores=B_SCORES) for way in ways],
    )
    for found in compare(*folders).compared:
        assert found.adjusted == pytest.approx(3 * found.score.p)


@pytest.mark.parametrize(
    ("a", "b", "pairs", "how"),
    [
        ([("m", "s"), ("m", "t")], [("m", "s"), ("m", "u")], {("m", "s", "m", "s")}, "strategy."),
        (
            [("m", "s"), ("m", "t")],
            [("n", "s"), ("n", "t")],
            {("m", "s", "n", "s"), ("m", "t", "n", "t")},
            "by task and strategy; each bench has one model.",
        ),
        (
            [("m", "s"), ("n", "s")],
            [("m", "t"), ("n", "t")],
            {("m", "s", "m", "t"), ("n", "s", "n", "t")},
            "by task and model; each bench has one strategy.",
        ),
        (
            [("m", "s")],
            [("n", "t")],
            {("m", "s", "n", "t")},
            "by task; each bench has one model and one strategy.",
        ),
        (
            [("x/m", "s"), ("x/n", "s")],
            [("y/n", "s"), ("y/m", "s")],
            {("x/m", "s", "y/m", "s"), ("x/n", "s", "y/n", "s")},
            "last part of the model's path",
        ),
        ([("m", "s"), ("n", "s")], [("o", "s"), ("p", "s")], set(), "model and strategy."),
        ([("x/m", "s"), ("y/m", "s")], [("z/m", "s")], set(), "model and strategy."),
    ],
)
def test_cells_are_paired_by_what_the_benches_share(tmp_path, a, b, pairs, how):
    folders = benches(tmp_path, [cell(model=m, way=s) for m, s in a],
                      [cell(model=m, way=s) for m, s in b])  # fmt: skip
    comparison = compare(*folders)
    found = {
        tuple(getattr(side.asked, n) for side in p.cells for n in ("model", "strategy"))
        for p in comparison.compared
    }
    assert found == pairs
    assert how in comparison.how
    assert len(comparison.left) == len(a) + len(b) - 2 * len(pairs)
    assert all("did not ask this model and strategy" in left.reason for left in comparison.left)


def skipped(result_and_answers):
    result, _ = result_and_answers
    empty = dataclasses.replace(result, status="skipped", reason="it is too short", accuracy=None)
    return empty, []


@pytest.mark.parametrize(
    ("b", "reason"),
    [
        (cell(seed=7), "other seed: 0 in A, 7 in B; run both with one --seed"),
        (cell(prompts_sha256="f" * 64), "other prompts: 12 problems with hash"),
        (cell(task="sort"), "B has no task 'copy'"),
        (skipped(cell()), "skipped in B: it is too short"),
        (cell(accuracy=None), "judged as a whole"),
        (
            (cell()[0], cell(scores=A_SCORES[:9])[1]),
            "B has no answers to 3 of 12 (copy/0009, copy/0010, copy/0011)",
        ),
        ((cell()[0], []), "B has no answers to 12 of 12 (copy/0000, copy/0001, copy/0002, …)"),
    ],
)
def test_cells_that_asked_something_else_are_listed_with_the_reason(tmp_path, b, reason):
    folders = benches(tmp_path, [cell()], [b])
    comparison = compare(*folders)
    assert not comparison.compared
    assert reason in comparison.left[0].reason
    [section] = compared(*folders).sections
    assert section.heading == "Not paired"
    assert reason in section.tables[0].rows[0][-1]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 4}, ["batch_size"]),
        ({"environment": benching.ENVIRONMENT | {"load": [3.2, 0, 0]}}, ["load"]),
        ({"environment": benching.ENVIRONMENT | {"load": [0.9, 0, 0]}}, []),
        ({"environment": benching.ENVIRONMENT | {"git": {"commit": "9", "clean": False}}}, []),
        (
            {"environment": benching.ENVIRONMENT | {"machine": {"threads": 64, "gpus": ["H200"]}}},
            ["machine.platform", "machine.processor", "machine.threads", "machine.gpus"],
        ),
    ],
)
def test_speeds_count_as_comparable_only_on_the_same_machine_in_the_same_state(
    tmp_path, changes, named
):
    folders = benches(tmp_path, [cell()], [cell(**changes)])
    [found] = compare(*folders).compared
    assert list(found.incomparable) == named
    costs = next(s for s in compared(*folders).sections if s.heading == "What it costs")
    assert costs.tables[0].rows[0][-1] == (f"no: other {', '.join(named)}" if named else "yes")


def test_every_setting_that_differs_is_listed_with_both_values(tmp_path):
    result, answers = cell(settings={"temperature": 0.7, "cache": "dual"})
    other = dataclasses.replace(result, model=result.model | {"weights_sha256": "beef"})
    [found] = compare(*benches(tmp_path, [cell()], [(other, answers)])).compared
    assert found.differing["settings.temperature"] == ("0", "0.7")
    assert found.differing["settings.cache"] == ("none", "dual")
    assert found.differing["model.weights_sha256"][1] == "beef"
    assert "model.dtype" not in found.differing


def test_batches_of_other_sizes_leave_a_ratio_of_speeds_without_interval(tmp_path):
    a = benching.write_bench(tmp_path / "a", [cell()], size=4)
    b = benching.write_bench(tmp_path / "b", [cell(seconds=1.0)], size=6)
    [found] = compare(a, b).compared
    assert found.speed.value == pytest.approx(2.0)
    assert math.isnan(found.speed.low)


def test_a_bench_does_not_differ_from_itself(tmp_path):
    folder = benching.write_bench(tmp_path / "a", [cell(), cell(task="sort")])
    comparison = compare(folder, folder)
    assert [c.score.value for c in comparison.compared] == [0, 0]
    assert not comparison.left
    assert not any(c.differing for c in comparison.compared)
    text = str(compared(folder, folder))
    assert "Nothing that was recorded differs" in text


def test_the_json_document_says_the_same_as_the_report(tmp_path):
    folders = benches(tmp_path, [cell(), cell(way="x")], [cell(scores=B_SCORES)])
    told = content(compare(*folders))
    [row] = told["differences"]
    assert row["score"]["value"] == pytest.approx(4 / 12)
    assert row["a"] == {"model": "runs/m", "task": "copy", "strategy": "threshold"}
    assert told["unpaired"][0]["strategy"] == "x"
    difference_row = compared(*folders).sections[0].tables[0].rows[0]
    assert difference_row[5].startswith("+33.3 [")


def test_a_folder_that_is_no_bench_is_refused_by_name(tmp_path):
    folder = benching.write_bench(tmp_path / "a", [cell()])
    with pytest.raises(BenchError, match=r"nothing holds no results\.jsonl; it is not the folder"):
        compared(folder, tmp_path / "nothing")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "results.jsonl").write_text("{]\n")
    with pytest.raises(BenchError, match=r"results\.jsonl:1 is damaged"):
        compared(tmp_path / "broken", folder)
