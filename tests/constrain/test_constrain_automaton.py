import pickle
import random
from functools import reduce
from itertools import product
from math import inf

import numpy as np
import pytest

from unison.constrain.automaton import Dfa, TooManyStatesError, dfa
from unison.constrain.language import (
    ANY_CHAR,
    EMPTY,
    LAST_CODE,
    NOTHING,
    Alt,
    Both,
    Chars,
    ConstraintError,
    Expr,
    Minus,
    Ref,
    Repeat,
    Seq,
    Text,
)
from unison.constrain.machine import DEAD, Machine

A, B = Text("a"), Text("b")
AB = Chars(((97, 98),))
WORDS = Repeat(AB)
LONGEST = 5
TEXTS = ["".join(letters) for n in range(LONGEST + 1) for letters in product("ab", repeat=n)]
RULES: dict[str, Expr] = {"pair": Seq((Ref("one"), Ref("one"))), "one": Alt((A, Text("bb")))}


def texts_of(expr: Expr) -> frozenset[str]:
    """The texts over a and b of at most LONGEST characters, by what each construct says."""
    match expr:
        case Text(text):
            return frozenset({text} if len(text) <= LONGEST else ())
        case Chars(ranges):
            return frozenset(c for c in "ab" if any(a <= ord(c) <= b for a, b in ranges))
        case Seq(parts):
            return reduce(joined, map(texts_of, parts), frozenset({""}))
        case Alt(options):
            return frozenset().union(*map(texts_of, options))
        case Repeat(item, least, most):
            return repeated(texts_of(item), least, most)
        case Ref(name):
            return texts_of(RULES[name])
    left, right = texts_of(expr.left), texts_of(expr.right)
    return left & right if isinstance(expr, Both) else left - right


def longest(expr: Expr) -> float:
    """No text is longer."""
    match expr:
        case Text(text):
            return len(text)
        case Chars():
            return 1
        case Seq(parts):
            return sum(map(longest, parts))
        case Alt(options):
            return max(map(longest, options), default=0)
        case Repeat(item, _, most):
            return longest(item) * (inf if most is None else most) if longest(item) else 0
        case Ref(name):
            return longest(RULES[name])
    return min(longest(expr.left), longest(expr.right) if isinstance(expr, Both) else inf)


def joined(left, right):
    return frozenset(x + y for x in left for y in right if len(x + y) <= LONGEST)


def repeated(item, least, most):
    power = frozenset({""})
    for _ in range(least):
        power = joined(power, item)
    found = power
    # beyond LONGEST more copies, only the empty text can be added
    for _ in range(LONGEST if most is None else min(most - least, LONGEST)):
        power = joined(power, item)
        found |= power
    return found


def drawn(rng: random.Random, depth: int) -> Expr:
    if depth == 0:
        leaves = [A, B, AB, EMPTY, Text("ab"), Ref("pair"), Ref("one"), NOTHING]
        return rng.choice(leaves)
    parts = tuple(drawn(rng, depth - 1) for _ in range(rng.randint(1, 3)))
    least = rng.randint(0, 3)
    most = rng.choice([None, least, least + 1, least + 3])
    kinds = [Seq(parts), Alt(parts), Repeat(parts[0], least, most)]
    if len(parts) > 1:
        kinds += [Both(parts[0], parts[1]), Minus(parts[0], parts[1])]
    return rng.choice(kinds)


def languages(count: int, seed: int, depth: int = 3):
    """Random expressions that hold some text, with their automata."""
    rng = random.Random(seed)
    while count:
        expr = drawn(rng, rng.randint(0, depth))
        if texts_of(expr):
            count -= 1
            yield expr, dfa(expr, RULES, "the test")


def holds(machine: Dfa, expr: Expr) -> None:
    held = {text for text in TEXTS if machine.matches(text.encode())}
    assert held == texts_of(expr), expr


def test_random_expressions_hold_exactly_the_texts_their_parts_say():
    for expr, machine in languages(400, seed=1):
        holds(machine, expr)


