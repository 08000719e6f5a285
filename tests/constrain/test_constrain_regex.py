import random
import re
import sys
import warnings

import numpy as np
import pytest

from unison.constrain.automaton import Dfa, dfa
from unison.constrain.automaton.draft import TooManyStatesError
from unison.constrain.language import Chars, ConstraintError, Expr, Seq
from unison.constrain.sources.regex import ecma, expr, regex
from unison.constrain.sources.regex.characters import cases, folded

LONG_S = "\u017f"
ATOMS = (
    *("a", "b", "c", "A", "1", "-", "_", "é", "ß", "K", LONG_S, ".", "{", "}", "]", "{x}", "a{,"),
    *(r"\d", r"\D", r"\w", r"\W", r"\s", r"\S", r"\.", r"\x41", r"\101", r"\0", r"\n", r"\u00e9"),
    *("[ab]", "[^a]", r"[\d-]", r"[a-c\s]", r"[^\w]", "[]a]", "[^]a]", r"[\D\d]", r"[^\D]"),
    *("[A-C]", "[é-ü]", "[^a-c]", r"\N{DIGIT ONE}", "(?#no)", r"[\101-\103]", "[[a]", "[--a]"),
)
QUANTIFIERS = ("", "", "", "", "*", "+", "?", "{2}", "{1,2}", "{,2}", "{2,}", "*?", "+?", "??")
GROUPS = ("(", "(?:", "(?i:", "(?s:", "(?a:", "(?-i:", "(?x: ", "(?P<n>")
TEXTURE = list(f"abcABC \n1éÉß{LONG_S}Kk_-.{{}}]x²\x85\u3000")


def drawn(rng: random.Random, depth: int) -> str:
    if depth == 0 or rng.random() < 0.35:
        body = rng.choice(ATOMS)
    elif rng.random() < 0.4:
        return "".join(drawn(rng, depth - 1) for _ in range(rng.randint(0, 3)))
    elif rng.random() < 0.08:
        return rng.choice("^$")
    else:
        options = [drawn(rng, depth - 1) for _ in range(rng.randint(1, 3))]
        body = rng.choice(GROUPS) + "|".join(options) + ")"
    return body + rng.choice(QUANTIFIERS)


def walked(machine: Dfa, rng: random.Random) -> str:
    """A text of the language."""
    state, text = machine.start, bytearray()
    for _ in range(rng.randint(0, 10)):
        going = np.flatnonzero(machine.table[state, machine.classes] >= 0)
        if not len(going):
            break
        text.append(int(rng.choice(going.tolist())))
        state = int(machine.table[state, machine.classes[text[-1]]])
    return (text + machine.shortest(state)).decode()


def read(pattern: str) -> Dfa | None:
    """The automaton; ``None`` if it is too large, empty, or an anchor is of no use."""
    try:
        return dfa(expr(pattern), {}, "the test", limit=5000)
    except TooManyStatesError:
        return None
    except ConstraintError as error:
        if "anchor" in str(error) or "allows no text" in str(error):
            return None
        raise


def as_re(pattern: str) -> "re.Pattern[str] | None":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            return re.compile(pattern)
        except re.error:
            return None


@pytest.mark.parametrize("flag", ["(?u)", "(?a)", "(?iu)"])
def test_random_patterns_match_what_re_matches_whole_and_are_refused_where_re_does(flag):
    rng = random.Random(flag)
    compared = matched = 0
    while compared < 70:
        pattern = flag + drawn(rng, 3)
        theirs = as_re(pattern)
        if theirs is None:
            with pytest.raises(ConstraintError):
                expr(pattern)
            continue
        machine = read(pattern)
        if machine is None:
            continue
        texts = ["".join(rng.choices(TEXTURE, k=rng.randint(0, 4))) for _ in range(30)]
        texts += [walked(machine, rng) for _ in range(8)]
        for text in texts:
            said = theirs.fullmatch(text) is not None
            assert machine.matches(text.encode()) == said, (pattern, text)
            matched += said
        compared += 1
    assert matched > 600


