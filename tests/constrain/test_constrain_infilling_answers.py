"""What completions look like, how their absence is explained, and what is refused."""

import random
from collections import Counter

import pytest

from unison.constrain.automaton import dfa
from unison.constrain.infilling import (
    GAP,
    GIVEN,
    Slots,
    UndecidedError,
    completion,
    explanation,
    fitting,
    member,
    ready,
)
from unison.constrain.language import Alt, Chars, Grammar, Ref, Repeat, Seq, Text
from unison.constrain.vocabulary import vocabulary

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
