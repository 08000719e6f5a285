"""Generated text tasks: every answer is right, every wrong one is told why."""

import hashlib
import json
import re

import pytest

from unison.suites import SUITES, TASKS, SuiteError, Task, made
from unison.suites.text.edits import EDITS, Edits
from unison.suites.text.extraction import Extraction
from unison.suites.text.recall import Recall
from unison.suites.text.stories import TEMPLATES, Stories

GENERATED = [
    Extraction(),
    Extraction(fields=6, nested=True, shots=0),
    Extraction(fields=1, shots=3),
    Recall(),
    Recall(pairs=9, distance=3, digits=2, shots=0),
    Recall(pairs=1, shots=2),
    Stories(),
    Stories(sentences=6, free=True, shots=2),
    Edits(),
    Edits(length=2, shots=0),
    Edits(edit="count", length=30),
]
GARBAGE = [
    "",
    " \n\t ",
    "\x00\ud800\U0001f600\u202e",
    "{" * 5000,
    "[" * 100_000,
    '{"a": ' * 100_000,
    "9" * 100_000,
    "word " * 50_000,
    '{"a": NaN}',
    '{"a": 1e999}',
    "{'a': 1}",
    "#### \\boxed{ {",
]


@pytest.mark.parametrize("task", GENERATED, ids=str)
def test_the_answer_of_every_problem_is_right(task: Task) -> None:
    for problem in task.problems(60, 3):
        grade = task.grade(problem, problem.answer)
        assert (grade.score, grade.why) == (1.0, "")
        assert task.grade(problem, f"\n {problem.answer.strip()}  \nand more\n").score == 1.0


@pytest.mark.parametrize("task", GENERATED, ids=str)
def test_the_first_problems_do_not_depend_on_how_many_are_asked(task: Task) -> None:
    assert list(task.problems(50, 1))[:20] == list(task.problems(20, 1))


@pytest.mark.parametrize("task", GENERATED, ids=str)
def test_names_are_unique_and_another_seed_asks_other_questions(task: Task) -> None:
    problems = [*task.problems(40, 0), *task.problems(40, 1)]
    assert len({problem.name for problem in problems}) == 80
    first, second = [problem.prompt for problem in problems[:40]], problems[40:]
    assert len(set(first) & {problem.prompt for problem in second}) < 15  # two-letter words recur


@pytest.mark.parametrize("task", GENERATED, ids=str)
def test_prompts_are_plain_text_that_an_answer_continues(task: Task) -> None:
    for problem in task.problems(12, 0):
        assert problem.prompt.isascii()
        assert problem.prompt == problem.prompt.rstrip()
        assert problem.answer.startswith(" ")
        assert not problem.answer.endswith((" ", "\n"))


