"""Completions exist exactly where trying everything finds one, and the witness is one of them."""

import random
from collections import Counter
from dataclasses import dataclass
from functools import cache, partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle.constrained_texts import (
    GAP as MISSING,
)
from oracle.constrained_texts import (
    Cutter,
    completes,
    derives,
    every,
    fillings,
    words,
)

from unison.constrain.automaton import dfa
from unison.constrain.context_free.binary import binary
from unison.constrain.infilling import (
    GAP,
    GIVEN,
    Ready,
    Slots,
    UndecidedError,
    completion,
    explanation,
    fitting,
    member,
    ready,
)
from unison.constrain.language import (
    Alt,
    Both,
    Chars,
    Expr,
    Grammar,
    Minus,
    Ref,
    Repeat,
    Seq,
    Text,
)
from unison.constrain.vocabulary import vocabulary

LONGEST = 7  # letters of the texts that are listed
RULES = ("s", "t", "u")
SLOW = [HealthCheck.too_slow]  # a busy machine is no mistake


def expr(tree) -> Expr:
    """The oracle's expression as ours: words of lexeme names become references."""
    match tree:
        case ("word", str() as text):
            return Text(text)
        case ("word", names):
            return Seq(tuple(Ref(name) for name in names))
        case ("seq", parts):
            return Seq(tuple(map(expr, parts)))
        case ("alt", options):
            return Alt(tuple(map(expr, options)))
        case ("repeat", item, least, most):
            return Repeat(expr(item), least, most)
        case ("rule", name):
            return Ref(name)
    kind, left, right = tree
    return {"both": Both, "minus": Minus}[kind](expr(left), expr(right))


def grammar(rules, lexemes=None, ignored=()) -> Grammar:
    """The oracle's rules as a grammar that starts with the rule s."""
    some = lexemes or {}
    ours = {name: expr(rule) for name, rule in rules.items()}
    return Grammar({**some, **ours}, "s", tuple(some), frozenset(ignored))


@dataclass(frozen=True)
class Dice:
    """Random rules and canvases; everything follows from the seed."""

    rng: random.Random

    def symbols(self, symbols, most):
        """A word; of letters a string."""
        some = [self.rng.choice(symbols) for _ in range(self.rng.randint(0, most))]
        return "".join(some) if isinstance(symbols, str) else tuple(some)

    def tree(self, symbols, depth, used=RULES):
        """An expression over words of symbols and the rules that may be used."""
        kinds = ("seq",) * 4 + ("alt",) * 2 + ("repeat",) if depth else ("word", "rule")
        leaves = ("word", "rule", "rule") if used else ("word",)
        kinds = kinds if used else kinds[:-1]
        pairs = ("both", "minus") if isinstance(symbols, str) and depth == 1 and used else ()
        kind = self.rng.choice((*kinds, *leaves, *pairs))
        match kind:
            case "word":
                return ("word", self.symbols(symbols, 2))
            case "rule":
                return ("rule", self.rng.choice(used))
            case "repeat":
                least = self.rng.randint(0, 2)
                most = self.rng.choice((None, least, least + 1, least + 2))
                return ("repeat", self.tree(symbols, depth - 1, used), least, most)
            case "both" | "minus":
                return (kind, self.tree(symbols, 2, ()), self.tree(symbols, 2, ()))
            case _:
                parts = range(self.rng.choice((0, *[2] * 9, *[3] * 3)))
                return (kind, [self.tree(symbols, depth - 1, used) for _ in parts])

    def rules(self, symbols):
        """Rules that use each other; the start nearly always holds something."""
        found = {name: self.tree(symbols, self.rng.randint(1, 3)) for name in RULES}
        also = {name: ("word", self.symbols(symbols, 2)) for name in self.rng.choices(RULES, k=3)}
        return {**found, **{name: ("alt", [found[name], word]) for name, word in also.items()}}

    def pieces(self, listed, letters):
        """Pieces and gaps: of a listed text with holes cut into it, or of any letters."""
        if listed and self.rng.random() < 0.6:
            text = self.rng.choice(listed)
            holes = sorted(self.rng.choices(range(len(text) + 1), k=2 * self.rng.randint(0, 2)))
            found, end = [], 0
            for begin, stop in zip(holes[::2], holes[1::2], strict=True):
                found += [text[end:begin], MISSING]
                end = stop
            return [*found, text[end:]]
        count = range(self.rng.randint(1, 5))
        return [self.rng.choice((self.symbols(letters, 3), MISSING)) for _ in count]

    def slots(self, tokens, nulls, most):
        """Given slots, and holes of which some slots are committed, sensibly or not."""
        text = [one for one in range(tokens) if one not in nulls]
        token, hole, number = [], [], 0
        for _ in range(self.rng.randint(0, most)):
            number += self.rng.random() < 0.3
            inside = self.rng.random() < 0.75
            hole.append(number if inside else GIVEN)
            open_ = inside and self.rng.random() < 0.8
            token.append(None if open_ else self.rng.choice(range(tokens) if inside else text))
        return Slots(tuple(token), tuple(hole))


