"""Code tasks: right code passes, wrong code does not, and broken data files are named by line."""

import gzip
import json

import pytest

from unison.suites import TASKS, SuiteError, Task
from unison.suites.code.functions import HOLES, Functions, known_functions
from unison.suites.code.humaneval import HumanEval
from unison.suites.code.humaneval_infilling import HumanEvalInfilling
from unison.suites.code.mbpp import Mbpp
from unison.suites.task import Problem

DOUBLE = {
    "task_id": "HumanEval/0",
    "prompt": 'from math import prod\n\n\ndef double(x):\n    """Return twice x."""\n',
    "canonical_solution": "    y = prod([2, x])\n\n    return y\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(5) == 10\n",
    "entry_point": "double",
}
FILL = {
    **DOUBLE,
    "task_id": "SingleLineInfilling/HumanEval/0/L0",
    "canonical_solution": "    y = prod([2, x])\n",
    "suffix": "\n    return y\n",
}
SHORT = {
    "task_id": 11,
    "text": "Write a function to double a number.",
    "code": "class Two:\r\n    n = 2\r\ndef double(x):\r\n    return Two.n * x",
    "test_list": ["assert double(2) == four", "assert double(5) == 10"],
    "test_setup_code": "four = Two.n + 2",
}


def written(folder, *lines, name="data.jsonl"):
    path = folder / name
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def only(task) -> Problem:
    (problem,) = task.problems(9, 0)
    return problem


def scores(task: Task, problem: Problem, *answers: str) -> list[float]:
    return [task.grade(problem, answer).score for answer in answers]


def test_humaneval_runs_the_tests_on_what_belongs_to_the_function(tmp_path):
    task = HumanEval(written(tmp_path, DOUBLE))
    problem = only(task)
    right = problem.answer
    assert problem.prompt == DOUBLE["prompt"]
    goes_on = right + "\n\ndef other():\n    raise"
    whole = "Here:\n```python\ndef double(x):\n    return prod([x, 2])\n\nprint(1/0)\n```\nDone."
    again = "def double(x):\n    return 2 * x\n\nassert False\n"
    assert scores(task, problem, right, goes_on, whole, again) == [1, 1, 1, 1]
    early = "    import sys; sys.exit(0)\n"
    assert scores(task, problem, "    return x\n", "", early, "```", "    return '''") == [0] * 5


def test_what_went_wrong_is_said(tmp_path):
    task = HumanEval(written(tmp_path, DOUBLE), seconds=1)
    grade = task.grade(only(task), "    return 4\nx = 1")
    assert grade == (0.0, "    return 4\n", "failed: AssertionError (program line 4)")


def test_infilling_is_taken_whole_and_may_leave_out_the_last_newline(tmp_path):
    task = HumanEvalInfilling(
        written(tmp_path, FILL, name="HumanEval-SingleLineInfilling.jsonl.gz")
    )
    problem = only(task)
    assert (problem.suffix, problem.group) == (FILL["suffix"], "SingleLineInfilling")
    assert scores(task, problem, problem.answer, "    y = x + x", "    y = 3 * x\n") == [1, 1, 0]
    assert scores(task, problem, problem.answer + "    return 0\n") == [0]


def test_a_hole_may_be_blank_and_nothing_may_follow_it(tmp_path):
    record = {**FILL, "canonical_solution": " ", "suffix": "", "prompt": "double = lambda x: 2 * x"}
    task = HumanEvalInfilling(written(tmp_path, record))
    assert scores(task, only(task), " ") == [1]


def test_mbpp_shows_the_tests_and_runs_them_after_the_set_up(tmp_path):
    task = Mbpp(written(tmp_path, SHORT), shots=0)
    problem = only(task)
    assert problem.prompt == (
        '"""\nWrite a function to double a number.\n'
        'assert double(2) == four\nassert double(5) == 10\n"""\n'
    )
    goes_on = problem.answer + '\n"""\nWrite a function to ...\n"""\n1 / 0\n'
    fenced = f"```\n{problem.answer}```"
    assert scores(task, problem, problem.answer, goes_on, fenced) == [1, 1, 1]
    assert scores(task, problem, "def double(x): return 4", "raise SystemExit", "") == [0, 0, 0]


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Halve.", "code": "def h(x): return x / 2", "test": ["assert h(2) == 1"]},
        {
            "prompt": "Round up.",
            "code": "def up(x): return math.ceil(x)",
            "test_imports": ["import math"],
            "test_list": ["assert up(math.pi) == 4"],
        },
    ],
)
def test_mbpp_reads_every_published_form(tmp_path, record):
    task = Mbpp(written(tmp_path, record))
    assert scores(task, only(task), record["code"], "x = 1") == [1, 0]


def test_mbpp_examples_pass_their_own_tests(tmp_path):
    task = Mbpp(written(tmp_path, SHORT), shots=3)
    shown = only(task).prompt.split('"""\n')
    for said, code in zip(shown[1:-2:2], shown[2:-2:2], strict=True):
        asserts = [line for line in said.splitlines() if line.startswith("assert")]
        assert len(asserts) == 2
        exec("\n".join([code, *asserts]), {})