def test_a_machine_advanced_byte_by_byte_agrees_with_whole_texts():
    for expr, machine in languages(30, seed=2):
        states = np.full(len(TEXTS), machine.start, dtype=np.int32)
        for place in range(LONGEST):
            going = np.array([len(text) > place for text in TEXTS]) & (states != DEAD)
            data = np.array(
                [ord(text[place]) for text, on in zip(TEXTS, going, strict=True) if on],
                dtype=np.uint8,
            )
            states[going] = machine.advance(states[going], data)
        alive = states != DEAD
        ended = np.zeros(len(TEXTS), dtype=bool)
        ended[alive] = machine.accepts(states[alive])
        assert {text for text, yes in zip(TEXTS, ended, strict=True) if yes} == texts_of(expr)


def test_it_is_a_machine():
    assert isinstance(dfa(A, {}, "a"), Machine)


def test_every_state_is_needed_and_no_two_are_alike():
    for expr, machine in languages(80, seed=3):
        full = machine.table[:, machine.classes]
        size = machine.size
        reached = {machine.start}
        grown = True
        while grown:
            wider = reached | {int(t) for q in reached for t in full[q] if t != DEAD}
            grown, reached = wider != reached, wider
        assert reached == set(range(size)), expr
        live = set(np.flatnonzero(machine.accepting).tolist())
        grown = True
        while grown:
            wider = live | {q for q in range(size) if live & set(full[q].tolist())}
            grown, live = wider != live, wider
        assert live == set(range(size)), expr
        # Moore's table: pairs told apart by acceptance, then by some byte, until nothing changes
        kind = np.append(machine.accepting, False).astype(int)  # the last stands for DEAD
        apart = kind[:, None] != kind[None, :]
        padded = np.vstack([np.where(full == DEAD, size, full), np.full(256, size)])
        while True:
            further = apart | apart[padded[:, None, :], padded[None, :, :]].any(-1)
            if (further == apart).all():
                break
            apart = further
        assert apart.sum() == (size + 1) * size, expr


def test_equal_languages_give_equal_automata_and_others_do_not():
    known: dict[frozenset[str], set[Dfa]] = {}
    for expr, machine in languages(300, seed=4, depth=2):
        if longest(expr) <= LONGEST:
            known.setdefault(texts_of(expr), set()).add(machine)
    assert len(known) > 20
    assert all(len(machines) == 1 for machines in known.values())
    assert len({machine for machines in known.values() for machine in machines}) == len(known)
    one = dfa(WORDS, {}, "one")
    other = dfa(Repeat(Seq((Repeat(A), Repeat(B)))), {}, "other")
    assert one == other
    assert hash(one) == hash(other)
    assert one != dfa(Repeat(AB, 1), {}, "more")


def test_products_obey_the_laws_of_sets():
    rng = random.Random(5)
    compared = 0
    while compared < 25:
        x, y = drawn(rng, 2), drawn(rng, 2)
        if not texts_of(x) & texts_of(y) or not texts_of(x) - texts_of(y):
            continue
        compared += 1
        same = [
            (Both(x, y), Both(y, x)),
            (Both(x, y), Minus(x, Minus(x, y))),
            (Alt((Both(x, y), Minus(x, y))), x),
            (Both(x, y), Both(x, Both(y, Both(x, WORDS)))),
            (Minus(x, y), Both(x, Minus(Repeat(ANY_CHAR), y))),
            (Minus(x, y), Minus(Alt((x, y)), y)),
        ]
        for left, right in same:
            assert dfa(left, RULES, "left") == dfa(right, RULES, "right"), (x, y)


