"""GSM8K: the final number counts, however it is written."""

import json
import re
from pathlib import Path

import pytest

from unison.suites import SuiteError
from unison.suites.given.gsm8k import Gsm8k

ROWS = [
    {"question": f"What is {i} + {i}?", "answer": f"It is {2 * i}.\n#### {2 * i}"}
    for i in range(30)
]


def _gsm8k(tmp_path: Path, answer: str = "So it is 1,234.\n#### 1,234", **settings) -> Gsm8k:
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps({"question": "How many?", "answer": answer}), encoding="utf-8")
    return Gsm8k(path, **settings)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("#### 1234", "1234"),
        ("####1,234", "1234"),
        ("#### $1,234.00", "1234"),
        ("They pay $1,234.", "1234"),
        ("First 5, then 7, so 1234 dollars", "1234"),
        ("#### 01234.0", "1234"),
        ("#### 1234\n\nQuestion: What is 5 + 5?\nAnswer: 10\n#### 10", "1234"),
        ("5 and 6\n#### 1234\nbut 7", "1234"),
        ("It is 2 * 617=1234", "1234"),
        ("1234%", "1234"),
    ],
)
def test_a_number_is_right_however_it_is_written(tmp_path: Path, text: str, read: str) -> None:
    task = _gsm8k(tmp_path)
    assert task.grade(task.problems(1, 0)[0], text) == (1.0, read, "")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("#### 1,235", "1235"),
        ("1234 and then 5", "5"),
        ("#### -1234", "-1234"),
        ("#### $-1234", "-1234"),
        ("-$1,234", "-1234"),
        ("\u22121234", "-1234"),
        ("1234.5", "1234.5"),
        ("12345", "12345"),
        ("1,2345", "2345"),
        ("about .50", "0.5"),
        ("-0.0", "0"),
    ],
)
def test_another_number_is_wrong(tmp_path: Path, text: str, read: str) -> None:
    task = _gsm8k(tmp_path)
    assert task.grade(task.problems(1, 0)[0], text) == (0.0, read, "wanted 1234")


def test_without_a_number_there_is_no_answer(tmp_path: Path) -> None:
    task = _gsm8k(tmp_path)
    assert task.grade(task.problems(1, 0)[0], "many\nQuestion: 1234") == (0.0, "", "no number")


def test_a_minus_between_two_numbers_is_no_sign(tmp_path: Path) -> None:
    task = _gsm8k(tmp_path, "#### 7")
    assert task.grade(task.problems(1, 0)[0], "the range is 5-7").score == 1.0
    assert task.grade(task.problems(1, 0)[0], "the loss is -7").score == 0.0


def test_what_a_calculator_was_asked_is_not_shown(tmp_path: Path) -> None:
    task = _gsm8k(tmp_path, "2 + 2 = <<2+2=4>>4\n#### 4", shots=0)
    (problem,) = task.problems(1, 0)
    assert problem.prompt == "Question: How many?\nAnswer:"
    assert problem.answer == " 2 + 2 = 4\n#### 4"


def test_a_solution_without_its_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SuiteError, match=r"test\.jsonl:1 has no number behind #### in its 'answer'"
    ):
        _gsm8k(tmp_path, "It is 4.").problems(1, 0)


def test_examples_come_from_the_training_file_and_are_the_same_for_all(tmp_path: Path) -> None:
    path, train = tmp_path / "test.jsonl", tmp_path / "train.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS[:20])), encoding="utf-8")
    train.write_text("\n".join(map(json.dumps, ROWS[20:])), encoding="utf-8")
    problems = Gsm8k(path, shots=3).problems(20, 0)
    shown = {problem.prompt.rpartition("Question:")[0] for problem in problems}
    assert len(shown) == 1
    asked = re.findall(r"Question: What is (\d+)", *shown)
    assert len(set(asked)) == 3
    assert all(20 <= int(number) < 30 for number in asked)
    other = Gsm8k(path, shots=3).problems(1, 5)[0].prompt.rpartition("Question:")[0]
    assert {other} != shown
    own = Gsm8k(train, shots=1).problems(10, 0)  # never out of the file that is asked
    assert all("What is 2" not in p.prompt.rpartition("Question:")[0] for p in own)
    with pytest.raises(SuiteError, match=r"shots=11, but .*train\.jsonl holds only 10 examples"):
        Gsm8k(path, shots=11).problems(1, 0)


def test_without_a_training_file_built_in_examples_are_shown(tmp_path: Path) -> None:
    task = _gsm8k(tmp_path, shots=3)
    shown = task.problems(1, 0)[0].prompt.split("\n\n")[:-1]
    assert len(shown) == 3
    numbers = {re.search(r"#### (\d+)$", example)[1] for example in shown}
    assert numbers == {"27", "38", "60"}
    wanted = r"shots=4, but without .*train\.jsonl there are only 3 examples"
    with pytest.raises(SuiteError, match=wanted):
        _gsm8k(tmp_path, shots=4).problems(1, 0)
