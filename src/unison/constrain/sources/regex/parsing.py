"""What do the marks of a pattern mean? Groups, choices and repeats, read without recursion."""

import re
from dataclasses import dataclass, field
from typing import Literal

from unison.constrain.language import EMPTY, Chars, ConstraintError, Text
from unison.constrain.sources.regex.characters import EVERYTHING, folded
from unison.constrain.sources.regex.dialects import Alphabet, Dialect
from unison.constrain.sources.regex.pieces import (
    Piece,
    after_another,
    anywhere,
    either,
    repeated,
)
from unison.constrain.sources.regex.scanner import Flags, Scanner

_SPACE = re.compile(r"(?:[ \t\n\r\v\f]|#[^\n]*)+")
_COMMENT = re.compile(r"\(\?#[^)]*\)")
_COUNT = {
    True: re.compile(r"\{(?!\})(\d*)(?:(,)(\d*))?\}", re.ASCII),
    False: re.compile(r"\{(\d+)(?:(,)(\d*))?\}", re.ASCII),
}
LONGEST_COUNT = 24  # of digits and braces
_COUNTS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_FLAGS = re.compile(r"\(\?([aimsuxL]*)(?:(-)([a-zA-Z]*))?([:)])")
_NAME = re.compile(r"([^\W\d]\w*)>")
_ADVICE = "write what it demands as characters, sets, choices and repeats"
_REFUSED = {
    "(?=": "a lookahead (?=...)",
    "(?!": "a negative lookahead (?!...)",
    "(?<=": "a lookbehind (?<=...)",
    "(?<!": "a negative lookbehind (?<!...)",
    "(?P=": "a back reference (?P=...)",
    "(?(": "a condition (?(...)...)",
    "(?>": "an atomic group (?>...)",
}
_ENDS = {"A": (True, False), "Z": (False, True), "z": (False, True)}
_ESCAPES = {
    "b": "a word boundary \\b",
    "B": "a word boundary \\B",
    "p": "a property \\p{...}",
    "P": "a property \\P{...}",
    "k": "a back reference \\k<...>",
}


@dataclass
class Group:
    """A group that is still open.

    Attributes:
        at: Where it opens.
        flags: What is set inside.
        options: Its choices that are read.
        parts: The parts of the choice that is being read.
        last: What the last part is, which decides whether it can be repeated.
    """

    at: int
    flags: Flags
    options: list[Piece] = field(default_factory=list)
    parts: list[Piece] = field(default_factory=list)
    last: Literal["nothing", "end", "part", "repeat"] = "nothing"


def parsed(pattern: str, dialect: Dialect, about: str) -> Piece:
    """Return what a pattern matches.

    Raises:
        ConstraintError: It is no pattern of the dialect, or not a regular one.
    """
    return Parser(Scanner(pattern, dialect, about)).whole()


