from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from unison.constrain import compiling
from unison.constrain.automaton import Dfa, dfa
from unison.constrain.compiling import KEPT, fingerprint, machine
from unison.constrain.language import (
    Alt,
    Both,
    Chars,
    ConstraintError,
    Grammar,
    Minus,
    Ref,
    Repeat,
    Seq,
    Text,
)
from unison.constrain.machine import DEAD, Machine

A, B = Text("a"), Text("b")


def accepts(reader: Machine, text: bytes) -> bool:
    state = np.array([reader.start], dtype=np.int32)
    for byte in text:
        state = reader.advance(state, np.array([byte], dtype=np.uint8))
        if state[0] == DEAD:
            return False
    return bool(reader.accepts(state)[0])


def test_a_grammar_without_recursion_is_read_by_a_table():
    grammar = Grammar({"s": Seq((Ref("x"), B)), "x": Repeat(A)}, "s")
    assert machine(grammar) == dfa(Ref("s"), grammar.rules, "it")


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar({"s": Alt((Text(""), Seq((A, Ref("s"), B))))}, "s"),
        Grammar({"s": Alt((Seq((Ref("A"), Ref("B"))), Ref("AABB"))), "A": A, "B": B}
                | {"AABB": Text("aabb")}, "s", ("A", "B", "AABB")),
    ],
    ids=["recursive", "with lexemes"],
)  # fmt: skip
def test_nesting_and_lexemes_are_read_by_a_machine_that_finds_its_states(grammar):
    reader = machine(grammar)
    assert not isinstance(reader, Dfa)
    assert accepts(reader, b"ab")
    assert accepts(reader, b"aabb")
    assert not accepts(reader, b"abb")


def test_a_regular_language_too_large_for_a_table_is_read_all_the_same(monkeypatch):
    monkeypatch.setattr(compiling, "dfa", partial(dfa, limit=100))
    either = Alt((A, B))
    grammar = Grammar({"s": Seq((Repeat(either), A, Repeat(either, 7, 7)))}, "s")
    reader = machine(grammar)
    assert not isinstance(reader, Dfa)
    assert accepts(reader, b"b" * 30 + b"a" + b"b" * 7)
    assert not accepts(reader, b"b" * 60)


def test_the_same_content_gives_the_same_machine_and_the_name_in_messages_does_not_count():
    grammar = Grammar({"s": Repeat(A, 1, 7)}, "s")
    assert machine(grammar) is machine(Grammar({"s": Repeat(A, 1, 7)}, "s", about="another"))


def test_machines_are_forgotten_when_many_others_came_later():
    grammars = [Grammar({"s": Text("x" * (n + 1))}, "s") for n in range(KEPT + 1)]
    first = machine(grammars[0])
    for grammar in grammars[1:KEPT]:
        machine(grammar)
    assert machine(grammars[0]) is first  # used again, so it is not the oldest
    machine(grammars[KEPT])
    assert machine(grammars[0]) is first
    second = machine(grammars[1])
    assert accepts(second, b"xx")


def test_threads_that_ask_at_once_get_one_machine():
    grammar = Grammar({"s": Repeat(Seq((Repeat(A, 1, 40), B)), 3)}, "s")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: machine(grammar), range(24)))
    assert all(one is made[0] for one in made)


def test_fingerprints_tell_grammars_apart():
    base = Grammar({"s": Seq((A, B)), "t": Ref("s"), "L": A}, "s", ("L",))
    parts = [
        Seq((Seq((A,)), B)), Seq((A, Seq((B,)))), Alt((A, B)), Both(A, B), Minus(A, B), Minus(B, A),
        Text("ab"), Text("ba"), Chars(((97, 98),)), Chars(((97, 97), (98, 98))), Repeat(A),
        Repeat(A, 1), Repeat(A, 0, 1), Ref("t"), Seq(()), Alt(()), Seq((B, A)),
    ]  # fmt: skip
    others = [replace(base, rules={**base.rules, "s": part}) for part in parts]
    others += [
        base,
        replace(base, start="t"),
        replace(base, lexemes=()),
        replace(base, ignored=frozenset({"L"})),
        replace(base, rules={**base.rules, "u": A}),
    ]
    assert len({fingerprint(grammar) for grammar in others}) == len(others)
    assert fingerprint(base) == fingerprint(replace(base, about="elsewhere"))


def test_a_language_without_texts_is_refused_by_its_name():
    with pytest.raises(ConstraintError, match="the greeting allows no text"):
        machine(Grammar({"s": Both(A, B)}, "s", about="the greeting"))
