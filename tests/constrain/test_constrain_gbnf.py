import itertools
import json
import random
import re

import pytest
from grammars import near
from recognising import accepted

from unison.constrain.language import (
    ANY_CHAR,
    Alt,
    Chars,
    ConstraintError,
    Expr,
    Repeat,
    Seq,
    Text,
)
from unison.constrain.sources.gbnf import gbnf

ARITHMETIC = r"""
root   ::= (line "\n")+           # at least one line
line   ::= expr |
           expr "=" number
expr   ::= expr [-+] term | term  # uses itself first
term   ::= number ([*/] number){0,2} | "(" expr ")"
         | "-" term
number ::= [0-9]+
"""

JSON = r"""
root   ::= ws value
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( pair ("," ws pair)* )? "}" ws
pair   ::= string ":" ws value
array  ::= "[" ws (
             value ("," ws value)*
           )? "]" ws
string ::= "\"" ( [^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [-+]? [0-9]+)? ws
ws     ::= [ \t\n\r]*
"""


def is_json(text: str) -> bool:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


def test_json_is_what_a_json_parser_reads():
    grammar = gbnf(JSON)
    texts = list(near(grammar, 400, 3))
    verdicts = [is_json(text) for text in texts]
    assert 100 < sum(verdicts) < 300
    assert [accepted(grammar, text) for text in texts] == verdicts


def test_arithmetic_with_left_recursion_is_what_an_earley_parser_reads():
    lark = pytest.importorskip("lark")
    reference = lark.Lark(
        r"""
        start: (line "\n")+
        line: expr | expr "=" number
        expr: expr ("-"|"+") term | term
        term: number (("*"|"/") number)~0..2 | "(" expr ")" | "-" term
        number: DIGIT+
        DIGIT: "0".."9"
        """,
        parser="earley",
        lexer="dynamic_complete",
    )

    def read(text: str) -> bool:
        try:
            reference.parse(text)
        except lark.exceptions.LarkError:
            return False
        return True

    grammar = gbnf(ARITHMETIC)
    texts = list(near(grammar, 200, 4))
    verdicts = [read(text) for text in texts]
    assert 60 < sum(verdicts) < 180
    assert [accepted(grammar, text) for text in texts] == verdicts


CHARS = 'ab]"-\\'


def test_an_expression_that_is_printed_and_read_means_the_same():
    draw = random.Random(5)
    texts = ["".join(text) for n in range(5) for text in itertools.product(CHARS, repeat=n)]
    held = 0
    for _ in range(60):
        expr = random_expr(draw, 3)
        pattern = re.compile(as_pattern(expr), re.DOTALL)
        grammar = gbnf(f"root ::= {printed(expr, draw)}")
        for text in draw.sample(texts, 150):
            held += bool(pattern.fullmatch(text))
            assert accepted(grammar, text) == bool(pattern.fullmatch(text)), (expr, text)
    assert held > 500


def random_expr(draw: random.Random, depth: int) -> Expr:
    kind = draw.choice(("text", "chars", "any") if depth == 0 else ("text", "seq", "alt", "repeat"))
    match kind:
        case "text":
            return Text("".join(draw.choice(CHARS) for _ in range(draw.randint(0, 2))))
        case "chars":
            return Chars(draw.choice((((45, 45),), ((92, 93),), ((34, 34), (97, 98)), ((94, 97),))))
        case "any":
            return ANY_CHAR
        case "repeat":
            least = draw.randint(0, 2)
            most = draw.choice((None, least, least + 2)) if least else draw.choice((None, 1, 2))
            return Repeat(random_expr(draw, depth - 1), least, most)
    parts = tuple(random_expr(draw, depth - 1) for _ in range(draw.randint(1, 3)))
    return Seq(parts) if kind == "seq" else Alt(parts)


def as_pattern(expr: Expr) -> str:
    match expr:
        case Text(text):
            return re.escape(text)
        case Chars(ranges):
            return "[" + "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in ranges) + "]"
        case Seq(parts):
            return "".join(map(as_pattern, parts))
        case Alt(options):
            return f"(?:{'|'.join(map(as_pattern, options))})"
        case Repeat(item, least, most):
            return f"(?:{as_pattern(item)}){{{least},{'' if most is None else most}}}"
    raise AssertionError(expr)


def printed(expr: Expr, draw: random.Random) -> str:
    """The expression in GBNF, with blanks, comments and escapes that mean nothing."""
    blank = draw.choice((" ", "\t", " \n ", ' # said ]"(\n'))
    match expr:
        case Text(text):
            return '"' + "".join(char_printed(ord(char), draw) for char in text) + '"'
        case Chars() if expr == ANY_CHAR:
            return "."
        case Chars(ranges):
            spans = (f"{char_printed(a, draw)}-{char_printed(b, draw)}" for a, b in ranges)
            return f"[{''.join(spans)}]"
        case Seq(parts):
            return f"({blank}{blank.join(printed(part, draw) for part in parts)}{blank})"
        case Alt(options):
            return f"({f'{blank}|{blank}'.join(printed(o, draw) for o in options)})"
        case Repeat(item, least, most):
            short = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((least, most))
            full = (
                f"{{{least}}}" if least == most else f"{{{least}, {'' if most is None else most}}}"
            )
            return printed(item, draw) + draw.choice(("", " ")) + draw.choice((short or full, full))
    raise AssertionError(expr)