class Parser:
    """Reads one pattern.

    Args:
        scanner: Where it stands.
    """

    def __init__(self, scanner: Scanner) -> None:
        self.scan = scanner
        self.python = scanner.dialect.python
        self.names: set[str] = set()
        self.groups = [Group(0, Flags())]

    def whole(self) -> Piece:
        """Read all of it."""
        scan = self.scan
        while True:
            if self.groups[-1].flags.verbose:
                scan.take(_SPACE)
            if scan.at >= len(scan.pattern):
                break
            self._step()
        if len(self.groups) > 1:
            raise scan.error("the group that opens here lacks its )", self.groups[-1].at)
        return self._closed()

    def _step(self) -> None:
        scan, group = self.scan, self.groups[-1]
        at = scan.at
        char = scan.char()
        if char == "(":
            self._open(at)
        elif char == ")":
            self._close(at)
        elif char == "|":
            group.options.append(after_another(group.parts, self._misplaced))
            group.parts, group.last = [], "nothing"
        elif char in "*+?":
            self._repeat(*_COUNTS[char], at)
        elif char == "{":
            self._counted(at)
        elif char in "^$":
            self._end((char == "^", char == "$"), at)
        else:
            self._atom(char, at)

    def _atom(self, char: str, at: int) -> None:
        scan, flags = self.scan, self.groups[-1].flags
        if char == ".":
            ranges = EVERYTHING if flags.dotall else scan.dialect.dot
            self._part(anywhere(Chars(ranges)))
        elif char == "[":
            self._part(anywhere(Chars(scan.charset(flags))))
        elif char == "\\":
            self._escape(at)
        else:
            self._character(ord(char), at)

    def _escape(self, at: int) -> None:
        scan, flags = self.scan, self.groups[-1].flags
        letter = scan.pattern[scan.at : scan.at + 1]
        if letter in _ENDS and self.python:
            scan.at += 1
            return self._end(_ENDS[letter], at)
        if letter in _ESCAPES and not (self.python and letter in "pPk"):
            raise scan.error(f"{_ESCAPES[letter]} is not supported: {_ADVICE}", at)
        found = scan.escape(flags, in_set=False)
        if isinstance(found, int):
            return self._character(found, at)
        return self._part(anywhere(Chars(found[0])))

    def _character(self, code: int, at: int) -> None:
        flags = self.groups[-1].flags
        self.scan.character(code, at)
        if flags.caseless:
            ranges = folded(code, code, flags.alphabet == "a")
            if ranges != ((code, code),):
                return self._part(anywhere(Chars(ranges)))
        return self._part(anywhere(Text(chr(code))))

    def _part(self, piece: Piece) -> None:
        self.groups[-1].parts.append(piece)
        self.groups[-1].last = "part"

    def _end(self, bound: tuple[bool, bool], at: int) -> None:
        self.groups[-1].parts.append(Piece({bound: EMPTY}, at))
        self.groups[-1].last = "end"

    def _counted(self, at: int) -> None:
        self.scan.at = at
        found = self.scan.take(_COUNT[self.python])
        if found is None or not (found[1] or found[2]):
            self.scan.at = at + 1
            return self._character(ord("{"), at)
        if len(found[0]) > LONGEST_COUNT:
            raise self.scan.error("a repeat of more times than any text can hold", at)
        least = int(found[1] or 0)
        most = least if found[2] is None else int(found[3]) if found[3] else None
        if most is not None and most < least:
            raise self.scan.error(f"a repeat of at least {least} and at most {most}", at)
        return self._repeat(least, most, at)

    def _repeat(self, least: int, most: int | None, at: int) -> None:
        scan, group = self.scan, self.groups[-1]
        if group.last in ("nothing", "end"):
            raise scan.error("there is nothing to repeat here", at)
        if group.last == "repeat":
            raise scan.error("a repeat of a repeat needs a group around the inner one", at)
        if not scan.ahead("?") and self.python and scan.ahead("+"):
            raise scan.error(
                "a possessive repeat is not supported, since what it matches depends on what "
                "follows: leave out its +",
                at,
            )
        group.parts[-1] = repeated(group.parts[-1], least, most, self._misplaced)
        group.last = "repeat"

    def _misplaced(self, what: str, at: int) -> ConstraintError:
        return self.scan.error(f"{what}; anchors go to the two ends of the pattern", at)

    def _open(self, at: int) -> None:
        scan, flags = self.scan, self.groups[-1].flags
        scan.at = at
        if scan.take(_COMMENT):
            return
        found = scan.take(_FLAGS)
        if found:
            return self._flagged(found, at)
        for mark, construct in _REFUSED.items():
            if scan.pattern.startswith(mark, at):
                raise scan.error(f"{construct} is not supported: {_ADVICE}", at)
        scan.at = at + 1
        if scan.ahead("?P<") or (not self.python and scan.ahead("?<")):
            self._name(at)
        elif scan.ahead("?"):
            raise scan.error(f"(?{scan.char()} opens no kind of group", at)
        self.groups.append(Group(at, flags))

    def _name(self, at: int) -> None:
        found = self.scan.take(_NAME)
        if found is None:
            raise self.scan.error("a group's name is a word in < and >", at)
        if found[1] in self.names:
            raise self.scan.error(f"a second group has the name {found[1]!r}", at)
        self.names.add(found[1])

    def _flagged(self, found: re.Match[str], at: int) -> None:
        added, minus, removed, end = found.groups()
        flags = self._changed(added, removed or "", at)
        if end == ":":
            self.groups.append(Group(at, flags))
            return
        if minus or not added:
            raise self.scan.error("flags without a group can only be set", at)
        group = self.groups[-1]
        if len(self.groups) > 1 or group.options or group.parts:
            raise self.scan.error("flags for the whole pattern go to its beginning", at)
        group.flags = flags

    def _changed(self, added: str, removed: str, at: int) -> Flags:
        flags = self.groups[-1].flags
        alphabets = set(added) & set("auL")
        if "L" in alphabets or len(alphabets) > 1 or set(removed) - set("imsx"):
            raise self.scan.error("flags are i, m, s, x, and one of a and u, which stays on", at)
        if set(added) & set(removed):
            raise self.scan.error("a flag is both set and removed", at)
        alphabet: Alphabet = flags.alphabet
        if alphabets:
            alphabet = "a" if "a" in alphabets else "u"

        def held(letter: str, before: bool) -> bool:
            return letter in added or (before and letter not in removed)

        return Flags(
            held("i", flags.caseless), held("s", flags.dotall), held("x", flags.verbose), alphabet
        )

    def _close(self, at: int) -> None:
        if len(self.groups) == 1:
            raise self.scan.error("this ) closes no group", at)
        piece = self._closed()
        self.groups.pop()
        self._part(piece)

    def _closed(self) -> Piece:
        group = self.groups[-1]
        return either([*group.options, after_another(group.parts, self._misplaced)])
