import re
from itertools import pairwise

import pytest
from grammars import CALC, JSON, SQL, WORDS, near
from recognising import accepted, cut

from unison.constrain.language import ConstraintError, recursive
from unison.constrain.sources.ebnf import ebnf
from unison.constrain.sources.ebnf.common import COMMON
from unison.constrain.sources.notation import detected, grammar

DOUBLING = "".join(f"{one}: {two} {two}\n" for one, two in pairwise("ABCDEFGHIJKLMNOP"))
GRAMMARS = {"calc": CALC, "json": JSON, "sql": SQL, "words": WORDS}


def read_by_lark(lark, source: str, lexer: str, texts: list[str]) -> list[bool]:
    parser = lark.Lark(source, parser="earley", lexer=lexer)

    def read(text: str) -> bool:
        try:
            parser.parse(text)
        except lark.exceptions.LarkError:
            return False
        return True

    return [read(text) for text in texts]


@pytest.mark.parametrize("name", GRAMMARS)
def test_what_lark_reads_with_its_basic_lexer_is_in_the_language_and_nothing_else(name):
    lark = pytest.importorskip("lark")
    language = ebnf(GRAMMARS[name])
    texts = list(near(language, 200, 1))
    verdicts = read_by_lark(lark, GRAMMARS[name], "basic", texts)
    assert 15 < sum(verdicts) < 180
    wrong = [
        text for text, read in zip(texts, verdicts, strict=True) if accepted(language, text) != read
    ]
    assert wrong == []


@pytest.mark.parametrize("name", GRAMMARS)
def test_without_lexemes_it_is_what_lark_reads_when_it_tries_every_cut(name):
    lark = pytest.importorskip("lark")
    language = ebnf(GRAMMARS[name], scannerless=True)
    assert not language.lexemes
    texts = [text for text in near(ebnf(GRAMMARS[name]), 200, 2) if len(text) < 20]
    verdicts = read_by_lark(lark, GRAMMARS[name], "dynamic_complete", texts)
    assert 20 < sum(verdicts) < len(texts) - 20
    wrong = [
        text for text, read in zip(texts, verdicts, strict=True) if accepted(language, text) != read
    ]
    assert wrong == []


def test_a_comment_asks_for_characters_too():
    source = 'start: "a" | start "b"'
    assert ebnf(f"// scannerless\n{source}") == ebnf(source, scannerless=True)


def test_a_keyword_may_touch_a_name_only_where_characters_are_read():
    source = 'start: "if" NAME\nNAME: /[a-z]+/\n%ignore " "'
    assert not accepted(ebnf(source), "ifx")
    assert accepted(ebnf(source), "if x")
    assert accepted(ebnf(source, scannerless=True), "ifx")


def test_lexemes_stand_by_priority_then_strings_then_length_then_place():
    language = ebnf(
        """
        start: (LATE | "a" | B | "abc" | EARLY | "ab" | FIRST)+
        LATE.-1: "z"
        B: /b+/
        EARLY: /e/
        FIRST.2: /f/
        """
    )
    assert language.lexemes == ("FIRST", '"abc"', '"ab"', '"a"', "B", "EARLY", "LATE")


def test_a_string_is_the_terminal_that_is_defined_as_it():
    language = ebnf('start: "if" IF "\\x69f"\nIF.3: "if"')
    assert language.lexemes == ("IF",)
    assert cut(language, "ififif") == ("IF",) * 3


def test_terminals_that_no_text_needs_are_no_lexemes():
    language = ebnf('start: A\nother: B\nA: B B\nB: "b"\nC: "c"')
    assert language.lexemes == ("A",)
    assert set(language.rules) == {"A", "start"}


def test_rules_that_use_themselves_stay_rules():
    assert recursive(ebnf(CALC))
    assert not recursive(ebnf(WORDS))


# where this cutting and Lark's differ, on purpose


def test_a_lexeme_that_could_go_on_must():
    source = 'start: (INT | "1.5" | ".")+\nINT: /[0-9]+/'
    assert cut(ebnf(source), "1.5") == ('"1.5"',)
    assert cut(ebnf(source), "2.1") == ("INT", '"."', "INT")
    assert cut(ebnf(source), "1.1") is None  # Lark goes back to 1, ., 1


