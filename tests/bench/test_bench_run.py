"""A bench says the same whatever the batch, survives a kill, and never hides what it left out."""

import dataclasses
import json
import math

import bench_models
import pytest
import torch
from scipy import stats

from unison.bench import Plan, plan, read_answers, read_results, run, tally
from unison.bench.record import Answer, Asked, BenchError, answers_path
from unison.bench.watch import Watch
from unison.decode import Canvas, StepInfo
from unison.suites import wilson

ALL = ("mdlm", "duo", "ar")


def answers(folder, results):
    return {r.asked: read_answers(folder, r.asked)[0] for r in results}


def timeless(result):
    """A result without what a clock, the memory or the load decides."""
    skip = ("tokens_per_second", "tokens_per_cpu_second", "first_token", "first_block", "seconds",
            "overhead", "peak_memory", "environment", "batch_size")  # fmt: skip
    fields = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    return {name: value for name, value in fields.items() if name not in skip}


def test_equal_seeds_give_equal_answers_whatever_the_batch_size(tmp_path):
    ways = {"models": ALL, "strategies": ("default",)}
    one = bench_models.ran(tmp_path / "a", batch_size=1, **ways)
    many = bench_models.ran(tmp_path / "b", batch_size=64, **ways)
    assert [timeless(r) for r in one] == [timeless(r) for r in many]
    assert answers(tmp_path / "a", one) == answers(tmp_path / "b", many)
    other = bench_models.ran(tmp_path / "c", seed=1, **ways)
    assert answers(tmp_path / "c", other) != answers(tmp_path / "a", one)


def test_samples_of_a_problem_do_not_depend_on_how_many_or_on_other_problems(tmp_path):
    few = answers(tmp_path / "a", bench_models.ran(tmp_path / "a", count=2, samples=1))
    many = answers(tmp_path / "b", bench_models.ran(tmp_path / "b", count=5, samples=3))
    kept = {(a.problem, a.sample): a.text for one in many.values() for a in one}
    assert all(kept[a.problem, a.sample] == a.text for one in few.values() for a in one)
    assert len({text for text in kept.values()}) > 5


class Kill(BaseException):
    """Stands for the moment a run ends without warning."""


@pytest.mark.parametrize("moment", range(1, 9))
def test_a_bench_that_was_killed_goes_on_where_it_was(tmp_path, moment):
    ways = {"models": ("mdlm", "ar"), "strategies": ("default", "left_to_right")}
    whole = bench_models.ran(tmp_path / "whole", **ways)
    told = []

    def watch(progress):
        told.append(progress.done)
        if len(told) == moment:
            raise Kill

    cut = tmp_path / "cut"
    with pytest.raises(Kill):
        run(bench_models.plan(**ways), cut, bench_models.load, observe=watch)
    for path in cut.glob("answers/*"):  # a kill may also cut a line, or part two lines of a batch
        path.write_text(path.read_text() + '{"problem": "chain/3/0/00')
    rest = run(bench_models.plan(**ways), cut, bench_models.load, resume=True)
    assert [timeless(r) for r in rest] == [timeless(r) for r in whole]
    assert answers(cut, rest) == answers(tmp_path / "whole", whole)
    assert read_results(cut) == rest


@pytest.mark.parametrize("lost", range(1, 6))
def test_answers_of_a_batch_that_was_not_finished_are_written_again(tmp_path, lost):
    whole = bench_models.ran(tmp_path)
    kept = answers(tmp_path, whole)
    (path,) = tmp_path.glob("answers/*")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-lost]))
    (tmp_path / "results.jsonl").unlink()
    again = run(bench_models.plan(), tmp_path, bench_models.load, resume=True)
    assert answers(tmp_path, again) == kept
    assert [timeless(r) for r in again] == [timeless(r) for r in whole]


