"""Every task in the table that needs no file, held to what a task promises."""

import dataclasses
import functools
import json
from functools import partial

import numpy as np
import pytest
from laws import assert_law

from unison.suites import SUITES, TASKS, SuiteError, Task, Theoretical, made, settings_of
from unison.suites.task import ItemLaw

COUNT = 4
GARBAGE = {
    "nothing": "",
    "spaces": " \n\t ",
    "words": "I am sorry, but I do not know the answer to this question.",
    "brackets": "[[{(<[\n]{}()[",
    "quotes": '"\'`\\"\'\'\'"""',
    "numbers": "1 2 3, 4/0 = 99999999999999999999999999e999",
    "nulls": "a\x00b\x00\ud800",
    "unicode": "\u202e\u0661\u0662\u00bd \U0001f600 \u5217\u8868\uff1a\u3010\u7532\u3011 e\u0301",
    "long": "x" * 100_000,
    "long list": "[" + "a, " * 50_000 + "]",
    "long numbers": "1" + " " * 50_000 + "1 | " * 20_000,
    "deep": "(" * 20_000,
    "objects": '{"a": ' * 5_000,
}


def task_named(name):
    return made(TASKS[name], name, {})


@functools.cache
def problems_of(name, seed=0):
    return task_named(name).problems(COUNT, seed)


def needs_file(name):
    try:
        problems_of(name)
    except SuiteError as error:
        return "path=" in str(error)
    return False


NAMES = [name for name in TASKS if not needs_file(name)]
GRADED = [name for name in NAMES if not task_named(name).executes]
THEORETICAL = [name for name in NAMES if isinstance(task_named(name), Theoretical)]


@pytest.mark.parametrize("name", TASKS)
def test_a_task_declares_itself(name):
    kind = TASKS[name]
    built = kind.func if isinstance(kind, partial) else kind
    assert dataclasses.is_dataclass(built)
    assert built.__dataclass_params__.frozen
    assert "\n" not in built.about
    assert built.about.isascii()
    assert isinstance(built.executes, bool)
    for field in settings_of(kind):
        assert field.name == "path" or field.default is not dataclasses.MISSING, field.name


@pytest.mark.parametrize("name", NAMES)
def test_a_task_keeps_the_contract(name):
    assert isinstance(task_named(name), Task)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_problems_do_not_depend_on_how_many_are_asked_for(name):
    assert list(task_named(name).problems(2, 0)) == list(problems_of(name)[:2])


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_asks_other_questions(name):
    one, other = ([(p.prompt, p.suffix) for p in problems_of(name, seed)] for seed in (0, 1))
    assert one != other


@pytest.mark.parametrize("name", NAMES)
def test_problems_are_plain_and_named_once(name):
    problems = problems_of(name)
    assert len(problems) == COUNT
    assert len({problem.name for problem in problems}) == COUNT
    for problem in problems:
        assert (problem.prompt + problem.suffix).isascii()
        assert problem.prompt.strip()
        assert problem.answer.strip()
        assert json.loads(json.dumps(problem.facts)) == problem.facts


@pytest.mark.parametrize("name", GRADED)
def test_the_reference_answer_is_right_whatever_follows_it(name):
    task = task_named(name)
    for problem in problems_of(name):
        for end in ("", "\n", "  ", "\n\n\n", " \n"):
            grade = task.grade(problem, problem.answer + end)
            assert grade.score == 1, (problem.answer + end, grade)
            assert grade.why == ""
            assert grade.read


@pytest.mark.parametrize("name", GRADED)
@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_graded_without_complaint_and_never_right(name, kind):
    task, problem = task_named(name), problems_of(name)[0]
    grade = task.grade(problem, GARBAGE[kind])
    assert 0 <= grade.score < 1
    assert grade.why


@pytest.mark.parametrize("name", GRADED)
def test_facts_that_were_read_back_from_a_file_grade_alike(name):
    task = task_named(name)
    for problem in problems_of(name):
        back = dataclasses.replace(problem, facts=json.loads(json.dumps(problem.facts)))
        assert task.grade(back, problem.answer).score == 1


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_names_tasks_of_the_table_each_once(suite):
    assert set(SUITES[suite]) <= set(TASKS)
    assert len(set(SUITES[suite])) == len(SUITES[suite]) > 0


def sampled(law: ItemLaw, count, seed):
    """Draw answers one item at a time, places in random order."""
    random = np.random.default_rng(seed)
    items = np.full((count, law.length), -1)
    for position in random.permutation(law.length):
        belief = law.belief(items)
        assert belief.shape == (count, law.length, law.size)
        assert (belief >= 0).all()
        np.testing.assert_allclose(belief.sum(-1), 1, atol=1e-9)
        bounds = belief[:, position].cumsum(-1)[:, :-1]
        items[:, position] = (random.random((count, 1)) >= bounds).sum(-1)
    return items


@pytest.mark.parametrize("name", THEORETICAL)
def test_what_is_drawn_item_by_item_from_a_law_is_always_right(name):
    law = task_named(name).law()
    items = sampled(law, 30, 0)
    assert law.right(items).all()
    settled = law.belief(items)
    np.testing.assert_array_equal(settled.argmax(-1), items)
    assert (settled.max(-1) == 1).all()


@pytest.mark.parametrize("name", THEORETICAL)
def test_a_law_prefers_no_right_answer(name):
    """Where the draws meet every answer, seen by none of those of the last half being new."""
    law = task_named(name).law()
    count = 1_000 if law.length < 20 else 100
    drawn = [tuple(row) for row in sampled(law, count, 1).tolist()]
    answers = set(drawn)
    if answers == set(drawn[: count // 2]):
        assert_law(drawn, dict.fromkeys(answers, 1 / len(answers)))
    else:
        assert len(answers) > 100
