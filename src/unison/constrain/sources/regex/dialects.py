r"""How do notations of patterns differ? Their classes, escapes, and odd corners.

A class is a pair: what it surely holds, and what it may hold. The first counts where the class
stands for what may be written, the second where it stands for what may not (``[^\d]``, ``\D``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from unison.constrain.sources.regex.characters import (
    Ranges,
    common,
    joined,
    matching,
    others,
)

Alphabet = Literal["", "a", "u"]  # as the dialect has it, ASCII, Unicode
Class = tuple[Ranges, Ranges]

_CONTROLS = {"f": 0x0C, "n": 0x0A, "r": 0x0D, "t": 0x09, "v": 0x0B}
_ECMA_KINDS = {
    "d": "[0-9]",
    "w": "[0-9A-Za-z_]",
    "s": "[\t-\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]",
}


@dataclass(frozen=True)
class Dialect:
    r"""A notation of patterns.

    Attributes:
        name: What it is called in messages.
        python: Whether it is that of Python's ``re``; else that of ECMA 262.
        controls: Letters that, escaped, stand for control characters.
        dot: What ``.`` holds.
        wide: Whether a pattern stands for what may *not* be written, so that its classes hold
            all they may.
    """

    name: str
    python: bool
    controls: Mapping[str, int]
    dot: Ranges
    wide: bool = False

    def kind(self, letter: str, alphabet: Alphabet) -> Class:
        r"""Return the class of an escape such as ``\d`` or ``\D``."""
        sure, possible = _kind(letter.lower(), alphabet, self.python)
        if self.wide:
            sure, possible = possible, sure
        return (sure, possible) if letter.islower() else (others(possible), others(sure))


@cache
def _kind(letter: str, alphabet: Alphabet, python: bool) -> Class:
    if alphabet:
        exact = matching(f"(?{alphabet}:\\{letter})")
        return exact, exact
    unicode_ = matching(f"\\{letter}")
    if python and letter != "d":
        return unicode_, unicode_
    narrow = matching(_ECMA_KINDS[letter])
    return common(narrow, unicode_), joined((*narrow, *unicode_))


PYTHON = Dialect(
    name="Python's re",
    python=True,
    controls=_CONTROLS | {"a": 0x07},
    dot=others(((0x0A, 0x0A),)),
)
ECMA = Dialect(
    name="ECMA 262",
    python=False,
    controls=_CONTROLS,
    dot=common(others(((0x0A, 0x0A), (0x0D, 0x0D))), others(((0x2028, 0x2029),))),
)
ECMA_WIDE = replace(ECMA, dot=PYTHON.dot, wide=True)