@pytest.mark.parametrize("task", GENERATED, ids=str)
@pytest.mark.parametrize("text", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_wrong_with_a_reason_and_never_an_error(task: Task, text: str) -> None:
    for problem in task.problems(2, 0):
        grade = task.grade(problem, text)
        assert grade.score == 0.0
        assert grade.why


@pytest.mark.parametrize("task", GENERATED, ids=str)
def test_the_answer_of_another_problem_is_wrong(task: Task) -> None:
    problems = task.problems(30, 0)
    for problem in problems:
        others = {other.answer for other in problems} - {problem.answer}
        if not isinstance(task, Extraction):  # objects that differ in the order of keys are equal
            assert all(task.grade(problem, answer).score == 0.0 for answer in others)


@pytest.mark.parametrize("name", ["edit", "extract", "recall", "story"])
def test_a_suite_names_each_generated_task(name: str) -> None:
    assert name in SUITES["text"]
    task = made(TASKS[name], f"{name}:shots=2", {"shots": 2})
    assert task.problems(1, 0)[0].prompt != TASKS[name]().problems(1, 0)[0].prompt


def test_problems_are_the_same_for_ever() -> None:
    tasks = [Extraction(nested=True), Recall(), Stories(), Edits()]
    digests = [
        hashlib.sha256("\0".join(p.prompt + p.answer for p in task.problems(30, 7)).encode())
        for task in tasks
    ]
    assert [digest.hexdigest()[:12] for digest in digests] == PINNED


PINNED = ["4b21f4a0bed4", "59a257e41dc7", "ec0bcce572df", "b33b69d2ab54"]


# JSON extraction


def _asked(problem) -> dict[str, str]:
    """Return the kinds of the asked fields."""
    line = problem.prompt.rsplit("Fields: ", 1)[1].partition("\n")[0]
    return dict(re.findall(r"(\w+) \(([^)]*)\)", line))


def test_extracted_values_have_the_kinds_that_the_question_names() -> None:
    kinds = {"string": str, "integer": int, "boolean": bool, "list of strings": list}
    seen = set()
    for problem in Extraction(fields=5, nested=True).problems(80, 0):
        answer, asked = json.loads(problem.answer), _asked(problem)
        assert list(answer) == list(asked)
        assert len(answer) == 6
        for name, kind in asked.items():
            seen.add(kind.partition(" ")[0])
            if kind.startswith("object with "):
                keys = kind.removeprefix("object with ").split(", ")
                assert list(answer[name]) == keys
            else:
                assert type(answer[name]) is kinds[kind]
    assert seen == {"string", "integer", "boolean", "list", "object"}


def test_every_extracted_value_stands_in_the_text() -> None:
    for problem in Extraction(fields=6, nested=True).problems(80, 1):
        text = problem.prompt.rsplit("Text: ", 1)[1].partition("\n")[0]
        for value in json.loads(problem.answer).values():
            if isinstance(value, list):
                assert ", ".join(value[:-1]) + " and " + value[-1] in text
            elif isinstance(value, dict):
                assert all(str(part) in text for part in value.values())
            elif not isinstance(value, bool):
                assert str(value) in text


def test_a_truth_value_is_false_exactly_where_the_text_denies() -> None:
    truths = set()
    for problem in Extraction(fields=6).problems(80, 2):
        text = problem.prompt.rsplit("Text: ", 1)[1].partition("\n")[0]
        values = [v for v in json.loads(problem.answer).values() if isinstance(v, bool)]
        for value in values:
            assert value is not bool(re.search(r" not | never | unpaid| waits to ", text))
            truths.add(value)
    assert truths == {True, False}


def test_sentences_come_in_different_orders() -> None:
    problems = [p for p in Extraction(shots=0).problems(80, 0) if p.group == "record=person"]
    starts = {p.prompt.partition("Text: ")[2][:12] for p in problems}
    assert len(starts) > 10


def test_text_around_the_object_and_the_order_of_keys_do_not_matter() -> None:
    task = Extraction(fields=4, nested=True)
    (problem,) = task.problems(1, 0)
    turned = dict(reversed(json.loads(problem.answer).items()))
    pretty = json.dumps(turned, indent=2)
    assert task.grade(problem, f"Sure:\n```json\n{pretty}\n``` {{not this}}").score == 1.0
    read = {task.grade(problem, text).read for text in (problem.answer, pretty)}
    assert len(read) == 1  # votes are counted on it


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda a: a.pop("age"), "no field 'age'"),
        (lambda a: a.update(age=str(a["age"])), 'age is "'),
        (lambda a: a.update(age=float(a["age"])), ".0, wanted "),
        (lambda a: a.update(age=a["age"] + 1), "age is "),
        (lambda a: a.update(married=int(a["married"])), "married is "),
        (lambda a: a.update(married=not a["married"]), "married is "),
        (lambda a: a["languages"].reverse(), "languages is "),
        (lambda a: a["languages"].append("Latin"), "languages is "),
        (lambda a: a["address"].update(number=0), "address is "),
        (lambda a: a.update(hobby="chess"), 'field "hobby" was not asked'),
    ],
)
def test_a_wrong_field_is_named(change, why: str) -> None:
    task = Extraction(fields=6, nested=True)
    (problem,) = task.problems(1, 0)
    answer = json.loads(problem.answer)
    change(answer)
    grade = task.grade(problem, json.dumps(answer))
    assert grade.score == 0.0
    assert why in grade.why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nothing", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ('{"name": "A"', "invalid JSON"),
        ("{'name': 'A'}", "invalid JSON"),
        ('{"a": 1, "a": 2}', "the same key twice"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": 1e999}', "too large"),
        ('{"a": ' * 50_000, "nested too deeply"),
    ],
)
def test_invalid_json_is_named(text: str, why: str) -> None:
    task = Extraction()
    (problem,) = task.problems(1, 0)
    assert why in task.grade(problem, text).why


# Key-value recall