def test_a_priority_decides_between_equals_only():
    source = 'start: A | B\nA.5: "ab"\nB: /[a-c]+/'
    assert cut(ebnf(source), "ab") == ("A",)
    assert cut(ebnf(source), "abc") == ("B",)  # Lark: A, and then nothing for c


def test_an_alternative_takes_its_longest_option():
    assert cut(ebnf("start: A+\nA: /a|ab/"), "ab") == ("A",)  # Lark: a, and then nothing for b


def test_a_lazy_pattern_ends_as_soon_as_it_can():
    source = 'start: COMMENT+\nCOMMENT: "/*" /(.|\\n)*?/ "*/"'
    assert cut(ebnf(source), "/*a*//***/") == ("COMMENT", "COMMENT")
    assert cut(ebnf(source), "/*a*/ b */") is None
    assert accepted(ebnf(source, scannerless=True), "/*a*/ b */")


def test_a_lazy_pattern_in_a_rule_ends_as_soon_as_it_can_too():
    assert cut(ebnf("start: /<.*?>/+"), "<a><b>") == ("/<.*?>/",) * 2
    assert cut(ebnf('start: A+\nA: /<.*?/ ">"~2'), "<a>>>") is None


def test_what_is_ignored_may_stand_before_and_behind_the_characters_of_terminals():
    language = ebnf('start: "a" "bc"\n%ignore " "', scannerless=True)
    assert accepted(language, "  a bc ")
    assert not accepted(language, "ab c")


# each part of the notation


@pytest.mark.parametrize(
    ("source", "inside", "outside"),
    [
        ('start: "a" | "b"\n  | "c"\n\n  // and\n  | "d"', ["a", "c", "d"], ["", "ab"]),
        ('start: "a" |\n  "b"', ["a", "b"], [""]),
        ('start: "a" |\nother: "b"', ["a", ""], ["b"]),
        ("start:", [""], ["a"]),
        ('start: "a" (\n "b" # or\n | "c")', ["ab", "ac"], ["a", "abc"]),
        ('start: "a" \\\n "b"', ["ab"], ["a"]),
        ('start: ["a"] "b"? "c"* "d"+', ["d", "abccdd", "bd"], ["", "a", "bbd"]),
        ('start: "a"~2 "b" ~ 1..2', ["aab", "aabb"], ["ab", "aa", "aabbb"]),
        ('start: "a".."c" ("0".."1")~2', ["b01", "c11"], ["d01", "b0", "b02"]),
        ('start: "straße"i', ["STRAßE", "straße", "sTrAßE"], ["strasse"]),
        (r'start: "\"\\\n\u20ac\x41"', ['"\\\n\u20acA'], ['"']),
        (r"start: /a\/b[^\/]/", ["a/bc"], ["a/b/", "ab"]),
        ("start: /[ab]c/i", ["Ac", "bC"], ["cc"]),
        ("start: /\u00e9/u", ["\u00e9"], ["e"]),
        ("start: /a.c/s /b.d/", ["a\ncb-d"], ["a\ncb\nd"]),
        ("start: /a b # c\n d/x", ["abd"], ["a bd"]),
        ('start: A\nA: B ["c"] | "d" B~2\nB: "b" | C\nC: "x".."z"', ["b", "xc", "dzb"], ["c"]),
        ("?start: _a\n!_a.2: b -> c\n?b: A -> d\nA.3: /a/", ["a"], ["b"]),
        ("start: A\n%import common.LETTER -> A", ["q", "Q"], ["1", "qq"]),
        (
            "%ignore /[ ]/\nstart: A A\n%import common (DIGIT, WORD)\nA: DIGIT | WORD",
            ["1 a"],
            ["a"],
        ),
        ('start: "a"\n%ignore (" " | "\\t")+ // blanks', ["a", " \t a "], ["a\n"]),
        ('start: pair{A, "-"}\npair{x, y}: "<" x y x ">"\nA: "a"', ["<a-a>"], ["a-a", "<aa>"]),
        (
            'start: list{pair{A}}\nlist{x}: x | list{x} "," x\npair{a}: a both{a, a}\n'
            'both{a, b}: "+" a ":" b\nA: /[01]/',
            ["0+1:1", "1+0:0,0+1:0"],
            ["0", "0+1", "0+1:1,"],
        ),
    ],
)
def test_each_notation_means_what_it_says(source, inside, outside):
    language = ebnf(source)
    assert [text for text in inside if not accepted(language, text)] == []
    assert [text for text in outside if accepted(language, text)] == []


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("DIGIT", "7", "77 a"),
        ("HEXDIGIT", "7 f F", "g ff"),
        ("INT", "0 007", "-1 1.0"),
        ("SIGNED_INT", "-1 +2 3", "- --1"),
        ("DECIMAL", "1. .5 1.5", "1 . 1e5"),
        ("FLOAT", "1. 1e5 .5E-3 1.5e+7", "1 1e .e5"),
        ("SIGNED_FLOAT", "-1. +1e5", "-1"),
        ("NUMBER", "1 1.5 1e5", "-1 1e"),
        ("SIGNED_NUMBER", "-1 +1.5 1e5", "- 1-"),
        ("ESCAPED_STRING", r'"" "a" "\"" "\\" "\n"', r'" "a "\" "a"b" "\\""'),
        ("WORD", "a Zz", "a1 a_"),
        ("CNAME", "a _1 Z9_", "1a a-b"),
        ("LETTER", "a Z", "ab 1"),
        ("LCASE_LETTER", "a", "A"),
        ("UCASE_LETTER", "A", "a"),
        ("SH_COMMENT", "# #a#", "a"),
        ("CPP_COMMENT", "// //a//", "/ a"),
        ("SQL_COMMENT", "-- --a", "-"),
        ("C_COMMENT", "/**/ /*a*/ /***/ /*/*/ /*a**b*/", "/*/ /* /*a*/b*/ /**/*/"),
    ],
)
def test_a_common_terminal_matches_what_its_name_says(name, inside, outside):
    language = ebnf(f"start: X\n%import common.{name} -> X")
    assert [text for text in inside.split() if not accepted(language, text)] == []
    assert [text for text in outside.split() if accepted(language, text)] == []


