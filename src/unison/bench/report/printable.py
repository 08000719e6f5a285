"""How is text shown that nobody has read yet? Every character so that it can be seen and kept."""

import unicodedata

_KEPT = frozenset("\n\t")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")  # of Indic and Arabic letters and of emoji


def printable(text: str) -> str:
    """Return a text whose controls, direction marks and halves of characters stand as numbers.

    A model may write any of them: a right-to-left override would turn the rest of a line around,
    a lone surrogate cannot be stored as UTF-8.
    """
    return "".join(map(_shown, text))


def clipped(text: str, length: int) -> str:
    """Return the start of a text, and how much of it was left out."""
    left = len(text) - length
    return text if left <= 0 else f"{text[:length]}… ({left:,} more characters)"


def _shown(character: str) -> str:
    kept = character in _KEPT or character in _JOINERS
    if kept or unicodedata.category(character) not in _HIDDEN:
        return character
    return f"⟨U+{ord(character):04X}⟩"
