"""How is a grammar in Lark's notation read?

After the reference of the notation, https://lark-parser.readthedocs.io/en/stable/grammar.html.
"""

import re
from dataclasses import dataclass, field

from unison.constrain.language import Chars, Expr, Ref, Repeat, Text
from unison.constrain.sources.ebnf.common import COMMON
from unison.constrain.sources.ebnf.source import Call, Rule, Source, Terminal
from unison.constrain.sources.reading import (
    Layout,
    Reader,
    alternatives,
    characters,
    group,
    sequence,
)
from unison.constrain.sources.regex import expr

_COMMENT = r"(?://|\#)[^\n]*"
_SPACE = re.compile(r"[ \t\r\f]*")
_LINE = re.compile(rf"(?:[ \t\r\f]|{_COMMENT}|\\[ \t]*\r?\n)*")
_LINES = re.compile(rf"(?:\s|{_COMMENT})*")
_DEFINITION = r"[?!]*\w+(?:\{[^}\n]*\})?(?:\.-?\d+)?[ \t]*:"
_LAYOUT = Layout(
    line=_LINE,
    lines=_LINES,
    before_or=re.compile(rf"(?:\s|{_COMMENT})*(?=\|)"),
    after_or=re.compile(rf"(?:\s|{_COMMENT})*+(?!%|{_DEFINITION}|\Z)"),
    ends=re.compile(r"[|)\]\n]|->|\Z"),
    alias=re.compile(rf"->{_SPACE.pattern}\w+{_LINE.pattern}"),
)
_RULE = re.compile(r"_*[a-z][_a-z0-9]*\b")
_TERMINAL = re.compile(r"_*[A-Z][_A-Z0-9]*\b")
_NAME = re.compile(r"\w+")
_MODIFIERS = re.compile(r"[?!]*")
_OPEN, _COMMA, _CLOSE = (re.compile(mark) for mark in (r"\{", ",", r"\}"))
_OPEN_LIST, _CLOSE_LIST = re.compile(r"\("), re.compile(r"\)")
_PRIORITY = re.compile(r"\.[ \t]*[+-]?\d+")
_COLON = re.compile(":")
_DIRECTIVE = re.compile(r"%\w*")
_MODULE = re.compile(r"\.*\w+")
_DOT = re.compile(r"\.")
_ARROW = re.compile("->")
_RANGE = re.compile(r"[ \t]*\.\.[ \t]*(?=\")")
_IGNORE_CASE = re.compile(r"i\b")
_TIMES = re.compile(r"~[ \t]*(\d+)(?:[ \t]*\.\.[ \t]*(\d+))?")
_REGEX = re.compile(r"/(?!/)(?:\\.|[^/\\\n])*/|/(?!/)(?:\\[\s\S]|[^/\\])*/(?=[a-z]*x)")
_FLAGS = re.compile(r"[a-z]*")
_QUANTIFIER = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?|([*+?]|\{\d*,\d*\})([?+]?)", re.DOTALL
)
_COUNTS = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "\\": "\\", '"': '"', "/": "/"}


def read(reader: Reader) -> Source:
    """Return the definitions of a grammar in Lark's notation.

    Raises:
        ConstraintError: What is wrong, with line and column.
    """
    lark = _Lark(reader, Source(reader))
    while reader.take(_LINES) is not None and not reader.ended():
        if reader.sees(_DIRECTIVE):
            lark.directive()
        else:
            lark.definition()
        reader.take(_LINE)
        if not (reader.ended() or reader.text[reader.at] == "\n"):
            raise reader.expected("the end of the definition")
    return lark.source


