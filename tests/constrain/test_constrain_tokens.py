"""What machines that read tokens promise, against brute force over all tokens and states."""

import pickle
import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unison.constrain.language import ConstraintError
from unison.constrain.machine import DEAD
from unison.constrain.tokens import UNREACHABLE, TokenMachine
from unison.constrain.vocabulary import Vocabulary, vocabulary

ALPHABET = b"\x05!abc"


class Table:
    """A machine that is a dictionary, written for these tests: state and byte to state."""

    def __init__(self, steps, ends, lazy=False):
        self.steps, self.ends, self.start = steps, ends, 0
        states = {0, *ends, *(s for s, _ in steps), *steps.values()}
        self.size = None if lazy else max(states) + 1
        self.asked = set()

    def advance(self, states, data):
        pairs = list(zip(states.tolist(), data.tolist(), strict=True))
        assert all(state != DEAD for state, _ in pairs)
        self.asked.update(pairs)
        return np.array([self.steps.get(pair, DEAD) for pair in pairs], np.int32)

    def accepts(self, states):
        return np.array([s in self.ends for s in states.tolist()], bool)

    def shortest(self, state):
        layer = {state: b""}
        while not self.ends & layer.keys():
            nxt = {}
            for s, text in sorted(layer.items(), key=lambda item: item[1]):
                for (source, byte), target in sorted(self.steps.items()):
                    if source == s:
                        nxt.setdefault(target, text + bytes([byte]))
            layer = nxt
        return min(layer[end] for end in self.ends & layer.keys())


def alive(steps, ends):
    """Leave out steps to states from which no end is reached, and number the states anew."""
    good = set(ends)
    while True:
        more = {s for (s, _), t in steps.items() if t in good} | good
        if more == good:
            break
        good = more
    number = {s: i for i, s in enumerate(sorted(good))}
    kept = {(number[s], b): number[t] for (s, b), t in steps.items() if s in good and t in good}
    return (kept, {number[e] for e in ends}) if 0 in good else (None, None)


def random_machine(rng, lazy=False):
    while True:
        size = int(rng.integers(1, 7))
        density = rng.random()
        steps = {
            (s, b): int(rng.integers(size))
            for s in range(size)
            for b in ALPHABET
            if rng.random() < density
        }
        ends = {int(s) for s in rng.integers(size, size=int(rng.integers(1, 3)))}
        steps, ends = alive(steps, ends)
        if steps is not None:
            return Table(steps, ends, lazy)


def random_vocabulary(rng):
    def text():
        return bytes(rng.choice(list(ALPHABET), size=int(rng.integers(0, 5))).tolist())

    said = [None if rng.random() < 0.1 else text() for _ in range(int(rng.integers(1, 30)))]
    return vocabulary([b"a", *said], [len(said)], "random")


def lands(machine, state, spelling):
    """Read bytes one by one in plain Python."""
    for byte in spelling or ():
        state = machine.steps.get((state, byte), DEAD)
        if state == DEAD:
            return DEAD
    return state if spelling else DEAD


def oracle(machine, vocab):
    """Return every edge, (state, token) to state, and all distances, relaxed to a fixed point."""
    states = range(max([0, *machine.ends, *(s for s, _ in machine.steps)]) + 1)
    moves = {
        (s, token): t
        for s in states
        for token, said in enumerate(vocab.spellings)
        if (t := lands(machine, s, said)) != DEAD
    }
    far = {s: 0 if s in machine.ends else UNREACHABLE for s in states}
    for _ in states:
        for (s, _), t in moves.items():
            far[s] = min(far[s], 1 + far[t]) if far[t] < UNREACHABLE else far[s]
    return moves, far


