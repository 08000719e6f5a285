import random
from itertools import product

import numpy as np
import pytest

from unison.constrain.context_free.lexer import Lexer, lexer
from unison.constrain.language import (
    NOTHING,
    Alt,
    Chars,
    ConstraintError,
    Expr,
    Grammar,
    Minus,
    Ref,
    Repeat,
    Seq,
    Text,
)
from unison.constrain.machine import DEAD

TEXTS = ["".join(letters) for n in range(7) for letters in product("ab", repeat=n)]


def grammar(lexemes: dict[str, Expr], ignored: frozenset[str] = frozenset(), **more) -> Grammar:
    rules: dict[str, Expr] = {"start": Repeat(Alt(tuple(Ref(name) for name in lexemes)))}
    return Grammar(rules | lexemes | more, "start", tuple(lexemes), ignored, about="the language")


def cut(text: str, lexemes: dict[str, list[str]]) -> list[str] | None:
    """Cut by the words of the law: go on if any lexeme could, else end the first that may."""

    def could_be(prefix: str) -> bool:
        return any(word.startswith(prefix) for words in lexemes.values() for word in words)

    def ended(run: str) -> str | None:
        return next((name for name, words in lexemes.items() if run in words), None)

    found, run = [], ""
    for char in text:
        if not could_be(run + char):
            name = ended(run)
            if name is None or not could_be(char):
                return None
            found.append(name)
            run = ""
        run += char
    if not run:
        return found
    name = ended(run)
    return None if name is None else [*found, name]


def test_texts_are_cut_as_the_law_says():
    rng = random.Random(1)
    lexed = 0
    for _ in range(40):
        words = {
            f"L{i}": sorted(set(rng.choices(TEXTS[1:31], k=rng.randint(1, 4))))
            for i in range(rng.randint(1, 4))
        }
        machine = lexer(grammar({name: Alt(tuple(map(Text, w))) for name, w in words.items()}))
        for text in TEXTS:
            found = machine.lex(text.encode())
            assert found == cut(text, words), (words, text)
            lexed += found is not None
    assert lexed > 500


LETTERS = Chars(((97, 122),))
LANGUAGE: dict[str, Expr] = {
    "IF": Text("if"),
    "NAME": Repeat(LETTERS, 1),
    "INT": Repeat(Chars(((48, 57),)), 1),
    "FLOAT": Seq((Repeat(Chars(((48, 57),)), 1), Text("."), Repeat(Chars(((48, 57),)), 1))),
    "DOTS": Text(".."),
    "SPACE": Repeat(Text(" "), 1),
    "EURO": Text("€"),
}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("if x", ["IF", "SPACE", "NAME"]),
        ("ifx", ["NAME"]),
        ("12.5", ["FLOAT"]),
        ("12x", ["INT", "NAME"]),
        ("1..", None),  # the dot could begin a fraction, so it had to be read on
        ("..1", ["DOTS", "INT"]),
        ("1.", None),
        ("", []),
        ("x€€", ["NAME", "EURO", "EURO"]),
        ("x?", None),
    ],
)
def test_a_lexeme_goes_on_as_long_as_one_can(text, names):
    assert lexer(grammar(LANGUAGE)).lex(text.encode()) == names


def test_of_two_lexemes_of_one_text_the_first_named_wins():
    swapped = {"NAME": LANGUAGE["NAME"], "IF": LANGUAGE["IF"]}
    assert lexer(grammar(swapped)).lex(b"if") == ["NAME"]
    without: dict[str, Expr] = {"NAME": Minus(Ref("word"), Ref("IF")), "IF": Text("if")}
    machine = lexer(grammar(without, word=LANGUAGE["NAME"]))
    assert machine.lex(b"if") == ["IF"]
    assert machine.lex(b"i") == ["NAME"]


def test_the_table_shows_labels_of_names_and_of_what_is_ignored():
    machine = lexer(grammar(LANGUAGE, frozenset({"SPACE"})))
    assert machine.names == tuple(LANGUAGE)
    assert machine.ignored == {machine.names.index("SPACE")}
    state = machine.table[machine.start, ord("i")]
    assert machine.names[machine.label[state]] == "NAME"
    assert machine.names[machine.label[machine.table[state, ord("f")]]] == "IF"
    assert machine.label[machine.start] == -1


def no_state_is_too_many(machine: Lexer) -> None:
    size = len(machine.label)
    assert not (machine.table == machine.start).any()
    live = set(np.flatnonzero(machine.label >= 0).tolist())
    for _ in range(size):
        live |= {q for q in range(size) if live & set(machine.table[q].tolist())}
    assert live == set(range(size))
    kind = np.append(machine.label, -2)
    kind[machine.start] = -3
    apart = kind[:, None] != kind[None, :]
    padded = np.vstack([np.where(machine.table == DEAD, size, machine.table), np.full(256, size)])
    for _ in range(size):
        apart = apart | apart[padded[:, None, :], padded[None, :, :]].any(-1)
    assert apart.sum() == (size + 1) * size


def test_each_state_leads_to_a_label_and_differs_from_all_others_and_none_leads_back_to_the_start():
    no_state_is_too_many(lexer(grammar(LANGUAGE)))
    looping: dict[str, Expr] = {"L": Seq((Repeat(Text("ab")), Text("c")))}
    machine = lexer(grammar(looping))
    no_state_is_too_many(machine)
    assert machine.lex(b"ab") is None  # the loop passes by the start, where a text could end
    assert machine.lex(b"abc") == ["L"]


@pytest.mark.parametrize(
    ("lexemes", "problem"),
    [
        ({"A": Text("a"), "B": Repeat(Text("b"))}, "lexeme 'B' may be the empty text"),
        ({"A": Text("a"), "B": Seq((Text("b"), NOTHING))}, "no text is a lexeme 'B': in rule 'B'"),
        ({"A": Seq((Text("a"), Ref("A")))}, "rule 'A' uses itself"),
        ({}, "names no lexemes"),
    ],
)
def test_lexemes_that_cut_nothing_off_are_refused_by_name(lexemes, problem):
    with pytest.raises(ConstraintError, match=f"the language.*{problem}"):
        lexer(grammar(lexemes))


def test_only_lexemes_can_be_ignored_and_all_must_be_defined():
    with pytest.raises(ConstraintError, match="ignores 'start', which is no lexeme"):
        lexer(grammar({"A": Text("a")}, frozenset({"start"})))
    with pytest.raises(ConstraintError, match="'B', which is not defined"):
        lexer(Grammar({"start": Ref("A"), "A": Text("a")}, "start", ("A", "B")))