@dataclass
class _Lark:
    """The reading of one grammar; ``characters`` inside terminals, where habits are noted."""

    reader: Reader
    source: Source
    characters: bool = False
    habits: list[str] = field(default_factory=list)
    literals: dict[Expr, str] = field(default_factory=dict)

    def definition(self) -> None:
        reader = self.reader
        reader.take(_MODIFIERS)
        at = reader.at
        if name := reader.take(_TERMINAL):
            priority = self.header(name)
            self.terminal(name, at, self.body(characters=True), priority)
        elif name := reader.take(_RULE):
            params = self.names(_CLOSE) if reader.take(_OPEN) else ()
            self.header(name)
            if name in self.source.rules:
                raise reader.error(f"rule {name!r} is defined twice", at)
            outer = len(self.source.uses)
            self.source.rules[name] = Rule(self.body(characters=False), at, params)
            inner = [use for use in self.source.uses[outer:] if use[0] not in params]
            self.source.uses[outer:] = inner
        else:
            raise self.bad_name() if reader.sees(_NAME) else reader.expected("a definition")

    def header(self, name: str) -> int:
        priority = self.reader.take(_PRIORITY)
        self.reader.take(_SPACE)
        if not self.reader.take(_COLON):
            raise self.reader.expected(f"':' after {name!r}")
        return int(priority[1:]) if priority else 0

    def body(self, *, characters: bool) -> Expr:
        self.characters, self.habits = characters, []
        return alternatives(self.reader, _LAYOUT, self.item)

    def terminal(self, name: str, at: int, expr: Expr, priority: int = 0) -> None:
        if name in self.source.terminals:
            raise self.reader.error(f"terminal {name!r} is defined twice", at)
        self.source.terminals[name] = Terminal(
            expr, at, priority, self.literals.get(expr), tuple(self.habits)
        )

    def names(self, close: re.Pattern[str]) -> tuple[str, ...]:
        read = []
        while True:
            self.reader.take(_SPACE)
            name = self.reader.take(_NAME)
            if not name:
                raise self.reader.expected("a name")
            read.append(name)
            self.reader.take(_SPACE)
            if self.reader.take(close):
                return tuple(read)
            if not self.reader.take(_COMMA):
                raise self.reader.expected("',' or the end of the list")

    def directive(self) -> None:
        reader, at = self.reader, self.reader.at
        name = reader.take(_DIRECTIVE)
        reader.take(_SPACE)
        if name == "%ignore":
            self.ignore()
        elif name == "%import":
            self.imported(at)
        else:
            raise reader.error(f"{name} is not supported; there are %ignore and %import", at)

    def ignore(self) -> None:
        at = self.reader.at
        expr = self.body(characters=True)
        if isinstance(expr, Ref):
            name = expr.name
        else:
            name = self.reader.text[at : self.reader.at].strip()
            self.anonymous(name, Terminal(expr, at, 0, self.literals.get(expr), tuple(self.habits)))
        self.source.ignored[name] = at

    def imported(self, at: int) -> None:
        reader = self.reader
        module = reader.take(_MODULE)
        if module != "common":
            raise reader.error(f"%import {module or ''}: only %import common.NAME is supported", at)
        reader.take(_SPACE)
        if reader.take(_OPEN_LIST):
            for name in self.names(_CLOSE_LIST):
                self.common(name, name, at)
            return
        name = reader.take(_NAME) if reader.take(_DOT) else None
        if not name:
            raise reader.expected("'.NAME' or a list '(NAME, NAME)'")
        reader.take(_SPACE)
        alias = name
        if reader.take(_ARROW):
            reader.take(_SPACE)
            alias = reader.take(_TERMINAL)
            if not alias:
                raise reader.expected("the name of a terminal, in upper case")
        self.common(name, alias, at)

    def common(self, name: str, alias: str, at: int) -> None:
        if name not in COMMON:
            raise self.reader.unknown("common terminal", name, COMMON, at)
        self.habits = []
        self.terminal(alias, at, self.pattern(COMMON[name], "", at))

    def item(self) -> Expr:
        atom = self.atom()
        reader = self.reader
        reader.take(_SPACE)
        mark = reader.text[reader.at : reader.at + 1]
        if mark == "~":
            return Repeat(atom, *self.times())
        if mark not in _COUNTS:
            return atom
        reader.at += 1
        self.habits.append("greedy")
        return Repeat(atom, *_COUNTS[mark])

    def times(self) -> tuple[int, int]:
        reader, at = self.reader, self.reader.at
        found = _TIMES.match(reader.text, at)
        if not found:
            raise reader.expected("~n or ~n..m with numbers")
        reader.at = found.end()
        least, most = int(found[1]), int(found[2] or found[1])
        if most < least:
            raise reader.error(f"~{least}..{most} asks for at least more than at most", at)
        if most > least:
            self.habits.append("greedy")
        return least, most

    def atom(self) -> Expr:
        reader = self.reader
        match reader.text[reader.at]:
            case "(":
                return group(reader, _LAYOUT, self.item)
            case "[":
                inner = Repeat(group(reader, _LAYOUT, self.item), 0, 1)
                self.habits.append("greedy")
                return inner
            case '"' | "/":
                return self.piece()
        return self.use()

    def use(self) -> Expr:
        """Read the name of a rule, a terminal or a template with its arguments."""
        reader, at = self.reader, self.reader.at
        if name := reader.take(_TERMINAL):
            self.habits.append(name)
        elif name := reader.take(_RULE):
            if self.characters:
                raise reader.error(f"a terminal may not use a rule, and {name!r} is one", at)
        else:
            raise (
                self.bad_name()
                if reader.sees(_NAME)
                else reader.expected('a name, a "string", a /pattern/, a (group) or an [option]')
            )
        self.source.uses.append((name, at))
        return Ref(self.called(name, at) if reader.take(_OPEN) else name)

    def called(self, template: str, at: int) -> str:
        reader, args = self.reader, []
        while True:
            reader.take(_LINES)
            quoted = reader.text.startswith(('"', "/"), reader.at)
            arg = self.piece() if quoted else self.use()
            args.append(arg.name if isinstance(arg, Ref) else "")
            reader.take(_LINES)
            if reader.take(_CLOSE):
                break
            if not reader.take(_COMMA):
                raise reader.expected("',' or '}'")
        call = Call(template, tuple(args), at)
        self.source.calls[call.shown] = call
        return call.shown

    def piece(self) -> Expr:
        """Read a string, a range or a pattern: characters in a terminal, a lexeme in a rule."""
        reader, at, habits = self.reader, self.reader.at, len(self.habits)
        expr = self.quoted() if reader.text[at] == '"' else self.regex()
        if self.characters:
            return expr
        name = reader.text[at : reader.at]
        noted = tuple(self.habits[habits:])
        self.anonymous(name, Terminal(expr, at, 0, self.literals.get(expr), noted))
        return Ref(name)

    def anonymous(self, name: str, terminal: Terminal) -> None:
        self.source.terminals.setdefault(name, terminal)

    def quoted(self) -> Expr:
        reader, at = self.reader, self.reader.at
        text = reader.string(_ESCAPES)
        if not reader.take(_RANGE):
            expr = _folded(text) if reader.take(_IGNORE_CASE) else Text(text)
            self.literals[expr] = text
            return expr
        last = reader.string(_ESCAPES)
        if len(text) != 1 or len(last) != 1 or last < text:
            raise reader.error("a range goes from one character up to another", at)
        return characters([(ord(text), ord(last))])

    def regex(self) -> Expr:
        reader, at = self.reader, self.reader.at
        found = reader.take(_REGEX)
        if not found:
            raise reader.error("the pattern that opens here lacks its closing /", at)
        flags = (reader.take(_FLAGS) or "").replace("u", "")
        unknown = set(flags) - set("imsx")
        if unknown:
            raise reader.error(f"pattern flag {min(unknown)!r} is not one of i, m, s, u, x", at)
        return self.pattern(found[1:-1].replace(r"\/", "/"), flags, at)

    def pattern(self, pattern: str, flags: str, at: int) -> Expr:
        for mark in _QUANTIFIER.finditer(pattern):
            if mark[1]:
                self.habits.append("lazy" if mark[2] == "?" else "greedy")
        about = f"the pattern at {self.reader.place(at)} of {self.reader.about}"
        return expr(f"(?{flags}:{pattern})" if flags else pattern, about=about)

    def bad_name(self) -> Exception:
        return self.reader.expected("a name in lower case (rules) or in upper case (terminals)")


def _folded(text: str) -> Expr:
    return sequence([_cases(character) for character in text])


def _cases(character: str) -> Chars:
    forms = {character, character.lower(), character.upper()}
    return characters([(ord(form), ord(form)) for form in forms if len(form) == 1])
