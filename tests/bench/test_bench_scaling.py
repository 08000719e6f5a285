"""The section on more tries says what the answers say, and what no law can tell."""

import itertools
from collections import Counter

import numpy as np
import pytest

from unison.bench.record import Answer, Asked, Interval, Result
from unison.bench.theory import tries as scaling
from unison.evaluate.scaling import Verifier

ASKED = Asked("runs/small", "copy:items=5", "ancestral")


def section(results, answers, verifier=scaling.LENIENT):
    return scaling.section(results, answers, verifier, resamples=15)


def answer(problem, sample, read, right, confidence=None, score=None):
    worth = float(right) if score is None else score
    return Answer(problem, sample, "", read, read, worth, "", 4, 8, confidence)


def done(asked=ASKED, samples=4):
    return Result(asked, "done", samples=samples, accuracy=Interval(0.5, 0.4, 0.6, 9))


def written(rates, samples, seed=0, confident=True):
    """Answers at given solve rates, with wrong ones of three kinds."""
    rng = np.random.default_rng(seed)
    return [
        answer(
            f"p{i:03}",
            j,
            "right" if right else f"wrong {rng.integers(3)}",
            right,
            float(rng.normal() + right) if confident else None,
        )
        for i, rate in enumerate(rates)
        for j, right in enumerate(rng.random(samples) < rate)
    ]


@pytest.fixture
def panels(monkeypatch):
    """What is drawn, without drawing it."""
    seen = {}

    def keep(name, drawn, caption, alt):
        seen[name] = (drawn, caption, alt)
        return ()

    monkeypatch.setattr(scaling, "figures", keep)
    return seen


def cells(table, row=0):
    return dict(zip(table.columns, table.rows[row], strict=True))


def share(text):
    return float(text.split(" ")[0])


def test_nothing_is_said_where_nothing_was_tried_twice(panels):
    once = [answer("p1", 0, "a", True), answer("p2", 0, "a", False)]
    assert section([done(samples=1)], lambda _: once) is None
    assert section([Result(ASKED, "failed", "why", samples=4)], lambda _: once) is None
    assert section([done()], lambda _: []) is None
    assert section([done()], lambda _: once) is None
    assert section([], lambda _: once) is None
    twice = [answer("p1", j, "a", True) for j in range(2)]
    assert section([Result(ASKED, "done", samples=2)], lambda _: twice) is None  # not graded
    assert panels == {}


def mean_over_subsets(answers, k, choose):
    """The mean over problems and over all k-subsets of each one's tries."""
    by_problem = {}
    for one in answers:
        by_problem.setdefault(one.problem, []).append(one)
    means = [
        np.mean([choose(some) for some in itertools.combinations(tries, k)])
        for tries in by_problem.values()
    ]
    return 100 * float(np.mean(means))


def majority(some):
    votes = Counter(one.read for one in some)
    top = max(votes.values())
    tied = {read for read, count in votes.items() if count == top}
    return np.mean([next(o.score for o in some if o.read == read) for read in tied])


def test_measured_columns_are_means_over_all_subsets(panels):
    rates = np.random.default_rng(1).beta(0.6, 1.2, 12)
    answers = written(rates, 6)
    found = section([done(samples=6)], lambda _: answers[::-1])  # the order is no matter
    row = cells(found.tables[0])
    chosen = {
        "pass@1": (1, lambda some: some[0].score),
        "pass@n": (6, lambda some: max(o.score for o in some)),
        "all n right": (6, lambda some: min(o.score for o in some)),
        "majority of n": (6, majority),
        "most confident of n": (6, lambda some: max(some, key=lambda o: o.confidence).score),
    }
    assert row["n"] == "6"
    assert [row["model"], row["task"], row["strategy"]] == ["small", "copy:items=5", "ancestral"]
    for column, (k, choose) in chosen.items():
        assert share(row[column]) == pytest.approx(mean_over_subsets(answers, k, choose), abs=0.051)

    (panel,) = panels["tries-copy-items-5-1"][0]
    curves = {curve.label: curve for curve in panel.curves}
    assert list(curves["majority"].x) == [1, 2, 4]
    for label, choose in (
        ("majority", majority),
        ("coverage", chosen["pass@n"][1]),
        ("most confident", chosen["most confident of n"][1]),
    ):
        want = [mean_over_subsets(answers, k, choose) for k in (1, 2, 4)]
        assert curves[label].y == pytest.approx(want, abs=1e-9)
        assert min(curves[label].error) > 0


def test_the_verifier_is_the_one_that_is_named(panels):
    answers = written([0.5] * 8, 4)
    found = section([done()], lambda _: answers, Verifier(0.75, 0.5))
    row = cells(found.tables[1])
    assert "75 % of the right tries and 50 % of the wrong" in " ".join(found.paragraphs)

    def judged(wanted):
        def choose(some):
            total, orders = 0.0, list(itertools.permutations(some))
            for order in orders:
                waiting = 1.0
                for one in order:
                    taken = waiting * (0.75 if one.score else 0.5)
                    total += taken * (one.score == wanted) / len(orders)
                    waiting -= taken
            return total

        return choose

    for column, wanted in (("accepted, right", 1.0), ("accepted, wrong", 0.0)):
        want = mean_over_subsets(answers, 4, judged(wanted))
        assert share(row[column]) == pytest.approx(want, abs=0.051)


