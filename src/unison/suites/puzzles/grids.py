"""How is a square grid written on one line and found in a text? ``A B | B A``."""

import re
from collections.abc import Sequence

BLANK = "_"
_BETWEEN = r"[ \t|/,;\[\]]*+(?:\r?\n[ \t|/,;\[\]]*+)?+"  # possessive: long texts take no longer

# Any two letters: one stands for every symbol, the other for itself where a text holds it.
_CELL, _OTHER = (
    "\N{GREEK CAPITAL LETTER DELTA}",
    "\N{GREEK CAPITAL LETTER GAMMA}",
)
_RUN = re.compile(rf"(?<!\w){_CELL}(?:{_BETWEEN}{_CELL})*(?!\w)")  # one pattern for all symbols


def written(cells: str, side: int) -> str:
    """Return the rows of a grid on one line."""
    rows = (cells[start : start + side] for start in range(0, len(cells), side))
    return " | ".join(" ".join(row) for row in rows)


def found(text: str, symbols: str, count: int) -> str:
    """Return the first run of just so many cells in a text, or nothing.

    Spaces, bars, commas, brackets and ends of lines may stand between cells; a blank line ends a
    run.
    """
    marked = text.translate({**dict.fromkeys(map(ord, symbols), _CELL), ord(_CELL): _OTHER})
    for run in _RUN.finditer(marked):
        cells = "".join(text[at] for at in range(*run.span()) if marked[at] == _CELL)
        if len(cells) == count:
            return cells
    return ""


def agrees(cells: str, given: str) -> bool:
    """Return whether no given cell is changed."""
    return all(g in (BLANK, c) for c, g in zip(cells, given, strict=True))


def complete(cells: str, units: Sequence[Sequence[int]]) -> bool:
    """Return whether every unit holds different symbols."""
    return all(len({cells[cell] for cell in unit}) == len(unit) for unit in units)


def lines_of(side: int) -> list[range]:
    """Return the cells of every row and of every column."""
    rows = [range(row * side, row * side + side) for row in range(side)]
    return rows + [range(column, side * side, side) for column in range(side)]