@pytest.mark.parametrize("seed", range(6))
def test_a_set_holds_the_utf8_of_its_characters_and_no_other_bytes(seed):
    rng = random.Random(seed)
    corners = [0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xD800, 0xDFFF, 0xE000, 0xFFFF, 0x10000]
    near = [max(0, c + rng.randint(-70, 70)) for c in corners for _ in range(2)]
    anywhere = [rng.randrange(LAST_CODE + 1) for _ in range(8)]
    points = sorted({*rng.sample(corners + near + anywhere, 12), LAST_CODE - seed})
    ranges = tuple(zip(points[::2], points[1::2], strict=False))
    machine = dfa(Chars(ranges), {}, "characters")
    wanted = np.zeros(LAST_CODE + 1, dtype=bool)
    for first, last in ranges:
        wanted[first : last + 1] = True
    wanted[0xD800:0xE000] = False
    for low, high, length in ((0, 0x7F, 1), (0x80, 0x7FF, 2), (0x800, 0xFFFF, 3), (65536, 0, 4)):
        codes = np.arange(low, (high or LAST_CODE) + 1)
        codes = codes[(codes < 0xD800) | (codes > 0xDFFF)]
        text = "".join(map(chr, codes)).encode()
        data = np.frombuffer(text, dtype=np.uint8).reshape(-1, length)
        states = np.zeros(len(codes), dtype=np.int32)
        for column in data.T:
            states = np.where(states == DEAD, DEAD, machine.advance(np.maximum(states, 0), column))
        accepted = (states != DEAD) & machine.accepts(np.maximum(states, 0))
        assert (accepted == wanted[codes]).all()
    # as many byte strings are accepted as there are characters, so none is overlong or a surrogate
    full = machine.table[:, machine.classes]
    ways = np.zeros(machine.size, dtype=np.int64)
    ways[machine.start] = 1
    accepted_strings = 0
    for _ in range(4):
        onward = np.zeros_like(ways)
        sources, bytes_ = np.nonzero(full != DEAD)
        np.add.at(onward, full[sources, bytes_], ways[sources])
        ways = onward
        accepted_strings += int(ways[machine.accepting].sum())
    assert accepted_strings == wanted.sum()


def test_the_shortest_continuation_ends_the_text_and_none_is_shorter():
    for expr, machine in languages(120, seed=6):
        if longest(expr) > LONGEST:
            continue  # texts may exist that were not listed
        for text in TEXTS:
            ends = [len(other) - len(text) for other in texts_of(expr) if other.startswith(text)]
            state = machine.start
            for byte in text.encode():
                state = int(machine.table[state, machine.classes[byte]])
                if state == DEAD:
                    break
            assert (state != DEAD) == bool(ends)
            if ends:
                rest = machine.shortest(state)
                assert len(rest) == min(ends)
                assert machine.matches(text.encode() + rest)


def test_a_pickled_automaton_reads_the_same_language():
    machine = dfa(Seq((Repeat(A, 2, 5), B)), {}, "it")
    again = pickle.loads(pickle.dumps(machine))
    assert again == machine
    assert again.shortest(again.start) == b"aab"


def test_a_counted_repeat_needs_one_state_for_each_count_even_on_the_way():
    assert dfa(Repeat(A, 0, 2000), {}, "many", limit=2001).size == 2001
    assert dfa(Repeat(Alt((EMPTY, A)), 700, 1000), {}, "many", limit=1001).size == 1001


def test_a_choice_of_many_words_holds_these_and_no_others():
    rng = random.Random(7)
    words = {"".join(rng.choices("abcdefgh", k=rng.randint(3, 9))) for _ in range(1500)}
    machine = dfa(Alt(tuple(map(Text, sorted(words)))), {}, "words")
    others = {"".join(rng.choices("abcdefgh", k=rng.randint(3, 5))) for _ in range(2000)}
    assert all(machine.matches(word.encode()) for word in words)
    assert all(machine.matches(word.encode()) == (word in words) for word in others)


EXPLODING = {
    "subsets": Seq((WORDS, A, Repeat(AB, 25, 25))),
    "nested counts": Repeat(Repeat(A, 1, 1000), 1, 1000),
    "endless count": Repeat(A, 10**12, 10**12),
    "copies of empty copies": Repeat(Seq((Repeat(A, 0, 1), Repeat(B, 0, 1))), 0, 9_000),
    "rules that double": Ref("r60"),
    "rules that double nothing": Ref("e60"),
}
DOUBLING: dict[str, Expr] = {"r0": A, "e0": EMPTY} | {
    f"{kind}{i + 1}": Seq((Ref(f"{kind}{i}"),) * 2) for kind in "re" for i in range(60)
}