def asked(pieces):
    return [GAP if piece is MISSING else piece for piece in pieces]


def check_completion(language, holds, listed, pieces):
    """A completion is a text of the language; there is one wherever a listed text is one."""
    found = completion(language, asked(pieces))
    known = [text for text in listed if completes(text, pieces)]
    if found is None:
        assert known == []
        assert explanation(language, asked(pieces)) is not None
    else:
        assert completes(found, pieces)
        assert holds(found)
    return found is not None


def texts_agree(dice, answers):
    letters = dice.rng.choice(("ab", "aé", "abc"))
    some = dice.rules(letters)
    longest = LONGEST if len(letters) == 2 else LONGEST - 2
    listed = sorted("".join(word) for word in words(some, "s", longest))
    language = ready(grammar(some))
    for _ in range(3):
        pieces = dice.pieces(listed, letters)
        holds = partial(derives, some, "s")
        answers[check_completion(language, holds, listed, pieces)] += 1
    text = dice.symbols(letters, longest)
    assert member(language, text) == (text in listed)


AB, ONES, SPACES = Chars(((97, 98),)), Repeat(Text("1"), 1), Repeat(Text(" "), 1)
NAME = Seq((AB, Repeat(Alt((AB, Text("1"))))))
LEXEMES = {
    "keywords": {
        "key": ("ab", Text("ab")),
        "name": ("[ab][ab1]*", NAME),
        "int": ("1+", ONES),
        "space": (" +", SPACES),
    },
    "no space": {"key": ("ab", Text("ab")), "name": ("[ab][ab1]*", NAME), "int": ("1+", ONES)},
    "must go on": {
        "one": ("a", Text("a")),
        "long": ("aba", Text("aba")),
        "two": ("b", Text("b")),
        "space": (" ", Text(" ")),
    },
    "marks": {
        "name": ("a+", Repeat(Text("a"), 1)),
        "open": ("1", Text("1")),
        "shut": ("b|ba", Alt((Text("b"), Text("ba")))),
    },
}
LETTERS = "ab1 "
CUT_LONGEST = 5


@cache
def cutter(kind) -> Cutter:
    patterns = {name: pattern for name, (pattern, _) in LEXEMES[kind].items()}
    return Cutter(patterns, LETTERS, reach=2)


@cache
def lexed(kind):
    """All short texts that can be cut, with their lexemes."""
    texts = ((text, cutter(kind).cut(text)) for text in every(LETTERS, CUT_LONGEST))
    return [(text, cut) for text, cut in texts if cut is not None]


@cache
def lexer(kind):
    """Where texts are cut, which is the same whatever the rules are."""
    lexemes = {name: one for name, (_, one) in LEXEMES[kind].items()}
    ignored = {"space"} & set(lexemes)
    return ready(grammar({"s": ("word", ())}, lexemes, ignored)).cuts


def prepared(kind, some) -> Ready:
    lexemes = {name: one for name, (_, one) in LEXEMES[kind].items()}
    return Ready(binary(grammar(some, lexemes)), lexer(kind), "the grammar")


def unseen_left_out(cut):
    return tuple(name for name in cut if name != "space")


def cut_grammar(dice):
    """A grammar over lexemes, whether it holds a text, and its short texts."""
    kind = dice.rng.choice(sorted(LEXEMES))
    some = dice.rules(unseen_left_out(LEXEMES[kind]))
    sentences = words(some, "s", CUT_LONGEST)

    def holds(text):
        cut = cutter(kind).cut(text)
        return cut is not None and derives(some, "s", unseen_left_out(cut))

    listed = [text for text, cut in lexed(kind) if unseen_left_out(cut) in sentences]
    return prepared(kind, some), holds, listed