def test_common_terminals_match_what_those_of_lark_match():
    lark = pytest.importorskip("lark")
    for name in sorted(COMMON):
        source = f"start: {name}\n%import common.{name}"
        language = ebnf(source)
        texts = list(dict.fromkeys(near(language, 60, 6)))
        verdicts = read_by_lark(lark, source, "basic", texts)
        assert any(verdicts), name
        assert [accepted(language, text) for text in texts] == verdicts, name


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ('start "a"', "line 1, column 7: expected ':' after 'start', found '\"a\"'"),
        ('Start: "a"', "line 1, column 1: expected a name in lower case (rules) or in upper"),
        ("start: bAd", "line 1, column 8: expected a name in lower case (rules) or in upper case"),
        ("start: 'a'", 'line 1, column 8: expected a name, a "string", a /pattern/, a (group)'),
        ("start: a\na: \\\n  b", "line 3, column 3: rule 'b' is not defined"),
        ("start: nam\nname: NAM\nNAME: /a/", "line 1, column 8: rule 'nam' is not defined; did y"),
        ("start: NAM\nNAME: /a/", "terminal 'NAM' is not defined; did you mean 'NAME'?"),
        ('strt: "a"', "the start rule 'start' is not defined; did you mean 'strt'?"),
        ('start: "a', 'line 1, column 8: the string that opens here lacks its closing "'),
        ("start: /a", "line 1, column 8: the pattern that opens here lacks its closing /"),
        ("start: /a/l", "line 1, column 8: pattern flag 'l' is not one of i, m, s, u, x"),
        ("start: x\nx: A /a(/\nA: /b/", "the pattern at line 2, column 6 of the grammar"),
        ('start: "a" (\n"b"', "line 1, column 12: the group that opens here lacks its closing )"),
        ('start: ["b")', "line 1, column 8: the group that opens here lacks its closing ]"),
        ('start: "a" )', "line 1, column 12: expected the end of the definition, found ')'"),
        ('start: "a"??', 'line 1, column 12: expected a name, a "string"'),
        (r'start: "\q"', r"line 1, column 9: \q is no escape; there are \n"),
        ('start: "a".."bc"', "line 1, column 8: a range goes from one character up to another"),
        ('start: "b".."a"', "line 1, column 8: a range goes from one character up to another"),
        ('start: "a"~x', "line 1, column 11: expected ~n or ~n..m with numbers"),
        ('start: "a"~3..2', "line 1, column 11: ~3..2 asks for at least more than at most"),
        ('start: "a"\nstart: "b"', "line 2, column 1: rule 'start' is defined twice"),
        ("start: A\nA: /a/\nA: /b/", "line 3, column 1: terminal 'A' is defined twice"),
        ("start: A\nA: a\na: A", "line 2, column 4: a terminal may not use a rule, and 'a' is one"),
        ("start: A\nA: B\nB: A", "line 2, column 1: a terminal may not use itself: A -> B -> A"),
        ("start: A\nA: /a*/", "line 2, column 1: terminal A matches the empty text"),
        ("start: A\nA: /a.*?b+/", "line 2, column 1: terminal A has a lazy repetition before a gr"),
        (
            'start: A\nA: /a.*?/ "b"~1..2',
            "line 2, column 1: terminal A has a lazy repetition before",
        ),
        ('start: " "\n%ignore " "', 'line 2, column 9: terminal " " is ignored, so no rule'),
        (
            "start:\n%declare A",
            "line 2, column 1: %declare is not supported; there are %ignore and",
        ),
        ("start:\n%extend a: b", "line 2, column 1: %extend is not supported"),
        ("start:\n%override a: b", "line 2, column 1: %override is not supported"),
        ("start:\n%import python.NAME", "line 2, column 1: %import python: only %import common"),
        ("start:\n%import .common.WS", "line 2, column 1: %import .common: only %import common"),
        (
            "start:\n%import common.WORT",
            "line 2, column 1: common terminal 'WORT' is not defined; d",
        ),
        ("start:\n%import common.WS -> ws", "line 2, column 22: expected the name of a terminal"),
        ("start:\n%import common", "line 2, column 15: expected '.NAME' or a list"),
        ("start:\n%import common (WS", "line 2, column 19: expected ',' or the end of the list"),
        (
            "start: t{A}\nt{x, y}: x y\nA: /a/",
            "line 1, column 8: rule 't' takes 2 arguments, got 1",
        ),
        ("start: t\nt{x}: x", "rule 't' takes 1 arguments, got 0"),
        ("start: A{A}\nA: /a/", "line 1, column 8: 'A' is no rule that takes arguments"),
        ("start: x\nt{x}: x", "line 1, column 8: rule 'x' is not defined"),
        ("start: t{A}\nt{x}: t{t{x}}\nA: /a/", "line 2, column 7: template 't' needs ever more"),
        ("start: t{A", "line 1, column 11: expected ',' or '}', found the end of the text"),
        ("start: " + "(" * 51, "line 1, column 58: groups stand more than 50 deep inside each"),
        (f"start: A\n{DOUBLING}", "line 16, column 4: terminal 'P' is not defined"),
        (
            f"start: A\nP: /p/\n{DOUBLING}",
            "line 3, column 1: terminal A uses other terminals more than 10000 times in all",
        ),
        ('start: "\ud800"', "line 1, column 9: half of a surrogate pair is no character"),
        ("start: t{", 'line 1, column 10: expected a name, a "string"'),
    ],
)
def test_every_error_says_where_and_what_was_expected(source, problem):
    with pytest.raises(ConstraintError, match=re.escape(problem)):
        ebnf(source)