def test_whatever_is_written_matches_without_flags_too():
    rng = random.Random(8)
    seen = 0
    while seen < 40:
        pattern = drawn(rng, 3)
        theirs, machine = as_re(pattern), None
        if theirs is not None:
            machine = read(pattern)
        if theirs is None or machine is None:
            continue
        seen += 1
        for _ in range(10):
            text = walked(machine, rng)
            assert theirs.fullmatch(text), (pattern, text)


EVERYTHING = "".join(map(chr, range(sys.maxunicode + 1)))


def members(found: Expr) -> np.ndarray:
    """Which code points a set holds."""
    assert isinstance(found, Chars)
    held = np.zeros(len(EVERYTHING), dtype=bool)
    for first, last in found.ranges:
        held[first : last + 1] = True
    return held


def of_re(pattern: str) -> np.ndarray:
    """Which code points a pattern of one character matches."""
    held = np.zeros(len(EVERYTHING), dtype=bool)
    for match in re.finditer(f"(?:{pattern})+", EVERYTHING):
        held[match.start() : match.end()] = True
    return held


def these(characters: str) -> np.ndarray:
    held = np.zeros(len(EVERYTHING), dtype=bool)
    held[[ord(character) for character in characters]] = True
    return held


CLASSES = [r"\w", r"\W", r"\s", r"\S", r"\D", r"[^\d]", r"[^\W\s]", ".", r"[\s\S]", "(?s:.)"]
CLASSES += [r"(?u:\d)", r"(?u:[^\D])", r"(?a:\D)", r"(?a:\w)", r"(?a:[^\s])"]
CLASSES += ["(?i:[k-s])", "(?i:[^µ])", "(?ai:[k-s])", "(?i:[^à-þ])", "(?i:[Ѐ-Я])"]


@pytest.mark.parametrize("pattern", CLASSES)
def test_a_class_holds_of_all_characters_those_of_re(pattern):
    assert (members(expr(pattern)) == of_re(pattern)).all()


def test_digits_are_ascii_and_no_other_digit_is_a_nondigit():
    digits = these("0123456789")
    for pattern in (r"\d", r"[\d]", r"[^\D]"):
        assert (members(expr(pattern)) == digits).all()
    for pattern in (r"\D", r"[^\d]"):
        assert not (members(expr(pattern)) & of_re(r"\d")).any()


def test_letters_fold_as_in_re_except_the_dotted_capital_i():
    cased = "".join(map(chr, cases()))
    for letter in [*cased[::7], *"iIsSſkKKßẞµθϑͅιåÅÅ"]:  # noqa: RUF001
        theirs = set(re.findall(re.escape(letter), cased + "İ", re.IGNORECASE))
        held = members(Chars(folded(ord(letter), ord(letter), ascii_only=False)))
        assert {chr(code) for code in np.flatnonzero(held)} == theirs - {"İ"}


def test_no_letter_with_two_cases_is_forgotten():
    forms = ((c, form) for c in EVERYTHING for form in (c.lower(), c.upper()))
    assert {ord(c) for c, form in forms if form != c and len(form) == 1} <= cases().keys()