@pytest.mark.parametrize("name", EXPLODING)
def test_an_explosion_of_states_is_stopped_at_the_limit_and_says_so(name):
    with pytest.raises(TooManyStatesError, match=r"the pattern of x .*more than 3,000 states") as e:
        dfa(EXPLODING[name], DOUBLING, "the pattern of x", limit=3000)
    assert "Bound repetitions" in str(e.value)


def test_an_explosion_within_a_product_is_stopped_too():
    primes = (13, 17, 19)
    expr: Expr = Repeat(A, 1)
    for prime in primes:
        expr = Both(expr, Repeat(Repeat(A, prime, prime)))
    with pytest.raises(TooManyStatesError):
        dfa(expr, {}, "primes", limit=2000)


@pytest.mark.parametrize(
    ("expr", "reason"),
    [
        (NOTHING, "a choice has no options"),
        (Chars(()), "a set of characters is empty"),
        (Chars(((0xD800, 0xDFFF),)), "nothing but surrogates"),
        (Seq((A, Both(Repeat(A, 1), Repeat(B, 1)))), r"no text is both 'a'\+ and 'b'\+"),
        (Minus(Repeat(A, 2, 3), Repeat(A)), r"every text of 'a'\{2,3\} is excluded by 'a'\*"),
        (Ref("outer"), "in rule 'inner', a choice has no options"),
        (Both(A, Both(A, Ref("inner"))), "in rule 'inner', a choice has no options"),
        (Alt((Seq((A, NOTHING)), Chars(()))), "a choice has no options"),
    ],
)
def test_a_language_without_texts_is_refused_with_the_part_to_blame(expr, reason):
    rules: dict[str, Expr] = {"outer": Seq((A, Repeat(Ref("inner"), 1))), "inner": NOTHING}
    with pytest.raises(ConstraintError, match=f"^the schema allows no text: .*{reason}"):
        dfa(expr, rules, "the schema")


def test_empty_parts_next_to_others_do_no_harm():
    expr = Alt((A, Seq((B, NOTHING)), Both(A, B), Seq((B, Repeat(Chars(()))))))
    assert dfa(expr, {}, "it") == dfa(Alt((A, B)), {}, "same")


def test_a_rule_that_uses_itself_is_refused_by_name():
    rules: dict[str, Expr] = {"x": Seq((A, Ref("y"))), "y": Alt((B, Ref("x")))}
    with pytest.raises(ConstraintError, match=r"rule 'x' uses itself \(x -> y -> x\)"):
        dfa(Ref("x"), rules, "it")


@pytest.mark.parametrize("counts", [(-1, 3), (4, 3), (-2, None)])
def test_counts_that_make_no_sense_are_refused(counts):
    with pytest.raises(ConstraintError, match="repeats something at least"):
        dfa(Repeat(A, *counts), {}, "it")


def test_half_a_surrogate_pair_in_a_text_is_refused():
    with pytest.raises(ConstraintError, match=r"lone surrogate U\+D83D"):
        dfa(Text("x\ud83d"), {}, "it")


def test_depth_is_no_obstacle():
    nested: Expr = A
    for _ in range(600):
        nested = Seq((A, Repeat(Alt((nested,)), 0, 1)))
    assert dfa(nested, {}, "deep").size == 602
    taken: Expr = WORDS
    for length in range(40):
        taken = Minus(taken, Repeat(A, length, length))
    assert dfa(taken, {}, "chain").size == 41
    met: Expr = Repeat(A, 0, 10)
    for length in range(40):
        met = Both(Repeat(A, 0, 10 + length), met)
    assert dfa(met, {}, "chain").size == 11


def test_differences_nested_to_the_right_beyond_reason_are_refused():
    expr: Expr = A
    for _ in range(60):
        expr = Minus(WORDS, expr)
    with pytest.raises(ConstraintError, match="inside others more than"):
        dfa(expr, {}, "it")
