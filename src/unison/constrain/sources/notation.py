"""In which notation is a grammar written?"""

from typing import Literal

from unison.constrain.language import ConstraintError, Grammar
from unison.constrain.sources.ebnf import defined_by, ebnf
from unison.constrain.sources.gbnf import gbnf

Notation = Literal["lark", "gbnf", "ebnf"]
_NOTATIONS: dict[str, Notation] = {":": "lark", "::=": "gbnf", "=": "ebnf"}


def grammar(
    text: str,
    start: str | None = None,
    notation: Notation | None = None,
    about: str = "the grammar",
    *,
    scannerless: bool = False,
) -> Grammar:
    """Return the language of a grammar in any notation that is read here.

    Args:
        text: The grammar.
        start: The rule of whole texts: ``root`` in GBNF and ``start`` in the others, unless told.
        notation: ``lark`` (``name: ...``), ``gbnf`` (``name ::= ...``) or ``ebnf``
            (``name = ... ;`` and, if said so, ``name ::= ...``); ``None`` to go by its first
            definition.
        about: What the grammar is called in messages.
        scannerless: As for ``ebnf``; the other notations always are.

    Raises:
        ConstraintError: It is in no such notation, or has errors, told with line and column.
    """
    if (notation or detected(text, about)) == "gbnf":
        return gbnf(text, start or "root", about)
    return ebnf(text, start or "start", about, scannerless=scannerless)


def detected(text: str, about: str = "the grammar") -> Notation:
    """Return the notation of a grammar's first definition.

    Raises:
        ConstraintError: There is no definition.
    """
    mark = defined_by(text)
    if mark is None:
        raise ConstraintError(
            f"{about} has no definition: 'name: ...' (Lark's notation), 'name ::= ...' (GBNF) or "
            "'name = ... ;' (EBNF)."
        )
    return _NOTATIONS[mark]
