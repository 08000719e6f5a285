"""How is a notation read, so that every error names its line and column?"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from unison.constrain.language import (
    LAST_CODE,
    SURROGATES,
    Alt,
    Chars,
    ConstraintError,
    Expr,
    Seq,
)
from unison.suggest import nearest

_CODE = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8})")
_OR = re.compile(r"\|")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DEEPEST = 50  # groups inside each other
_SEEN = 20  # characters of the text that a message shows


@dataclass
class Reader:
    """A place in a text that moves forward.

    Attributes:
        text: All of it.
        about: What it is called in messages.
        at: How many characters are read.
        depth: How many groups are open.

    Raises:
        ConstraintError: The text has half of a surrogate pair, which UTF-8 cannot spell.
    """

    text: str
    about: str
    at: int = 0
    depth: int = 0

    def __post_init__(self) -> None:
        half = _SURROGATE.search(self.text)
        if half:
            raise self.error("half of a surrogate pair is no character", half.start())

    def take(self, pattern: re.Pattern[str]) -> str | None:
        """Return what the pattern matches here and move behind it; ``None`` if it does not."""
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found.group()

    def sees(self, pattern: re.Pattern[str]) -> bool:
        """Return whether the pattern matches here."""
        return pattern.match(self.text, self.at) is not None

    def ended(self) -> bool:
        """Return whether everything is read."""
        return self.at >= len(self.text)

    def place(self, at: int) -> str:
        """Return "line 3, column 5"."""
        before = self.text[:at]
        return f"line {before.count(chr(10)) + 1}, column {at - before.rfind(chr(10))}"

    def error(self, problem: str, at: int | None = None) -> ConstraintError:
        """Return an error that says where: here, unless told otherwise."""
        return ConstraintError(
            f"in {self.about}, {self.place(self.at if at is None else at)}: {problem}"
            f"{'' if problem.endswith('?') else '.'}"
        )

    def expected(self, what: str) -> ConstraintError:
        """Return an error that says what should stand here and what does."""
        line = self.text[self.at : self.at + _SEEN].split("\n")[0]
        found = "the end of the text" if self.ended() else repr(line) if line else "the line's end"
        return self.error(f"expected {what}, found {found}")

    def unknown(self, kind: str, name: str, known: Iterable[str], at: int) -> ConstraintError:
        """Return an error about a name that nothing defines, with the closest that is defined."""
        return self.error(f"{kind} {name!r} is not defined{nearest(name, known)}", at)

    def character(self, escapes: Mapping[str, str]) -> str:
        r"""Read one character, as itself or as an escape: ``\xHH`` and such, or a listed one.

        Raises:
            ConstraintError: Unknown escapes and numbers that are no character.
        """
        at, code = self.at, self.take(_CODE)
        if code:
            return self.coded(int(code[2:], 16), at)
        if self.text[at] != "\\":
            self.at += 1
            return self.text[at]
        letter = self.text[at + 1 : at + 2]
        if letter not in escapes:
            known = ", ".join(f"\\{name}" for name in escapes)
            raise self.error(
                f"\\{letter} is no escape; there are {known}, \\xHH, \\uHHHH and \\UHHHHHHHH", at
            )
        self.at += 2
        return escapes[letter]

    def coded(self, code: int, at: int) -> str:
        """Return the character of a number that was written in the text."""
        if code > LAST_CODE or SURROGATES[0] <= code <= SURROGATES[1]:
            raise self.error(f"U+{code:04X} is no character", at)
        return chr(code)

    def string(self, escapes: Mapping[str, str]) -> str:
        """Read a string that opens and closes with the quote that stands here."""
        opened, quote, read = self.at, self.text[self.at], []
        self.at += 1
        while self.text[self.at : self.at + 1] != quote:
            if self.ended() or self.text[self.at] == "\n":
                raise self.error(f"the string that opens here lacks its closing {quote}", opened)
            read.append(self.character(escapes))
        self.at += 1
        return "".join(read)


@dataclass(frozen=True)
class Layout:
    """How a notation spaces its alternatives.

    Attributes:
        line: Blank text that does not end a rule.
        lines: Blank text inside a group.
        before_or: Blank text before a ``|`` that goes on with the rule.
        after_or: Blank text behind one.
        ends: What stands behind an alternative.
        alias: A name given to an alternative, which changes nothing.
    """

    line: re.Pattern[str]
    lines: re.Pattern[str]
    before_or: re.Pattern[str]
    after_or: re.Pattern[str]
    ends: re.Pattern[str]
    alias: re.Pattern[str]


def alternatives(
    reader: Reader, layout: Layout, item: Callable[[], Expr], *, inside: bool = False
) -> Expr:
    """Read sequences of items between ``|``, over several lines ``inside`` a group."""
    blank = layout.lines if inside else layout.line
    options: list[Expr] = []
    while True:
        parts: list[Expr] = []
        reader.take(blank)
        while not reader.sees(layout.ends):
            parts.append(item())
            reader.take(blank)
        options.append(sequence(parts))
        reader.take(layout.alias)
        reader.take(layout.before_or)
        if not reader.take(_OR):
            return either(options)
        reader.take(layout.after_or)


def group(reader: Reader, layout: Layout, item: Callable[[], Expr]) -> Expr:
    """Read alternatives between the bracket that stands here and its partner."""
    opened = reader.at
    close = {"(": ")", "[": "]", "{": "}"}[reader.text[opened]]
    if reader.depth == _DEEPEST:
        raise reader.error(f"groups stand more than {_DEEPEST} deep inside each other")
    reader.at += 1
    reader.depth += 1
    inner = alternatives(reader, layout, item, inside=True)
    reader.depth -= 1
    if not reader.text.startswith(close, reader.at):
        raise reader.error(f"the group that opens here lacks its closing {close}", opened)
    reader.at += 1
    return inner


def sequence(parts: list[Expr]) -> Expr:
    """Return one after the other; a single part as it is."""
    return parts[0] if len(parts) == 1 else Seq(tuple(parts))


def either(options: list[Expr]) -> Expr:
    """Return one of several; a single option as it is."""
    return options[0] if len(options) == 1 else Alt(tuple(options))


def characters(ranges: list[tuple[int, int]], *, outside: bool = False) -> Chars:
    """Return one character in the ranges, which may touch or overlap, or outside all of them."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return Chars(_between(merged) if outside else tuple(merged))


def _between(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    edges = [-1, *(edge for pair in ranges for edge in pair), LAST_CODE + 1]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return tuple((last + 1, first - 1) for last, first in gaps if first - last > 1)