def test_resuming_something_else_is_refused_and_changes_nothing(tmp_path):
    bench_models.ran(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="count"):
        run(bench_models.plan(count=6), tmp_path, bench_models.load, resume=True)
    with pytest.raises(ValueError, match="not empty"):
        bench_models.ran(tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_what_cannot_be_done_is_skipped_with_a_reason_and_a_crash_loses_nothing_else(tmp_path):
    models = ("broken", "missing", "mdlm")
    ways = ("default", "left_to_right", "ancestral:steps=2", "composed:steps=999")
    results = {r.asked: r for r in bench_models.ran(tmp_path, models=models, strategies=ways)}
    said = {(a.model, a.strategy): (r.status, r.reason) for a, r in results.items()}
    assert said["broken", "default"] == ("failed", "RuntimeError: out of luck")
    assert said["missing", "default"] == ("failed", "there is no model missing")
    assert said["mdlm", "left_to_right"][0] == "skipped"
    assert "absorbing" in said["mdlm", "left_to_right"][1]
    assert said["mdlm", "ancestral:steps=2"] == ("done", "")
    done = [r for r in results.values() if r.status == "done"]
    assert all(r.accuracy is not None for r in done)
    assert all(r.accuracy is None for r in results.values() if r.status != "done")


def test_code_is_run_only_where_that_is_allowed_and_gaps_only_where_they_are_seen(tmp_path):
    ways = {"suite": ("functions",), "count": 2, "samples": 1, "strategies": ("ancestral:steps=2",)}
    (kept,) = bench_models.ran(tmp_path / "a", models=("long",), **ways)
    assert (kept.status, kept.problems) == ("skipped", 0)
    assert "allow it with --execute" in kept.reason
    models = ("long", "mdlm", "ar")
    written, short, blind = bench_models.ran(tmp_path / "b", models=models, execute=True, **ways)
    assert (written.status, written.reason) == ("done", "")
    (first, second), _ = read_answers(tmp_path / "b", written.asked)
    assert {first.score, second.score} <= {0.0, 1.0}
    assert all(answer.why for answer in (first, second) if answer.score == 0)
    assert short.status == "skipped"
    assert "must have 1 to 160" in short.reason
    assert blind.status == "skipped"


def test_failed_cells_are_tried_again_and_done_ones_are_not(tmp_path):
    bench_models.ran(tmp_path, models=("broken", "mdlm"))
    asked = []

    def load(name):
        asked.append(name)
        return bench_models.load("duo" if name == "broken" else name)

    chosen = bench_models.plan(models=("broken", "mdlm"))
    results = run(chosen, tmp_path, load, resume=True)
    assert asked == ["broken"]
    assert [r.status for r in results] == ["done", "done"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"suite": ("chian",)}, "unknown suite or task 'chian'; did you mean 'chain'"),
        ({"suite": ("chain:trems=3",)}, "no setting 'trems'; did you mean 'terms'"),
        ({"suite": ("chain:terms=1",)}, "terms must be at least 2"),
        ({"suite": ("chain:terms=many",)}, "terms must be a whole number, got 'many'"),
        ({"suite": ("arithmetic:terms=3",)}, "arithmetic is a suite"),
        ({"strategies": ("ancestrel",)}, "did you mean 'ancestral'"),
        ({"suite": ()}, "suite is empty"),
        ({"count": 0}, "count must be at least 1"),
        ({"new_tokens": 0}, "new_tokens must be at least 1"),
    ],
)
def test_a_plan_that_names_something_unknown_runs_nothing(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        bench_models.ran(tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_a_strategy_is_spelt_as_generate_takes_it():
    model = bench_models.load("mdlm")
    spelt = plan.sampling(model, "composed:select=threshold,select.threshold=0.5,steps=7,cfg=1")
    assert spelt.strategy.select.threshold == 0.5
    assert (spelt.steps, spelt.cfg) == (7, 1.0)
    theirs = plan.sampling(model, "composed:threshold=0.5,steps=7,cfg_scale=1")
    assert theirs == spelt
    assert plan.sampling(model, "default").strategy is None
    stops = plan.sampling(bench_models.load("ar"), "default").strategy
    assert stops.stop_at_end
    with pytest.raises(ValueError, match="no setting 'stepps'"):
        plan.sampling(model, "composed:stepps=3")


def test_alternatives_are_cells_of_their_own_and_none_comes_twice():
    chosen = Plan(
        ("m",), ("arithmetic", "chain:terms=3|4"), ("default", "llada:steps=2|4", "default")
    )
    found = plan.cells(chosen)
    assert found[0] == Asked("m", "chain", "default")
    assert len(found) == len(set(found)) == 3 * 3


def test_numbers_of_a_cell_are_those_of_its_answers(tmp_path):
    (result,) = bench_models.ran(tmp_path, models=("ar",), count=7, samples=3)
    said, batches = read_answers(tmp_path, result.asked)
    assert len(said) == 21
    assert result.nfe.value == pytest.approx(sum(a.nfe for a in said) / 21)
    assert result.nfe.stderr == pytest.approx(stats.sem([a.nfe for a in said]))
    assert result.tokens_per_forward == sum(a.tokens for a in said) / sum(a.nfe for a in said)
    assert result.tokens_per_forward == 1.0  # a left-to-right model that stops at its end
    assert sum(b.rows for b in batches) == 21
    assert result.seconds == pytest.approx(sum(b.seconds for b in batches))
    grading = sum(b.grading for b in batches)
    assert result.overhead == pytest.approx(grading / (grading + result.seconds))
    assert result.tokens_per_second == pytest.approx(sum(a.tokens for a in said) / result.seconds)
    assert 0 < result.first_token.value <= result.first_block.value <= result.seconds
    assert result.peak_memory > 0
    assert len(result.prompts_sha256) == len(result.model["weights_sha256"]) == 64
    assert read_results(tmp_path) == [result]


def test_accuracy_counts_a_problem_once_and_its_interval_is_wilsons_for_right_and_wrong():
    def answered(scores):
        return [
            Answer(f"p{i}", j, "g", "", "", score, "", 1, 1)
            for i, of in enumerate(scores)
            for j, score in enumerate(of)
        ]

    plain = tally.accuracy(answered([[1.0], [0.0], [1.0], [1.0]]))
    assert (plain.value, plain.n) == (0.75, 4)
    assert (plain.low, plain.high) == wilson(3.0, 4)
    z, p, n = stats.norm.ppf(0.975), 0.75, 4
    for end in wilson(3.0, 4):  # where a test of the share p0 just rejects
        assert abs(p - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n))
    means = [0.5, 0.0, 1.0, 0.5, 0.5, 0.0, 1.0, 1.0, 0.5, 0.0, 0.5, 1.0]
    twice = tally.accuracy(answered([[float(m > 0), float(m > 0.5)] for m in means]))
    low, high = stats.t.interval(0.95, 11, twice.value, stats.sem(means))
    assert (twice.low, twice.high) == (pytest.approx(low), pytest.approx(high))


def test_first_token_and_first_block_are_when_a_reader_could_rely_on_them():
    """Row 0 writes its second position, then its first, then takes the second back and settles."""
    given = torch.tensor([[True, False, False, False], [False, False, True, True]])
    states = torch.tensor(
        [
            [[9, 0, 0, 0], [0, 0, 9, 9]],
            [[9, 0, 5, 0], [1, 0, 9, 9]],
            [[9, 7, 5, 0], [1, 1, 9, 9]],
            [[9, 7, 6, 0], [1, 1, 9, 9]],
            [[9, 7, 6, 8], [1, 1, 9, 9]],
        ]
    )
    watch = Watch(2)
    info = StepInfo(torch.zeros_like(given), torch.zeros(2, dtype=torch.bool))
    for step, tokens in enumerate(states):
        watch(step, Canvas(tokens, given), info)
    watch(0, Canvas(states[0], given), info)  # the next batch is not looked at
    watch._moments = [lambda i=i: float(i) for i in range(5)]
    assert watch.first_token() == (2 + 1) / 2
    assert watch.first_block() == (3 + 2) / 2


def test_a_token_that_never_changed_is_final_with_the_first_step_and_given_rows_do_not_count():
    given = torch.tensor([[False, True], [True, True]])
    watch = Watch(None)
    info = StepInfo(torch.zeros_like(given), torch.zeros(2, dtype=torch.bool))
    for step in range(3):
        watch(step, Canvas(torch.zeros(2, 2, dtype=torch.long), given), info)
    watch._moments = [lambda i=i: 10.0 + i for i in range(3)]
    assert watch.first_token() == watch.first_block() == 11.0
    assert math.isnan(Watch(None).first_token())


def test_a_damaged_or_newer_file_of_results_is_named_with_its_line(tmp_path):
    with pytest.raises(BenchError, match=r"holds no results\.jsonl"):
        read_results(tmp_path)
    bench_models.ran(tmp_path / "b", strategies=("default", "ancestral:steps=1"))
    path = tmp_path / "b" / "results.jsonl"
    good = path.read_text().splitlines()
    path.write_text(good[0] + "\n" + good[1][:-40] + "\n")
    with pytest.raises(BenchError, match=r"results\.jsonl:2 is damaged"):
        read_results(tmp_path / "b")
    path.write_text(json.dumps({**json.loads(good[0]), "format_version": 99}) + "\n")
    with pytest.raises(BenchError, match="newer unison"):
        read_results(tmp_path / "b")


def test_answers_of_different_cells_never_share_a_file(tmp_path):
    a, b = Asked("x/m", "chain", "s:a=1"), Asked("y/m", "chain", "s:a=1")
    assert answers_path(tmp_path, a) != answers_path(tmp_path, b)
    long = Asked("m" * 300, "t" * 300, "s" * 300)
    assert len(answers_path(tmp_path, long).name) < 200
