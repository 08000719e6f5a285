"""A report's section on limits says what can be had, what was had, and in which unit."""

import pytest
from oracle import parallel

from unison.bench.record import Asked, Interval, Result
from unison.bench.theory.ideal import strategy_spelt
from unison.bench.theory.limits import limit, measured, perfect, section
from unison.suites.limits.posteriors import Enumerated
from unison.suites.puzzles.waiting_line import WaitingLine
from unison.types import Estimate

TASK = WaitingLine("replace_random")


def cell(task: str, nfe: float, *, model: str = "runs/tiny", status: str = "done") -> Result:
    done = status == "done"
    return Result(
        Asked(model, task, "llada"),
        status,  # pyright: ignore
        accuracy=Interval(0.5, 0.4, 0.6, 100) if done else None,
        nfe=Estimate(nfe, 0.1, 100, "evaluations") if done else None,
    )


def test_the_limit_is_that_of_the_closed_form():
    groups = limit(TASK.law())
    assert [group.size for group in groups] == [1, 2, 3, 4, 5]
    assert [group.steps for group in groups] == [5, 3, 2, 2, 1]
    assert groups[-1].bits == pytest.approx(1.2877, abs=5e-5)
    assert groups[-1].accuracy.value == pytest.approx(0.4096)
    assert all(group.accuracy.n == 0 for group in groups)
    assert all(group.least <= group.bits + 1e-12 for group in groups)


def test_long_answers_show_doubling_groups():
    sizes = [group.size for group in limit(WaitingLine("shuffle", items=20).law())]
    assert sizes == [1, 2, 4, 8, 16, 20]


def test_what_is_too_long_to_enumerate_is_simulated():
    twins = Enumerated.of([tuple(i >> j & 1 for j in range(10)) * 2 for i in range(1000)])
    found = {group.size: group for group in limit(twins, rows=40)}
    assert found[2].accuracy.n == 40
    assert found[2].bits is None
    assert found[20].accuracy.n == 0
    assert found[20].accuracy.value == pytest.approx(2.0**-10, rel=0.1)


def test_points_are_placed_by_items_over_evaluations():
    results = [
        cell("replace_random", 8.0),
        cell("replace_random", 2.0, model="other/tiny"),
        cell("replace_random", 2.0, status="skipped"),
        cell("copy", 1.0),
    ]
    points = measured("replace_random", TASK.law(), results)
    assert [point.items_per_step for point in points] == [5 / 8, 5 / 2]
    assert [point.writer for point in points] == ["runs/tiny", "other/tiny"]
    assert measured("replace_random", TASK.law(), results[:1])[0].writer == "tiny"


def test_strategies_that_cannot_run_say_why():
    ways = [(name, strategy_spelt(name)) for name in ("left_to_right", "llada:steps=1")]
    first, second = perfect(TASK.law(), ways, rows=20)
    assert first.accuracy is None
    assert "masks" in first.why
    assert second.accuracy is not None
    assert (second.accuracy.value, second.items_per_step) == (0, 5)


def test_the_section_holds_limits_points_and_a_picture():
    pytest.importorskip("matplotlib")
    ways = [(name, strategy_spelt(name)) for name in ("llada:steps=1", "left_to_right")]
    results = [cell("replace_random", 8.0)]
    made = section("replace_random", TASK, ways, results, rows=50)
    limits, points = made.tables
    assert limits.rows[-1][:3] == ("5", "1", "1.2877")
    assert limits.rows[-1][-1] == "0.4096"
    assert [row[:2] for row in points.rows][-1] == ("tiny", "llada")
    assert points.rows[-1][-1] == "0.62"
    assert "left_to_right" in points.note
    assert any("tokens are not items" in text for text in made.paragraphs)
    assert any("1.288 bits" in text for text in made.paragraphs)
    figure = made.figures[0]
    assert figure.name == "limit-replace-random"
    assert figure.png.startswith(b"\x89PNG")
    assert figure.dark != figure.png
    assert b"<svg" in figure.svg


def test_one_right_answer_costs_nothing_to_write_at_once():
    pytest.importorskip("matplotlib")
    made = section("copy", WaitingLine("copy"), [], [])
    assert "nothing is lost" in made.paragraphs[0]
    assert len(made.tables) == 1
    assert {row[-1] for row in made.tables[0].rows} == {"1"}


def test_laws_that_count_for_themselves_are_known_too():
    counted = parallel.Counted(parallel.answers("replace_random", 4))
    assert limit(counted)[-1].accuracy.value == pytest.approx(0.75**3)
