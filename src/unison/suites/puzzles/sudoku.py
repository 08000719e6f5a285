"""Can a grid with one right answer be written in parallel? Sudoku of four or nine digits.

Files are those of d1 (columns ``Puzzle,Solution``) and of Dream (JSON lines with ``input`` and
``output``), cells row by row, 0 or a dot where blank. An answer is graded by the rules, not against
the file: of the 500 puzzles of d1, 124 have more than one solution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from unison.suites.dice import Dice
from unison.suites.given.jsonl import Line, drawn, lines, records
from unison.suites.limits.posteriors import Enumerated
from unison.suites.puzzles.grids import BLANK, agrees, complete, found, written
from unison.suites.puzzles.sudoku_search import puzzle, units_of
from unison.suites.task import Grade, ItemLaw, Problem

_MOST_BLANKS = {4: 12, 9: 54}  # with more, a single solution is impossible or rare
_EXPECTED = '{"input": "1003...", "output": "1423..."}'
_HEAD = ["puzzle", "solution"]


@dataclass(frozen=True)
class Sudoku:
    """Fill the blanks of a grid; drawn puzzles have one solution.

    Attributes:
        side: 4 or 9.
        blanks: Cells to fill, up to 12 or 54.
        shots: Examples before the question.
        path: A file to read the puzzles from; ``blanks`` then speaks of the examples.
    """

    about: ClassVar[str] = "a 4x4 or 9x9 Sudoku with one solution"
    executes: ClassVar[bool] = False

    side: int = 4
    blanks: int = 4
    shots: int = 1
    path: Path | None = None

    def __post_init__(self) -> None:
        if self.side not in _MOST_BLANKS:
            raise ValueError(f"side must be 4 or 9, got {self.side}.")
        if not 1 <= self.blanks <= _MOST_BLANKS[self.side]:
            raise ValueError(
                f"blanks must be 1 to {_MOST_BLANKS[self.side]} where side is {self.side}, "
                f"got {self.blanks}."
            )
        if self.shots < 0:
            raise ValueError(f"shots must be at least 0, got {self.shots}.")

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` problems, or as many as the file holds, in random order.

        Raises:
            SuiteError: The file holds something else; the message names the line.
        """
        if self.path is None:
            return [self._problem(seed, number) for number in range(count)]
        chosen = drawn(self._read(self.path), count, "sudoku", self.path.name, seed)
        return [self._asked(name, given, full, seed) for name, given, full in chosen]

    def _problem(self, seed: int, number: int) -> Problem:
        given, full = self._drawn(Dice("sudoku", self.side, self.blanks, seed, number))
        name = f"sudoku/{self.side}/{self.blanks}/{seed}/{number:04}"
        return self._asked(name, given, full, seed)

    def _drawn(self, dice: Dice) -> tuple[str, str]:
        given, full = puzzle(dice, self.side, self.blanks)
        return _text(given), _text(full)

    def _asked(self, name: str, given: str, full: str, seed: int) -> Problem:
        dice = Dice("examples", name, self.side, self.blanks, seed)
        examples = [self._drawn(dice) for _ in range(self.shots)]
        shown = [f"{self._question(g)} {written(f, self.side)}" for g, f in examples]
        return Problem(
            name=name,
            prompt="\n\n".join([self._task(), *shown, self._question(given)]),
            answer=f" {written(full, self.side)}",
            group=f"{self.side}x{self.side}, {given.count(BLANK)} blank",
            facts={"given": given},
        )

    def _task(self) -> str:
        return (
            f"Fill the blanks of the Sudoku. Every digit from 1 to {self.side} stands once in "
            "every row, in every column and in every box."
        )

    def _question(self, given: str) -> str:
        return f"Puzzle: {written(given, self.side)}\nSolution:"

    def grade(self, problem: Problem, answer: str) -> Grade:
        """Return 1 if the first whole grid in the text solves the puzzle."""
        cells = found(answer, _digits(self.side), self.side**2)
        if not cells:
            return Grade(0.0, "", f"no {self.side**2} digits from 1 to {self.side}")
        if not agrees(cells, problem.facts["given"]):
            return Grade(0.0, cells, "a given digit is changed")
        return Grade.of(complete(cells, units_of(self.side)), cells, "a digit twice in a unit")

    def law(self) -> ItemLaw:
        """Return the law of the solution of problem 0 of seed 0: all of it is certain."""
        full = found(self._problem(0, 0).answer, _digits(self.side), self.side**2)
        return Enumerated.of([[int(digit) - 1 for digit in full]])

    def _read(self, path: Path) -> list[tuple[str, str, str]]:
        """Return name, puzzle and solution of every line of a file."""
        rows = lines(path)
        if rows[0].text.startswith("{"):
            pairs = [
                (record.line, record.text("input"), record.text("output"))
                for record in records(path, _EXPECTED)
            ]
        else:
            pairs = _columns(rows)
        return [self._checked(line, asked, solved) for line, asked, solved in pairs]

    def _checked(self, line: Line, asked: str, solved: str) -> tuple[str, str, str]:
        given = "".join(asked.split()).translate({ord("0"): BLANK, ord("."): BLANK})
        full = "".join(solved.split())
        for cells, allowed in ((given, BLANK), (full, "")):
            allowed += "".join(map(str, range(1, self.side + 1)))
            if len(cells) != self.side**2 or set(cells) - set(allowed):
                raise line.wrong(
                    f"holds {cells!r}, not {self.side**2} digits up to {self.side}; "
                    "the setting side says how large a grid is."
                )
        if not (agrees(full, given) and complete(full, units_of(self.side))):
            raise line.wrong(f"holds {full}, which does not solve {given}.")
        return f"sudoku/{line.path.stem}/{line.number:04}", given, full


def _columns(rows: Sequence[Line]) -> list[tuple[Line, str, str]]:
    split = [(row, row.text.split(",")) for row in rows]
    if [column.strip().lower() for column in split[0][1]] != _HEAD:
        raise rows[0].wrong(f"holds {rows[0].text[:60]!r}; expected the heads Puzzle,Solution.")
    for row, columns in split:
        if len(columns) != len(_HEAD):
            raise row.wrong(f"has {len(columns)} columns; expected a puzzle and its solution.")
    return [(row, columns[0], columns[1]) for row, columns in split[1:]]


def _text(cells: Sequence[int]) -> str:
    return "".join(str(digit) if digit else BLANK for digit in cells)


def _digits(side: int) -> str:
    return "".join(str(digit) for digit in range(1, side + 1))
