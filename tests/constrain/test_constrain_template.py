import datetime
import json
import random
import re

import pytest
from recognising import accepted

from unison.constrain.language import ConstraintError
from unison.constrain.sources.choice import choice
from unison.constrain.sources.ebnf import ebnf
from unison.constrain.sources.gbnf import gbnf
from unison.constrain.sources.template import TYPES, parts, template, values

LETTER = "Dear {name:word},\nyou are {age:int} years old.\n"
NESTED = gbnf('root ::= "(" root ")" | "x"')


def test_a_template_is_its_text_with_its_holes_filled():
    grammar = template(LETTER)
    assert accepted(grammar, "Dear Ada,\nyou are 36 years old.\n")
    assert not accepted(grammar, "Dear Ada,\nyou are many years old.\n")
    assert not accepted(grammar, "Dear Ada Lovelace,\nyou are 36 years old.\n")
    assert not accepted(grammar, "Dear Ada,\nyou are 36 years old.")


@pytest.mark.parametrize(
    ("kind", "inside", "outside"),
    [
        ("int", ["0", "7", "-12"], ["", "007", "-0", "1.5", "+1", "1 "]),
        ("float", ["0", "-1.50", "2e-3", "1.5E+10"], ["", ".5", "1.", "1e", "--1", "01"]),
        ("word", ["a", "na\u00efve", "x-1!"], ["", "a b", "a\n", "\u00a0"]),
        ("line", ["", "a b\tc", "\u00e9"], ["\n", "a\nb", "\r"]),
        ("text", ["", "a\nb", "{}\U0001f600"], []),
        ("str", ['""', r'"a\"\\\u00E9\n"'], ["", "a", '"', '"a"b"', r'"\x"', r'"\u12"', '"\n"']),
        ("bool", ["true", "false"], ["", "True", "truefalse"]),
        ("/a[}/b]{2}/", ["a}}"], ["a}"]),
        (r"/x{2,3}\/|(?:y|z)}/", ["xx/", "xxx/", "y}"], ["x/", "xx", "y"]),
        ("/(?i)ab/", ["aB"], ["ac"]),
        ("[red|dark blue|]", ["red", "dark blue", ""], ["blue", "red|dark blue"]),
        (r"[a\|b|\]|\\|}]", ["a|b", "]", "\\", "}"], ["a", "b", "|"]),
    ],
)
def test_a_hole_takes_what_its_type_says(kind, inside, outside):
    if kind == "/a[}/b]{2}/":
        kind = r"/a[}\/b]{2}/"
    for grammar in (template(f"<{{x:{kind}}}>"), template("<{x}>", {"x": kind})):
        assert [text for text in inside if not accepted(grammar, f"<{text}>")] == []
        assert [text for text in outside if accepted(grammar, f"<{text}>")] == []
    for text in inside:
        assert values(f"<{{x:{kind}}}>", f"<{text}>") == {"x": text}
    for text in outside:
        with pytest.raises(ConstraintError, match="does not fit the template"):
            values(f"<{{x:{kind}}}>", f"<{text}>")


def test_dates_are_those_of_the_calendar():
    grammar, draw = template("{:date}"), random.Random(1)
    years = [0, 1, 4, 100, 400, 1000, 1900, 2000, 2023, 2024, 2100, 9999]
    for year in [*years, *(draw.randrange(10_000) for _ in range(30))]:
        for month, day in [(2, 28), (2, 29), (draw.randrange(14), draw.randrange(33)), (11, 31)]:
            text = f"{year:04}-{month:02}-{day:02}"
            assert accepted(grammar, text) == is_date(text), text
    every = [f"2023-{month:02}-{day:02}" for month in range(14) for day in range(33)]
    pattern = re.compile(TYPES["date"])
    assert [text for text in every if bool(pattern.fullmatch(text)) != is_date(text)] == []


def is_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def test_json_strings_are_those_a_json_parser_reads():
    grammar, draw, held = template("{:str}"), random.Random(2), 0
    for _ in range(1500):
        text = '"' + "".join(draw.choice('"\\nu0aF\t/') for _ in range(draw.randrange(5))) + '"'
        try:
            wanted = isinstance(json.loads(text), str)
        except ValueError:
            wanted = False
        held += wanted
        assert accepted(grammar, text) == wanted, text
    assert 300 < held < 1200


def test_a_hole_may_hold_any_json():
    grammar = template("v = {v:json}\n")
    assert accepted(grammar, 'v = {"a": [1, true, null, "x"]}\n')
    assert not accepted(grammar, 'v = {"a": [1, true, ]}\n')


def test_doubled_braces_are_braces():
    grammar = template("{{{x:int}}} }}{{")
    assert accepted(grammar, "{5} }{")
    assert values("{{{x:int}}} }}{{", "{5} }{") == {"x": "5"}
    assert parts("{{{x:int}}} }}{{") == ("{", 16, "} }{")


def test_a_hole_without_a_type_takes_any_text():
    assert accepted(template("<{x}>"), "<\n>")
    assert accepted(template("<{x}>"), "<>")


def test_holes_without_a_name_may_stand_often_and_are_not_read():
    text = "{:int} + {:int} = {sum:int}"
    assert accepted(template(text), "1 + 2 = 4")
    assert values(text, "1 + 2 = 4") == {"sum": "4"}


def test_grammars_fill_holes_without_mixing_their_rules():
    other = gbnf('root ::= word ("," root)?\nword ::= [a-z]+')
    grammar = template(
        "{root} {template}", {"root": NESTED, "template": gbnf('root ::= "a" word\nword ::= "1"')}
    )
    assert accepted(grammar, "((x)) a1")
    assert not accepted(grammar, "((x) a1")
    assert not accepted(grammar, "((x)) ax")
    both = template("{a}|{b}", {"a": other, "b": other})
    assert accepted(both, "x,y|z")
    assert not accepted(both, "x,|z")


