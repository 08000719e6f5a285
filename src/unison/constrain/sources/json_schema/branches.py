"""In which ways can a value of one kind fit? Formulas multiplied out into alternatives.

``allOf`` and ``$ref`` multiply, ``anyOf`` adds, ``not`` has gone inwards by De Morgan's laws,
``oneOf`` takes each schema with the others' opposites unless they are apart anyway. Nothing is
approximated: what has no simple opposite stays as "not" of a condition.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from unison.constrain.language import ConstraintError
from unison.constrain.sources.json_schema.applicators import APPLICATORS
from unison.constrain.sources.json_schema.conditions import CONDITIONS, Rule
from unison.constrain.sources.json_schema.document import Claim, Document, Node, below, refuse
from unison.constrain.sources.json_schema.formula import (
    All,
    Atom,
    Formula,
    Kind,
    One,
    Some,
    Spot,
)
from unison.suggest import nearest

ANNOTATIONS = frozenset(
    [
        "$schema",
        "$id",
        "id",
        "$anchor",
        "$dynamicAnchor",
        "$recursiveAnchor",
        "$comment",
        "$vocabulary",
        "$defs",
        "definitions",
        "title",
        "description",
        "default",
        "example",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
        "nullable",
        "discriminator",
        "xml",
        "externalDocs",
        "markdownDescription",
        "enumDescriptions",
        "markdownEnumDescriptions",
        "enumNames",
        "defaultSnippets",
        "deprecationMessage",
        "errorMessage",
        "propertyOrder",
        "javaType",
        "tsType",
        "readonly",
        "comment",
        "self",
    ]
)
EXTENSIONS = ("x-", "_", "ui:", "$comment")  # what a name of one's own may begin with
RULES: tuple[Rule, ...] = CONDITIONS + APPLICATORS
UNEVALUATED = {"unevaluatedProperties": "object", "unevaluatedItems": "array"}
BESIDE = frozenset({"minContains", "maxContains", "then", "else"})  # read by their neighbours
KNOWN = ANNOTATIONS | BESIDE | UNEVALUATED.keys() | {k for rule in RULES for k in rule.keywords}
LIMIT = 512  # alternatives of one part

Branch = tuple[Atom, ...]
Branches = tuple[Branch, ...]
YES: Branches = ((),)
NO: Branches = ()


def of(document: Document, node: Node, kind: Kind) -> Branches:
    """Return the alternatives of claims that one value of a kind has to meet together.

    Raises:
        ConstraintError: Names a keyword that is not known, a schema that leads to itself without
            a step into the value, or one with too many alternatives.
    """
    key = ("of", node, kind)
    if key not in document.memo:
        where = node[0].pointer if node else "#"
        joined = expand(document, All(node), kind, where)
        parts = (additional_broken(document, branch) for branch in joined)
        document.memo[key] = either(parts, where)
    return document.memo[key]


def claimed(document: Document, claim: Claim, kind: Kind) -> Branches:
    """Return the alternatives of one claim."""
    key = ("claimed", claim, kind)
    schema = document.schema(claim.pointer)
    if isinstance(schema, bool):
        return YES if schema == claim.holds else NO
    if key not in document.memo:
        document.memo[key] = None
        try:
            document.memo[key] = _read(Spot(document, claim.pointer, schema, kind), claim.holds)
        except ConstraintError:
            del document.memo[key]
            raise
    if document.memo[key] is None:
        refuse(claim.pointer, "it leads back to itself, so it says nothing of any value")
    return document.memo[key]


def _read(spot: Spot, holds: bool) -> Branches:
    hidden = spot.document.old and isinstance(spot.schema.get("$ref"), str)
    seen = {"$ref"} if hidden else set(spot.schema)
    _check_known(spot, seen)
    parts = tuple(rule.read(spot, holds) for rule in RULES if not seen.isdisjoint(rule.keywords))
    found = expand(spot.document, All(parts) if holds else Some(parts), spot.kind, spot.pointer)
    for keyword in seen & UNEVALUATED.keys():
        if spot.kind == UNEVALUATED[keyword]:
            if not holds:
                refuse(below(spot.pointer, keyword), f"the opposite of {keyword} is not supported")
            found = tuple((*b, spot.atom(keyword, value=(spot.pointer, b))) for b in found)
    return found


def _check_known(spot: Spot, seen: Iterable[str]) -> None:
    if spot.document.lenient:
        return
    for keyword in seen:
        if keyword not in KNOWN and not keyword.startswith(EXTENSIONS):
            refuse(
                below(spot.pointer, keyword),
                f"the keyword {keyword!r} is not supported{nearest(keyword, KNOWN)}; "
                "take it out if it only annotates, or pass unknown='ignore'",
            )


def expand(document: Document, formula: Formula, kind: Kind, where: str) -> Branches:
    """Return a formula's alternatives."""
    match formula:
        case Atom():
            return ((formula,),)
        case Claim():
            return claimed(document, formula, kind)
        case All(parts):
            return both((expand(document, part, kind, where) for part in parts), where)
        case Some(parts):
            return either((expand(document, part, kind, where) for part in parts), where)
        case One(pointers):
            return either(_exactly_one(document, pointers, kind), where)


