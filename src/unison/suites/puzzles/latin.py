"""Can a grid with many right answers be written in parallel? Latin squares of four symbols.

Any of the 576 squares is right, so a model that writes several cells at once has to guess what it
will write elsewhere: harder in parallel than a Sudoku, which has one answer.

Source: the puzzle tasks of Kang et al. 2025 (arXiv 2510.04767).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import ClassVar

from unison.suites.dice import Dice
from unison.suites.limits.posteriors import Enumerated
from unison.suites.puzzles.grids import BLANK, agrees, complete, found, lines_of, written
from unison.suites.task import Grade, ItemLaw, Problem

_SIDE, _CELLS = 4, 16
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TASK = (
    "A Latin square has four rows of four symbols. Every symbol stands once in every row and once "
    "in every column."
)


@cache
def squares() -> tuple[tuple[int, ...], ...]:
    """Return the 576 Latin squares of the symbols 0 to 3, row by row."""
    grids: list[tuple[int, ...]] = [()]
    for _ in range(_SIDE):
        grids = [
            (*grid, *row)
            for grid in grids
            for row in permutations(range(_SIDE))
            if all(row[at % _SIDE] != symbol for at, symbol in enumerate(grid))
        ]
    return tuple(grids)


@dataclass(frozen=True)
class Latin:
    """Write a Latin square, any that holds the given cells.

    Attributes:
        given: Cells that are told, 0 to 15.
        shots: Examples before the question, with other symbols.
    """

    about: ClassVar[str] = "a 4x4 Latin square, any of 576: many right answers, all cells entangled"
    executes: ClassVar[bool] = False

    given: int = 0
    shots: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.given < _CELLS:
            raise ValueError(f"given must be 0 to {_CELLS - 1}, got {self.given}.")
        if self.shots < 0:
            raise ValueError(f"shots must be at least 0, got {self.shots}.")

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` problems; a question is the same with more or fewer examples."""
        return [self._problem(seed, number) for number in range(count)]

    def _problem(self, seed: int, number: int) -> Problem:
        dice = Dice("latin", self.given, seed, number)
        symbols, given, square = self._drawn(dice, _LETTERS)
        others = "".join(letter for letter in _LETTERS if letter not in symbols)
        drawn = [self._drawn(dice, others) for _ in range(self.shots)]
        shown = [f"{self._question(*example[:2])} {_grid(example[2])}" for example in drawn]
        return Problem(
            name=f"latin/{self.given}/{seed}/{number:04}",
            prompt="\n\n".join([_TASK, *shown, self._question(symbols, given)]),
            answer=f" {_grid(square)}",
            group=f"given={self.given}",
            facts={"symbols": symbols, "given": given},
        )

    def _drawn(self, dice: Dice, letters: str) -> tuple[str, str, str]:
        symbols = "".join(dice.some(letters, _SIDE))
        square = "".join(symbols[symbol] for symbol in dice.one(squares()))
        told = dice.some(range(_CELLS), self.given)
        given = "".join(c if at in told else BLANK for at, c in enumerate(square))
        return symbols, given, square

    def _question(self, symbols: str, given: str) -> str:
        told = f"\nGiven: {_grid(given)}" if self.given else ""
        return f"Symbols: {' '.join(symbols)}{told}\nSquare:"

    def grade(self, problem: Problem, answer: str) -> Grade:
        """Return 1 if the first 16 cells in a row are a Latin square that holds the given cells."""
        cells = found(answer, problem.facts["symbols"], _CELLS)
        if not cells:
            return Grade(0.0, "", "no 16 cells")
        if not agrees(cells, problem.facts["given"]):
            return Grade(0.0, cells, "a given cell is changed")
        return Grade.of(complete(cells, lines_of(_SIDE)), cells, "a symbol twice in a line")

    def law(self) -> ItemLaw:
        """Return the law of the squares that hold the cells given in problem 0 of seed 0."""
        facts = self._problem(0, 0).facts
        clues = [facts["symbols"].find(symbol) for symbol in facts["given"]]
        return Enumerated.of(
            square
            for square in squares()
            if all(clue in (-1, symbol) for clue, symbol in zip(clues, square, strict=True))
        )


def _grid(cells: str) -> str:
    return written(cells, _SIDE)
