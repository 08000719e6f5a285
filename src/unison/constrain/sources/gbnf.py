"""How is a grammar written for llama.cpp read? Its GBNF notation, which describes characters.

After the notation's description in llama.cpp, ``grammars/README.md``. Wider than there: a rule may
use itself first, rule names may have underscores, and a line may begin with ``|``.
"""

import re
from dataclasses import dataclass, field

from unison.constrain.language import ANY_CHAR, Expr, Grammar, Ref, Repeat, Text
from unison.constrain.sources.reading import Layout, Reader, alternatives, characters, group

_LINE = re.compile(r"(?:[ \t\r]|#[^\n]*)*")
_LINES = re.compile(r"(?:\s|#[^\n]*)*")
_LAYOUT = Layout(
    line=_LINE,
    lines=_LINES,
    before_or=re.compile(r"(?:\s|#[^\n]*)*(?=\|)"),
    after_or=re.compile(r"(?:\s|#[^\n]*)*+(?![\w-]+[ \t]*::=)"),
    ends=re.compile(r"[|)\n]|\Z"),
    alias=re.compile(r"(?!)"),
)
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_DEFINES = re.compile(r"::=")
_TIMES = re.compile(r"\{[ \t]*(\d+)[ \t]*(?:(,)[ \t]*(\d*)[ \t]*)?\}")
_COUNTS = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "[": "[", "]": "]"}
_CLASS_ESCAPES = _ESCAPES | {"-": "-", "^": "^"}


def gbnf(text: str, root: str = "root", about: str = "the GBNF grammar") -> Grammar:
    r"""Return the language of a GBNF grammar.

    ``name ::= ...`` with strings (``\n \t \r \" \\ \xHH \uHHHH \UHHHHHHHH``), classes ``[a-z]``
    and ``[^a-z]``, ``.`` for any character, ``|``, groups, ``* + ?``, ``{m}``, ``{m,}``,
    ``{m,n}`` and ``# comments``. A rule ends with its line, except inside a group and beside ``|``.

    Raises:
        ConstraintError: What is wrong, with line and column.
    """
    source = _Gbnf(Reader(text, about))
    source.read()
    for name, at in source.uses:
        if name not in source.rules:
            raise source.reader.unknown("rule", name, source.rules, at)
    if root not in source.rules:
        raise source.reader.unknown("the root rule", root, source.rules, 0)
    return Grammar(source.rules, root, about=about)


@dataclass
class _Gbnf:
    reader: Reader
    rules: dict[str, Expr] = field(default_factory=dict)
    uses: list[tuple[str, int]] = field(default_factory=list)

    def read(self) -> None:
        while self.reader.take(_LINES) is not None and not self.reader.ended():
            self.rule()

    def rule(self) -> None:
        reader, at = self.reader, self.reader.at
        name = reader.take(_NAME)
        if not name:
            raise reader.expected("the name of a rule")
        if name in self.rules:
            raise reader.error(f"rule {name!r} is defined twice", at)
        reader.take(_LINE)
        if not reader.take(_DEFINES):
            raise reader.expected(f"'::=' after {name!r}")
        reader.take(_LINES)
        self.rules[name] = alternatives(reader, _LAYOUT, self.item)
        if not (reader.ended() or reader.text[reader.at] == "\n"):
            raise reader.expected("the end of the rule")

    def item(self) -> Expr:
        return self.repeated(self.atom())

    def repeated(self, item: Expr) -> Expr:
        reader = self.reader
        reader.take(_LINE)
        while (mark := reader.text[reader.at : reader.at + 1]) and mark in "*+?{":
            if mark != "{":
                reader.at += 1
                item = Repeat(item, *_COUNTS[mark])
            else:
                item = Repeat(item, *self.times())
            reader.take(_LINE)
        return item

    def times(self) -> tuple[int, int | None]:
        reader, at = self.reader, self.reader.at
        found = _TIMES.match(reader.text, at)
        if not found:
            raise reader.expected("{m}, {m,} or {m,n} with numbers")
        reader.at = found.end()
        least = int(found[1])
        most = least if not found[2] else int(found[3]) if found[3] else None
        if most is not None and most < least:
            raise reader.error(f"{{{least},{most}}} asks for at least more than at most", at)
        return least, most

    def atom(self) -> Expr:
        reader, at = self.reader, self.reader.at
        match reader.text[at]:
            case '"':
                return Text(reader.string(_ESCAPES))
            case "[":
                return self.char_class()
            case "(":
                return group(reader, _LAYOUT, self.item)
            case ".":
                reader.at += 1
                return ANY_CHAR
            case "<" | "!":
                raise reader.error("tokens (<...>) have no place in a grammar of characters")
        name = reader.take(_NAME)
        if not name:
            raise reader.expected('a rule, a "string", a [class], a (group) or .')
        self.uses.append((name, at))
        return Ref(name)

    def char_class(self) -> Expr:
        reader, opened = self.reader, self.reader.at
        outside = reader.text.startswith("^", opened + 1)
        reader.at += 1 + outside
        ranges: list[tuple[int, int]] = []
        while reader.text[reader.at : reader.at + 1] != "]":
            ranges.append(self.char_range(opened))
        reader.at += 1
        if not ranges:
            raise reader.error("a class must hold a character", opened)
        return characters(ranges, outside=outside)

    def char_range(self, opened: int) -> tuple[int, int]:
        reader, at = self.reader, self.reader.at
        first = self.member(opened)
        if not re.match(r"-[^\]]", reader.text[reader.at : reader.at + 2]):
            return ord(first), ord(first)
        reader.at += 1
        last = self.member(opened)
        if last < first:
            raise reader.error(f"the range {first}-{last} runs backwards", at)
        return ord(first), ord(last)

    def member(self, opened: int) -> str:
        if self.reader.ended() or self.reader.text[self.reader.at] == "\n":
            raise self.reader.error("the class that opens here lacks its closing ]", opened)
        return self.reader.character(_CLASS_ESCAPES)