@pytest.mark.parametrize("kind", [HumanEval, HumanEvalInfilling, Mbpp])
@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("{", r":2 is not JSON"),
        ("[]", r":2 is a list, not an object"),
        ({"task_id": "1"}, r":2 has no field "),
        ("same", r":2 repeats the task_id "),
    ],
)
def test_a_broken_line_is_named(tmp_path, kind, broken, said):
    good = {HumanEval: DOUBLE, HumanEvalInfilling: FILL, Mbpp: SHORT}[kind]
    path = written(tmp_path, good, good if broken == "same" else broken)
    with pytest.raises(SuiteError, match=said):
        kind(path).problems(1, 0)


@pytest.mark.parametrize("name", ["prompt", "canonical_solution", "test", "entry_point", "suffix"])
def test_a_missing_field_is_named_with_its_line(tmp_path, name):
    short = {field: value for field, value in FILL.items() if field != name}
    task = HumanEvalInfilling(written(tmp_path, FILL, "", {**short, "task_id": "other"}))
    with pytest.raises(SuiteError, match=rf"data\.jsonl:3 has no field '{name}'"):
        task.problems(1, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test_list": []}, "data.jsonl:1 has no tests"),
        ({"test_list": "assert 1"}, "data.jsonl:1 has no list of texts as 'test_list'"),
        ({"test_list": [1]}, "data.jsonl:1 has no list of texts as 'test_list'"),
        ({"code": 5}, "data.jsonl:1 has a whole number as 'code', not text"),
    ],
)
def test_mbpp_fields_of_another_kind_are_named(tmp_path, change, said):
    with pytest.raises(SuiteError, match=said):
        Mbpp(written(tmp_path, {**SHORT, **change})).problems(1, 0)


def test_without_a_file_each_task_says_what_it_needs():
    for name in ("humaneval", "humaneval-infilling", "mbpp"):
        assert TASKS[name]().executes
        with pytest.raises(SuiteError, match=f"{name} needs path=FILE"):
            TASKS[name]().problems(1, 0)


def test_records_are_drawn_in_an_order_that_only_the_seed_decides(tmp_path):
    lines = [{**DOUBLE, "task_id": f"HumanEval/{number}"} for number in range(20)]
    task = HumanEval(written(tmp_path, *lines))
    every = [problem.name for problem in task.problems(99, 3)]
    assert sorted(every) == sorted(line["task_id"] for line in lines)
    assert [problem.name for problem in task.problems(7, 3)] == every[:7]
    assert [problem.name for problem in task.problems(99, 4)] != every


@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_and_what_is_around_it_make_the_function(hole):
    wholes = {f"{f.module}.{f.name}": f.head + "".join(f.lines) for f in known_functions()}
    assert len(wholes) >= 20
    problems = Functions(hole).problems(2 * len(wholes), 0)
    assert len({problem.name for problem in problems}) == len(problems)
    assert problems[:5] == Functions(hole).problems(5, 0)
    assert problems[:5] != Functions(hole).problems(5, 1)
    for problem in problems:
        assert (
            problem.prompt + problem.answer + problem.suffix == wholes[problem.name.split("/")[4]]
        )
        assert problem.answer.strip()
        assert problem.prompt.isascii()
    if hole == "body":
        assert {problem.suffix for problem in problems} == {""}
    if hole == "line":
        assert {problem.answer.count("\n") for problem in problems} == {1}
    if hole == "lines":
        assert min(problem.answer.count("\n") for problem in problems) >= 2


def test_every_function_is_asked_once_before_one_is_asked_again():
    count = len(known_functions())
    names = [problem.name.split("/")[4] for problem in Functions().problems(2 * count, 5)]
    assert len(set(names[:count])) == len(set(names[count:])) == count


@pytest.mark.parametrize("hole", HOLES)
def test_references_hold_and_nothing_does_not(hole):
    task = Functions(hole)
    for problem in task.problems(3, 2):
        assert scores(task, problem, problem.answer) == [1], problem.name
        assert task.grade(problem, "").score == 0, problem.name
        assert task.grade(problem, "\x00 \ud800 ((").score == 0


@pytest.mark.slow
def test_every_reference_holds_and_no_line_can_be_left_out():
    task = Functions("body")
    whole = {problem.facts["name"]: problem for problem in task.problems(len(known_functions()), 0)}
    for problem in whole.values():
        assert scores(task, problem, problem.answer) == [1], problem.name
    line = Functions("line")
    for problem in line.problems(3 * len(whole), 0):
        assert scores(line, problem, "") == [0], problem


def test_a_function_is_put_back_into_its_module():
    task = Functions("body")
    problems = {p.facts["name"]: p for p in task.problems(len(known_functions()), 0)}
    library = problems["stdev"]  # needs names of its module
    assert library.group == "statistics"
    assert scores(task, library, library.answer, library.answer + "\nx = 1 /") == [1, 1]
    assert task.grade(library, "    return 1.0\n").why == (
        "failed: AssertionError: 1 of 1 examples fail (program line 7)"
    )


def test_an_unknown_hole_and_no_time_are_refused():
    with pytest.raises(ValueError, match=r"there is no hole 'lin'; did you mean 'line'\?"):
        Functions("lin")
    for name in ("functions", "humaneval", "humaneval-infilling", "mbpp"):
        with pytest.raises(ValueError, match="cpu_seconds must be at least 1, got 0"):
            TASKS[name](seconds=0)
    with pytest.raises(ValueError, match="shots must be 0 to 3, got 4"):
        Mbpp(shots=4)