def _exactly_one(document: Document, pointers: tuple[str, ...], kind: Kind) -> Iterator[Branches]:
    """Yield each schema's alternatives with the opposites of the others it might meet."""
    from unison.constrain.sources.json_schema.vacancy import problem_of_kind  # they need each other

    possible = [p for p in pointers if claimed(document, Claim(p), kind)]
    for pointer in possible:
        claims: list[Formula] = [Claim(pointer)]
        for other in possible:
            meeting = (Claim(pointer), Claim(other))
            if other != pointer and problem_of_kind(document, meeting, kind) is None:
                claims.append(Claim(other, holds=False))
        yield expand(document, All(tuple(claims)), kind, pointer)


def both(parts: Iterable[Branches], where: str) -> Branches:
    """Return the alternatives of a conjunction."""
    joined = YES
    for part in parts:
        merged = (left + right for left in joined for right in part)
        joined = distinct((branch for branch in merged if not clash(branch)), where)
    return joined


def either(parts: Iterable[Branches], where: str) -> Branches:
    """Return the alternatives of a disjunction; one without conditions stands for all."""
    joined = distinct((branch for part in parts for branch in part), where)
    return YES if () in joined else joined


def distinct(branches: Iterable[Branch], where: str) -> Branches:
    """Return each branch once, and each condition in it once.

    Raises:
        ConstraintError: If there are too many.
    """
    kept: dict[Any, Branch] = {}
    for branch in branches:
        once = {f"{a.name} {a.value}": a for a in branch}
        kept.setdefault(frozenset(once), tuple(once.values()))
        if len(kept) > LIMIT:
            refuse(
                where,
                f"its alternatives combine to more than {LIMIT}; "
                "put fewer anyOf, oneOf or dependent keywords side by side",
            )
    return tuple(kept.values())


def clash(branch: Branch) -> bool:
    """Return whether a property is both required and forbidden, which ends a branch early."""
    required = {name for a in branch if a.name == "required" for name in a.value}
    return any(a.value in required for a in branch if a.name == "forbidden")


def additional_broken(document: Document, branch: Branch) -> Branches:
    """Split "a property breaks additionalProperties" by which of the known properties does.

    What is left, a property that nothing names, stays as "not" of the condition.
    """
    from unison.constrain.sources.json_schema.objects import named_by, names

    index = next((i for i, a in enumerate(branch) if a.name == "additional broken"), None)
    if index is None:
        return (branch,)
    pointer, where = branch[index].value, branch[index].pointer
    rest = branch[:index] + branch[index + 1 :]
    closed = Atom("not", Atom("additional", pointer, where), where)
    split: list[Branch] = [(*rest, closed)]
    for name in names(document, rest):
        if not named_by(document, pointer, name):
            breaks = Atom("member", (name, Claim(where, holds=False)), where)
            split.append((*rest, breaks, Atom("required", (name,), where)))
    alive = (additional_broken(document, b) for b in split if not clash(b))
    return either(alive, pointer)
