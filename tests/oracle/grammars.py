"""Small grammars by brute force: every word and every beginning of one, by what the words mean.

An expression is a nested tuple: ``("text", t)``, ``("chars", letters)``, ``("seq", *parts)``,
``("alt", *options)``, ``("repeat", item, least, most)``, ``("ref", name)``, ``("both", a, b)`` and
``("minus", a, b)``, the last two of finite languages alone. Nothing here reads a text from left to
right: words are found by building all of them, membership by the spans of the text each rule fits.
"""

import random
from collections.abc import Callable, Mapping
from functools import reduce

Node = tuple
LETTERS = "ab"
MERGE = {"both": set.intersection, "minus": set.difference}


def random_grammar(seed: int) -> dict[str, Node]:
    """Rules over two letters with every kind of recursion, ambiguity and uselessness."""
    rng = random.Random(seed)
    names = [f"r{i}" for i in range(rng.randint(1, 4))]
    return {name: random_expr(rng, names, rng.randint(1, 3)) for name in names}


def random_expr(rng: random.Random, names: list[str], depth: int) -> Node:
    kinds = ["text", "chars", "ref", "ref", "empty"]
    if depth:
        kinds += ["seq"] * 6 + ["alt"] * 6 + ["repeat"] * 2 + ["combine"]
    match rng.choice(kinds):
        case "text":
            return ("text", "".join(rng.choice(LETTERS) for _ in range(rng.randint(1, 2))))
        case "chars":
            return ("chars", rng.choice(["a", "b", "ab", ""]))
        case "ref":
            return ("ref", rng.choice(names))
        case "empty":
            return ("text", "")
        case "seq" | "alt" as kind:
            count = rng.randint(2, 3)
            return (kind, *(random_expr(rng, names, depth - 1) for _ in range(count)))
        case "repeat":
            least = rng.randint(0, 2)
            most = rng.choice([None, least, least + 1, least + 2])
            return ("repeat", random_expr(rng, names, depth - 1), least, most)
        case _:
            return (rng.choice(["both", "minus"]), finite(rng, 2), finite(rng, 2))


def finite(rng: random.Random, depth: int) -> Node:
    kind = rng.choice(["seq", "alt"]) if depth else rng.choice(["text", "chars"])
    if kind == "text":
        return ("text", rng.choice(["", "a", "b", "ab"]))
    if kind == "chars":
        return ("chars", rng.choice(["a", "b", "ab"]))
    return (kind, *(finite(rng, depth - 1) for _ in range(rng.randint(1, 3))))


def words(rules: Mapping[str, Node], longest: int) -> dict[str, set[str]]:
    """All words of each rule up to a length, by building until none is new."""
    known: dict[str, set[str]] = {name: set() for name in rules}
    while True:
        wider = {name: spelt(rule, known, longest) for name, rule in rules.items()}
        if wider == known:
            return known
        known = wider


def joined(left: set[str], right: set[str], longest: int) -> set[str]:
    return {a + b for a in left for b in right if len(a) + len(b) <= longest}


def spelt(node: Node, known: Mapping[str, set[str]], longest: int) -> set[str]:
    kind, *args = node
    inner = [spelt(arg, known, longest) for arg in args if isinstance(arg, tuple)]
    match kind:
        case "text":
            return {word for word in args if len(word) <= longest}
        case "chars":
            return set(args[0])
        case "ref":
            return known[args[0]]
        case "seq":
            found = {""}
            for part in inner:
                found = joined(found, part, longest)
            return found
        case "alt":
            return set().union(*inner)
        case "both" | "minus":
            return inner[0] & inner[1] if kind == "both" else inner[0] - inner[1]
        case _:
            return repeated(inner[0], args[1], args[2], longest)


def repeated(item: set[str], least: int, most: int | None, longest: int) -> set[str]:
    turn, found = {""}, set()
    for count in range(longest + least + 1 if most is None else most + 1):
        found |= turn if count >= least else set()
        turn = joined(turn, item, longest)
    return found


def beginnings(rules: Mapping[str, Node], longest: int) -> dict[str, set[str]]:
    """All beginnings of each rule's words up to a length, however long the words are."""
    whole = words(rules, longest)
    known: dict[str, set[str]] = {name: set() for name in rules}
    while True:
        wider = {name: begun(rule, whole, known, longest) for name, rule in rules.items()}
        if wider == known:
            return known
        known = wider


def begun(
    node: Node, whole: Mapping[str, set[str]], known: Mapping[str, set[str]], longest: int
) -> set[str]:
    kind, *args = node
    if kind == "repeat":
        item, least, most = args
        # past the longest beginning, further turns only need to be possible
        turns = least + longest + 1 if most is None else most
        counts = {least, turns} if most is None else set(range(least, turns + 1))
        return set().union(
            *(begun(("seq", *[item] * count), whole, known, longest) for count in counts),
            begun(("seq", *[item] * least), whole, known, longest),
        )
    match kind:
        case "ref":
            return known[args[0]]
        case "alt":
            return set().union(*(begun(arg, whole, known, longest) for arg in args))
        case "seq":
            return begun_seq(args, whole, known, longest)
        case _:
            finished = spelt(node, whole, 99)
            return {word[:n] for word in finished for n in range(min(len(word), longest) + 1)}


def begun_seq(
    parts: list[Node], whole: Mapping[str, set[str]], known: Mapping[str, set[str]], longest: int
) -> set[str]:
    inner = [begun(part, whole, known, longest) for part in parts]
    if not all(inner):  # a part that can never end
        return set()
    found, done = {""}, {""}
    for part, start in zip(parts, inner, strict=True):
        found |= joined(done, start, longest)
        done = joined(done, spelt(part, whole, longest), longest)
    return found


def belongs(rules: Mapping[str, Node], start: str, text: str) -> bool:
    """Whether a text is a word of a rule, by which spans of the text each rule fits."""
    spans: dict[str, set[tuple[int, int]]] = {name: set() for name in rules}
    while True:
        wider = {
            name: {(i, j) for i in range(len(text) + 1) for j in fits(rule, text, i, spans)}
            for name, rule in rules.items()
        }
        if wider == spans:
            return (0, len(text)) in spans[start]
        spans = wider


def fits(node: Node, text: str, at: int, spans: Mapping[str, set[tuple[int, int]]]) -> set[int]:
    kind, *args = node

    def after(arg: Node, here: set[int]) -> set[int]:
        return set().union(*(fits(arg, text, i, spans) for i in here))

    match kind:
        case "text":
            return {at + len(word) for word in args if text.startswith(word, at)}
        case "chars":
            return {at + 1 for letter in text[at : at + 1] if letter in args[0]}
        case "ref":
            return {j for i, j in spans[args[0]] if i == at}
        case "seq":
            return reduce(lambda here, part: after(part, here), args, {at})
        case "alt":
            return set().union(*(after(option, {at}) for option in args))
        case "both" | "minus":
            return MERGE[kind](after(args[0], {at}), after(args[1], {at}))
        case _:
            return turns(lambda here: after(args[0], here), at, args[1], args[2])


def turns(after: Callable[[set[int]], set[int]], at: int, least: int, most: int | None) -> set[int]:
    here, found, seen = {at}, set(), set()
    for count in range(1000 if most is None else most + 1):
        found |= here if count >= least else set()
        if count >= least and frozenset(here) in seen:
            break
        seen.add(frozenset(here))
        here = after(here)
    return found