def test_the_asked_key_stands_as_far_from_the_end_as_the_group_says() -> None:
    for problem in Recall(pairs=20).problems(60, 5):
        *lines, question = problem.prompt.rpartition("\n\n")[2].split("\n")
        key = re.fullmatch(r"What is the value of (\w+)\?", question)[1]
        distance = int(problem.group.removeprefix("distance="))
        assert len(lines) == 20
        assert lines[-distance] == f"{key}:{problem.answer}"
        assert len({line.split(": ")[0] for line in lines}) == 20
        assert len({line.split(": ")[1] for line in lines}) == 20


def test_distances_double_up_to_the_first_line_and_come_in_turn() -> None:
    groups = [problem.group for problem in Recall(pairs=20).problems(12, 0)]
    assert groups == [f"distance={d}" for d in (1, 2, 4, 8, 16, 20)] * 2
    groups = [problem.group for problem in Recall(pairs=8).problems(4, 0)]
    assert groups == [f"distance={d}" for d in (1, 2, 4, 8)]
    assert {p.group for p in Recall(pairs=20, distance=7).problems(9, 0)} == {"distance=7"}


def test_the_value_of_another_key_is_named_as_such() -> None:
    task = Recall(pairs=5, distance=2, shots=0)
    (problem,) = task.problems(1, 0)
    other, value = problem.prompt.split("\n")[-2].split(": ")
    grade = task.grade(problem, f" {value}\n{problem.answer}")
    assert grade == (0.0, value, f"wanted {problem.answer.strip()}; said that of {other}")
    assert task.grade(problem, "0").why == f"wanted {problem.answer.strip()}"


# Stories


def test_a_story_tells_its_facts_wherever_they_belong() -> None:
    for problem in Stories(sentences=6).problems(30, 0):
        facts = dict(re.findall(r"^(\w+): (\w+)$", problem.prompt.rpartition("\n\n")[2], re.M))
        form = TEMPLATES[problem.group.removeprefix("story=")]
        assert set(facts) == {"name", "friend", "thing", "place"}
        told = [
            sentence.replace("{name}", facts["name"])
            .replace("{friend}", facts["friend"])
            .replace("{thing}", facts["thing"])
            .replace("{place}", facts["place"])
            for sentence in form
        ]
        assert problem.answer == " " + " ".join(told)
        assert facts["name"] != facts["friend"]


def test_forms_and_facts_share_no_word() -> None:
    text = " ".join(sentence for form in TEMPLATES.values() for sentence in form)
    task = Stories(sentences=6, free=True)
    facts = {
        word
        for problem in task.problems(300, 0)
        for word in re.findall(r"^\w+: (\w+)$", problem.prompt, re.M)
    }
    assert len(facts) > 35
    assert not facts & set(re.findall(r"\w+", text))


def test_other_words_are_right_only_where_stories_are_free() -> None:
    free, exact = Stories(free=True), Stories()
    (problem,) = exact.problems(1, 0)
    assert problem.group == "story=lost"
    reworded = (
        problem.answer.replace(" lost a ", " mislaid the ")
        .replace("After an hour", "Soon")
        .replace("back to", "again, to")
    )
    assert reworded != problem.answer
    assert free.grade(problem, reworded).score == 1.0
    grade = exact.grade(problem, reworded)
    assert grade.score == 0.0
    assert grade.why.startswith("sentence 1 differs")


@pytest.mark.parametrize("free", [True, False])
def test_a_fact_in_a_wrong_place_is_wrong_in_both_modes(free: bool) -> None:
    task = Stories(free=free, sentences=4)
    (problem,) = task.problems(1, 0)
    facts = dict(re.findall(r"^(\w+): (\w+)$", problem.prompt.rpartition("\n\n")[2], re.M))
    name, friend, thing = facts["name"], facts["friend"], facts["thing"]
    answer = problem.answer
    swapped = answer.replace(name, "?").replace(friend, name).replace("?", friend)
    last = answer.rindex(thing)
    other = "clock" if thing != "clock" else "drum"
    changed = answer[:last] + other + answer[last + len(thing) :]
    dropped = answer.rpartition(". ")[0] + "."
    added = f"{answer} Then {name} slept."
    wrong = {swapped: "sentence 1", changed: "sentence 4", dropped: "3 sent", added: "5 sent"}
    for text, why in wrong.items():
        grade = task.grade(problem, text)
        assert grade.score == 0.0
        assert grade.why.startswith(why)


