"""How is a grammar in extended Backus-Naur form read? Lark's dialect of it, and plain ones."""

import re

from unison.constrain.language import Grammar
from unison.constrain.sources.ebnf import building, lark, plain
from unison.constrain.sources.reading import Reader

_DEFINITION = re.compile(
    r"^[ \t]*[?!]*[A-Za-z_][\w-]*(?:\{[^}\n]*\})?(?:\.-?\d+)?\s*(?P<mark>::=|:|=)", re.MULTILINE
)
_ASKS_FOR_CHARACTERS = re.compile(r"^[ \t]*(?://|#)[ \t]*scannerless[ \t]*$", re.MULTILINE)


def ebnf(
    text: str, start: str = "start", about: str = "the grammar", *, scannerless: bool = False
) -> Grammar:
    """Return the language of a grammar in Lark's notation, or in a plain one (see ``plain``).

    In Lark's notation, every terminal and every string in a rule is a lexeme. Where several match
    the same characters, the higher priority wins, then strings before patterns, then longer
    strings, then what is defined first. This is not quite how Lark cuts a text:

    - a lexeme goes on as long as any can go on with the next character; there is no return to a
      shorter one, and a priority only decides between lexemes of the same characters;
    - an alternative in a pattern (``/a|ab/``) takes the longest option, not the first;
    - a pattern with lazy repetitions takes the shortest of its matches.

    Rule priorities, aliases and the marks ``?`` and ``!`` shape Lark's trees, not the language.

    Args:
        text: Rules ``name: ...``, terminals ``NAME: ...``, ``%ignore`` and ``%import common.X``;
            or plain rules ``name ::= ...`` or ``name = ... ;``, which always read characters.
        start: The rule of whole texts.
        about: What the grammar is called in messages.
        scannerless: Let rules read characters, with no cutting into lexemes; what is ignored may
            stand before and behind every terminal. A comment ``// scannerless`` asks for the same.

    Raises:
        ConstraintError: What is wrong, with line and column.
    """
    if defined_by(text) in ("=", "::="):
        return plain.read(Reader(text, about), start)
    source = lark.read(Reader(text, about))
    if scannerless or _ASKS_FOR_CHARACTERS.search(text):
        return building.scannerless(source, start)
    return building.lexed(source, start)


def defined_by(text: str) -> str | None:
    """Return what a grammar's first definition has behind its name: ``:``, ``=`` or ``::=``."""
    found = _DEFINITION.search(text)
    return found and found["mark"]