def test_a_notation_is_told_by_its_first_definition():
    assert detected('// root ::= "x"\n%ignore " "\n?start.2: "a"') == "lark"
    assert detected("t{x, y}: x\nstart: t{A, B}") == "lark"
    assert detected('# root: "x"\nroot-1 ::= ":"') == "gbnf"
    assert detected("(* a: *)\ndigit\n = '0' | '1';") == "ebnf"
    assert accepted(grammar('root ::= "a"'), "a")
    assert accepted(grammar("start = 'a' ;"), "a")
    assert accepted(grammar("start ::= 'a'", notation="ebnf"), "a")
    assert accepted(grammar('start: "a"'), "a")
    assert accepted(grammar('top: "a"', "top"), "a")
    assert accepted(grammar('top ::= "a"', "top", "gbnf"), "a")


def test_a_text_without_definitions_is_no_grammar():
    with pytest.raises(ConstraintError, match="the file has no definition: 'name: "):
        grammar("hello", about="the file")


# the plain notations, in which rules read characters

XML_NAMES = r"""
/* after the XML recommendation */
start     ::= Name (S+ Name)* Comment?
Name      ::= NameStart (NameChar)*
NameStart ::= ":" | [A-Z] | "_" | [a-z] | [#xC0-#xD6]
NameChar  ::= NameStart | "-" | "." | [0-9] | #xB7
S         ::= #x20 | #x9
Comment   ::= '<!--' ((Char - '-') | ('-' (Char - '-')))* '-->'
Char      ::= [^#x0-#x8<]
"""