def edges_of(tokens, states):
    """Return {(state, token): target} as the machine tells it, and check its form."""
    offset, target, group = tokens.edges(np.array(states, np.int32))
    told = {}
    for i, s in enumerate(states):
        row = slice(offset[i], offset[i + 1])
        assert len(set(target[row].tolist())) == len(target[row])
        for t, g in zip(target[row].tolist(), group[row].tolist(), strict=True):
            for token in tokens.members(g).tolist():
                assert (s, token) not in told or states.count(s) > 1
                told[s, token] = t
    return told


def made(machine, vocab):
    """Return the token machine, ``None`` if it refuses."""
    try:
        return TokenMachine(machine, vocab)
    except ConstraintError:
        return None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_edges_of_a_finite_machine_are_all_tokens_that_can_still_end(seed):
    rng = np.random.default_rng(seed)
    machine, vocab = random_machine(rng), random_vocabulary(rng)
    moves, far = oracle(machine, vocab)
    tokens = made(machine, vocab)
    assert (tokens is None) == (far[0] == UNREACHABLE)
    if tokens is None:
        return
    states = rng.permutation(machine.size).tolist()
    expected = {key: t for key, t in moves.items() if far[t] < UNREACHABLE}
    assert edges_of(tokens, states) == expected
    everywhere = np.arange(machine.size, dtype=np.int32)
    assert tokens.distance(everywhere).tolist() == [far[s] for s in everywhere.tolist()]
    for token in range(len(vocab.spellings)):
        followed = tokens.follow(everywhere, token).tolist()
        assert followed == [expected.get((s, token), DEAD) for s in everywhere.tolist()]
    assert set(range(tokens.groups)) == set(tokens.edges(everywhere).group.tolist())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_edges_of_a_lazy_machine_are_all_tokens_that_lead_anywhere(seed):
    rng = np.random.default_rng(seed)
    machine, vocab = random_machine(rng, lazy=True), random_vocabulary(rng)
    moves, far = oracle(machine, vocab)
    tokens = made(machine, vocab)
    if tokens is None:
        assert far[0] == UNREACHABLE
        return
    states = sorted(far)
    for s in rng.permutation(states).tolist():
        assert edges_of(tokens, [s, s]) == {k: t for k, t in moves.items() if k[0] == s}
    assert edges_of(tokens, states) == moves
    distance = tokens.distance(np.array(states, np.int32)).tolist()
    assert all(far[s] <= d for s, d in zip(states, distance, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_shortest_text_has_as_many_tokens_as_the_distance_says_and_ends(seed):
    rng = np.random.default_rng(seed)
    machine, vocab = random_machine(rng, lazy=bool(seed % 2)), random_vocabulary(rng)
    tokens = made(machine, vocab)
    if tokens is None:
        return
    known = sorted({0, *(s for s, _ in machine.steps)})
    for s, far in zip(known, tokens.distance(np.array(known, np.int32)).tolist(), strict=True):
        if far == UNREACHABLE:
            with pytest.raises(ConstraintError, match="no tokens"):
                tokens.shortest(s)
            continue
        text = tokens.shortest(s)
        assert len(text) == far
        state = s
        for left, token in zip(range(far, 0, -1), text, strict=True):
            assert token in tokens.allowed(state, left).tolist()
            state = lands(machine, state, vocab.spellings[token])
            assert tokens.distance(np.array([state], np.int32))[0] == left - 1
        assert state in machine.ends


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_allowed_tokens_are_those_after_which_a_text_still_fits(seed):
    rng = np.random.default_rng(seed)
    machine, vocab = random_machine(rng), random_vocabulary(rng)
    moves, far = oracle(machine, vocab)
    tokens = made(machine, vocab)
    if tokens is None:
        return
    for s in range(machine.size):
        for slots in range(4):
            fitting = [k for (q, k), t in moves.items() if q == s and far[t] <= slots - 1]
            assert tokens.allowed(s, slots).tolist() == sorted(fitting)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_atoms_are_the_coarsest_partition_that_every_group_is_made_of(seed):
    rng = np.random.default_rng(seed)
    machine, vocab = random_machine(rng, lazy=True), random_vocabulary(rng)
    tokens = made(machine, vocab)
    if tokens is None:
        return
    for s in sorted({q for q, _ in machine.steps}):
        tokens.edges(np.array([s], np.int32))
        atoms = tokens.atoms()
        cells = [
            frozenset(atoms.order[a:b].tolist())
            for a, b in zip(atoms.start[:-1], atoms.start[1:], strict=True)
        ]
        groups = [frozenset(tokens.members(g).tolist()) for g in range(tokens.groups)]
        assert len(set(groups)) == len(groups)
        parts = {
            token: frozenset(g for g, members in enumerate(groups) if token in members)
            for members in groups
            for token in members
        }
        expected = {}
        for token, within in parts.items():
            expected.setdefault(within, set()).add(token)
        assert sorted(map(sorted, cells)) == sorted(map(sorted, expected.values()))
        for g, members in enumerate(groups):
            mine = atoms.group_atom[atoms.group_offset[g] : atoms.group_offset[g + 1]].tolist()
            assert frozenset().union(*(cells[c] for c in mine)) == members
            assert len(set(mine)) == len(mine)


def chain(text, lazy=False):
    data = text.encode()
    return Table({(i, b): i + 1 for i, b in enumerate(data)}, {len(data)}, lazy)


def loop(text, lazy=False):
    """Any number of the bytes of a text."""
    return Table({(0, b): 0 for b in text.encode()}, {0}, lazy)


LETTERS = vocabulary([b"a", b"b", b"ab", "é".encode(), b"\xc3", None, b"", b"a"], [7], "letters")


def test_a_text_in_whole_and_in_parts_is_every_way_to_spell_it():
    tokens = TokenMachine(chain("abé"), LETTERS)
    assert edges_of(tokens, [0, 1, 2]) == {(0, 0): 1, (0, 2): 2, (1, 1): 2, (2, 3): 4}
    assert tokens.distance(np.array([0, 1, 2, 3, 4, DEAD], np.int32)).tolist() == [
        2, 2, 1, UNREACHABLE, 0, UNREACHABLE,
    ]  # fmt: skip
    assert tokens.accepts(np.array([0, 4, DEAD], np.int32)).tolist() == [False, True, False]
    assert tokens.shortest(0) == [2, 3]
    assert tokens.exact


def test_nulls_and_tokens_without_text_are_never_text():
    tokens = TokenMachine(loop("ab"), LETTERS)
    assert tokens.allowed(0, 1).tolist() == [0, 1, 2]
    for silent in (5, 6, 7):
        assert tokens.follow(np.array([0, DEAD], np.int32), silent).tolist() == [DEAD, DEAD]
    assert tokens.follow(np.array([0, DEAD], np.int32), 2).tolist() == [0, DEAD]


@pytest.mark.parametrize("lazy", [False, True])
def test_a_text_no_token_spells_is_refused_by_its_characters(lazy):
    with pytest.raises(ConstraintError, match=r"shortest is 'abüß'.*spells 'ü', 'ß'"):
        TokenMachine(chain("abüß", lazy), LETTERS)


def test_a_text_whose_characters_stand_in_larger_tokens_only_is_refused():
    with pytest.raises(ConstraintError, match=r"'aba'.*only together"):
        TokenMachine(chain("aba"), vocabulary([b"xab", b"ba", b"b"], [], "pairs"))


def test_a_lazy_machine_is_kept_when_a_longer_text_than_the_shortest_can_be_spelt():
    steps = {(0, ord("x")): 1, (0, ord("a")): 2, (2, ord("b")): 3, (3, ord("a")): 1}
    tokens = TokenMachine(Table(steps, {1}, lazy=True), LETTERS)
    assert not tokens.exact
    assert tokens.distance(np.array([0, 1, 2, 3], np.int32)).tolist() == [UNREACHABLE, 0, 2, 1]


class Endless:
    """Opening and closing brackets that match: a machine with as many states as it is asked for."""

    start, size = 0, None

    def advance(self, states, data):
        step = np.where(data == ord("("), 1, np.where(data == ord(")"), -1, -(10**6)))
        return np.maximum(states + step, DEAD).astype(np.int32)

    def accepts(self, states):
        return states == 0

    def shortest(self, state):
        return b")" * state


def test_an_endless_machine_is_read_as_deep_as_it_is_asked():
    vocab = vocabulary([b"(", b")", b"))", b"()", b"(((", b"x"], [], "brackets")
    tokens = TokenMachine(Endless(), vocab)
    deep = 5000
    assert edges_of(tokens, [deep, 1]) == {
        (deep, 0): deep + 1, (deep, 1): deep - 1, (deep, 2): deep - 2, (deep, 3): deep,
        (deep, 4): deep + 3, (1, 0): 2, (1, 1): 0, (1, 3): 1, (1, 4): 4,
    }  # fmt: skip
    assert tokens.distance(np.array([deep, 7, 0], np.int32)).tolist() == [deep // 2, 4, 0]
    assert tokens.allowed(3, 2).tolist() == [1, 2]  # four brackets close in two tokens, not three


def test_an_endless_machine_that_never_ends_in_tokens_is_refused_and_does_not_hang():
    class Angle(Endless):
        def accepts(self, states):
            return np.zeros(len(states), bool)

        def shortest(self, state):
            return b")" * state + b">"

    with pytest.raises(ConstraintError, match=r"'>'.*no token of the vocabulary spells '>'"):
        TokenMachine(Angle(), vocabulary([b"(", b")"], [], "brackets"))


def test_a_pickled_machine_answers_the_same_and_goes_on_growing():
    vocab = vocabulary([b"(", b")", b"))", b"()"], [], "brackets")
    tokens = TokenMachine(Endless(), vocab)
    before = edges_of(tokens, [0, 3])
    again = pickle.loads(pickle.dumps(tokens))
    assert edges_of(again, [3, 0]) == before
    assert edges_of(again, [3, 0, 9]) == edges_of(tokens, [9, 0, 3])
    assert again.groups == tokens.groups


def test_threads_share_one_machine():
    vocab = vocabulary([b"(", b")", b"))", b"()", b"((("], [], "brackets")
    tokens, alone = TokenMachine(Endless(), vocab), TokenMachine(Endless(), vocab)
    told, failed = {}, []
    barrier = threading.Barrier(4)

    def read(worker):
        try:
            barrier.wait()
            for i in range(60):
                told[worker, i] = edges_of(tokens, [3 * i, 3 * i + worker])
                tokens.atoms()
        except (AssertionError, IndexError, ValueError, KeyError) as error:
            failed.append(error)

    threads = [threading.Thread(target=read, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    for (worker, i), edges in told.items():
        assert edges == edges_of(alone, [3 * i, 3 * i + worker])


def test_a_step_is_asked_of_the_machine_only_if_some_token_takes_it():
    machine = Table({(0, b): 0 for b in range(256)}, {0}, lazy=True)
    TokenMachine(machine, LETTERS).edges(np.array([0], np.int32))
    assert {byte for _, byte in machine.asked} == {0x61, 0x62, 0xC3, 0xA9}


def counter(limit, lazy=False):
    """Up to so many characters a to p, which no state tells apart, and then an x."""
    steps = {(i, b): i + 1 for i in range(limit) for b in range(97, 113)}
    return Table(steps | {(i, ord("x")): limit + 1 for i in range(limit + 1)}, {limit + 1}, lazy)


@pytest.mark.parametrize("lazy", [False, True])
def test_states_that_read_alike_share_groups_and_still_count(lazy):
    rng = np.random.default_rng(5)
    words = {bytes(rng.integers(97, 113, size=int(n)).tolist()) for n in rng.integers(1, 9, 400)}
    vocab = vocabulary([*words, b"x", b"ax", b"bx"], [], "words")
    machine = counter(30, lazy)
    tokens = TokenMachine(machine, vocab)
    moves, _ = oracle(machine, vocab)
    assert edges_of(tokens, list(range(31))) == {k: t for k, t in moves.items() if k[0] <= 30}
    sizes = {len(said) for said in words}
    assert tokens.groups == len(sizes) + 2  # words by length, x alone, the two that end in x


def quoted():
    """Any characters of one or two bytes but quotes, between quotes."""
    inside = {(1, b): 1 for b in range(0x20, 0x80) if b != ord('"')}
    lead = {(1, b): 2 for b in range(0xC2, 0xE0)}
    rest = {(2, b): 1 for b in range(0x80, 0xC0)}
    return Table(inside | lead | rest | {(0, ord('"')): 1, (1, ord('"')): 3}, {3})


def test_characters_may_be_cut_anywhere_by_tokens():
    rng = np.random.default_rng(3)
    text = "".join(chr(c) for c in rng.choice([*range(0x20, 0x180)], 4000)).encode()
    cuts = np.sort(rng.choice(len(text), 1500, replace=False)).tolist()
    pieces = {text[a:b] for a, b in pairwise(cuts)}
    vocab = vocabulary([*sorted(pieces), *(bytes([b]) for b in range(256))], [], "cut")
    machine = quoted()
    moves, far = oracle(machine, vocab)
    tokens = TokenMachine(machine, vocab)
    assert edges_of(tokens, [0, 1, 2, 3]) == moves
    assert tokens.distance(np.arange(4, dtype=np.int32)).tolist() == [far[s] for s in range(4)]
    assert {len(vocab.spellings[k]) for (s, k) in moves if s == 2} > {1, 2, 3}


@pytest.mark.parametrize(
    ("lead", "rest"), [((0xC4, 0xC5), (0x80, 0x80)), ((0xC3, 0xC3), (0x81, 0x82))]
)
def test_classes_of_bytes_that_differ_outside_ascii_only_are_told_apart(lead, rest):
    steps = {}
    for state, first, second in zip((0, 2), lead, rest, strict=True):
        steps |= {(state, b): state + 1 for b in (0xC3, first)}
        steps |= {(state + 1, b): state + 2 for b in (0x80, second)}
    vocab = vocabulary(
        [bytes([a, b]) for a in range(0xC3, 0xC6) for b in (0x80, 0x81, 0x82)], [], "é"
    )
    machine = Table(steps, {4})
    moves, _ = oracle(machine, vocab)
    assert edges_of(TokenMachine(machine, vocab), [0, 2]) == moves


def test_a_group_of_all_tokens_is_one_atom():
    tokens = TokenMachine(loop("ab"), vocabulary([b"a", b"b", b"ab"], [], "all"))
    atoms = tokens.atoms()
    assert atoms.order.tolist() == [0, 1, 2]
    assert atoms.start.tolist() == [0, 3]
    assert atoms.group_atom.tolist() == [0]


def test_a_vocabulary_without_any_text_is_refused():
    with pytest.raises(ConstraintError, match="spells any text"):
        Vocabulary((None, b""), (0,), "silent")


def test_many_states_at_once_are_read_as_one_by_one(monkeypatch):
    rng = np.random.default_rng(11)
    vocab = vocabulary([*random_vocabulary(rng).spellings, b"x"], [], "random")
    machine = counter(40, lazy=True)
    whole = edges_of(TokenMachine(machine, vocab), list(range(41)))
    monkeypatch.setattr("unison.constrain.tokens.walking._PIECE", 7)
    monkeypatch.setattr("unison.constrain.tokens.machine._TOGETHER", (2, 3))
    monkeypatch.setattr("unison.constrain.tokens.machine._HELD", 1)
    assert edges_of(TokenMachine(machine, vocab), list(range(41))) == whole
