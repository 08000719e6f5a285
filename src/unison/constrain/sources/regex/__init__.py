"""Which texts does a regular expression match? Python's notation, and that of JSON schemas.

Everything regular is read; what is not (or would need more than an automaton over characters:
lookarounds, back references, word boundaries, conditions, possessive repeats) is refused by name.
"""

from unison.constrain.language import ANY_CHAR, EMPTY, Alt, Expr, Grammar, Repeat, Seq, Text
from unison.constrain.sources.regex.dialects import ECMA, ECMA_WIDE, PYTHON
from unison.constrain.sources.regex.parsing import parsed

_ANYTHING = Repeat(ANY_CHAR)


def regex(pattern: str, about: str = "the pattern") -> Grammar:
    """Return the language of a pattern as a grammar of one rule; see ``expr``."""
    return Grammar({"pattern": expr(pattern, about)}, "pattern", about=about)


def expr(pattern: str, about: str = "the pattern") -> Expr:
    r"""Return the texts that ``re.fullmatch`` matches whole.

    The only difference: ``\d`` holds the ASCII digits alone, not those of all scripts, unless the
    pattern says so with ``(?u)``; ``\D`` holds none of either. With ``(?a)``, all is as in ``re``.

    Args:
        pattern: In the notation of Python's ``re``.
        about: What it is called in messages.

    Raises:
        ConstraintError: It is no pattern, or not a regular one; says what and where.
    """
    forms = parsed(pattern, PYTHON, about).forms
    return next(iter(forms.values())) if len(forms) == 1 else Alt(tuple(forms.values()))


def ecma(pattern: str, about: str = "the pattern", *, wide: bool = False) -> Expr:
    r"""Return the texts in which a pattern in the notation of JSON schemas (ECMA 262) is found.

    It may stand anywhere in the text, unless anchored by ``^`` and ``$``. Schemas are checked by
    libraries of many languages, so a class such as ``\s`` holds what both ECMA 262 and Python's
    ``re`` count to it, and ``\S`` what neither does.

    Args:
        pattern: In the notation of ECMA 262.
        about: What it is called in messages.
        wide: Return the texts in which either library may find it instead: those to keep away
            from. Python's ``$`` also stands before a last line break.

    Raises:
        ConstraintError: It is no pattern, or not a regular one; says what and where.
    """
    forms = parsed(pattern, ECMA_WIDE if wide else ECMA, about).forms
    end = Repeat(Text("\n"), 0, 1) if wide else EMPTY
    found = [
        Seq((EMPTY if begins else _ANYTHING, part, end if ends else _ANYTHING))
        for (begins, ends), part in forms.items()
    ]
    return found[0] if len(found) == 1 else Alt(tuple(found))
