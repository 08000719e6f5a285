"""A machine that finds its states accepts exactly the language, against words built one by one."""

import json
import pickle
import random
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.grammars import LETTERS, Node, beginnings, belongs, random_grammar, words
from oracle.lexemes import Lexed, random_lexed

from unison.constrain.context_free import cutting
from unison.constrain.context_free.parsing import parsing
from unison.constrain.language import (
    Alt,
    Both,
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
from unison.constrain.machine import DEAD, Machine

LONGEST = 6


def as_expr(node: Node) -> Expr:
    kind, *args = node
    match kind:
        case "text":
            return Text(args[0])
        case "chars":
            return Chars(tuple((ord(letter), ord(letter)) for letter in sorted(args[0])))
        case "ref":
            return Ref(args[0])
        case "seq":
            return Seq(tuple(map(as_expr, args)))
        case "alt":
            return Alt(tuple(map(as_expr, args)))
        case "both":
            return Both(as_expr(args[0]), as_expr(args[1]))
        case "minus":
            return Minus(as_expr(args[0]), as_expr(args[1]))
        case _:
            return Repeat(as_expr(args[0]), args[1], args[2])


def as_grammar(rules: dict[str, Node]) -> Grammar:
    return Grammar({name: as_expr(rule) for name, rule in rules.items()}, next(iter(rules)))


def reach(machine: Machine, text: str | bytes, state: int | None = None) -> int:
    state = machine.start if state is None else state
    for byte in text.encode() if isinstance(text, str) else text:
        if state == DEAD:
            return DEAD
        step = machine.advance(np.array([state], np.int32), np.array([byte], np.uint8))
        state = int(step[0])
    return state


def accepts(machine: Machine, text: str | bytes) -> bool:
    state = reach(machine, text)
    return state != DEAD and bool(machine.accepts(np.array([state], np.int32))[0])


def hold(rules: dict[str, Node], longest: int = LONGEST) -> bool:
    """Compare a machine with brute force on every text up to a length; False if it is refused."""
    start = next(iter(rules))
    language, begun = words(rules, longest)[start], beginnings(rules, longest)[start]
    if not begun:
        with pytest.raises(ConstraintError, match="can never end"):
            parsing(as_grammar(rules))
        return False
    machine = parsing(as_grammar(rules))
    for length in range(longest + 1):
        for letters in product(LETTERS, repeat=length):
            text = "".join(letters)
            state = reach(machine, text)
            assert (state != DEAD) == (text in begun), (rules, text)
            assert accepts(machine, text) == (text in language), (rules, text)
            if state != DEAD:
                rest = machine.shortest(state).decode()
                assert accepts(machine, text + rest), (rules, text, rest)
                extending = [len(word) for word in language if word.startswith(text)]
                if extending:
                    assert len(text + rest) == min(extending), (rules, text, rest)
                else:
                    assert len(text + rest) > longest, (rules, text, rest)
                    assert belongs(rules, start, text + rest), (rules, text, rest)
    return True


def test_machines_agree_with_every_word_of_random_grammars():
    held = sum(hold(random_grammar(seed), 4) for seed in range(300))
    assert 150 < held < 300  # both kinds: languages, and grammars that can never end


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(st.integers(1_000, 2**40))
def test_machines_agree_with_every_word_of_very_many_random_grammars(seed):
    hold(random_grammar(seed), 5)


def as_lexed(lexed: Lexed) -> Grammar:
    """Lexemes are called by their capitals, which the rules' texts are made of."""
    names = [chr(ord("A") + number) for number in range(len(lexed.lexemes))]

    def over(expr: Expr) -> Expr:
        match expr:
            case Text(text):
                return Seq(tuple(Ref(letter) for letter in text))
            case Seq(parts):
                return Seq(tuple(map(over, parts)))
            case Alt(options):
                return Alt(tuple(map(over, options)))
            case Repeat(item, least, most):
                return Repeat(over(item), least, most)
            case _:
                return expr

    rules = {name: over(as_expr(rule)) for name, rule in lexed.rules.items()}
    cut = dict(zip(names, map(as_expr, lexed.lexemes), strict=True))
    ignored = frozenset(names[number] for number in lexed.ignored)
    return Grammar(rules | cut, next(iter(rules)), tuple(names), ignored)


def hold_cut(lexed: Lexed, longest: int) -> bool:
    """Compare a machine with brute force on texts cut into lexemes; False if it is refused."""
    language = lexed.accepted(longest)
    try:
        machine = parsing(as_lexed(lexed))
    except ConstraintError:
        assert not language, lexed
        return False
    begun = {word[:n] for word in language for n in range(len(word) + 1)}
    texts = ["".join(t) for n in range(longest + 1) for t in product(" ab", repeat=n)]
    states = {text: reach(machine, text) for text in texts}
    for text, state in states.items():
        assert state != DEAD or text not in begun, (lexed, text)
        assert accepts(machine, text) == (text in language), (lexed, text)
        if state == DEAD:
            continue
        whole = text + machine.shortest(state).decode()
        assert accepts(machine, whole), (lexed, text, whole)
        extending = [len(word) for word in language if word.startswith(text)]
        if extending:
            assert len(whole) == min(extending), (lexed, text, whole)
        else:
            assert len(whole) > longest, (lexed, text, whole)
            assert lexed.holds(whole), (lexed, text, whole)
    return True


def test_machines_agree_with_every_text_cut_into_random_lexemes():
    held = sum(hold_cut(random_lexed(seed), 4) for seed in range(80))
    assert 25 < held < 80


@pytest.mark.slow
@settings(max_examples=2_000, deadline=None)
@given(st.integers(1_000, 2**40))
def test_machines_agree_with_every_text_cut_into_very_many_random_lexemes(seed):
    hold_cut(random_lexed(seed), 5)


def test_a_large_grammar_is_completed_by_valid_texts(monkeypatch):
    monkeypatch.setattr(cutting, "EXACT", 0)
    for seed in range(60):
        lexed = random_lexed(seed)
        try:
            machine = parsing(as_lexed(lexed))
        except ConstraintError:
            continue
        for n in range(4):
            for letters in product(" ab", repeat=n):
                state = reach(machine, "".join(letters))
                if state != DEAD:
                    whole = "".join(letters) + machine.shortest(state).decode()
                    assert lexed.holds(whole), (lexed, whole)


def one(letters: str) -> Chars:
    return Chars(tuple((ord(letter), ord(letter)) for letter in sorted(letters)))


DIGIT = Chars(((48, 57),))
SUMS = {
    "sum": Alt((Seq((Ref("sum"), one("+-"), Ref("term"))), Ref("term"))),
    "term": Alt((Seq((Ref("term"), one("*/"), Ref("atom"))), Ref("atom"))),
    "atom": Alt((Repeat(DIGIT, 1), Seq((Text("("), Ref("sum"), Text(")"))))),
}
NESTED = {
    "value": Alt((Ref("list"), Ref("object"), Ref("text"), Repeat(DIGIT, 1), Text("null"))),
    "list": Seq((Text("["), Repeat(Seq((Ref("value"), Text(",")))), Ref("value"), Text("]"))),
    "object": Seq((Text("{"), Repeat(Seq((Ref("pair"), Text(",")))), Ref("pair"), Text("}"))),
    "pair": Seq((Ref("text"), Text(":"), Ref("value"))),
    "text": Seq((Text('"'), Repeat(Chars(((35, 91), (93, 0x10FFFF)))), Text('"'))),
}


def test_left_recursive_sums_are_read_and_stay_small():
    machine = parsing(Grammar(SUMS, "sum"))
    assert accepts(machine, "1+(2*3-4)/56")
    assert not accepts(machine, "1+(2*3")
    assert machine.shortest(reach(machine, "1+(2*(3")) == b"))"
    assert reach(machine, "1+*") == DEAD
    assert reach(machine, "1+1*") == reach(machine, "1+1*1+1-1*")


def test_an_ambiguous_sum_has_as_many_states_as_its_texts_have_meanings():
    rules = {"e": Alt((Seq((Ref("e"), one("+*"), Ref("e"))), Repeat(DIGIT, 1)))}
    machine = parsing(Grammar(rules, "e"))
    assert reach(machine, "1+1*1+1*1+") == reach(machine, "1+1*")
    assert accepts(machine, "+".join("1" * 400))


def test_nested_json_is_read_as_the_json_module_reads_it():
    machine = parsing(Grammar(NESTED, "value"))
    rng = random.Random(5)
    text = '{"a":[1,null,{"é":"x"}],"b":[[2],"😀"]}'
    assert accepts(machine, text)
    read = 0
    for _ in range(300):
        at = rng.randrange(len(text))
        broken = text[:at] + rng.choice('[]{},:"1') + text[at + rng.randint(0, 1) :]
        try:
            json.loads(broken)
            valid = not re.search(r"0\d", broken)
        except ValueError:
            valid = False
        assert accepts(machine, broken) == valid, broken
        read += valid
    assert 10 < read < 290


def test_every_beginning_of_json_is_completed_to_json():
    machine = parsing(Grammar(NESTED, "value"))
    text = '{"a":[1,null,{"é":"x"}],"b":[[2],"😀"]}'.encode()
    for n in range(len(text) + 1):
        state = reach(machine, text[:n])
        json.loads((text[:n] + machine.shortest(state)).decode())


def test_depth_is_no_limit():
    machine = parsing(Grammar(NESTED, "value"))
    state = reach(machine, "[" * 1500)
    assert machine.shortest(state) in (b"0" + b"]" * 1500, b"1" + b"]" * 1500)
    assert accepts(machine, "[" * 1500 + "1" + "]" * 1500)


@pytest.mark.parametrize(("least", "most"), [(0, 1500), (1499, 1501), (1321, None)])
def test_long_repeats_are_counted_exactly(least, most):
    item = Seq((one("ab"), Text("c"), Repeat(Ref("x"), 0, 1)))
    rules = {"s": Repeat(item, least, most), "x": Seq((Text("("), Ref("s"), Text(")")))}
    machine = parsing(Grammar(rules, "s"))
    state = machine.start
    for count in range(1503):
        assert (state != DEAD) == (most is None or count <= most)
        if state != DEAD:
            allowed = least <= count and (most is None or count <= most)
            assert bool(machine.accepts(np.array([state], np.int32))[0]) == allowed
            if count % 100 == 0:
                assert len(machine.shortest(state)) == 2 * max(0, least - count)
        state = reach(machine, "ac", state)


WORDS = {
    "IF": Text("if"),
    "NAME": Repeat(Chars(((97, 122),)), 1),
    "INC": Text("++"),
    "PLUS": Text("+"),
    "BLANK": Repeat(Text(" "), 1),
    "s": Alt((Seq((Ref("IF"), Ref("e"), Ref("s"))), Ref("e"))),
    "e": Alt((Seq((Ref("e"), Ref("PLUS"), Ref("e"))), Seq((Ref("INC"), Ref("e"))), Ref("NAME"))),
}
CUT = ("IF", "NAME", "INC", "PLUS", "BLANK")


def test_keywords_are_no_names_and_lexemes_go_on_where_they_can():
    machine = parsing(Grammar(WORDS, "s", CUT, frozenset({"BLANK"})))
    for text in ("ifx", "if x y", "a+b", "a+ ++b", " a ", "if x if y z", "++a+b", "if a b+c"):
        assert accepts(machine, text), text
    for text in ("", "if", "if x", "a+++b", "a++", "if if", "a b"):
        assert not accepts(machine, text), text
    assert reach(machine, "a++") == DEAD  # one lexeme, which never stands behind a name
    assert machine.shortest(reach(machine, "if x")) == b" a"


def test_without_blanks_what_cannot_be_parted_is_dead_at_once():
    machine = parsing(Grammar(WORDS, "s", CUT))
    assert accepts(machine, "ifx")
    assert accepts(machine, "if++x++y")
    assert reach(machine, "if ") == DEAD
    assert machine.shortest(reach(machine, "if++x+")) == b"+a"


def test_lexemes_that_nothing_can_part_are_named():
    rules = WORDS | {"s": Seq((Ref("NAME"), Ref("IF")))}
    with pytest.raises(ConstraintError, match=r"'NAME' and 'IF' side by side.*white space"):
        parsing(Grammar(rules, "s", CUT))


def test_lexemes_that_never_come_are_named():
    order = ("NAME", "IF", "INC", "PLUS", "BLANK")
    rules = WORDS | {"s": Ref("IF")}
    with pytest.raises(ConstraintError, match="the lexeme 'IF', which never comes"):
        parsing(Grammar(rules, "s", order))


def test_rules_that_never_end_are_named():
    rules = {"s": Seq((Text("a"), Ref("t"))), "t": Alt((Ref("s"), Ref("t"))), "u": Text("b")}
    with pytest.raises(ConstraintError, match=r"rules 's', 't' can never end"):
        parsing(Grammar(rules, "s"))


def test_rules_beside_lexemes_read_no_characters():
    rules = {"A": Text("a"), "s": Seq((Ref("A"), Text("b")))}
    with pytest.raises(ConstraintError, match=r"rule 's' reads characters.*lexeme"):
        parsing(Grammar(rules, "s", ("A",)))


def test_a_machine_in_a_pickle_keeps_its_states():
    machine = parsing(Grammar(NESTED, "value"))
    text = '{"a":[1,2]}'
    states = [reach(machine, text[:n]) for n in range(len(text) + 1)]
    rests = [machine.shortest(state) for state in states]
    again = pickle.loads(pickle.dumps(machine))
    assert [reach(again, text[:n]) for n in range(len(text) + 1)] == states
    assert [again.shortest(state) for state in states] == rests
    assert accepts(again, '{"b":[[null],"x"]}')


def test_threads_that_grow_one_machine_agree():
    machine, alone = (parsing(Grammar(SUMS, "sum")) for _ in range(2))
    texts = ["(" * n + "1" + ")" * n + "+1" * (n % 7) for n in range(30)]
    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(lambda text: reach(machine, text), texts * 2))
    assert all(accepts(machine, text) for text in texts)
    for text, state in zip(texts * 2, ends, strict=True):
        assert state == reach(machine, text)
        assert machine.shortest(state) == alone.shortest(reach(alone, text))


def test_many_pairs_are_answered_as_one_by_one():
    machine = parsing(Grammar(NESTED, "value"))
    states = [reach(machine, text) for text in ("", "[", '{"', '{"a":1', "[[1")]
    pairs = np.array([(state, byte) for state in states for byte in range(256)])
    together = machine.advance(pairs[:, 0].astype(np.int32), pairs[:, 1].astype(np.uint8))
    single = parsing(Grammar(NESTED, "value"))
    for (state, byte), target in zip(pairs.tolist(), together.tolist(), strict=True):
        text = ("", "[", '{"', '{"a":1', "[[1")[states.index(state)].encode()
        alive = reach(single, text + bytes([byte])) != DEAD
        assert (target != DEAD) == alive, (text, byte)