def test_a_pattern_is_a_grammar_of_one_rule():
    grammar = regex("a|b", about="it")
    assert list(grammar.rules) == [grammar.start]
    assert grammar.rules[grammar.start] == expr("a|b")
    assert grammar.about == "it"


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("^ab$", {"ab"}),
        ("^(a|^b)$", {"a", "b"}),
        (r"\Aab\Z", {"ab"}),
        ("(^|x)a($|y)", {"a", "xa", "ay", "xay"}),
        ("(^a)?b", {"ab", "b"}),
        ("^$", {""}),
        ("(?m)^a$", {"a"}),
        ("a{2}?", {"aa"}),
        ("(?P<x>a)(?P<y>b)", {"ab"}),
        ("(?x) a  b # c\n | c", {"ab", "c"}),
        ("(?i)ß", {"ß", "ẞ"}),
        ("a(?i:b)c", {"abc", "aBc"}),
        ("(?i)a(?-i:b)", {"ab", "Ab"}),
        ("", {""}),
        ("a{,2}", {"", "a", "aa"}),
        ("a{x}", {"a{x}"}),
        (r"[\]\-\\]", {"]", "-", "\\"}),
        (r"\x41\u0042\U00000043\104", {"ABCD"}),
    ],
)
def test_a_finite_pattern_has_these_texts(pattern, texts):
    machine = dfa(expr(pattern), {}, "it")
    assert {text for text in texts if machine.matches(text.encode())} == texts
    full = machine.table[:, machine.classes]
    ways, total = np.eye(machine.size, dtype=int)[machine.start], 0
    for _ in range(8):
        total += int(ways[machine.accepting].sum())
        onward = np.zeros_like(ways)
        np.add.at(onward, full[full >= 0], np.repeat(ways, (full >= 0).sum(1)))
        ways = onward
    assert total == len(texts)


@pytest.mark.parametrize(
    ("pattern", "construct", "at"),
    [
        ("a(?=b)", "lookahead", 1),
        ("a(?!b)", "negative lookahead", 1),
        ("ab(?<=b)", "lookbehind", 2),
        ("ab(?<!b)", "negative lookbehind", 2),
        (r"(a)\1", "repeats what a group matched", 3),
        ("(?P<x>a)(?P=x)", "back reference", 8),
        (r"\bfoo", "word boundary", 0),
        (r"fo\Bo", "word boundary", 2),
        ("(a)(?(1)b|c)", "condition", 3),
        ("(?>a)", "atomic group", 0),
        ("a*+a", "possessive", 1),
        ("a^b", "anchor for the beginning", 1),
        ("a$b", "anchor for the end", 1),
        ("(a$|b)c", "anchor for the end", 2),
        ("(^a)*", "anchor stands inside a repeat", 1),
    ],
)
def test_what_is_not_regular_is_refused_by_name_and_place(pattern, construct, at):
    with pytest.raises(ConstraintError, match=f"in the field, at position {at} of .*{construct}"):
        expr(pattern, about="the field")


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(a", "lacks its )"),
        ("a)", "closes no group"),
        ("[a", "lacks its ]"),
        ("[a-", "lacks its ]"),
        ("[]", "lacks its ]"),
        ("[b-a]", "goes down"),
        (r"[a-\d]", "not to a class"),
        ("*a", "nothing to repeat"),
        ("a|*", "nothing to repeat"),
        ("^*", "nothing to repeat"),
        ("a**", "repeat of a repeat"),
        ("a{3,2}", "at least 3 and at most 2"),
        ("a{" + "9" * 5000 + "}", "more times than any text"),
        (r"\q", "is no escape"),
        ("a\\", "is no escape"),
        (r"\x4", "needs 2 hexadecimal digits"),
        (r"\UFFFFFFFF", "no character has the number"),
        (r"\N{NO SUCH}", "no character has the name"),
        (r"[\777]", "is no escape"),
        (r"\ud800", "half a surrogate pair"),
        ("a(?i)", "go to its beginning"),
        ("(?L)a", "flags are"),
        ("(?-i)a", "can only be set"),
        ("(?i-i:a)", "both set and removed"),
        ("(?<n>a)", "opens no kind of group"),
        ("(?P<1>a)", "name is a word"),
        ("(?P<n>a)(?P<n>b)", "second group"),
    ],
)
def test_what_is_no_pattern_is_refused_with_the_reason(pattern, problem):
    with pytest.raises(ConstraintError, match=re.escape(problem)):
        expr(pattern)


def test_long_patterns_are_shown_in_part():
    with pytest.raises(ConstraintError) as error:
        expr("a" * 500 + "(?=b)" + "c" * 500)
    assert "at position 500" in str(error.value)
    assert "(?=b)" in str(error.value)
    assert len(str(error.value)) < 300


