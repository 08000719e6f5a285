"""Which texts follow the rules, and which of them complete a text with parts missing? By trial.

Expressions are tuples: ("word", symbols), ("seq", parts), ("alt", options), ("repeat", item,
least, most), ("rule", name), ("both", left, right), ("minus", left, right); in the last two no
rule is used. Words are strings of letters, or tuples of lexeme names.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import product

Expr = tuple
Rules = dict[str, Expr]
Spans = set[tuple[int, int]]
GAP = None
TOGETHER = {"both": set.intersection, "minus": set.difference}


def words(rules: Rules, start: str, most: int) -> frozenset[tuple]:
    """Return all words of at most so many symbols, growing the sets of rules until they stop."""
    known: dict[str, set[tuple]] = {name: set() for name in rules}
    while True:
        wider = {name: _words(rule, known, most) for name, rule in rules.items()}
        if wider == known:
            return frozenset(known[start])
        known = wider


def _words(expr: Expr, known: dict[str, set[tuple]], most: int) -> set[tuple]:
    match expr:
        case ("word", symbols):
            return {tuple(symbols)} if len(symbols) <= most else set()
        case ("seq", parts):
            found = {()}
            for part in parts:
                found = _joined(found, _words(part, known, most), most)
            return found
        case ("alt", options):
            return set().union(*(_words(option, known, most) for option in options))
        case ("repeat", item, least, upper):
            return _repeated(_words(item, known, most), least, upper, most)
        case ("rule", name):
            return known[name]
    kind, left, right = expr
    return TOGETHER[kind](_words(left, known, most), _words(right, known, most))


def _joined(left: Iterable[tuple], right: Iterable[tuple], most: int) -> set[tuple]:
    by_length: dict[int, list[tuple]] = {}
    for word in right:
        by_length.setdefault(len(word), []).append(word)
    return {
        one + other
        for one in left
        for length in range(most - len(one) + 1)
        for other in by_length.get(length, ())
    }


def _repeated(item: set[tuple], least: int, upper: int | None, most: int) -> set[tuple]:
    found: set[tuple] = set()
    power, count = {()}, 0
    while upper is None or count <= upper:
        if count >= least:
            if power <= found:
                break  # each further power is in the earlier ones, too
            found |= power
        if not power:
            break
        power, count = _joined(power, item, most), count + 1
    return found


def derives(rules: Rules, start: str, word: Sequence) -> bool:
    """Return whether one word follows the rules, by the stretches of it that each rule covers."""
    whole = tuple(word)
    known: dict[str, Spans] = {name: set() for name in rules}
    while True:
        wider = {name: _spans(rule, known, whole) for name, rule in rules.items()}
        if wider == known:
            return (0, len(whole)) in known[start]
        known = wider


def _spans(expr: Expr, known: dict[str, Spans], word: tuple) -> Spans:
    places = range(len(word) + 1)
    match expr:
        case ("word", symbols):
            size = len(symbols)
            return {(i, i + size) for i in places if word[i : i + size] == tuple(symbols)}
        case ("seq", parts):
            found = {(i, i) for i in places}
            for part in parts:
                found = _chained(found, _spans(part, known, word))
            return found
        case ("alt", options):
            return set().union(*(_spans(option, known, word) for option in options))
        case ("repeat", item, least, upper):
            return _repeated_spans(_spans(item, known, word), least, upper, places)
        case ("rule", name):
            return known[name]
    kind, left, right = expr
    return TOGETHER[kind](_spans(left, known, word), _spans(right, known, word))


def _chained(left: Spans, right: Spans) -> Spans:
    return {(i, k) for i, j in left for begin, k in right if begin == j}


def _repeated_spans(item: Spans, least: int, upper: int | None, places: range) -> Spans:
    found: Spans = set()
    power = {(i, i) for i in places}
    for count in range(least + len(places) + 1 if upper is None else upper + 1):
        if count >= least:
            found |= power
        power = _chained(power, item)
    return found


class Cutter:
    """Cuts texts into lexemes: one that could go on with the next letter, must.

    Args:
        lexemes: Patterns of Python's, the first wins where several match.
        letters: The alphabet.
        reach: Every beginning of a lexeme can be completed by at most so many letters.
    """

    def __init__(self, lexemes: dict[str, str], letters: str, reach: int) -> None:
        self.lexemes, self.letters, self.reach = lexemes, letters, reach
        self.name = cache(self._name)
        self.begins = cache(self._begins)
        self.cut = cache(self._cut)

    def _name(self, text: str) -> str | None:
        fits = (name for name, pattern in self.lexemes.items() if re.fullmatch(pattern, text))
        return next(fits, None)

    def _begins(self, text: str) -> bool:
        ends = (end for size in range(self.reach + 1) for end in product(self.letters, repeat=size))
        return any(self.name(text + "".join(end)) for end in ends)

    def _cut(self, text: str) -> tuple[str, ...] | None:
        """Return the names of the lexemes, ``None`` if the text cannot be cut."""
        found: list[str] = []
        piece = ""
        for letter in text:
            if piece and not self.begins(piece + letter):
                found.append(self.name(piece) or "")
                piece = ""
            piece += letter
        if piece:
            found.append((self.name(piece) or "") if self.begins(piece) else "")
        return None if "" in found else tuple(found)


def every(letters: str, most: int) -> Iterator[str]:
    """Yield all texts of at most so many letters."""
    for size in range(most + 1):
        yield from map("".join, product(letters, repeat=size))


def completes(text: str, pieces: Sequence[str | None]) -> bool:
    """Return whether a text is the pieces with something in place of each gap."""
    pattern = "".join(".*" if piece is None else re.escape(piece) for piece in pieces)
    return re.fullmatch(pattern, text, re.DOTALL) is not None


def fillings(
    spellings: Sequence[str | None],
    nulls: Sequence[int],
    token: Sequence[int | None],
    hole: Sequence[int],
) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yield all ways to fill slots, with their texts: no null before text in one hole."""
    options = [range(len(spellings)) if one is None else (one,) for one in token]
    for filled in product(*options):
        if all(_stands(filled, slot, spellings, nulls, hole) for slot in range(len(filled))):
            yield filled, "".join(spellings[one] or "" for one in filled)


def _stands(
    filled: tuple[int, ...],
    slot: int,
    spellings: Sequence[str | None],
    nulls: Sequence[int],
    hole: Sequence[int],
) -> bool:
    if filled[slot] in nulls:
        return hole[slot] >= 0
    after_null = slot > 0 and hole[slot - 1] == hole[slot] >= 0 and filled[slot - 1] in nulls
    return spellings[filled[slot]] is not None and not after_null
