"""Is it plain that no value fits, and why? Used for messages, and to tell schemas apart.

"Plain" errs to one side: whatever is not proven empty counts as possible.
"""

from collections.abc import Callable

from unison.constrain.sources.json_schema.arrays import items
from unison.constrain.sources.json_schema.branches import Branch, of
from unison.constrain.sources.json_schema.document import Document, Json, Node, Problem, brief
from unison.constrain.sources.json_schema.formula import KINDS, Kind
from unison.constrain.sources.json_schema.holding import finite
from unison.constrain.sources.json_schema.numbers import number, numbers
from unison.constrain.sources.json_schema.objects import members, unnamed
from unison.constrain.sources.json_schema.regular import empty
from unison.constrain.sources.json_schema.strings import value_language

MANY = 40  # indices looked at in an array


def problem(document: Document, node: Node) -> Problem | None:
    """Return why no value meets some claims; ``None`` if one may."""
    key = ("problem", node)
    if key in document.memo:
        return document.memo[key]
    document.memo[key] = None  # a value inside itself is not what makes a schema empty
    found: Problem | None = None
    for kind in KINDS:
        here = problem_of_kind(document, node, kind)
        if here is None:
            found = None
            break
        if found is None or (of(document, node, kind) and not found.text.startswith("needs")):
            found = here
    document.memo[key] = found
    return found


def problem_of_kind(document: Document, node: Node, kind: Kind) -> Problem | None:
    """Return why no value of one kind meets some claims."""
    where = node[0].pointer if node else "#"
    found = Problem(where, "no value of any type fits; look for contradicting type, enum or const")
    for branch in of(document, node, kind):
        here = problem_of_branch(document, branch, kind, where)
        if here is None:
            return None
        found = here
    return found


def problem_of_branch(
    document: Document, branch: Branch, kind: Kind, where: str = "#"
) -> Problem | None:
    """Return why no value meets an alternative."""
    listed = finite(document, branch)
    if listed is not None:
        source = next(atom for atom in branch if atom.name == "enum")
        text = f"none of its values {brief(source.value)} fits what else is said of it"
        return None if listed else Problem(source.pointer, text)
    return PROBLEMS[kind](document, branch, where)


def _constant(values: list[Json]) -> Callable[[Document, Branch, str], Problem | None]:
    def check(_: Document, branch: Branch, where: str) -> Problem | None:
        left = [v for v in values if not any(a.name == "exclude" and v in a.value for a in branch)]
        return None if left else Problem(where, "every value of its type is excluded")

    return check


def _number(_: Document, branch: Branch, where: str) -> Problem | None:
    said = numbers(branch)
    if said is not None and said.not_steps:
        return None
    if said is not None and not empty(number(branch)):
        return None
    keywords = {a.pointer.rpartition("/")[2] for a in branch}
    return Problem(where, f"no number satisfies its {_listing(keywords)} together")


def _string(_: Document, branch: Branch, where: str) -> Problem | None:
    if not empty(value_language(branch)):
        return None
    keywords = {a.pointer.rpartition("/")[2] for a in branch}
    return Problem(where, f"no text satisfies its {_listing(keywords)} together")


def _listing(keywords: set[str]) -> str:
    return " and ".join(sorted(keywords))


def _array(document: Document, branch: Branch, where: str) -> Problem | None:
    if any(atom.name == "contains" for atom in branch):
        branch = tuple(atom for atom in branch if atom.name != "contains")
    said = items(document, branch)
    if said.most is not None and said.least > said.most:
        return Problem(where, f"minItems {said.least} is above maxItems {said.most}")
    for index in range(min(said.least, len(said.first) + 1, MANY)):
        node = said.first[index] if index < len(said.first) else said.rest
        inner = problem(document, node)
        if inner is not None:
            return Problem(inner.pointer, f"item {index} of {where} is needed, but {inner.text}")
    return None


def _object(document: Document, branch: Branch, where: str) -> Problem | None:
    known = members(document, branch)
    for member in known:
        inner = problem(document, member.node) if member.required else None
        if inner is not None:
            name = repr(member.name)
            if not inner.pointer or inner.pointer.endswith("additionalProperties"):
                return Problem(where, f"needs the property {name}, which it also forbids")
            return Problem(inner.pointer, f"needed as property {name} of {where}, but {inner.text}")
    least = max((a.value for a in branch if a.name == "minProperties"), default=0)
    most = min((a.value for a in branch if a.name == "maxProperties"), default=None)
    needed = sum(member.required for member in known)
    if most is not None and max(least, needed) > most:
        text = f"needs {max(least, needed)} properties, but maxProperties is {most}"
        return Problem(where, text)
    return _too_few(document, branch, where, least)


def _too_few(document: Document, branch: Branch, where: str, least: int) -> Problem | None:
    possible = [m for m in members(document, branch) if problem(document, m.node) is None]
    if least <= len(possible):
        return None
    if any(problem(document, more.node) is None for more in unnamed(document, branch)):
        return None
    text = f"minProperties is {least}, but only {len(possible)} properties are possible"
    return Problem(where, text)


PROBLEMS: dict[Kind, Callable[[Document, Branch, str], Problem | None]] = {
    "null": _constant([None]),
    "boolean": _constant([False, True]),
    "number": _number,
    "string": _string,
    "array": _array,
    "object": _object,
}
