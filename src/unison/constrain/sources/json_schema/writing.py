"""How is every value of a schema written? From alternatives of conditions to rules of a grammar."""

from collections.abc import Callable
from dataclasses import dataclass, field

from unison.constrain.language import NOTHING, Expr, Ref
from unison.constrain.sources.json_schema import numbers
from unison.constrain.sources.json_schema.arrays import Items, items
from unison.constrain.sources.json_schema.branches import Branch, of
from unison.constrain.sources.json_schema.chains import Chain, Entry, chain
from unison.constrain.sources.json_schema.document import (
    Document,
    Json,
    Node,
    Problem,
    brief,
    refuse,
)
from unison.constrain.sources.json_schema.formula import KINDS, Atom, Kind
from unison.constrain.sources.json_schema.holding import finite, meets
from unison.constrain.sources.json_schema.layout import Layout, constant, enclosed, listed
from unison.constrain.sources.json_schema.objects import (
    ANY_TEXT,
    Member,
    Unnamed,
    members,
    unnamed,
)
from unison.constrain.sources.json_schema.regular import alt, empty, seq
from unison.constrain.sources.json_schema.strings import FREE_STRING, quoted, string
from unison.constrain.sources.json_schema.vacancy import problem

PAIRS = 12  # items of a tuple that are compared with each other


@dataclass(frozen=True, eq=False)
class Writer:
    """A grammar in the making.

    Attributes:
        document: The schema.
        layout: Where spaces stand.
        extra: Whether objects may have properties that nothing names, beside those it names.
        rules: The rules so far.
        notes: Parts that are never written though they may be possible.
    """

    document: Document
    layout: Layout
    extra: bool
    rules: dict[str, Expr] = field(default_factory=dict)
    notes: list[Problem] = field(default_factory=list)


def title(node: Node) -> str:
    """Return what the rule of some claims is called."""
    return " and ".join(map(str, node)) or "any value"


def value(writer: Writer, node: Node) -> Ref:
    """Return the rule of the values that meet some claims, writing it if it is new."""
    name = title(node)
    if name not in writer.rules:
        writer.rules[name] = NOTHING  # known from here on, so that recursion finds it
        options = [
            _alternative(writer, branch, kind, name)
            for kind in KINDS
            for branch in of(writer.document, node, kind)
        ]
        writer.rules[name] = alt(*options)
    return Ref(name)


def _alternative(writer: Writer, branch: Branch, kind: Kind, name: str) -> Expr:
    values = finite(writer.document, branch)
    if values is not None:
        return alt(*(constant(writer.layout, v) for v in values))
    return WRITERS[kind](writer, branch, name)


def _constants(values: list[Json]) -> Callable[[Writer, Branch, str], Expr]:
    def write(writer: Writer, branch: Branch, _: str) -> Expr:
        excluded = [v for atom in branch if atom.name == "exclude" for v in atom.value]
        return alt(*(constant(writer.layout, v) for v in values if v not in excluded))

    return write


def _number(_: Writer, branch: Branch, __: str) -> Expr:
    return numbers.number(branch)


def _string(_: Writer, branch: Branch, __: str) -> Expr:
    found = string(branch)
    return NOTHING if empty(found) else found


def _composite(
    write: Callable[[Writer, Branch, str], Expr], atom_of_size: str
) -> Callable[[Writer, Branch, str], Expr]:
    """Return a writer of arrays or objects that first sees to conditions they cannot write."""

    def guarded(writer: Writer, branch: Branch, name: str) -> Expr:
        plain: list[Atom] = []
        for atom in branch:
            if atom.name == "exclude":
                others = tuple(a for a in branch if a is not atom)
                left = [v for v in atom.value if meets(writer.document, others, v)]
                if any(left):  # the empty array or object, alone, is a question of size
                    return _unwritten(writer, atom, f"everything but {brief(left)}")
                plain += [Atom(atom_of_size, 1, atom.pointer)] if left else []
            elif atom.name == "not":
                keyword = atom.pointer.rpartition("/")[2]
                return _unwritten(writer, atom, f"what breaks {keyword!r}")
            else:
                plain.append(atom)
        return write(writer, tuple(plain), name)

    return guarded


def _unwritten(writer: Writer, atom: Atom, what: str) -> Expr:
    text = f"{what} would have to be written there, which is not supported"
    writer.notes.append(Problem(atom.pointer, text))
    return NOTHING