ISO = """
(* ISO 14977 *)
start = number, { ",", number } | 2 * "x" | [ "y" ], 'z' ;
number = [ "-" ] , digit , { digit } .
digit = "0" | odd | even ;
odd = "1" | '3'; even = all - odd - "0" ; all = digits ;
digits = "0"|"1"|"2"|"3"
       | "4" ;
"""


@pytest.mark.parametrize(
    ("source", "inside", "outside"),
    [
        (
            XML_NAMES,
            ["a", ":A-1.\u00b7 \u00c0", "a<!---->", "a<!--b -c-->"],
            ["-a", "a<!--b--c-->"],
        ),
        (ISO, ["0", "-12,4", "xx", "z", "yz"], ["5", "x", "-", "1,", "yy", "y", "10,,2"]),
        ('start ::= \'a\'+ "b"? [^c-d] | "\\n"', ["ab1", "aa", "\\n"], ["ac", "abd", "b", "\n"]),
        ("start ::= 'a' | start 'b' ;", ["a", "abb"], ["b", ""]),
    ],
)
def test_plain_notations_mean_what_they_say(source, inside, outside):
    language = ebnf(source)
    assert not language.lexemes
    assert [text for text in inside if not accepted(language, text)] == []
    assert [text for text in outside if accepted(language, text)] == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("start ::= 'a\n'", "line 1, column 11: the string that opens here lacks its closing '"),
        ("start = 'a'", "line 1, column 12: expected '|' or ';', found the end of the text"),
        ("start = 'a' )", "line 1, column 13: expected '|' or ';', found ')'"),
        ("start ::= ('a'", "line 1, column 11: the group that opens here lacks its closing )"),
        ("start = { 'a' ]", "line 1, column 9: the group that opens here lacks its closing }"),
        ("start ::= [a", "line 1, column 11: the class that opens here lacks its closing ]"),
        ("start ::= [b-a]", "line 1, column 12: the range runs backwards"),
        ("start ::= #y", "line 1, column 11: expected #x and a number in hexadecimal"),
        ("start ::= #xD800", "line 1, column 11: U+D800 is no character"),
        ("start ::= ?", "line 1, column 11: expected a rule, a 'string', or something in brackets"),
        ("start ::= 'a' -", "line 1, column 11: nothing stands behind the - of what begins here"),
        ("start ::= wort\nword ::= 'a'", "line 1, column 11: rule 'wort' is not defined; did you"),
        ("stort ::= 'a'", "the start rule 'start' is not defined; did you mean 'stort'?"),
        ("start ::= 'a'\nstart ::= 'b'", "line 2, column 1: rule 'start' is defined twice"),
        ("start = 'a'; +", "line 1, column 14: expected the name of a rule, found '+'"),
        ("start = 'a'; b 'c'", "line 1, column 16: expected '::=' or '=' after 'b', found \"'c'\""),
    ],
)
def test_every_error_in_plain_notation_says_where(source, problem):
    with pytest.raises(ConstraintError, match=re.escape(problem)):
        ebnf(source)
