"""Which characters does an escape or a set in a pattern stand for?"""

import re
import unicodedata
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from unison.constrain.language import LAST_CODE, SURROGATES, ConstraintError
from unison.constrain.sources.regex.characters import Ranges, folded, joined, others
from unison.constrain.sources.regex.dialects import Alphabet, Class, Dialect

SHOWN = 60  # characters of a pattern in a message
_HEX = {"x": 2, "u": 4, "U": 8}
_NAMED = re.compile(r"\{([^}]+)\}")
_BRACED = re.compile(r"\{([0-9A-Fa-f]+)\}")
_OCTAL = re.compile(r"0[0-7]{0,2}|[0-7]{3}")
_OCTAL_IN_SET = re.compile(r"[0-7]{1,3}")
_LAST_OCTAL = 0o377
_LOW_HALF = re.compile(r"\\u([Dd][C-Fc-f][0-9A-Fa-f]{2})")


class Flags(NamedTuple):
    """What is set where a part of a pattern stands.

    Attributes:
        caseless: Letters match in both cases.
        dotall: ``.`` matches line ends too.
        verbose: White space and comments do not count.
        alphabet: To which characters classes belong.
    """

    caseless: bool = False
    dotall: bool = False
    verbose: bool = False
    alphabet: Alphabet = ""


