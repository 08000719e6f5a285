"""A text common to rules and a graph is found exactly if there is one."""

import random
from collections import Counter
from dataclasses import dataclass
from itertools import product

import pytest

from unison.constrain.context_free.binary import binary
from unison.constrain.context_free.saturation import saturate
from unison.constrain.language import Alt, Chars, ConstraintError, Grammar, Ref, Repeat, Seq, Text


@dataclass(frozen=True)
class Toy:
    """A graph given in full."""

    edges: dict
    last: frozenset
    start: int = 0

    @property
    def rank(self):
        return [0] * len(self.edges)

    @property
    def kind(self):
        return list(range(len(self.edges)))

    def after(self, node):
        return self.edges[node]

    def accepts(self, node):
        return node in self.last


def line(word):
    return Toy(
        {i: {a: (i + 1,)} for i, a in enumerate(word)} | {len(word): {}}, frozenset({len(word)})
    )


A, B, C = (Text(letter) for letter in "abc")
S = Ref("s")
FAMILIES = {
    "palindromes": Alt((Text(""), A, B, Seq((A, S, A)), Seq((B, S, B)))),
    "left": Alt((A, Seq((S, B, S)))),
    "circles": Alt((S, Seq((S, S)), Text(""), Seq((A, S, B)))),
    "nothing before itself": Seq((Repeat(A, 0, 1), Alt((B, Seq((S, A)))))),
    "equally many": Alt((Text(""), Seq((A, S, B, S)), Seq((B, S, A, S)))),
}
HOLDS = {
    "palindromes": lambda w: w == w[::-1],
    "left": lambda w: len(w) % 2 == 1 and set(w[::2]) <= {"a"} and set(w[1::2]) <= {"b"},
    "circles": lambda w: balanced(w),
    "nothing before itself": lambda w: (
        "b" in w and w.count("b") == 1 and w.index("b") <= 1 + len(w) - w.index("b") - 1
    ),
    "equally many": lambda w: w.count("a") == w.count("b"),
}


def balanced(word):
    depth = [word[:i].count("a") - word[:i].count("b") for i in range(len(word) + 1)]
    return min(depth) == depth[-1] == 0


def rules(family):
    return binary(Grammar({"s": FAMILIES[family]}, "s"))


def read(short, word):
    return [int(short.terminal[ord(letter)]) for letter in word]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_word_is_in_the_rules_exactly_if_it_is_in_the_language(family):
    short = rules(family)
    for size in range(8):
        for letters in product("ab", repeat=size):
            word = read(short, letters)
            outcome = saturate(short, line(word))
            assert outcome.decided
            assert (outcome.walk is not None) == HOLDS[family]("".join(letters)), letters
            assert outcome.walk is None or list(outcome.walk.word) == word


@pytest.mark.parametrize("family", FAMILIES)
def test_a_walk_is_found_in_a_graph_exactly_if_one_of_its_short_texts_is_in_the_language(family):
    short = rules(family)
    a, b = read(short, "ab")
    rng = random.Random(0)
    answers = Counter()
    for _ in range(150):
        edges = {p: {x: some(rng) for x in (a, b)} for p in range(4)}
        graph = Toy(edges, frozenset({rng.randrange(4)}))
        walk = saturate(short, graph).walk
        listed = [w for size in range(9) for w in product((a, b), repeat=size) if walks(graph, w)]
        spelt = ["".join("a" if x == a else "b" for x in w) for w in listed]
        answers[walk is not None] += 1
        if walk is None:
            assert not any(map(HOLDS[family], spelt))
        else:
            assert HOLDS[family]("".join("a" if x == a else "b" for x in walk.word))
            assert walk.path[0] == graph.start
            assert graph.accepts(walk.path[-1])
            steps = zip(walk.path, walk.word, walk.path[1:], strict=False)
            assert all(q in graph.after(p)[x] for p, x, q in steps)
    assert min(answers[True], answers[False]) > 20


def some(rng):
    return tuple(q for q in range(4) if rng.random() < 0.2)


def walks(graph, word):
    states = {graph.start}
    for symbol in word:
        states = {q for p in states for q in graph.after(p)[symbol]}
    return bool(states & graph.last)


def test_a_list_costs_in_proportion_to_its_length():
    items = Seq((A, Repeat(Seq((B, Repeat(Alt((A, C)), 1))))))
    short = binary(Grammar({"s": Seq((Text("<"), items, Text(">")))}, "s"))
    costs = [
        saturate(short, line(read(short, "<a" + "baca" * n + ">"))).facts for n in (50, 100, 200)
    ]
    assert costs[2] - costs[1] == 2 * (costs[1] - costs[0])


def test_a_search_that_is_cut_short_says_neither_yes_nor_no():
    short = rules("palindromes")
    long = line(read(short, "ab" * 10 + "a"))
    full = saturate(short, long)
    assert full.decided
    assert full.walk is not None
    for limit in (0, 1, full.facts - 1):
        cut = saturate(short, long, limit)
        assert (cut.walk, cut.decided, cut.facts) == (None, False, limit)
    assert saturate(short, long, full.facts) == full


def test_rules_share_beginnings_and_drop_what_no_text_uses():
    words = [f"{head}{tail}" for head in ("prefix", "prelude") for tail in ("one", "two", "ten")]
    many = Grammar({"s": Alt(tuple(map(Text, words))), "unused": A}, "s")
    beginnings = {word[:size] for word in words for size in range(2, len(word) + 1)}
    letters = set("".join(words))
    assert len(binary(many).begins) <= len(beginnings) + len(letters) + 1
    endless = Grammar({"s": Alt((A, Seq((B, Ref("t"))))), "t": Seq((C, Ref("t")))}, "s")
    assert len(binary(endless).begins) == 1
    terminal = binary(endless).terminal
    assert terminal is not None
    assert terminal.tolist().count(-1) == 255


def test_characters_in_rules_beside_lexemes_are_refused():
    lexed = Grammar({"s": Seq((Ref("x"), Chars(((97, 98),)))), "x": A}, "s", ("x",))
    with pytest.raises(ConstraintError, match="stands in a rule that is no lexeme"):
        binary(lexed)
