"""How a problem becomes a canvas gives nothing away, and an answer is what stands in it."""

import dataclasses
import math

import bench_models
import pytest

from unison.bench import asking, facts, plan
from unison.bench.plan import Plan
from unison.generation import generate
from unison.suites import TASKS, Problem

SHORT, LONG = Problem("a", "x", "1"), Problem("b", "y", "123")


def with_suffix(problem):
    return dataclasses.replace(problem, suffix="z")


def test_every_canvas_has_room_for_the_longest_answer_and_its_end():
    model = bench_models.load("mdlm")
    assert asking.canvases(model, [SHORT, LONG], None) == [["x", 4], ["y", 4]]
    assert asking.canvases(model, [SHORT, LONG], 9) == [["x", 9], ["y", 9]]
    silent = dataclasses.replace(SHORT, prompt="")
    assert asking.canvases(model, [silent], None) == [[2]]


def test_a_gap_is_as_long_as_its_answer():
    model = bench_models.load("mdlm")
    gaps = [with_suffix(SHORT), with_suffix(LONG)]
    assert asking.canvases(model, gaps, None) == [["x", 1, "z"], ["y", 3, "z"]]
    empty = dataclasses.replace(with_suffix(SHORT), answer="")
    assert asking.canvases(model, [empty], None) == [["x", 1, "z"]]
    with pytest.raises(ValueError, match="left-to-right model without marks"):
        asking.canvases(bench_models.load("ar"), gaps, None)


def test_noise_is_named_by_the_problem_and_the_seed():
    seeds = {asking.seed_of(seed, problem) for seed in (0, 1) for problem in (SHORT, LONG)}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    moved = dataclasses.replace(SHORT, prompt="another prompt")
    assert asking.seed_of(0, moved) == asking.seed_of(0, SHORT)


def test_an_answer_holds_what_was_written_and_how_sure_the_model_was():
    model, task = bench_models.load("mdlm"), TASKS["chain"]()
    (problem,) = task.problems(1, 0)
    how = plan.sampling(model, "composed:steps=3,temperature=1")
    (sample,) = generate(
        model, parts=[problem.prompt, 6], strategy=how.strategy, steps=3, temperature=1.0
    )
    answer = asking.answered(model, problem, 4, sample, task)
    start = len(problem.prompt)
    ends = [i for i, token in enumerate(sample.tokens[start:]) if token in model.eos_ids]
    count = ends[0] + 1 if ends else 6
    assert (answer.problem, answer.sample, answer.nfe) == (problem.name, 4, sample.nfe)
    assert answer.tokens == count
    assert answer.text == model.text(sample.tokens[start : start + (ends[0] if ends else 6)])
    sure = sample.confidence[start : start + count]
    assert answer.confidence == pytest.approx(sum(map(math.log, sure)) / count)
    assert answer.ids is None


def test_facts_of_a_model_and_of_prompts_change_with_what_they_are_of():
    model = bench_models.load("mdlm")
    told = facts.of_model(model, "m")
    assert told["weights_sha256"] == facts.of_model(model, "m")["weights_sha256"]
    assert told["weights_sha256"] != facts.of_model(bench_models.load("duo"), "m")["weights_sha256"]
    problems = [SHORT, with_suffix(SHORT), dataclasses.replace(SHORT, prompt="w")]
    assert len({facts.prompts_hash([problem]) for problem in problems}) == 3
    assert facts.prompts_hash([SHORT]) == facts.prompts_hash([dataclasses.replace(SHORT, name="n")])


def test_a_plan_is_of_at_least_one_of_everything():
    with pytest.raises(ValueError, match="models is empty"):
        Plan((), ("chain",))