@dataclass
class Scanner:
    """A place in a pattern that moves forward.

    Attributes:
        pattern: All of it.
        dialect: Its notation.
        about: What it is called in messages.
        at: How many characters are read.
    """

    pattern: str
    dialect: Dialect
    about: str
    at: int = 0

    def error(self, problem: str, at: int | None = None) -> ConstraintError:
        """Return an error that says where: here, unless told otherwise."""
        place = self.at if at is None else at
        shown = self.pattern
        if len(shown) > SHOWN:
            begin = max(0, place - SHOWN // 2)
            shown = f"{'...' * (begin > 0)}{shown[begin : begin + SHOWN]}..."
        return ConstraintError(f"in {self.about}, at position {place} of {shown!r}: {problem}.")

    def ahead(self, text: str) -> bool:
        """Return whether a text follows; if so, move behind it."""
        found = self.pattern.startswith(text, self.at)
        self.at += len(text) * found
        return found

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Return what a pattern finds here and move behind it."""
        found = pattern.match(self.pattern, self.at)
        if found:
            self.at = found.end()
        return found

    def char(self) -> str:
        """Return the next character and move behind it; nothing at the end."""
        char = self.pattern[self.at : self.at + 1]
        self.at += len(char)
        return char

    def charset(self, flags: Flags) -> Ranges:
        """Read a set behind its opening bracket."""
        at = self.at - 1
        negated = self.ahead("^")
        sure: list[tuple[int, int]] = []
        possible: list[tuple[int, int]] = []
        first = self.dialect.python  # there, a bracket that comes first is one of the characters
        while first or not self.ahead("]"):
            if self.at >= len(self.pattern):
                raise self.error("the set of characters that opens here lacks its ]", at)
            inside, outside = self._span(flags)
            sure += inside
            possible += outside
            first = False
        return others(joined(possible)) if negated else joined(sure)

    def _span(self, flags: Flags) -> Class:
        """Read a character, a class or a range in a set."""
        at = self.at
        low = self._member(flags)
        if not self.pattern.startswith("-", self.at) or self.pattern.startswith("-]", self.at):
            return self._chosen(low, flags)
        self.at += 1
        if self.at >= len(self.pattern):
            raise self.error("the set of characters lacks its ]", at)
        high = self._member(flags)
        if isinstance(low, int) and isinstance(high, int):
            if low > high:
                raise self.error(f"the range goes down, from {chr(low)!r} to {chr(high)!r}", at)
            return self._range(low, high, flags)
        if self.dialect.python:
            raise self.error("a range goes from one character to another, not to a class", at)
        sure, possible = zip(
            *(self._chosen(part, flags) for part in (low, ord("-"), high)), strict=True
        )
        return joined(chain(*sure)), joined(chain(*possible))

    def _chosen(self, member: int | Class, flags: Flags) -> Class:
        return self._range(member, member, flags) if isinstance(member, int) else member

    def _range(self, low: int, high: int, flags: Flags) -> Class:
        letters = folded(low, high, flags.alphabet == "a") if flags.caseless else ((low, high),)
        return letters, letters

    def _member(self, flags: Flags) -> int | Class:
        char = self.char()
        return self.escape(flags, in_set=True) if char == "\\" else ord(char)

    def escape(self, flags: Flags, in_set: bool) -> int | Class:
        """Read an escape behind its backslash: a character or a class."""
        at = self.at - 1
        letter = self.char()
        if letter and letter in "dDsSwW":
            return self.dialect.kind(letter, flags.alphabet)
        if letter == "b" and in_set:
            return 0x08
        if letter in self.dialect.controls:
            return self.dialect.controls[letter]
        code = self._coded(letter, at, in_set)
        if code is not None:
            return code
        if not letter or (letter.isascii() and letter.isalnum()):
            raise self.error(f"\\{letter} is no escape in {self.dialect.name}", at)
        return ord(letter)

    def _coded(self, letter: str, at: int, in_set: bool) -> int | None:
        """Read an escape that gives the number or the name of a character."""
        if letter in _HEX:
            return self._hexadecimal(letter, at)
        if letter == "N" and self.dialect.python:
            return self._by_name(at)
        if letter == "c" and not self.dialect.python:
            control = self.char()
            if not (control.isascii() and control.isalpha()):
                raise self.error("\\c needs a letter from A to Z", at)
            return ord(control) % 32
        if letter.isdecimal() and letter.isascii():
            return self._octal(letter, at, in_set)
        return None

    def _hexadecimal(self, letter: str, at: int) -> int:
        braced = self.take(_BRACED) if letter == "u" and not self.dialect.python else None
        if braced is None:
            if letter == "U" and not self.dialect.python:
                raise self.error(f"\\U is no escape in {self.dialect.name}", at)
            size = _HEX[letter]
            digits = self.pattern[self.at : self.at + size]
            if not re.fullmatch(f"[0-9A-Fa-f]{{{size}}}", digits):
                raise self.error(f"\\{letter} needs {size} hexadecimal digits", at)
            self.at += size
        else:
            digits = braced[1]
        code = int(digits, 16)
        if code > LAST_CODE:
            raise self.error(f"no character has the number {digits}, the last has 10FFFF", at)
        return self._paired(code) if letter == "u" and not self.dialect.python else code

    def _paired(self, code: int) -> int:
        """Join two halves of a character beyond U+FFFF, if two stand here."""
        low = self.take(_LOW_HALF) if 0xD800 <= code <= 0xDBFF else None
        if low is None:
            return code
        return 0x10000 + ((code - 0xD800) << 10) + (int(low[1], 16) - 0xDC00)

    def _by_name(self, at: int) -> int:
        name = self.take(_NAMED)
        if name is None:
            raise self.error("\\N needs the name of a character in braces", at)
        try:
            return ord(unicodedata.lookup(name[1]))
        except (KeyError, TypeError) as error:
            raise self.error(f"no character has the name {name[1]!r}", at) from error

    def _octal(self, letter: str, at: int, in_set: bool) -> int:
        self.at -= 1
        if not self.dialect.python:
            if letter == "0" and not self.pattern[self.at + 1 : self.at + 2].isdecimal():
                self.at += 1
                return 0
        else:
            found = self.take(_OCTAL_IN_SET if in_set else _OCTAL)
            if found and int(found[0], 8) <= _LAST_OCTAL:
                return int(found[0], 8)
        if in_set or letter == "0":
            raise self.error(f"\\{letter} is no escape here in {self.dialect.name}", at)
        raise self.error(
            f"\\{letter} repeats what a group matched, which no automaton can: write it out", at
        )

    def character(self, code: int, at: int) -> int:
        """Return a code point that stands for itself, unless it is half a character."""
        if SURROGATES[0] <= code <= SURROGATES[1]:
            raise self.error(f"U+{code:04X} is half a surrogate pair, not a character", at)
        return code
