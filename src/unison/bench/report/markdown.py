"""How does a report become Markdown that reads well raw, and in which no text becomes markup?"""

import re

from unison.bench.report.document import Document, Figure, Section, Table
from unison.bench.report.printable import printable

FIGURES = "figures"  # folder of the figures, beside the file


def render(document: Document) -> str:
    """Return a report as GitHub-flavoured Markdown, figures by reference."""
    parts = [f"# {_line(document.title)}", *map(_paragraph, document.summary)]
    for section in document.sections:
        parts += _section(section)
    if document.settings:
        parts += ["## Settings", _table(Table(("setting", "value"), document.settings))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(section: Section) -> list[str]:
    parts = [f"## {_line(section.heading)}", *map(_paragraph, section.paragraphs)]
    for table in section.tables:
        parts += [_table(table), _paragraph(table.note)]
    for figure in section.figures:
        parts += [_figure(figure), _paragraph(figure.caption)]
    return parts


def _figure(figure: Figure) -> str:
    return f"![{_line(figure.alt)}]({FIGURES}/{figure.name}.png)"


def _table(table: Table) -> str:
    head, *rows = (
        "| " + " | ".join(map(_cell, row)) + " |" for row in (table.columns, *table.rows)
    )
    rule = "|" + "|".join("---:" if right else "---" for right in numeric(table)) + "|"
    return "\n".join([head, rule, *rows])


def numeric(table: Table) -> list[bool]:
    """Return which columns hold numbers: those line up at the right."""
    return [
        any(map(_NUMBER.match, column)) and all(_NUMBER.match(c) or c in _NOTHING for c in column)
        for column in zip(*table.rows, strict=True)
    ] or [False] * len(table.columns)


def _cell(text: str) -> str:
    return "<br>".join(map(_escaped, printable(text).split("\n")))


def _line(text: str) -> str:
    return _escaped(" ".join(printable(text).split()))


def _paragraph(text: str) -> str:
    return _START.sub(r"\1\\\2", _line(text))


def _escaped(text: str) -> str:
    """Return text without a character that means something, links that make themselves included."""
    for pattern, replacement in _ESCAPES:
        text = pattern.sub(replacement, text)
    return text


_NUMBER = re.compile(r"[-+\u2212]?\d[\d.,]*(e[-+]?\d+)?(?![\w.])")
_NOTHING = ("", "—", "skipped", "failed")
_ESCAPES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"&", "&amp;"),
        (r"<", "&lt;"),
        (r">", "&gt;"),
        (r"([\\`*|~#])", r"\\\1"),
        (r"^\[|\[(?=\^)|\](?=[(\[:])", r"\\\g<0>"),  # links, footnotes; not intervals
        (r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_"),  # entropy_bounded stays readable
        (r"\$", "&#36;"),
        (r"@", "&#64;"),
        (r"://", ":&#47;&#47;"),
        (r"(?i)(www)\.", r"\1&#46;"),
        (r":(?=[a-z0-9_+-]+:)", "&#58;"),  # :smile:
    )
]
_START = re.compile(r"^(\d*)([-+=.)])")
