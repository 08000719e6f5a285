"""How do entries, any of which may be left out, follow one another with commas between?

Written naively that takes one text per subset. Only one thing matters on the way, whether an
entry has been written already, or how many where their number is bounded, so there is one rule for
each place and number, and the whole stays linear.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from unison.constrain.language import EMPTY, NOTHING, Expr, Ref
from unison.constrain.sources.json_schema.document import refuse
from unison.constrain.sources.json_schema.layout import Layout
from unison.constrain.sources.json_schema.regular import alt, repeat, seq

LIMIT = 20000  # rules for one list


@dataclass(frozen=True)
class Entry:
    """One thing in a list.

    Attributes:
        text: How it is written.
        required: Whether it may not be left out.
    """

    text: Expr
    required: bool = False


@dataclass(frozen=True)
class Chain:
    """A list of entries in order.

    Attributes:
        entries: What may stand in it.
        more: What may follow them any number of times.
        least: At least so many in all.
        most: At most so many in all; ``None`` for any number.
        name: What its rules are called, a pointer.
    """

    entries: Sequence[Entry]
    more: Expr
    least: int
    most: int | None
    name: str


def chain(layout: Layout, said: Chain, rules: dict[str, Expr]) -> Expr:
    """Return a list; add the rules it uses to ``rules``."""
    needed = sum(entry.required for entry in said.entries)
    endless = said.more != NOTHING
    bounded = said.most is not None and (endless or said.most < len(said.entries))
    if bounded or said.least > max(needed, 1):
        return _counted(layout, said, rules)
    if needed:
        return _around_required(layout, said)
    return _all_optional(layout, said, rules)


def _optional(expr: Expr) -> Expr:
    return alt(EMPTY, expr)


def _followed(layout: Layout, entries: Sequence[Entry], more: Expr) -> list[Expr]:
    """Return entries that each bring the comma before them."""
    parts = []
    for entry in entries:
        text = seq(layout.comma, entry.text)
        parts.append(text if entry.required else _optional(text))
    return [*parts, repeat(seq(layout.comma, more))]


def _around_required(layout: Layout, said: Chain) -> Expr:
    """Entries before the first required one bring the comma behind them, those after it before."""
    pivot = next(i for i, entry in enumerate(said.entries) if entry.required)
    before = [_optional(seq(entry.text, layout.comma)) for entry in said.entries[:pivot]]
    after = _followed(layout, said.entries[pivot + 1 :], said.more)
    return seq(*before, said.entries[pivot].text, *after)


def _all_optional(layout: Layout, said: Chain, rules: dict[str, Expr]) -> Expr:
    """One option for each entry that may come first, and a rule for what may follow it."""
    options: list[Expr] = [EMPTY] if said.least == 0 else []
    following = repeat(seq(layout.comma, said.more))
    last = seq(said.more, following)
    for index in range(len(said.entries) - 1, -1, -1):
        entry = said.entries[index]
        options.append(seq(entry.text, following))
        if index:
            name = f"{said.name} from {index}"
            rules[name] = seq(_optional(seq(layout.comma, entry.text)), following)
            following = Ref(name)
    return alt(*options, last)


def _counted(layout: Layout, said: Chain, rules: dict[str, Expr]) -> Expr:
    """One rule for each place and number of entries written, up to where it no longer matters."""
    cap = said.least if said.most is None else said.most
    size = len(said.entries)
    if size * (cap + 1) > LIMIT:
        refuse(said.name, f"{size} properties with bounds of {cap} are too many to count")
    texts = {written: _end(layout, said, written) for written in range(cap + 1)}
    for index in range(size - 1, -1, -1):
        entry = said.entries[index]
        here = {}
        for written in range(min(cap, index) + 1):
            after = min(written + 1, cap) if said.most is None else written + 1
            comma = layout.comma if written else EMPTY
            taken = seq(comma, entry.text, texts[after]) if after <= cap else NOTHING
            left_out = NOTHING if entry.required else texts[written]
            name = f"{said.name} from {index} after {written}"
            rules[name] = alt(taken, left_out)
            here[written] = NOTHING if rules[name] == NOTHING else Ref(name)
        texts = here
    return texts[0]


def _end(layout: Layout, said: Chain, written: int) -> Expr:
    """Return what may follow the last entry."""
    lacking = max(said.least - written, 0)
    room = None if said.most is None else said.most - written
    if written:
        return repeat(seq(layout.comma, said.more), lacking, room)
    if room == 0:
        return EMPTY if lacking == 0 else NOTHING
    rest = repeat(seq(layout.comma, said.more), max(lacking - 1, 0), room and room - 1)
    return alt(EMPTY if lacking == 0 else NOTHING, seq(said.more, rest))
