"""Which texts does a pattern of a schema find? Patterns search, they are not anchored."""

from functools import lru_cache

from unison.constrain.language import ConstraintError, Expr
from unison.constrain.sources.json_schema.document import Document, refuse
from unison.constrain.sources.json_schema.regular import matches


def pattern(pointer: str, source: str, *, wide: bool = False) -> Expr:
    """Return the texts in which an ECMA-262 pattern is found.

    Args:
        pointer: Where it stands.
        source: The pattern.
        wide: Return the texts in which some library may find it, instead of those in which all do.

    Raises:
        ConstraintError: If the pattern cannot be read, at its pointer.
    """
    try:
        return _read(source, wide)
    except ConstraintError as error:
        refuse(pointer, f"the pattern {source!r} cannot be used: {error}".rstrip("."))


@lru_cache(maxsize=1024)
def _read(source: str, wide: bool) -> Expr:
    from unison.constrain.sources.regex import ecma

    return ecma(source, wide=wide)


def search(document: Document, pointer: str, source: str, text: str) -> bool:
    """Return whether a pattern is found in a text."""
    key = ("search", source, text)
    if key not in document.memo:
        document.memo[key] = matches(pattern(pointer, source), text)
    return document.memo[key]
