"""Which texts fill the holes of a given one? Literal text with typed holes of unknown length."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from unison.constrain.language import ConstraintError, Expr, Grammar, Ref, Seq, Text
from unison.constrain.sources.choice import choice
from unison.constrain.sources.json_schema import json_schema
from unison.constrain.sources.reading import Reader
from unison.constrain.sources.regex import expr
from unison.constrain.sources.rewriting import replaced
from unison.suggest import nearest

SLOTS = 16  # tokens of a hole, unless told
_ANYTHING = r"[\s\S]*?"
_YEAR = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_MONTH_AND_DAY = (
    "(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)"
    "|(?:0[13578]|1[02])-31)"
)
_JSON_ESCAPE = r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})'
TYPES = {  # lazy, so that earlier holes are read as short as they can be
    "int": "0|-?[1-9][0-9]*?",
    "float": r"-?(?:0|[1-9][0-9]*?)(?:\.[0-9]+?)??(?:[eE][+-]?[0-9]+?)??",
    "word": r"\S+?",
    "line": r"[^\r\n]*?",
    "text": _ANYTHING,
    "str": rf'"(?:[^"\\\x00-\x1f]|{_JSON_ESCAPE})*?"',
    "bool": "true|false",
    "date": f"{_YEAR}-{_MONTH_AND_DAY}|{_LEAP_YEAR}-02-29",
}
JSON = "json"
_LITERAL = re.compile(r"(?:[^{}]|\{\{|\}\})+")
_OPEN, _COLON, _CLOSE = re.compile(r"\{"), re.compile(":"), re.compile(r"\}")
_NAME = re.compile(r"(?!\d)\w+")
_KIND = re.compile(
    r"(?P<pattern>/(?:\\.|[^/\\\n])*/)|\[(?P<options>(?:\\.|[^\]\\])*)\]|(?P<type>\w+)",
    re.DOTALL,
)
_OPTION = re.compile(r"((?:\\.|[^|\\])*)(\||\Z)", re.DOTALL)
_ESCAPED = re.compile(r"\\([|\]\\])")
_FLAGS = re.compile(r"\(\?([aimsx]+)\)")
_WHOLE = "template"


@dataclass(frozen=True)
class Hole:
    """A gap of a template.

    Attributes:
        name: What it is called; empty if nothing asks for its text.
        kind: What may fill it: a type's name, ``/pattern/`` or ``[one|of|these]``; empty for
            whatever ``holes`` says, and any text if that says nothing.
        at: Where it stands in the template.
    """

    name: str
    kind: str
    at: int


def template(
    text: str, holes: Mapping[str, Grammar | str] | None = None, about: str = "the template"
) -> Grammar:
    r"""Return the language of a text with holes.

    ``{name}`` and ``{name:type}`` are holes; ``{{`` and ``}}`` are braces. The types are ``int``,
    ``float`` (an integer too), ``word`` (no white space), ``line`` (no line break, may be empty),
    ``text`` (anything, may be empty; the type of a hole that names none), ``str`` (a JSON string,
    in quotes), ``bool`` (``true`` or ``false``), ``date`` (2024-02-29), ``json`` (any JSON value,
    spaced as ``json.dumps`` does), ``/pattern/`` and ``[one|of|these]``, in which ``\|``, ``\]``
    and ``\\`` stand for themselves.

    Holes are filled independently, so a name stands only once; ``{:int}`` has no name and may
    stand often.

    Args:
        text: The template.
        holes: For names without a type in the text, the type or the grammar of what fills them.
        about: What the template is called in messages.

    Raises:
        ConstraintError: What is wrong, with line and column; or a grammar with lexemes beside
            other text, whose own cutting into lexemes would not stop where the hole does.
    """
    pieces = _pieces(Reader(text, about))
    given = _known(pieces, holes or {}, Reader(text, about))
    if len(pieces) == 1 and isinstance(pieces[0], Hole):
        alone = given.get(pieces[0].name)
        if isinstance(alone, Grammar):
            return alone  # lexemes and all
    rules: dict[str, Expr] = {}
    parts: list[Expr] = []
    for number, piece in enumerate(pieces):
        if isinstance(piece, str):
            parts.append(Text(piece))
        else:
            prefix = piece.name or f"#{number}"
            inner = _grammar(piece, given, Reader(text, about, piece.at))
            rules |= _renamed(inner, prefix)
            parts.append(Ref(_inside(prefix, inner.start)))
    return Grammar({_WHOLE: Seq(tuple(parts)), **rules}, _WHOLE, about=about)


def parts(
    text: str,
    holes: Mapping[str, Grammar | str] | None = None,
    slots: int | Mapping[str, int] = SLOTS,
    about: str = "the template",
) -> tuple[str | int, ...]:
    """Return what a canvas holds before it is filled: given text, and how many slots are open.

    Args:
        text: The template.
        holes: As for ``template``.
        slots: Tokens that every hole has room for, or by name; other holes have ``SLOTS``.
        about: What the template is called in messages.

    Raises:
        ConstraintError: As for ``template``; a name that is no hole; fewer than one slot.
    """
    reader = Reader(text, about)
    pieces = _pieces(reader)
    _known(pieces, holes or {}, reader)
    sizes = slots if isinstance(slots, Mapping) else {}
    _check_names(pieces, sizes, reader, "slots")
    usual = slots if isinstance(slots, int) else SLOTS
    for name, size in {"every hole": usual, **sizes}.items():
        if size < 1:
            raise ConstraintError(f"{about} needs one slot or more for {name!r}, got {size}.")
    return tuple(p if isinstance(p, str) else sizes.get(p.name, usual) for p in pieces)


def values(
    text: str,
    filled: str,
    holes: Mapping[str, Grammar | str] | None = None,
    about: str = "the template",
) -> dict[str, str]:
    """Return the text in each named hole of a filled template.

    Where several readings fit, earlier holes are as short as they can be. Types are held to;
    grammars and ``json`` are not read again: their holes take any text.

    Raises:
        ConstraintError: As for ``template``; the filled text does not fit.
    """
    pieces = _pieces(Reader(text, about))
    given = _known(pieces, holes or {}, Reader(text, about))
    pattern = "".join(
        re.escape(piece)
        if isinstance(piece, str)
        else f"(?P<hole{number}>{_pattern(piece, given, Reader(text, about, piece.at))})"
        for number, piece in enumerate(pieces)
    )
    try:
        found = re.fullmatch(pattern, filled)
    except re.error as error:  # such as two groups of one name
        raise ConstraintError(f"the holes of {about} cannot be read back: {error}.") from error
    if found is None:
        raise ConstraintError(f"{filled!r} does not fit {about} {text!r}.")
    return {
        piece.name: found[f"hole{number}"]
        for number, piece in enumerate(pieces)
        if isinstance(piece, Hole) and piece.name
    }


def _pieces(reader: Reader) -> tuple[str | Hole, ...]:
    """Return given texts, never empty, and holes, in the order of the template."""
    pieces: list[str | Hole] = []
    while not reader.ended():
        literal = reader.take(_LITERAL)
        if literal:
            pieces.append(literal.replace("{{", "{").replace("}}", "}"))
        elif reader.sees(_OPEN):
            pieces.append(_hole(reader))
        else:
            raise reader.error("a } that closes no hole; }} is a brace")
    _check_once(pieces, reader)
    return tuple(pieces)


def _hole(reader: Reader) -> Hole:
    at = reader.at
    reader.take(_OPEN)
    name = reader.take(_NAME) or ""
    kind = ""
    if reader.take(_COLON):
        start = reader.at
        kind = reader.take(_KIND) or ""
        if not kind:
            raise reader.expected("a type, a /pattern/ or [some|options]")
        _check_kind(kind, reader, start)
    if not reader.take(_CLOSE):
        raise reader.expected("'}' behind a hole (a hole is {name:type}; {{ is a brace)")
    return Hole(name, kind, at)


def _check_once(pieces: list[str | Hole], reader: Reader) -> None:
    seen: dict[str, int] = {}
    for piece in pieces:
        if isinstance(piece, str) or not piece.name:
            continue
        if piece.name in seen:
            raise reader.error(
                f"hole {piece.name!r} stands at {reader.place(seen[piece.name])} already; holes "
                "are filled independently, so give each its own name or none: {:type}",
                piece.at,
            )
        seen[piece.name] = piece.at


def _check_kind(kind: str, reader: Reader, at: int) -> None:
    found = _KIND.fullmatch(kind)
    if not found:
        raise reader.error(f"{kind!r} is no type, no /pattern/ and no [some|options]", at)
    if found["type"] and kind not in (*TYPES, JSON):
        raise reader.unknown("type", kind, (*TYPES, JSON), at)


def _check_names(
    pieces: tuple[str | Hole, ...], named: Mapping[str, object], reader: Reader, what: str
) -> None:
    names = [piece.name for piece in pieces if isinstance(piece, Hole) and piece.name]
    for name in named:
        if name not in names:
            raise ConstraintError(
                f"{what} name {name!r}, but {reader.about} has no such hole{nearest(name, names)}"
            )


def _known(
    pieces: tuple[str | Hole, ...], holes: Mapping[str, Grammar | str], reader: Reader
) -> Mapping[str, Grammar | str]:
    """Return ``holes`` if it speaks of holes that name no type, and names types that exist."""
    _check_names(pieces, holes, reader, "holes")
    for piece in pieces:
        given = None if isinstance(piece, str) else holes.get(piece.name)
        if given is None or isinstance(piece, str):
            continue
        if piece.kind:
            raise reader.error(f"hole {piece.name!r} has its type in the template too", piece.at)
        if isinstance(given, str):
            _check_kind(given, reader, piece.at)
    return holes


def _grammar(hole: Hole, given: Mapping[str, Grammar | str], reader: Reader) -> Grammar:
    """Return what may fill a hole.

    Raises:
        ConstraintError: A grammar with lexemes, or a pattern that cannot be read.
    """
    kind = hole.kind or given.get(hole.name, "text")
    if isinstance(kind, Grammar):
        if kind.lexemes:
            raise reader.error(
                f"{kind.about}, for hole {hole.name!r}, cuts its text into lexemes, which would "
                "not stop where the hole does; read it with scannerless=True, or let it be all "
                "there is of the template"
            )
        return kind
    if kind == JSON:
        return json_schema(True)
    if kind.startswith("["):
        return choice(_options(kind), about=f"hole {hole.name!r} of {reader.about}")
    pattern = kind[1:-1].replace(r"\/", "/") if kind.startswith("/") else TYPES[kind]
    about = f"hole {hole.name!r} of {reader.about}, {reader.place(reader.at)}"
    return Grammar({"": expr(pattern, about=about)}, "", about=about)


def _pattern(hole: Hole, given: Mapping[str, Grammar | str], reader: Reader) -> str:
    """Return a pattern that finds the text of a hole."""
    _grammar(hole, given, reader)  # says what is wrong with a pattern, or not regular in it
    kind = hole.kind or given.get(hole.name, "text")
    if isinstance(kind, Grammar) or kind == JSON:
        return _ANYTHING
    if kind.startswith("["):
        return "|".join(map(re.escape, _options(kind)))
    if not kind.startswith("/"):
        return TYPES[kind]
    flags = _FLAGS.match(kind, 1)
    pattern = f"(?{flags[1]}:{kind[flags.end() : -1]})" if flags else kind[1:-1]
    return pattern


def _options(kind: str) -> list[str]:
    inner, options, at = kind[1:-1], [], 0
    while True:
        found = _OPTION.match(inner, at)
        assert found, inner
        options.append(_ESCAPED.sub(r"\1", found[1]))
        if not found[2]:
            return options
        at = found.end()


def _renamed(grammar: Grammar, prefix: str) -> dict[str, Expr]:
    return {
        _inside(prefix, name): replaced(rule, lambda used: Ref(_inside(prefix, used)))
        for name, rule in grammar.rules.items()
    }


def _inside(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if name else prefix
