"""Which claims does a part of a value have to meet, said once?"""

from unison.constrain.sources.json_schema.branches import ANNOTATIONS
from unison.constrain.sources.json_schema.document import Claim, Document, Node


def node(document: Document, *claims: Claim) -> Node:
    """Return claims without repetition, the trivial ones dropped and plain references followed."""
    kept: dict[Claim, None] = {}
    for claim in claims:
        pointer, passed = claim.pointer, set()
        while pointer not in passed and plain_reference(document, pointer):
            passed.add(pointer)
            pointer = document.target(pointer, document.at(pointer)["$ref"])
        schema = document.schema(pointer)
        silent = isinstance(schema, dict) and ANNOTATIONS.issuperset(schema)
        if schema is not claim.holds and not (claim.holds and silent):
            kept[Claim(pointer, claim.holds)] = None
    return tuple(kept)


def plain_reference(document: Document, pointer: str) -> bool:
    """Return whether a schema only refers to another one."""
    schema = document.schema(pointer)
    if not isinstance(schema, dict) or not isinstance(schema.get("$ref"), str):
        return False
    return document.old or ANNOTATIONS.issuperset(schema.keys() - {"$ref"})
