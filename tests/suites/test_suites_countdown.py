"""Countdown and chains: drawn problems worked out again, texts and files by hand."""

import json

import pytest

from unison.suites import SuiteError
from unison.suites.puzzles.chains import Chains
from unison.suites.puzzles.countdown import Countdown
from unison.suites.puzzles.reckoning import ReckoningError, outcome, steps_to
from unison.suites.task import Problem


def written(tmp_path, text):
    path = tmp_path / "numbers.txt"
    path.write_text(text)
    return path


def score(text, numbers, target, every=True):
    problem = Problem("p", "", "", facts={"numbers": numbers, "target": target})
    return Countdown(len(numbers), every=every).grade(problem, text).score


@pytest.mark.parametrize(
    "text",
    [
        " 44-15=29,79-29=50",
        "44 - 15 = 29, 79 - 29 = 50.",
        "79-(44-15)",
        "79-44+15 = 50",
        "(79 - (44 - 15)) = 50\nNumbers: 1, 2",
        "15-44=-29,79+-29=50",
        "79\u221244+15",
        "79/44=79/44,44*0-0",
    ],
)
def test_steps_and_expressions_are_read(text):
    right = "44*0" not in text
    assert score(text, [15, 44, 79], 50) == right


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("44-15=28,79-28=51", "44-15 is 29, not 28"),
        ("79-44=35,35+44=79", "44 is not there, or used up"),
        ("79-44+15+15", "15 is not there, or used up"),
        ("79-29", "29 is not there"),
        ("79-44", "reaches 35, not 50"),
        ("79-44+15=50=50", "not a calculation"),
        ("79//44+15", "not a calculation"),
        ("79**44", "not a calculation"),
        ("44/(15-15)", "15 is not there, or used up"),
        ("__import__('os')", "not a calculation"),
        ("15(44)", "not a calculation"),
        ("015+44", "not a calculation"),
        ("", "not a calculation"),
        ("(" * 150, "not a calculation"),
        ("1+" * 5000 + "1", "not a calculation"),
        ("79-44+15=1/0", "divides by 0"),
    ],
)
def test_wrong_calculations_are_refused_with_a_reason(text, why):
    problem = Problem("p", "", "", facts={"numbers": [15, 44, 79], "target": 50})
    grade = Countdown().grade(problem, text)
    assert grade.score == 0
    assert why in grade.why


def test_fractions_are_exact():
    """8 / (3 - 8/3) is 24, which floating point misses."""
    assert outcome("8/(3-8/3)", [3, 3, 8, 8]) == (24, 0)
    assert score("8/(3-8/3)", [3, 3, 8, 8], 24) == 1
    with pytest.raises(ReckoningError, match="divides by 0"):
        outcome("8/(3-3)", [3, 3, 8, 8])


def test_numbers_may_be_left_over_only_where_the_task_says_so():
    assert score("44+6", [44, 6, 7], 50, every=True) == 0
    assert score("44+6", [44, 6, 7], 50, every=False) == 1
    assert score("44+6=50,7+50=57", [44, 6, 7], 50, every=False) == 0


@pytest.mark.parametrize("numbers", [3, 4])
def test_drawn_targets_can_be_reached_and_are_no_number_given(numbers):
    task = Countdown(numbers, largest=20)
    for problem in task.problems(20, 0):
        given, target = problem.facts["numbers"], problem.facts["target"]
        assert task.grade(problem, problem.answer).score == 1
        assert 1 <= target <= 20
        assert target not in given
        assert outcome(steps_to(given, target), given) == (target, 0)


def test_what_cannot_be_reached_has_no_steps():
    assert steps_to([1, 1], 5) == ""
    assert steps_to([2, 3], 6) == "2*3=6"


COUNTDOWN = '{"input": "15,44,79,50", "output": "44-15=29,79-29=50"}\n'


def test_numbers_of_dream_and_d1_are_read(tmp_path):
    text = COUNTDOWN + '{"input": "30,100,93", "output": "23"}\n'
    task = Countdown(path=written(tmp_path, text))
    first, second = sorted(task.problems(9, 0), key=lambda problem: problem.name)
    assert first.prompt.endswith("Numbers: 15, 44, 79\nTarget: 50\nSteps:")
    assert first.answer == " 44-15=29,79-29=50"
    assert second.facts == {"numbers": [30, 100, 93], "target": 23}
    assert task.grade(second, second.answer).score == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"input": "15,44,79,50,1", "output": "44-15=29,79-29=50"}, ":2 has 4 numbers where"),
        ({"input": "15,44,79,51", "output": "44-15=29,79-29=50"}, ":2 has steps .* 51"),
        ({"input": "15,44,78,50", "output": "44-15=29,79-29=50"}, ":2 has steps .* fail: 79"),
        ({"input": "15,44,x,50", "output": "44-15=29"}, ":2 has input '15,44,x,50', not whole"),
        ({"input": "1,1,1", "output": "99"}, ":2 has no whole steps to 99"),
        ({"input": "15,44,79"}, ":2 has no field 'output'"),
    ],
)
def test_a_wrong_file_of_numbers_is_refused_with_the_line(tmp_path, line, said):
    path = written(tmp_path, COUNTDOWN + json.dumps(line))
    with pytest.raises(SuiteError, match=said):
        Countdown(path=path).problems(9, 0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"numbers": 1}, "2 to 6, got 1"),
        ({"largest": 8}, "largest must be at least 9, got 8"),
        ({"shots": -1}, "shots must be at least 0"),
    ],
)
def test_impossible_countdown_settings_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Countdown(**settings)


def test_a_chain_says_every_partial_sum():
    for problem in Chains(terms=5, largest=9).problems(50, 0):
        words = problem.prompt.rpartition("\n")[2].removesuffix(" =").split()
        total, sums = int(words[0]), []
        for sign, term in zip(words[1::2], words[2::2], strict=True):
            total += int(term) if sign == "+" else -int(term)
            sums.append(str(total))
        assert problem.answer == " " + ", ".join(sums)
        assert len(sums) == 4


def test_chains_are_read_with_or_without_spaces():
    task, problem = Chains(), Problem("p", "", " 3, -4, 5")
    texts = ["3,-4,5", " 3 ,  -4, 5.\n7 + 8 =", "3, -4, 5\r\n"]
    assert [task.grade(problem, text).score for text in texts] == [1, 1, 1]
    assert len({task.grade(problem, text).read for text in texts}) == 1
    for text in ("3, -4", "3, -4, 5, 6", "3 -4 5", "", "\n3, 4, 5"):
        assert task.grade(problem, text).score == 0