def test_the_same_grammar_under_choice_is_the_same_as_options_in_the_text():
    grammar = template("<{x}>", {"x": choice(["a", "b"])})
    assert [accepted(grammar, text) for text in ("<a>", "<b>", "<c>")] == [True, True, False]


def test_a_grammar_with_lexemes_may_only_be_the_whole_template():
    lexed = ebnf('start: "a" start?')
    assert template("{x}", {"x": lexed}) is lexed
    with pytest.raises(ConstraintError, match=r"line 1, column 2: .* hole 'x', cuts its text into"):
        template("<{x}>", {"x": lexed})
    read = template("<{x}>", {"x": ebnf('start: "a" start?', scannerless=True)})
    assert accepted(read, "<aa>")


def test_a_canvas_holds_the_text_and_open_slots():
    assert parts(LETTER) == ("Dear ", 16, ",\nyou are ", 16, " years old.\n")
    assert parts(LETTER, slots=3) == ("Dear ", 3, ",\nyou are ", 3, " years old.\n")
    assert parts(LETTER, slots={"age": 2}) == ("Dear ", 16, ",\nyou are ", 2, " years old.\n")
    assert parts("{a}{b}", {"a": NESTED}, {"b": 1}) == (16, 1)


def test_filled_holes_are_read_back():
    filled = "Dear Ada,\nyou are 36 years old.\n"
    assert values(LETTER, filled) == {"name": "Ada", "age": "36"}
    assert values("{x}", "((x))", {"x": NESTED}) == {"x": "((x))"}
    assert values("{v:json};", '{"a": ";"};') == {"v": '{"a": ";"}'}


def test_where_readings_differ_earlier_holes_are_as_short_as_they_can_be():
    assert values("{a} {b}", "x y z") == {"a": "x", "b": "y z"}
    assert values("{a:line}{b:word}", "xyz") == {"a": "", "b": "xyz"}
    assert values("{a:int}{b:int}", "123") == {"a": "1", "b": "23"}


def test_values_of_random_fillings_come_back():
    draw = random.Random(3)
    text = "id: {id:int}\nname: {name:line}\ntags: {tags:/[a-z]+(, [a-z]+)*/}; {ok:bool}/{day:date}"
    grammar = template(text)
    for _ in range(40):
        held = {
            "id": str(draw.randint(-50, 50)),
            "name": "".join(draw.choice("ab :;/") for _ in range(draw.randrange(6))),
            "tags": ", ".join("".join(draw.choices("xyz", k=2)) for _ in range(draw.randint(1, 3))),
            "ok": draw.choice(("true", "false")),
            "day": f"20{draw.randrange(100):02}-0{draw.randint(1, 9)}-1{draw.randrange(10)}",
        }
        filled = re.sub(r"\{(\w+):(?:/.*?/|\w+)\}", lambda hole, held=held: held[hole[1]], text)
        assert accepted(grammar, filled)
        assert values(text, filled) == held


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a\n b}", "line 2, column 3: a } that closes no hole; }} is a brace"),
        ("a {x", "line 1, column 5: expected '}' behind a hole (a hole is {name:type}; {{ is a br"),
        ("a { x}", "line 1, column 4: expected '}' behind a hole"),
        ("{x:}", "line 1, column 4: expected a type, a /pattern/ or [some|options], found '}'"),
        ("{x:imt}", "line 1, column 4: type 'imt' is not defined; did you mean 'int'?"),
        ("{x:/a}", "line 1, column 4: expected a type, a /pattern/ or [some|options], found '/a}'"),
        ("{x:/(/}", "hole 'x' of the template, line 1, column 1"),
        ("{x:[a|b}", "line 1, column 4: expected a type, a /pattern/ or [some|options]"),
        ("{x:int}\n{x:int}", "line 2, column 1: hole 'x' stands at line 1, column 1 already; hol"),
    ],
)
def test_every_error_in_the_text_says_where(text, problem):
    with pytest.raises(ConstraintError, match=re.escape(problem)):
        template(text)


def test_patterns_that_cannot_be_read_back_are_refused():
    with pytest.raises(ConstraintError, match="redefinition of group name"):
        values("{x:/(?P<a>b)/}{y:/(?P<a>b)/}", "bb")
    with pytest.raises(ConstraintError, match="hole 'x' of the template, line 1, column 1"):
        values(r"{x:/(a)\1/}", "aa")


@pytest.mark.parametrize(
    ("text", "holes", "problem"),
    [
        ("{name}", {"nam": "int"}, "holes name 'nam', but the template has no such hole; did you"),
        ("{x:int}", {"x": "int"}, "column 1: hole 'x' has its type in the template too"),
        ("{x}", {"x": "itn"}, "type 'itn' is not defined; did you mean 'int'?"),
        ("{x}", {"x": "[a"}, "'[a' is no type, no /pattern/ and no [some|options]"),
    ],
)
def test_holes_that_do_not_fit_the_text_are_refused(text, holes, problem):
    with pytest.raises(ConstraintError, match=re.escape(problem)):
        template(text, holes)


@pytest.mark.parametrize(
    ("slots", "problem"),
    [
        (0, "needs one slot or more for 'every hole', got 0"),
        ({"x": 0}, "needs one slot or more for 'x', got 0"),
        ({"y": 4}, "slots name 'y', but the template has no such hole"),
    ],
)
def test_slots_that_do_not_fit_the_holes_are_refused(slots, problem):
    with pytest.raises(ConstraintError, match=re.escape(problem)):
        parts("{x}", slots=slots)
