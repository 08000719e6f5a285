"""How are the plain kinds of extended Backus-Naur form read, in which rules describe characters?

``name ::= ...`` as in the XML recommendation (W3C, 2008, section 6) and ``name = ... ;`` as in
ISO/IEC 14977:1996, where commas may be left out.
"""

import re
from dataclasses import dataclass, field

from unison.constrain.language import Expr, Grammar, Minus, Ref, Repeat, Text
from unison.constrain.sources.reading import (
    Layout,
    Reader,
    alternatives,
    characters,
    group,
)

_BLANK = re.compile(r"(?:\s|/\*[\s\S]*?\*/|\(\*[\s\S]*?\*\))*")
_BEFORE_OR = re.compile(rf"{_BLANK.pattern}(?=\|)")
_NEVER = re.compile(r"(?!)")
_NAME = re.compile(r"[A-Za-z_]\w*(?:-\w+)*")
_DEFINES = re.compile(r"::=|=")
_END = re.compile(r";|\.(?=\s|\Z)")
_CODE = re.compile(r"#x[0-9A-Fa-f]+")
_COMMA, _MINUS = re.compile(","), re.compile("-")
_TIMES = re.compile(r"(\d+)\s*\*")
_COUNTS = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_COMMON_ENDS = r"[|)\]}]|;|\.(?=\s|\Z)|\Z"
_ENDS = re.compile(rf"{_COMMON_ENDS}|{_NAME.pattern}{_BLANK.pattern}(?:::=|=)")
_LAYOUT = Layout(_BLANK, _BLANK, _BEFORE_OR, _BLANK, _ENDS, _NEVER)


def read(reader: Reader, start: str) -> Grammar:
    """Return the language of a grammar in one of the plain notations.

    Raises:
        ConstraintError: What is wrong, with line and column.
    """
    plain = _Plain(reader)
    while reader.take(_BLANK) is not None and not reader.ended():
        plain.rule()
    for name, at in plain.uses:
        if name not in plain.rules:
            raise reader.unknown("rule", name, plain.rules, at)
    if start not in plain.rules:
        raise reader.unknown("the start rule", start, plain.rules, 0)
    return Grammar(plain.rules, start, about=reader.about)


@dataclass
class _Plain:
    reader: Reader
    classes: bool = False  # [ ] holds characters after ::= and an optional part after =
    rules: dict[str, Expr] = field(default_factory=dict)
    uses: list[tuple[str, int]] = field(default_factory=list)

    def rule(self) -> None:
        reader, at = self.reader, self.reader.at
        name = reader.take(_NAME)
        if not name:
            raise reader.expected("the name of a rule")
        if name in self.rules:
            raise reader.error(f"rule {name!r} is defined twice", at)
        reader.take(_BLANK)
        mark = reader.take(_DEFINES)
        if not mark:
            raise reader.expected(f"'::=' or '=' after {name!r}")
        self.classes = mark == "::="
        self.rules[name] = alternatives(reader, _LAYOUT, self.item)
        reader.take(_BLANK)
        may_end = self.classes and (reader.ended() or reader.sees(_NAME))
        if not (reader.take(_END) or may_end):
            raise reader.expected("'|' or the end of the rule" if self.classes else "'|' or ';'")

    def item(self) -> Expr:
        reader, at = self.reader, self.reader.at
        left = self.counted()
        reader.take(_BLANK)
        while reader.take(_MINUS):
            reader.take(_BLANK)
            if reader.sees(_ENDS):
                raise reader.error("nothing stands behind the - of what begins here", at)
            left = Minus(left, self.counted())
            reader.take(_BLANK)
        reader.take(_COMMA)
        return left

    def counted(self) -> Expr:
        reader = self.reader
        found = _TIMES.match(reader.text, reader.at)
        if found:
            reader.at = found.end()
            reader.take(_BLANK)
            return Repeat(self.counted(), int(found[1]), int(found[1]))
        item = self.atom()
        while (mark := reader.text[reader.at : reader.at + 1]) in _COUNTS:
            reader.at += 1
            item = Repeat(item, *_COUNTS[mark])
        return item

    def atom(self) -> Expr:
        reader, at = self.reader, self.reader.at
        match reader.text[at : at + 1]:
            case '"' | "'":
                return Text(self.quoted())
            case "#":
                return characters([self.code()])
            case "[" if self.classes:
                return self.char_class()
            case "(":
                return group(reader, _LAYOUT, self.item)
            case "[":
                return Repeat(group(reader, _LAYOUT, self.item), 0, 1)
            case "{":
                return Repeat(group(reader, _LAYOUT, self.item))
        name = reader.take(_NAME)
        if not name:
            raise reader.expected("a rule, a 'string', or something in brackets")
        self.uses.append((name, at))
        return Ref(name)

    def quoted(self) -> str:
        reader, at = self.reader, self.reader.at
        quote = reader.text[at]
        end = reader.text.find(quote, at + 1)
        if end < 0 or "\n" in reader.text[at:end]:
            raise reader.error(f"the string that opens here lacks its closing {quote}", at)
        reader.at = end + 1
        return reader.text[at + 1 : end]

    def code(self) -> tuple[int, int]:
        reader, at = self.reader, self.reader.at
        written = reader.take(_CODE)
        if not written:
            raise reader.expected("#x and a number in hexadecimal")
        code = int(written[2:], 16)
        reader.coded(code, at)
        return code, code

    def char_class(self) -> Expr:
        reader, opened = self.reader, self.reader.at
        outside = reader.text.startswith("^", opened + 1)
        reader.at += 1 + outside
        ranges: list[tuple[int, int]] = []
        while not reader.text.startswith("]", reader.at) or not ranges:
            ranges.append(self.char_range(opened))
        reader.at += 1
        return characters(ranges, outside=outside)

    def char_range(self, opened: int) -> tuple[int, int]:
        reader, at = self.reader, self.reader.at
        first = last = self.member(opened)
        if re.match(r"-[^\]]", reader.text[reader.at : reader.at + 2]):
            reader.at += 1
            last = self.member(opened)
        if last < first:
            raise reader.error("the range runs backwards", at)
        return first, last

    def member(self, opened: int) -> int:
        reader = self.reader
        if reader.ended() or reader.text[reader.at] == "\n":
            raise reader.error("the class that opens here lacks its closing ]", opened)
        if reader.sees(_CODE):
            return self.code()[0]
        reader.at += 1
        return ord(reader.text[reader.at - 1])