def lexemes_agree(dice, answers):
    language, holds, listed = cut_grammar(dice)
    for _ in range(3):
        pieces = dice.pieces(listed, LETTERS)
        answers[check_completion(language, holds, listed, pieces)] += 1
    text = dice.symbols(LETTERS, CUT_LONGEST)
    assert member(language, text) == (text in listed)


def slots_agree(dice, answers, letters, language, holds):
    spelt = [dice.symbols(letters, 3) or letters[0] for _ in range(dice.rng.randint(1, 4))]
    more = dice.rng.choice((0, 1, 1, 1, 2))
    spellings = [*spelt, None, None][: len(spelt) + more]
    nulls = [len(spelt)] if more else []
    book = vocabulary([None if s is None else s.encode() for s in spellings], nulls, "toy")
    for _ in range(3):
        slots = dice.slots(len(spellings), nulls, most=4)
        found = fitting(language, book, slots)
        ways = dict(fillings(spellings, nulls, slots.token, slots.hole))
        answers[found is not None] += 1
        if found is None:
            assert not any(holds(text) for text in set(ways.values()))
        else:
            assert holds(ways[tuple(found)])


def slots_of_texts_agree(dice, answers):
    some = dice.rules("ab")
    listed = words(some, "s", LONGEST)

    def holds(text):
        return tuple(text) in listed if len(text) <= LONGEST else derives(some, "s", text)

    slots_agree(dice, answers, "ab", ready(grammar(some)), cache(holds))


def slots_of_lexemes_agree(dice, answers):
    language, holds, _ = cut_grammar(dice)
    slots_agree(dice, answers, LETTERS, language, cache(holds))


AGREEMENTS = {
    "texts": texts_agree,
    "lexemes": lexemes_agree,
    "slots of texts": slots_of_texts_agree,
    "slots of lexemes": slots_of_lexemes_agree,
}


def agree(what, cases):
    """No case disagrees, and neither answer is rare."""
    answers = Counter()

    @settings(max_examples=cases, deadline=None, derandomize=True, suppress_health_check=SLOW)
    @given(st.integers(0, 2**64 - 1))
    def each(seed):
        AGREEMENTS[what](Dice(random.Random(seed)), answers)

    each()
    assert min(answers[True], answers[False]) > 0.15 * answers.total(), answers


@pytest.mark.parametrize("what", AGREEMENTS)
def test_there_is_a_completion_exactly_where_trying_everything_finds_one(what):
    agree(what, cases=80)


@pytest.mark.slow
@pytest.mark.parametrize("what", AGREEMENTS)
def test_there_is_a_completion_exactly_where_trying_everything_finds_one_in_many_cases(what):
    agree(what, cases=3000)


DIGIT, SMALL = Chars(((48, 57),)), Chars(((97, 122),))
ASSIGNMENT = Grammar(
    {
        "start": Seq((Ref("name"), Ref("is"), Ref("int"))),
        "name": Seq((SMALL, Repeat(Alt((SMALL, DIGIT))))),
        "int": Repeat(DIGIT, 1),
        "is": Text("="),
        "space": Repeat(Text(" "), 1),
    },
    "start",
    ("name", "int", "is", "space"),
    frozenset({"space"}),
    "an assignment",
)


@pytest.mark.parametrize(
    ("pieces", "ends"),
    [
        ([GAP, "2"], ["=", "2"]),  # the end of a number
        ([GAP, "2", GAP, "=", GAP], ["2", "="]),  # the end of a name
        ([GAP, "2 =", GAP], ["2 =", ""]),  # a name that a blank ends
        (["a", GAP, "b", GAP, "c", GAP], ["a", "b", "c"]),  # one name over all gaps
        ([GAP, "=", GAP], ["", "=", ""]),
    ],
)
def test_what_stands_behind_a_gap_may_be_the_end_of_any_lexeme(pieces, ends):
    found = completion(ASSIGNMENT, pieces)
    assert found is not None
    assert member(ASSIGNMENT, found)
    place = 0
    for end in ends:
        place = found.index(end, place) + len(end)


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (["2", GAP], "no text of an assignment can contain '2' at its beginning."),
        ([GAP, "= x", GAP], "no text of an assignment can contain '= x' after [gap]."),
        (
            ["a ", GAP, "b", GAP],
            "no text of an assignment can contain 'b' after 'a ' [gap].",
        ),
        ([GAP, "=1", GAP, "="], "no text of an assignment can contain '=' after [gap] '=1' [gap]."),
        ([GAP, "="], "no text of an assignment can end with [gap] '='."),
        ([GAP, "1" * 80, "="], f"can end with [gap] ...'{'1' * 59}='."),
    ],
)
def test_the_first_given_text_that_does_not_fit_is_named(pieces, message):
    said = explanation(ASSIGNMENT, pieces)
    assert said is not None
    assert said.endswith(message)


