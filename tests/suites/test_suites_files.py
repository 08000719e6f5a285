"""Tasks that read a file: what is wrong with it is said, and in which line."""

import gzip
import importlib.util
import json
import re
from pathlib import Path

import pytest

from unison.suites import TASKS, SuiteError, made
from unison.suites.given.lambada import Lambada

GSM8K = [
    {
        "question": f"What is {i} + {i}?",
        "answer": f"It is <<{i}+{i}={2 * i}>>{2 * i}.\n#### {2 * i}",
    }
    for i in range(30)
]
MATH = [
    {"problem": f"What is half of ${i}$?", "answer": rf"\frac{{{i}}}{{2}}", "level": i % 5 + 1}
    for i in range(30)
]
SCHEMAS = [{"schema": {"type": "integer", "minimum": i}, "instance": i} for i in range(30)]
PASSAGES = [
    f"some say that number {i} is called {'abcdefgh'[i % 8]}{'xyz'[i % 3]}" for i in range(30)
]
ROWS = {"gsm8k": GSM8K, "math500": MATH, "json-schema": SCHEMAS}
FILES = {
    "gsm8k": "test.jsonl",
    "math500": "test.jsonl",
    "json-schema": "test.jsonl",
    "lambada": "lambada_test_plain_text.txt",
}
NEEDED = {"gsm8k": ("question", "answer"), "math500": ("problem", "answer")}
VALIDATES = importlib.util.find_spec("jsonschema") is not None


def _lines(name: str) -> list[str]:
    return PASSAGES if name == "lambada" else [json.dumps(row) for row in ROWS[name]]


@pytest.fixture(params=list(FILES))
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "json-schema" and not VALIDATES:
        pytest.skip("jsonschema is not installed")
    return request.param


@pytest.fixture
def path(name: str, tmp_path: Path) -> Path:
    file = tmp_path / FILES[name]
    file.write_text("\n".join(_lines(name)) + "\n", encoding="utf-8")
    return file


def test_reference_answers_are_right(name: str, path: Path) -> None:
    task = TASKS[name](path=path)
    problems = task.problems(100, 0)
    assert len(problems) == 30
    for problem in problems:
        grade = task.grade(problem, problem.answer)
        assert (grade.score, grade.why) == (1.0, "")


def test_problems_are_drawn_without_repetition_and_the_first_ones_whatever_the_count(
    name: str, path: Path
) -> None:
    task = TASKS[name](path=path)
    names = [problem.name for problem in task.problems(100, 0)]
    assert sorted(names) == [f"{name}/{line:05}" for line in range(1, 31)]
    assert names != sorted(names)
    assert list(task.problems(7, 0)) == list(task.problems(100, 0))[:7]
    assert [p.name for p in task.problems(100, 1)] != names


def test_a_folder_and_a_gzipped_file_are_read_alike(name: str, path: Path) -> None:
    problems = list(TASKS[name](path=path).problems(9, 4))
    assert list(TASKS[name](path=path.parent).problems(9, 4)) == problems
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert list(TASKS[name](path=packed).problems(9, 4)) == problems
    path.unlink()
    assert list(TASKS[name](path=path.parent).problems(9, 4)) == problems


