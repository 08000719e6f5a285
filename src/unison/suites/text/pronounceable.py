"""Which words does nobody know by heart? Made-up ones that can be pronounced."""

from unison.suites.dice import Dice

_CONSONANTS = "bdfghklmnprstvz"
_VOWELS = "aeiou"


def made_up(dice: Dice, length: int) -> str:
    """Return a word whose letters are consonants and vowels in turn."""
    return "".join(dice.one(_VOWELS if at % 2 else _CONSONANTS) for at in range(length))
