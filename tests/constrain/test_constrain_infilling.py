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

from unison.constrain.context_free.binary import binary
from unison.constrain.infilling import (
    GAP,
    GIVEN,
    Ready,
    Slots,
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
