"""What does a report consist of? Sections of words, tables and figures, whatever draws them."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """Rows of text under column heads.

    Attributes:
        columns: Heads.
        rows: Cells, one per column.
        note: A sentence under the table.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"Every row needs {len(self.columns)} cells: {list(self.columns)}.")


@dataclass(frozen=True)
class Figure:
    """A drawing, in every form it is used in.

    Attributes:
        name: Of its files, without ending: ``frontier-copy``.
        png: For the report and for pages, on light paper.
        dark: The same for dark paper.
        svg: For papers.
        caption: What it shows and how to read it.
        alt: What someone who does not see it must know.
    """

    name: str
    png: bytes
    dark: bytes
    svg: bytes
    caption: str
    alt: str


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        heading: Its title.
        paragraphs: Plain text.
        tables: After the text.
        figures: After the tables.
    """

    heading: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()


@dataclass(frozen=True)
class Document:
    """A whole report.

    Attributes:
        title: Heading.
        summary: Plain text under it.
        sections: In order.
        settings: What was run, as it was.
    """

    title: str
    summary: Sequence[str] = ()
    sections: Sequence[Section] = field(default_factory=tuple)
    settings: Sequence[tuple[str, str]] = ()