# Edits of letters

DONE = {
    r"Write every second letter as a capital\.": lambda w: re.sub(
        "(.)(.)", lambda m: m[1] + m[2].upper(), w
    ),
    r"Write every third letter as a capital\.": lambda w: re.sub(
        "(..)(.)", lambda m: m[1] + m[2].upper(), w
    ),
    r"Leave out all vowels\.": lambda w: re.sub("[aeiou]", "", w),
    r"Double letter number (\d+)\.": lambda w, n: re.sub(f"^(.{{{int(n) - 1}}})(.)", r"\1\2\2", w),
    r"Replace every (.) by (.)\.": lambda w, a, b: b.join(w.split(a)),
    r"Reverse the word\.": lambda w: "".join(reversed(w)),
    r"Insert (.) after letter number (\d+)\.": lambda w, c, n: re.sub(
        f"^(.{{{n}}})", rf"\g<1>{c}", w
    ),
    r"Leave out letter number (\d+)\.": lambda w, n: re.sub(f"^(.{{{int(n) - 1}}}).", r"\1", w),
    r"Swap the first and the last letter\.": lambda w: re.sub("^(.)(.*)(.)$", r"\3\2\1", w),
    r"Move every letter 13 places on .*": lambda w: "".join(
        chr((ord(c) - ord("a") + 13) % 26 + ord("a")) for c in w
    ),
    r"Write a hyphen between the letters\.": lambda w: re.sub("(.)(?=.)", r"\1-", w),
    r"How often is there (.) in the word\?": lambda w, c: str(len(re.findall(c, w))),
}


@pytest.mark.parametrize("length", [2, 3, 8, 15])
def test_edits_do_what_their_instruction_says(length: int) -> None:
    used = set()
    for problem in Edits(length=length, shots=2).problems(330, length):
        asked, *lines = f"{problem.prompt}{problem.answer}".split("\n")
        pattern = next(pattern for pattern in DONE if re.fullmatch(pattern, asked))
        used.add(pattern)
        assert len(lines) == 3
        for line in lines:
            word, done = line.split(" -> ")
            assert len(word) == length
            assert done == DONE[pattern](word, *re.fullmatch(pattern, asked).groups())
    assert used == set(DONE)


def test_edits_come_in_turn_and_one_can_be_chosen() -> None:
    groups = [problem.group for problem in Edits().problems(2 * len(EDITS), 0)]
    assert groups == [f"edit={name}" for name in EDITS] * 2
    assert {p.group for p in Edits(edit="rot13").problems(5, 0)} == {"edit=rot13"}


def test_a_letter_that_is_replaced_stands_in_the_word() -> None:
    for problem in Edits(edit="replace").problems(60, 0):
        word = problem.prompt.rpartition("\n")[2].removesuffix(" ->")
        assert problem.answer.strip() != word


def test_capitals_and_blanks_count_in_a_word() -> None:
    task = Edits(edit="upper")
    (problem,) = task.problems(1, 0)
    wanted = problem.answer.strip()
    assert task.grade(problem, wanted.lower()) == (0.0, wanted.lower(), f"wanted {wanted}")
    assert task.grade(problem, " ".join(wanted)).score == 0.0


@pytest.mark.parametrize(
    ("line", "settings", "says"),
    [
        ("extract:fields=7", {"fields": 7}, "fields must be from 1 to 6, got 7"),
        ("extract:shots=-1", {"shots": -1}, "shots must be at least 0"),
        ("recall:pairs=0", {"pairs": 0}, "pairs must be from 1 to 4000, got 0"),
        ("recall:distance=33", {"distance": 33}, "distance must be from 0 to pairs=32, got 33"),
        ("recall:digits=1", {"digits": 1}, "raise digits or lower pairs"),
        ("story:sentences=7", {"sentences": 7}, "sentences must be from 1 to 6, got 7"),
        ("story:shots=0", {"shots": 0}, "an example shows the form"),
        ("edit:edit=revers", {"edit": "revers"}, "did you mean 'reverse'?"),
        ("edit:length=1", {"length": 1}, "length must be at least 2, got 1"),
    ],
)
def test_settings_out_of_range_are_refused(line: str, settings, says: str) -> None:
    with pytest.raises(SuiteError, match=re.escape(says)):
        made(TASKS[line.partition(":")[0]], line, settings)
