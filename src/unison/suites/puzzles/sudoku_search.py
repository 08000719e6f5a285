"""How is a Sudoku solved and drawn? Depth first, where the fewest digits fit."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from unison.suites.dice import Dice
from unison.suites.puzzles.grids import lines_of

Grid = tuple[int, ...]  # row by row, 0 where blank


@cache
def units_of(side: int) -> tuple[tuple[int, ...], ...]:
    """Return the cells of every row, every column and every box."""
    box = math.isqrt(side)
    corners = [(row, column) for row in range(0, side, box) for column in range(0, side, box)]
    boxes = [
        [(row + down) * side + column + right for down in range(box) for right in range(box)]
        for row, column in corners
    ]
    return tuple(tuple(unit) for unit in [*lines_of(side), *boxes])


def completions(
    given: Sequence[int], order: Callable[[list[int]], Sequence[int]] = list
) -> Iterator[Grid]:
    """Yield every way to fill the blanks.

    Args:
        given: Cells row by row, 0 where blank.
        order: Puts the digits that fit a cell in the order in which they are tried.
    """
    side = math.isqrt(len(given))
    free = [(1 << side) - 1] * (3 * side)  # by unit, a bit for every digit it lacks
    for units, digit in zip(_units_by_cell(side), given, strict=True):
        bit = 1 << digit >> 1
        if any(free[unit] & bit != bit for unit in units):
            return
        _turn(free, units, bit)
    yield from _filled(list(given), free, order)


def puzzle(dice: Dice, side: int, blanks: int) -> tuple[Grid, Grid]:
    """Return a puzzle with one solution, and that.

    Every grid and every such puzzle can be drawn, though not equally often.
    """
    while True:
        solution = next(completions([0] * side**2, dice.shuffled))
        given = list(solution)
        for cell in dice.shuffled(range(len(given))):
            if given.count(0) == blanks:
                return tuple(given), solution
            given[cell] = 0
            if _others(given, cell, solution[cell]):
                given[cell] = solution[cell]


def _others(given: Sequence[int], cell: int, digit: int) -> bool:
    """Return whether a blank cell can hold another digit than this one."""
    side = math.isqrt(len(given))
    units = units_of(side)
    seen = {given[at] for unit in _units_by_cell(side)[cell] for at in units[unit]}
    for other in {*range(1, side + 1)} - seen - {digit}:
        trial = [*given[:cell], other, *given[cell + 1 :]]
        if next(completions(trial), None):
            return True
    return False


def _filled(
    grid: list[int], free: list[int], order: Callable[[list[int]], Sequence[int]]
) -> Iterator[Grid]:
    side = len(free) // 3
    by_cell = _units_by_cell(side)
    fitting = [
        (free[row] & free[column] & free[box], cell)
        for cell, (row, column, box) in enumerate(by_cell)
        if grid[cell] == 0
    ]
    if not fitting:
        yield tuple(grid)
        return
    bits, cell = min(fitting, key=lambda choice: choice[0].bit_count())
    for digit in order([digit for digit in range(1, side + 1) if bits >> digit - 1 & 1]):
        grid[cell] = digit
        _turn(free, by_cell[cell], 1 << digit - 1)
        yield from _filled(grid, free, order)
        _turn(free, by_cell[cell], 1 << digit - 1)
    grid[cell] = 0


@cache
def _units_by_cell(side: int) -> list[list[int]]:
    units = units_of(side)
    return [[at for at, unit in enumerate(units) if cell in unit] for cell in range(side * side)]


def _turn(free: list[int], units: list[int], bit: int) -> None:
    for unit in units:
        free[unit] ^= bit