def test_measured_and_simulated_curves_stand_on_one_plot_with_their_laws(panels):
    rates = np.random.default_rng(2).beta(0.5, 1.5, 40)
    section([done(samples=8)], lambda _: written(rates, 8))
    (panel,), caption, _ = panels["tries-copy-items-5-1"]
    measured = [curve.label for curve in panel.curves if curve.marked]
    laws = [curve for curve in panel.curves if not curve.marked]
    assert measured == ["verifier", "coverage", "majority", "most confident"]
    assert [curve.label for curve in laws] == ["power law", "Beta law", "verifier, Beta law"]
    assert all(list(curve.x) == [1, 2, 4, 8, 16, 32, 64, 128] for curve in laws)
    assert "8 tries of 40 problems" in caption
    coverage = panel.curves[1]
    for law in laws[:2]:
        assert law.y[:4] == pytest.approx(coverage.y, abs=3.0)
    assert laws[2].y[:4] == pytest.approx(panel.curves[0].y, abs=3.0)


def test_the_ceiling_and_the_best_number_are_those_of_the_planted_rates(panels):
    rates = np.random.default_rng(3).beta(0.5, 1.5, 200)
    found = section([done(samples=16)], lambda _: written(rates, 16, confident=False))
    row = cells(found.tables[1])
    value, low, high = map(float, row["ceiling"].replace("[", "").replace("]", "").replace(
        ",", "").split())  # fmt: skip
    p = (np.arange(200_000) + 0.5) / 200_000  # of p = u^2, which tames the end of the density
    density = 2 * (1 - p**2) ** 0.5
    truth = 100 * np.average(p**2 / (p**2 + 0.1 * (1 - p**2)), weights=density)
    assert low < value < high
    assert value == pytest.approx(truth, abs=8.0)
    counts = [int(n) for n in row["best number of tries"].split(", ")]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] >= 0


def test_laws_that_cannot_be_fitted_say_why(panels):
    answers = written([0.0] * 5, 4)
    found = section([done()], lambda _: answers)
    assert share(cells(found.tables[0])["pass@n"]) == 0.0
    assert cells(found.tables[1])["ceiling"].startswith("0.0 [0.0, 43.4]")  # Wilson at 0 of 5
    reasons = [row[4] for row in found.tables[2].rows]
    assert "strictly between 0 and 1" in reasons[0]
    assert "some must be right and some wrong" in reasons[1]
    (panel,) = panels["tries-copy-items-5-1"][0]
    assert all(curve.marked for curve in panel.curves)


def test_parts_of_points_are_not_right_and_a_missing_confidence_is_not_a_nought(panels):
    answers = [
        answer(f"p{i}", j, "a", False, None if (i, j) == (2, 1) else 0.0, score=0.5)
        for i in range(4)
        for j in range(3)
    ]
    found = section([done()], lambda _: answers)
    row = cells(found.tables[0])
    assert share(row["pass@n"]) == share(row["majority of n"]) == 0.0
    assert row["most confident of n"] == "—"


def test_problems_with_more_tries_are_cut_to_what_all_have(panels):
    answers = [answer("p1", j, "a", j == 2) for j in range(3)]
    answers += [answer("p2", j, "a", True) for j in range(2)]
    found = section([done()], lambda _: answers)
    row = cells(found.tables[0])
    assert row["n"] == "2"
    assert share(row["pass@n"]) == 50.0


def test_the_same_answers_give_the_same_section_and_later_results_count(panels):
    other = Asked("runs/small", "sort", "ancestral")
    answers = {
        ASKED: written([0.2, 0.8, 0.5] * 4, 4),
        other: written([0.3, 0.6] * 5, 4, seed=1),
    }
    results = [Result(ASKED, "failed", "first"), done(), done(other)]
    one, two = (section(results, answers.__getitem__) for _ in range(2))
    assert one == two
    assert [row[1] for row in one.tables[0].rows] == ["copy:items=5", "sort"]
    assert set(panels) == {"tries-copy-items-5-1", "tries-sort-2"}
    gone = section([*results, Result(other, "failed", "last")], answers.__getitem__)
    assert [row[1] for row in gone.tables[0].rows] == ["copy:items=5"]


def test_figures_are_drawn_in_every_form():
    pytest.importorskip("matplotlib", reason="needs the extra 'plot'")
    rates = np.random.default_rng(2).beta(0.5, 1.5, 20)
    found = section([done(samples=4)], lambda _: written(rates, 4))
    (figure,) = found.figures
    assert figure.png.startswith(b"\x89PNG")
    assert figure.dark.startswith(b"\x89PNG")
    assert b"<svg" in figure.svg
    assert "coverage" in figure.alt.lower()