def char_printed(code: int, draw: random.Random) -> str:
    plain = chr(code) if chr(code) not in '"\\]-^' else f"\\x{code:02x}"
    usual = f"\\{chr(code)}" if chr(code) in '"\\]' else plain
    return draw.choice((plain, usual, f"\\x{code:02X}", f"\\u{code:04x}", f"\\U{code:08x}"))


@pytest.mark.parametrize(
    ("body", "inside", "outside"),
    [
        (r'"\n\t\r\"\\\x41\u00e9\U0001F600"', ['\n\t\r"\\A\u00e9\U0001f600'], [r"\n\t"]),
        ("[^a-c]", ["d", "\n", "\U0010ffff"], ["a", "b", "c", "", "dd"]),
        ("[a-]", ["a", "-"], ["b"]),
        (r"[\]\[\\^]", ["]", "[", "\\", "^"], ["a"]),
        (".", ["a", "\n", "\u20ac"], ["", "ab"]),
        ('"ab"{2}', ["abab"], ["ab", "abb", "ababab"]),
        ('"ab"{2,}', ["abab", "ababab"], ["ab"]),
        ('"a"{0,2}', ["", "a", "aa"], ["aaa"]),
        ('"a" | ', ["a", ""], ["b"]),
        ('"a" |\n "b"\n  | "c" # done', ["a", "b", "c"], ["ab"]),
        ('\n  "a"', ["a"], [""]),
    ],
)
def test_each_notation_means_what_it_says(body, inside, outside):
    grammar = gbnf(f"root ::= {body}\nrest ::= root")
    assert [text for text in inside if not accepted(grammar, text)] == []
    assert [text for text in outside if accepted(grammar, text)] == []


def test_ranges_of_a_class_that_touch_or_overlap_are_one():
    assert gbnf("root ::= [c-da-be]").rules["root"] == Chars(((97, 101),))
    assert gbnf("root ::= [a-eb-c]").rules["root"] == Chars(((97, 101),))
    assert gbnf(r"root ::= [^\x00-ac-\U0010FFFF]").rules["root"] == Chars(((98, 98),))


def test_another_rule_may_be_the_root():
    grammar = gbnf('a ::= "a" b-2\nb-2 ::= "b"', root="b-2")
    assert accepted(grammar, "b")
    assert not accepted(grammar, "ab")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('root = "a"', "line 1, column 6: expected '::=' after 'root', found '= \"a\"'"),
        ('root ::= "a', 'line 1, column 10: the string that opens here lacks its closing "'),
        ('root ::= "a\n"', 'line 1, column 10: the string that opens here lacks its closing "'),
        ("root ::=\n  [a", "line 2, column 3: the class that opens here lacks its closing ]"),
        ("root ::= [z-a]", "line 1, column 11: the range z-a runs backwards"),
        ("root ::= []", "line 1, column 10: a class must hold a character"),
        ('root ::= ("a"\n', "line 1, column 10: the group that opens here lacks its closing )"),
        ('root ::= "a" )', "line 1, column 14: expected the end of the rule, found ')'"),
        ('root ::= "a"\n  "b"', "line 2, column 3: expected the name of a rule, found '\"b\"'"),
        ("root ::= *", 'line 1, column 10: expected a rule, a "string", a [class]'),
        (r'root ::= "\q"', r"line 1, column 11: \q is no escape; there are \n, \t"),
        (r'root ::= "\ud800"', "line 1, column 11: U+D800 is no character"),
        (r'root ::= "\U00110000"', "line 1, column 11: U+110000 is no character"),
        ('root ::= "a"{3,2}', "line 1, column 13: {3,2} asks for at least more than at most"),
        ('root ::= "a"{,2}', "line 1, column 13: expected {m}, {m,} or {m,n} with numbers"),
        ("root ::= word\nwort ::= [a-z]", "line 1, column 10: rule 'word' is not defined; did you"),
        ("rooot ::= [a-z]", "the root rule 'root' is not defined; did you mean 'rooot'?"),
        ("root ::= [a]\n\nroot ::= [b]", "line 3, column 1: rule 'root' is defined twice"),
        ("root ::= <[1]>", "line 1, column 10: tokens (<...>) have no place in a grammar of char"),
    ],
)
def test_every_error_says_where_and_what_was_expected(text, problem):
    with pytest.raises(ConstraintError, match=re.escape(problem)):
        gbnf(text, about="the grammar of the test")
    with pytest.raises(ConstraintError, match="in the grammar of the test, line"):
        gbnf(text, about="the grammar of the test")