def test_blank_lines_and_a_byte_order_mark_are_no_problems_but_count_as_lines(
    name: str, path: Path
) -> None:
    wanted = TASKS[name](path=path).problems(100, 0)
    text = path.read_text(encoding="utf-8").replace("\n", "\r\n \r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    problems = TASKS[name](path=path).problems(100, 0)
    assert [p.prompt for p in problems] == [p.prompt for p in wanted]
    assert sorted(p.name for p in problems) == [f"{name}/{line:05}" for line in range(1, 61, 2)]


@pytest.mark.parametrize("name", list(FILES))
def test_without_a_path_the_message_says_how_to_give_one(name: str) -> None:
    with pytest.raises(SuiteError, match=rf"^{name} needs path=FILE, such as {name}:path="):
        TASKS[name]().problems(1, 0)


def test_a_path_is_read_from_a_line(name: str, path: Path) -> None:
    task = made(TASKS[name], f"{name}:path={path}", {"path": str(path)})
    assert len(task.problems(3, 0)) == 3


def test_a_missing_file_and_a_folder_without_one_are_named(name: str, tmp_path: Path) -> None:
    missing = tmp_path / "no.jsonl"
    with pytest.raises(SuiteError, match=re.escape(f"{name}: there is no file {missing}")):
        TASKS[name](path=missing).problems(1, 0)
    with pytest.raises(SuiteError, match=re.escape(f"{tmp_path} holds none of {FILES[name]}")):
        TASKS[name](path=tmp_path).problems(1, 0)


@pytest.mark.parametrize("content", [b"", b"\n \r\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(name: str, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(SuiteError, match=re.escape(f"{path} is empty")):
        TASKS[name](path=path).problems(1, 0)


def test_a_line_that_is_not_utf8_is_named(name: str, path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2][:4] + b"\xff" + lines[2][4:]
    path.write_bytes(b"\n".join(lines))
    wanted = re.escape(f"{path}:3 is not UTF-8 (byte 5 of the line)")
    with pytest.raises(SuiteError, match=wanted):
        TASKS[name](path=path).problems(1, 0)


@pytest.mark.parametrize("damage", [lambda raw: b"no gzip", lambda raw: raw[:-20]])
def test_a_damaged_gzip_file_is_named(name: str, path: Path, damage) -> None:
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(damage(gzip.compress(path.read_bytes())))
    with pytest.raises(SuiteError, match=re.escape(f"{packed} is not a whole gzip file")):
        TASKS[name](path=packed).problems(1, 0)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"question": ', "is not JSON (Expecting value"),
        ("plain text", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1, 2]", "is a list, not an object"),
        ('"text"', "is text, not an object"),
    ],
)
def test_a_line_that_is_no_object_is_named_and_shown_what_is_expected(
    name: str, path: Path, line: str, says: str
) -> None:
    if name == "lambada":
        pytest.skip("reads plain text")
    lines = _lines(name)
    path.write_text("\n".join([*lines[:11], line, *lines[11:]]), encoding="utf-8")
    with pytest.raises(SuiteError, match=re.escape(f"{path}:12 {says}")) as caught:
        TASKS[name](path=path).problems(1, 0)
    assert "expected a line such as {" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name, fields in NEEDED.items() for field in fields]
)
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "has no field '{}', only "),
        (7, "has a whole number as '{}', not text"),
        (" ", "has an empty '{}'"),
    ],
)
def test_a_missing_field_is_named_with_its_line(
    name: str, field: str, value, says: str, tmp_path: Path
) -> None:
    row = dict(ROWS[name][5])
    row.pop(field)
    row |= {} if value is None else {field: value}
    path = tmp_path / "x.jsonl"
    rows = [*ROWS[name][:5], row, *ROWS[name][6:]]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(SuiteError, match=re.escape(f"{path}:6 {says.format(field)}")) as caught:
        TASKS[name](path=path).problems(1, 0)
    assert f'expected a line such as {{"{NEEDED[name][0]}"' in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "\x00\ud800\U0001f600", "9" * 100_000, "\\boxed{" * 9999]
)
def test_garbage_is_wrong_with_a_reason_and_never_an_error(
    name: str, path: Path, text: str
) -> None:
    task = TASKS[name](path=path)
    (problem,) = task.problems(1, 0)
    grade = task.grade(problem, text)
    assert grade.score == 0.0
    assert grade.why


# LAMBADA


def test_the_last_word_is_asked_whatever_its_capitals_and_marks(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("he called for his dog , rex\n", encoding="utf-8")
    task = Lambada(path)
    (problem,) = task.problems(5, 0)
    assert (problem.prompt, problem.answer) == ("he called for his dog ,", " rex")
    for text in ("rex", " Rex. And", '\n"rex" barked', "rex,", "REX\nit"):
        assert task.grade(problem, text) == (1.0, "rex", "")
    for text, read in ((" the rex", "the"), ("rexx", "rexx"), ("re x", "re"), ("", ""), ("..", "")):
        assert task.grade(problem, text) == (0.0, read, "wanted rex")


def test_passages_may_stand_in_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "lambada_test.jsonl"
    path.write_text(json.dumps({"text": 'she said " go home'}) + "\n", encoding="utf-8")
    (problem,) = Lambada(tmp_path).problems(1, 0)
    assert (problem.prompt, problem.answer) == ('she said " go', " home")
    path.write_text('{"text": "two words"}\n{"txt": "two words"}', encoding="utf-8")
    with pytest.raises(SuiteError, match=r"jsonl:2 has no field 'text', only txt"):
        Lambada(path).problems(1, 0)


@pytest.mark.parametrize("line", ["one", "ends in marks ..."])
def test_a_passage_that_does_not_end_in_a_word_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "x.txt"
    path.write_text(f"two words\n\n{line}\n", encoding="utf-8")
    wanted = re.escape(f"{path}:3 does not end in a word after others: {line!r}")
    with pytest.raises(SuiteError, match=wanted):
        Lambada(path).problems(1, 0)
