"""MATH-500: answers that say the same are the same, and no others."""

import json
import re
from pathlib import Path

import pytest

from unison.suites.given.latex import same
from unison.suites.given.math500 import Math500

SAME = [
    (r"\frac12", "0.5"),
    (r"\dfrac{14}{3}", "14/3"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}"),
    (r"2\frac12", "2.5"),
    (r"3\sqrt{13}", r"\sqrt{117}"),
    (r"\frac{\sqrt{3}}{3}", r"1/\sqrt3"),
    (r"\sqrt[3]{8}", "2"),
    (r"90^\circ", "90"),
    (r"10,\!080", "10,080"),
    (r"\$32,\!348.", "32348"),
    (r"50\%", "50"),
    ("6 - 5i", "-5i+6"),
    ("(x+1)^2", "x^2 + 2x + 1"),
    (r"\pi r^2", r"r^2 \cdot \pi"),
    (r"\frac{9}{4}\pi", r"\frac{9\pi}{4}"),
    ("x=5", "5"),
    (r"x \in [-2,7]", "[-2,7]"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)"),
    ("1,-2", "-2, 1"),
    (r"\{1\pm\sqrt{5},-2\}", r"\{-2, 1-\sqrt5, 1+\sqrt5\}"),
    (r"(-\infty, 2) \cup (3, \infty)", r"(3,\infty)\cup(-\infty,2)"),
    (r"\begin{pmatrix} 1/5 \\ -2 \end{pmatrix}", r"\begin{bmatrix}0.2\\-2\end{bmatrix}"),
    ("52_8", "52_{8}"),
    (r"\text{Evelyn}", "Evelyn"),
    (r"\text{(C)}", "C"),
    (r"5\text{ cm}^2", "5"),
    (r"5\text{ cm}", r"5\,\mbox{cm}"),
    ("2^{10}", "1024"),
    (r"\(7\)", "$7$"),
]
DIFFERENT = [
    ("(1,2)", "(2,1)"),
    ("[0,1)", "(0,1)"),
    ("1,2", "12"),
    ("1,2,2", "1,1,2"),
    ("1,2", "1,2,3"),
    (r"\{1,2\}", "(1,2)"),
    ("12345678901234567890", "12345678901234567891"),
    ("10^{30}+1", "10^{30}"),
    ("0.333", r"\frac13"),
    (r"\sqrt{2}", "1.4142"),
    ("x^2", "2x"),
    ("x+y", "x-y"),
    ("a", "b"),
    ("5", "-5"),
    ("2+3*4", "20"),
    ("-2^2", "4"),
    ("8/4/2", "4"),
    ("528", "52_8"),
    (r"5\text{ cm}", r"5\text{ m}"),
    (r"3\text{ or }4", "34"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}"),
    (r"3 \pm 2", "3"),
    ("1/0", "2/0"),
    ("9^{9^9}", "9^{9^8}"),
    ("", ""),
    ("(" * 30 + "1" + ")" * 30, "1"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_answers_that_say_the_same_are_the_same(one: str, other: str) -> None:
    assert same(one, other)
    assert same(other, one)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_answers_that_do_not_are_not(one: str, other: str) -> None:
    assert not same(one, other)
    assert not same(other, one)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        "\\\\[" * 100_000,
        "-" * 199,
        "2^" * 99 + "2",
        "\\sqrt" * 40 + "2",
        "(x^999)" * 28,
        ",".join("x" * 100),
        "\\begin{pmatrix}" + "\\frac" * 36,
        "answer is " + " " * 100_000,
    ],
)
def test_no_answer_takes_long_to_compare(text: str) -> None:
    assert not same(text, "1")
    assert not same(text, text[:-1] + "7")


def _math(tmp_path: Path, **fields) -> tuple[Math500, Path]:
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps({"problem": "P?", "answer": r"\frac{1}{2}"} | fields), "utf-8")
    return Math500(path), path


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (r"so $\boxed{\frac12}$", r"\frac12"),
        (r"first \boxed{7}, no: \boxed{0.5}.", "0.5"),
        (r"\fbox{ 1/2 }", "1/2"),
        ("The final answer is $0.5$. I hope it is correct.", "0.5"),
        ("The answer is: 1/2.", "1/2"),
        ("\\boxed{.5}\n\nProblem: Q?\nSolution: \\boxed{9}", ".5"),
    ],
)
def test_the_last_box_or_else_what_the_answer_is_said_to_be_is_read(
    tmp_path: Path, text: str, read: str
) -> None:
    task, _ = _math(tmp_path)
    assert task.grade(task.problems(1, 0)[0], text) == (1.0, read, "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (r"\boxed{2}", r"wanted \frac{1}{2}"),
        (r"\boxed{\frac12} or \boxed{3}", r"wanted \frac{1}{2}"),
        (r"\boxed{\frac{1}{2}", r"no \boxed{} answer"),
        ("it is 1/2", r"no \boxed{} answer"),
    ],
)
def test_another_answer_is_wrong(tmp_path: Path, text: str, why: str) -> None:
    task, _ = _math(tmp_path)
    grade = task.grade(task.problems(1, 0)[0], text)
    assert (grade.score, grade.why) == (0.0, why)


def test_a_solution_is_the_answer_only_if_its_box_says_so(tmp_path: Path) -> None:
    task, _ = _math(tmp_path, solution=r"Half: $\boxed{0.5}$.", level="Level 4", subject="Algebra")
    (problem,) = task.problems(1, 0)
    assert (problem.answer, problem.group) == (r" Half: $\boxed{0.5}$.", "level=4")
    task, _ = _math(tmp_path, solution=r"$\boxed{0.7}$.", subject="Algebra")
    (problem,) = task.problems(1, 0)
    assert problem.answer == r" The answer is \boxed{\frac{1}{2}}."
    assert problem.group == "subject=Algebra"


def test_built_in_examples_box_right_answers(tmp_path: Path) -> None:
    _, path = _math(tmp_path)
    (problem,) = Math500(path, shots=3).problems(1, 0)
    boxes = re.findall(r"boxed\{(.*)\}\$", problem.prompt)
    assert boxes == ["5", r"\frac{1}{6}", r"4\sqrt{2}"]
    with pytest.raises(ValueError, match="shots must be from 0 to 3, got 4"):
        Math500(path, shots=4)
