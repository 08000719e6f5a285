"""Which part of a JSON text does its schema already say? A canvas with holes for the values alone.

Self-adaptive schema scaffolding, S3 (Xiong et al., 2025, arXiv:2507.04504): the literal text of
the schema is written out, every value is a hole of a fixed number of slots, and what a value does
not need is filled with null tokens. Differs: holes hold what the schema allows, since the canvas
is decoded under the constraint of the whole schema, so no textual null is asked for in the prompt.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from unison.constrain.language import Expr, Text
from unison.constrain.sources.json_schema.branches import Branch, of
from unison.constrain.sources.json_schema.document import Claim, Document, Json, Node, below, load
from unison.constrain.sources.json_schema.formula import KINDS, Kind
from unison.constrain.sources.json_schema.holding import finite
from unison.constrain.sources.json_schema.layout import LAYOUTS, Layout, Spacing, constant
from unison.constrain.sources.json_schema.nodes import node
from unison.constrain.sources.json_schema.numbers import number
from unison.constrain.sources.json_schema.objects import members
from unison.constrain.sources.json_schema.regular import alt, span
from unison.constrain.sources.json_schema.strings import spelled, value_language
from unison.constrain.sources.json_schema.vacancy import problem, problem_of_branch

NUMBER_SLOTS = 8  # of a number that nothing bounds
WIDER = 4  # how many times as many slots arrays and alternatives have

Part = str | int


@dataclass(frozen=True)
class _Plan:
    """What holes are asked for.

    Attributes:
        document: The schema.
        layout: Where spaces stand.
        usual: Slots of a hole that nobody sized.
        sized: Slots by the pointer of the value.
        optional: Which optional properties are written; ``True`` for all.
    """

    document: Document
    layout: Layout
    usual: int
    sized: Mapping[str, int]
    optional: bool | Collection[str]
    path: tuple[Node, ...] = field(default=())

    def writes(self, pointer: str) -> bool:
        """Return whether an optional property is written."""
        chosen = self.optional
        return chosen if isinstance(chosen, bool) else pointer in chosen

    def hole(self, pointer: str, least: int, most: int | None, usual: int | None = None) -> int:
        """Return the slots of a hole, between the lengths of its shortest and longest text."""
        if pointer in self.sized:
            return self.sized[pointer]
        wanted = max(self.usual if usual is None else usual, least, 1)
        return wanted if most is None else max(min(wanted, most), 1)


def scaffold(
    schema: Mapping[str, Any] | bool | str,
    slots: int | Mapping[str, int] = 16,
    *,
    spacing: Spacing = "spaced",
    optional: bool | Collection[str] = False,
    unknown: Literal["refuse", "ignore"] = "refuse",
) -> tuple[Part, ...]:
    """Return a schema's literal text with holes, such as ``('{"name": "', 16, '"}')``.

    Texts and numbers of slots take turns. Nested objects are written out, constants are text,
    holes of strings stand between quotes; an array, a choice between alternatives and an object
    inside itself are one hole each. What fits the holes and ``json_schema`` of the same schema and
    spacing (``free`` is written as ``spaced``) is valid.

    Args:
        schema: As ``json_schema`` takes it.
        slots: Slots of a string's hole; by the JSON pointer of the value ("/address/street") for
            some, 16 for the others. Numbers, arrays and alternatives have sizes made from it.
        spacing: As in ``json_schema``.
        optional: Which properties that are not required are written: all, none, or those at these
            JSON pointers.
        unknown: As in ``json_schema``.

    Raises:
        ConstraintError: As ``json_schema`` raises it.
    """
    document = load(schema, lenient=unknown == "ignore")
    start = node(document, Claim("#"))
    impossible = problem(document, start)
    if impossible is not None:
        raise impossible.error()
    layout = LAYOUTS["compact" if spacing == "compact" else "spaced"]
    usual, sized = (slots, {}) if isinstance(slots, int) else (16, slots)
    plan = _Plan(document, layout, usual, sized, optional)
    return tuple(_joined(_value(plan, start, "")))


def _joined(parts: Iterator[Part]) -> Iterator[Part]:
    """Join texts that follow each other."""
    for is_text, group in groupby(parts, key=lambda part: isinstance(part, str)):
        if is_text:
            yield "".join(map(str, group))
        else:
            yield from group


def _value(plan: _Plan, wanted: Node, pointer: str) -> Iterator[Part]:
    ways = list(_ways(plan.document, wanted))
    if len(ways) == 1 and wanted not in plan.path:
        kind, branch = ways[0]
        listed = finite(plan.document, branch)
        if listed is not None:
            yield from _listed(plan, listed, pointer)
            return
        if kind == "object":
            yield from _object(plan, branch, wanted, pointer)
            return
        if kind != "array":
            yield from _plain(plan, kind, branch, pointer)
            return
    yield plan.hole(pointer, 1, None, WIDER * plan.usual)


def _ways(document: Document, wanted: Node) -> Iterator[tuple[Kind, Branch]]:
    for kind in KINDS:
        for branch in of(document, wanted, kind):
            if problem_of_branch(document, branch, kind) is None:
                yield kind, branch


def _literal(plan: _Plan, value: Json) -> str:
    text = constant(plan.layout, value)
    assert isinstance(text, Text)
    return text.text


def _listed(plan: _Plan, values: list[Json], pointer: str) -> Iterator[Part]:
    texts = [_literal(plan, value) for value in values]
    if len(texts) == 1:
        yield texts[0]
        return
    quoted = all(isinstance(value, str) for value in values)
    sizes = [len(text) - 2 * quoted for text in texts]
    hole = plan.hole(pointer, min(sizes), max(sizes))
    yield from ('"', hole, '"') if quoted else (hole,)


def _plain(plan: _Plan, kind: Kind, branch: Branch, pointer: str) -> Iterator[Part]:
    if kind == "null":
        yield "null"
    elif kind == "boolean":
        yield plan.hole(pointer, len("true"), len("false"), len("false"))
    elif kind == "number":
        yield plan.hole(pointer, *_lengths(number(branch)), min(plan.usual, NUMBER_SLOTS))
    else:
        yield from ('"', plan.hole(pointer, *_lengths(spelled(value_language(branch)))), '"')


def _lengths(expr: Expr) -> tuple[int, int | None]:
    return span(alt(expr))


def _object(plan: _Plan, branch: Branch, wanted: Node, pointer: str) -> Iterator[Part]:
    known = members(plan.document, branch)
    written = [m for m in known if m.required or plan.writes(below(pointer, m.name))]
    written = [m for m in written if m.required or problem(plan.document, m.node) is None]
    least = max((a.value for a in branch if a.name == "minProperties"), default=0)
    most = min((a.value for a in branch if a.name == "maxProperties"), default=len(written))
    opposites = any(atom.name in ("not", "exclude") for atom in branch)
    if not known or opposites or not least <= len(written) <= most:
        yield plan.hole(pointer, 2, None, WIDER * plan.usual)
        return
    inner = _Plan(
        plan.document, plan.layout, plan.usual, plan.sized, plan.optional, (*plan.path, wanted)
    )
    comma, colon = _text(plan.layout.comma), _text(plan.layout.colon)
    yield "{"
    for index, member in enumerate(written):
        yield (comma if index else "") + _literal(plan, member.name) + colon
        yield from _value(inner, member.node, below(pointer, member.name))
    yield "}"


def _text(expr: Expr) -> str:
    assert isinstance(expr, Text)
    return expr.text