def test_deeply_nested_groups_are_read():
    machine = dfa(expr("(" * 800 + "a" + ")?" * 800), {}, "it")
    assert machine.matches(b"a")
    assert machine.matches(b"")
    assert machine.size == 2


SEARCHED = (
    *("ab", "^ab", "ab$", "^ab$", "^a|b$", "(^|b)a", "a(b|$)", "^(a|b)+$", "^$", "", "^", "b?"),
    *("[^a]", "^[^ab]*$", r"^\/x", "^[a-]+$", r"^\cJ", "a{2}", "^(?:a|b$)", "^^a$$", "(a|^)b"),
    *("^.$", "^{$", "(?i)^B$", r"^\x61$"),
)


@pytest.mark.parametrize("pattern", SEARCHED)
def test_a_schema_pattern_is_searched_for_unless_anchored(pattern):
    machine = dfa(ecma(pattern), {}, "it")
    theirs = re.compile(pattern.replace("$", r"\Z").replace(r"\cJ", r"\n"))
    rng = random.Random(pattern)
    texts = ["", "a", "b", "{", "ab", "ba", "/x", "x/x"]
    texts += ["".join(rng.choices("ab-{x/\né", k=rng.randint(0, 5))) for _ in range(150)]
    for text in texts:
        assert machine.matches(text.encode()) == (theirs.search(text) is not None), text


def test_classes_in_schemas_hold_what_both_notations_agree_on():
    def only(pattern: str) -> np.ndarray:
        sequence = ecma(f"^{pattern}$")
        assert isinstance(sequence, Seq)
        return members(sequence.parts[1])

    assert (only(r"\d") == these("0123456789")).all()
    assert (only(r"\w") == of_re(r"(?a:\w)")).all()
    assert (only(r"\s") == of_re(r"\s") & ~these("\x1c\x1d\x1e\x1f\x85")).all()
    assert (only(r"\S") == of_re(r"\S") & ~these("\ufeff")).all()
    assert (only(r"\W") == of_re(r"\W")).all()
    assert (only(r"[^\s]") == only(r"\S")).all()
    assert (only(".") == ~these("\n\r\u2028\u2029")).all()
    assert only("[^]").all()
    assert (only(r"[\w-.]") == only(r"\w") | these("-.")).all()


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^\u{1F600}$", "😀"),
        (r"^\uD83D\uDE00$", "😀"),
        (r"^[\uD83D\uDE00-\uD83D\uDE02]$", "😁"),
        (r"^\0$", "\0"),
        (r"^\v$", "\v"),
        (r"^\-\_\/$", "-_/"),
        (r"^[\b]$", "\b"),
        ("^a{,2}$", "a{,2}"),
        ("^(?<year>1)$", "1"),
    ],
)
def test_escapes_of_schemas_are_read(pattern, text):
    assert dfa(ecma(pattern), {}, "it").matches(text.encode())


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        (r"\p{L}", r"property \\p\{"),
        (r"\P{L}", r"property \\P\{"),
        (r"\k<a>", "back reference"),
        (r"(a)\1", "repeats what a group matched"),
        (r"\Aa", r"\\A is no escape in ECMA 262"),
        (r"\c1", "needs a letter"),
        (r"\U00000041", r"\\U is no escape"),
        (r"\uD83D", "half a surrogate pair"),
        ("(?=a)", "lookahead"),
        ("a*+", "repeat of a repeat"),
        ("x^a", "anchor"),
    ],
)
def test_what_schema_patterns_cannot_say_is_refused_by_name(pattern, problem):
    with pytest.raises(ConstraintError, match=problem):
        ecma(pattern)


def test_an_empty_set_of_a_schema_pattern_holds_nothing():
    with pytest.raises(ConstraintError, match="a set of characters is empty"):
        dfa(ecma("^[]$"), {}, "it")