def _array(writer: Writer, branch: Branch, name: str) -> Expr:
    said = items(writer.document, branch)
    if said.first and problem(writer.document, said.first[0]):  # contains, but not as the first
        start = len(items(writer.document, _without_contains(branch)).first)
        said = items(writer.document, branch, start)
    if said.unique is not None and said.most not in (0, 1):
        return _unique(writer, said, name)
    first = [value(writer, node) for node in said.first[: said.most]]
    rest = NOTHING if said.most is not None and said.most <= len(first) else _rest(writer, said)
    inner = listed(writer.layout, list(first), rest, said.least, said.most)
    return enclosed(writer.layout, "[]", inner)


def _without_contains(branch: Branch) -> Branch:
    return tuple(atom for atom in branch if atom.name != "contains")


def _rest(writer: Writer, said: Items) -> Expr:
    return NOTHING if problem(writer.document, said.rest) else value(writer, said.rest)


def _unique(writer: Writer, said: Items, name: str) -> Expr:
    """Return arrays without repetition: choices in their order, or items of different sorts."""
    choices = None if said.first else choice_of(writer.document, said.rest)
    if choices is not None:
        entries = [Entry(constant(writer.layout, v)) for v in choices]
        parts = Chain(entries, NOTHING, said.least, said.most, name)
        return enclosed(writer.layout, "[]", chain(writer.layout, parts, writer.rules))
    if not _apart(writer.document, said):
        refuse(
            said.unique or name,
            "uniqueItems is supported for items from an enum, for at most one item "
            "and for tuples of different sorts; take it out, or set maxItems to 1",
        )
    nodes = [*said.first, said.rest][: said.most]
    parts = [value(writer, node) for node in nodes]
    most = len(parts) if said.most is None else min(said.most, len(parts))
    inner = listed(writer.layout, list(parts), NOTHING, said.least, most)
    return enclosed(writer.layout, "[]", inner)


def choice_of(document: Document, node: Node) -> list[Json] | None:
    """Return all values of some claims where they are listed or truth values; else ``None``."""
    found: list[Json] = []
    for kind in KINDS:
        for branch in of(document, node, kind):
            listing = finite(document, branch)
            if listing is None and kind in ("null", "boolean"):
                every: list[Json] = [None] if kind == "null" else [False, True]
                listing = [v for v in every if meets(document, branch, v)]
            if listing is None:
                return None
            found += [v for v in listing if v not in found or isinstance(v, bool)]
    return found


def _apart(document: Document, said: Items) -> bool:
    nodes = [*said.first, said.rest]
    return 1 < len(nodes) <= PAIRS and all(
        problem(document, (*left, *right)) is not None
        for i, left in enumerate(nodes)
        for right in nodes[:i]
    )


def _object(writer: Writer, branch: Branch, name: str) -> Expr:
    known = [m for m in members(writer.document, branch) if m.required or _possible(writer, m)]
    least = max((a.value for a in branch if a.name == "minProperties"), default=0)
    most = min((a.value for a in branch if a.name == "maxProperties"), default=None)
    more = _more(writer, branch) if writer.extra or not members(writer.document, branch) else ()
    more = more if least <= max(len(known), 1) else _single(writer, more, least, name)
    if least > 1 and len(known) >= least:
        more = ()  # keys nobody names might repeat each other, and then count once
    entries = [Entry(_member(writer, member), member.required) for member in known]
    further = alt(*(_unnamed(writer, item) for item in more))
    number = sum(name.startswith(other) for other in writer.rules)
    parts = Chain(entries, further, least, most, f"{name} #{number}")
    return enclosed(writer.layout, "{}", chain(writer.layout, parts, writer.rules))


def _single(
    writer: Writer, more: tuple[Unnamed, ...], least: int, name: str
) -> tuple[Unnamed, ...]:
    if more:
        refuse(
            name,
            f"minProperties {least} needs several properties that nothing names, "
            "whose keys might repeat each other; name them under properties",
        )
    return more


def _possible(writer: Writer, member: Member) -> bool:
    return problem(writer.document, member.node) is None


def _more(writer: Writer, branch: Branch) -> tuple[Unnamed, ...]:
    return tuple(
        item
        for item in unnamed(writer.document, branch)
        if not empty(item.keys) and problem(writer.document, item.node) is None
    )


def _member(writer: Writer, member: Member) -> Expr:
    key = constant(writer.layout, member.name)
    return seq(key, writer.layout.colon, value(writer, member.node))


def _unnamed(writer: Writer, item: Unnamed) -> Expr:
    key = FREE_STRING if item.keys == ANY_TEXT else quoted(item.keys)
    return seq(key, writer.layout.colon, value(writer, item.node))


WRITERS: dict[Kind, Callable[[Writer, Branch, str], Expr]] = {
    "null": _constants([None]),
    "boolean": _constants([True, False]),
    "number": _number,
    "string": _string,
    "array": _composite(_array, "minItems"),
    "object": _composite(_object, "minProperties"),
}
