"""How many items may an array have, and what must each be?"""

from collections.abc import Iterable
from dataclasses import dataclass

from unison.constrain.sources.json_schema.applicators import prefix_of, rest_of
from unison.constrain.sources.json_schema.branches import Branch
from unison.constrain.sources.json_schema.document import Claim, Document, Node, below
from unison.constrain.sources.json_schema.formula import Atom
from unison.constrain.sources.json_schema.nodes import node


@dataclass(frozen=True)
class Items:
    """The items that are written.

    Attributes:
        first: What each of the first items has to meet.
        rest: What the items behind them have to meet.
        least: At least so many items.
        most: At most so many; ``None`` for any number.
        unique: The pointer of a keyword that forbids repeated items.
    """

    first: tuple[Node, ...]
    rest: Node
    least: int
    most: int | None
    unique: str | None


def item_claims(document: Document, branch: Branch, index: int) -> Iterable[Claim]:
    """Yield what the item at an index has to meet, ``contains`` aside."""
    for atom in branch:
        match atom.name, atom.value:
            case "elements", pointer:
                schema = document.schema(pointer)
                assert isinstance(schema, dict)
                yield from _at(prefix_of(schema, pointer), rest_of(schema, pointer), index)
            case "element", (int() as mine, claim) if mine == index:
                yield claim
            case "every", claim:
                yield claim
            case "unevaluatedItems", (pointer, seen) if index >= _evaluated(document, seen):
                yield Claim(below(pointer, "unevaluatedItems"))


def _at(prefix: list[str], rest: str | None, index: int) -> Iterable[Claim]:
    if index < len(prefix):
        yield Claim(prefix[index])
    elif rest is not None:
        yield Claim(rest)


def _evaluated(document: Document, seen: Branch) -> float:
    """Return how many items the schemas beside ``unevaluatedItems`` have looked at."""
    reach = 0.0
    for atom in seen:
        if atom.name == "unevaluatedItems":
            return float("inf")
        if atom.name == "elements":
            schema = document.schema(atom.value)
            assert isinstance(schema, dict)
            open_ended = rest_of(schema, atom.value) is not None
            reach = max(reach, float("inf") if open_ended else len(prefix_of(schema, atom.value)))
    return reach


def _prefix(document: Document, branch: Branch) -> int:
    """Return from which index on all items have to meet the same."""
    sizes = [0]
    for atom in branch:
        if atom.name == "elements":
            schema = document.schema(atom.value)
            assert isinstance(schema, dict)
            sizes.append(len(prefix_of(schema, atom.value)))
        elif atom.name == "element":
            sizes.append(atom.value[0] + 1)
    return max(sizes)


def bounds(branch: Branch) -> tuple[int, int | None]:
    """Return the least and greatest number of items that an alternative names."""
    least = max((a.value for a in branch if a.name == "minItems"), default=0)
    return least, min((a.value for a in branch if a.name == "maxItems"), default=None)


def items(document: Document, branch: Branch, start: int = 0) -> Items:
    """Return the items of an alternative.

    What ``contains`` asks for is written from the index ``start`` on, one keyword after the other;
    where it limits how many items there may be of its sort, the others are of none.
    """
    least, most = bounds(branch)
    sorts = [atom for atom in branch if atom.name == "contains"]
    wanted = sum(atom.value[1] for atom in sorts)
    size = max(_prefix(document, branch), start + wanted if wanted else 0)
    nodes = []
    for index in range(size + 1):
        mine = _sorted(sorts, start, index)
        nodes.append(node(document, *item_claims(document, branch, index), *mine))
    if wanted:
        least = max(least, start + wanted)
    unique = next((atom.pointer for atom in branch if atom.name == "uniqueItems"), None)
    return Items(tuple(nodes[:-1]), nodes[-1], least, most, unique)


def _sorted(sorts: list[Atom], start: int, index: int) -> Iterable[Claim]:
    """Yield what ``contains`` keywords ask of the item at an index."""
    for atom in sorts:
        pointer, least, most = atom.value
        if start <= index < start + least:
            yield Claim(pointer)
        elif most is not None:
            yield Claim(pointer, holds=False)
        start += least