def test_nothing_is_explained_where_there_is_a_completion_and_an_empty_language_is_named():
    assert explanation(ASSIGNMENT, [GAP, "=", GAP]) is None
    never = Grammar({"s": Seq((Text("a"), Ref("s")))}, "s", about="a loop")
    assert completion(never, [GAP]) is None
    assert explanation(never, [GAP]) == "a loop holds no text at all."


def test_a_question_that_takes_too_much_work_is_undecided_and_not_answered():
    nested = Grammar({"s": Alt((Text(""), Seq((Text("("), Ref("s"), Text(")")))))}, "s")
    assert completion(nested, ["(" * 40, GAP]) == "(" * 40 + ")" * 40
    for pieces in (["(" * 40, GAP], ["(" * 40]):
        with pytest.raises(UndecidedError, match="not settled within 20 facts"):
            completion(nested, pieces, limit=20)


def test_a_character_may_be_split_between_tokens_and_text_fits_its_slots_exactly():
    pairs = Grammar({"s": Alt((Text("é"), Seq((Text("<"), Ref("s"), Text(">")))))}, "s")
    book = vocabulary([b"<", b">", b"\xc3", b"\xa9", b"<<", None], [5], "bytes")
    whole = Slots((None,) * 6, (0,) * 6)
    assert fitting(pairs, book, Slots((None,), (0,))) is None
    assert fitting(pairs, book, Slots((None, None), (0, 0))) == [2, 3]
    assert fitting(pairs, book, Slots((None, None, None), (0, 0, 0))) == [2, 3, 5]
    assert fitting(pairs, book, Slots((None, 3, 1, None), (0, GIVEN, GIVEN, 1))) is None
    assert fitting(pairs, book, Slots((None, None, 3, 1, None), (0, 0, GIVEN, GIVEN, 1))) == [
        0, 2, 3, 1, 5,
    ]  # fmt: skip
    assert fitting(pairs, book, Slots((4, *whole.token[1:]), whole.hole)) == [4, 2, 3, 1, 1, 5]
    assert fitting(pairs, book, Slots((4, None, None, None, 5), (GIVEN, 0, 0, 0, 0))) is None


def test_slots_that_do_not_say_what_they_hold_are_refused():
    with pytest.raises(ValueError, match="2 slots have 1 numbers"):
        Slots((None, None), (0,))
    with pytest.raises(ValueError, match="slot 1 is open but in no hole"):
        Slots((None, None), (0, GIVEN))


def test_gaps_in_a_pattern_are_answered_like_its_automaton_does():
    pattern = Seq((Repeat(Alt((Text("ab"), Text("b"))), 1, 4), Text("c"), Repeat(Text("ac"), 0, 2)))
    language, automaton = ready(Grammar({"s": pattern}, "s")), dfa(pattern, {}, "a pattern")
    rng = random.Random(0)
    answers = Counter()
    for _ in range(300):
        some = ["".join(rng.choices("abc", k=rng.randint(0, 3))) for _ in range(3)]
        pieces = [GAP, some[0], GAP, some[1], rng.choice((GAP, "")), some[2]]
        possible = reachable(automaton, pieces)
        found = completion(language, pieces)
        assert (found is not None) == possible
        assert found is None or automaton.matches(found.encode())
        answers[possible] += 1
    assert min(answers.values()) > 50


def reachable(automaton, pieces):
    """Whether some filling of the gaps is accepted: sets of states, closed under bytes at gaps."""
    states = {automaton.start}
    step = {q: set(automaton.table[q].tolist()) - {-1} for q in range(automaton.size)}
    for piece in pieces:
        if piece == GAP:
            while not (more := set().union(*(step[q] for q in states))) <= states:
                states |= more
            continue
        for byte in piece.encode():
            states = {int(automaton.table[q, automaton.classes[byte]]) for q in states} - {-1}
    return any(automaton.accepting[q] for q in states)
