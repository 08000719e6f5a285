"""Latin squares and Sudoku: puzzles against brute force, texts and files by hand."""

import math
from collections import Counter
from itertools import islice, permutations, product

import numpy as np
import pytest
from laws import assert_law

from unison.suites import TASKS, SuiteError, made
from unison.suites.dice import Dice
from unison.suites.puzzles.grids import found
from unison.suites.puzzles.latin import Latin
from unison.suites.puzzles.sudoku import Sudoku
from unison.suites.puzzles.sudoku_search import completions, puzzle
from unison.suites.task import Problem

# --- grids --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "1 2 | 3 4",
        "12\n34",
        "[[1, 2], [3, 4]]",
        " 1234\n\nPuzzle: 1 1 1 1",
        "Puzzle: 1 _ | _ 4. Solution: 1 2 | 3 4.",
        "1 2 3, no: 1,2;3/4",
        "1\t2\r\n3\t4",
        "5.  1 2 3 4 5",
    ],
)
def test_a_grid_is_found_whatever_stands_between_its_cells(text):
    assert found(text, "1234", 4) == "1234"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 2 3",
        "1 2 3 4 1",
        "12344",
        "a1234",
        "1234x",
        "1 2 _ 4",
        "1 2\n\n3 4",
        "1.2.3.4",
        "1 5 2",
    ],
)
def test_what_holds_no_grid_of_the_size_reads_as_none(text):
    assert found(text, "1234", 4) == ""


# --- Latin squares ------------------------------------------------------------------------------


def brute_latin():
    rows = list(permutations(range(4)))
    grids = np.array(list(product(rows, repeat=2)))  # two rows that do not clash, twice
    pairs = grids[(grids[:, 0] != grids[:, 1]).all(-1)]
    return {
        tuple(np.concatenate([top, bottom]).ravel().tolist())
        for top in pairs
        for bottom in pairs
        if all(len({*top[:, c].tolist(), *bottom[:, c].tolist()}) == 4 for c in range(4))
    }


def test_every_latin_square_and_no_other_grid_is_graded_right():
    """576 by brute force over pairs of rows."""
    squares = brute_latin()
    assert len(squares) == 576
    task, problem = Latin(), Problem("p", "", "", facts={"symbols": "KMQT", "given": "_" * 16})
    texts = [" ".join("KMQT"[cell] for cell in square) for square in squares]
    assert all(task.grade(problem, text).score == 1 for text in texts)
    for text in texts[::48]:
        cells = text.split()
        for at, other in product(range(16), "KMQT"):
            changed = [*cells[:at], other, *cells[at + 1 :]]
            assert task.grade(problem, " ".join(changed)).score == (changed == cells)


def test_a_latin_square_is_two_bits_a_cell_and_9_17_in_all():
    """C = 32 - log2 576 = 22.83 bits: each square has the product of its beliefs."""
    law = Latin().law()
    squares = np.array(sorted(brute_latin()))
    marginal = law.belief(np.full((1, 16), -1))[0]
    entropies = -(marginal * np.log2(marginal)).sum(-1)
    np.testing.assert_allclose(entropies, 2, atol=1e-12)
    surprise = np.zeros(576)
    seen = np.full_like(squares, -1)
    for cell in np.random.default_rng(0).permutation(16):
        surprise -= np.log2(law.belief(seen)[np.arange(576), cell, squares[:, cell]])
        seen[:, cell] = squares[:, cell]
    np.testing.assert_allclose(surprise, math.log2(576), atol=1e-9)
    assert entropies.sum() - surprise.mean() == pytest.approx(22.83, abs=5e-3)


def pattern(cells):
    """Return where the first symbol stands in the other rows: 6 patterns, whatever its name."""
    return tuple(list(cells).index(cells[0], 4 * row) for row in (1, 2, 3))


def test_squares_are_drawn_from_all_equally_often():
    problems = Latin(shots=0).problems(3000, 0)
    patterns = [pattern(p.answer.replace(" ", "").replace("|", "")) for p in problems]
    every = Counter(pattern(square) for square in brute_latin())
    assert_law(patterns, {p: count / 576 for p, count in every.items()})


@pytest.mark.parametrize("given", [1, 6, 15])
def test_given_cells_must_stay(given):
    task = Latin(given)
    for problem in task.problems(5, 0):
        told = problem.facts["given"]
        assert len(told) - told.count("_") == given
        first, second = sorted({c for c in told if c != "_"} | set(problem.facts["symbols"]))[:2]
        swapped = problem.answer.translate({ord(first): second, ord(second): first})
        kept = not {first, second} & set(told)
        assert task.grade(problem, problem.answer).score == 1
        assert task.grade(problem, swapped).score == kept


def test_the_law_with_given_cells_is_that_of_the_squares_left():
    law = Latin(given=6).law()
    problem = Latin(given=6).problems(1, 0)[0]
    symbols, told = problem.facts["symbols"], problem.facts["given"]
    fitting = {
        square
        for square in brute_latin()
        if all(t in ("_", symbols[cell]) for cell, t in zip(square, told, strict=True))
    }
    everyone = np.array(sorted(brute_latin()))
    assert {tuple(row) for row in everyone[law.right(everyone)].tolist()} == fitting
    assert 1 <= len(fitting) < 576


def test_an_example_never_shows_symbols_of_the_question():
    for problem in Latin(shots=3).problems(20, 0):
        shown = problem.prompt.split("Symbols: ")[1:]
        symbols = [set(part.split("\n")[0].split()) for part in shown]
        assert not symbols[-1] & set.union(*symbols[:-1])


# --- Sudoku -------------------------------------------------------------------------------------


def brute_sudoku():
    boxes = ((0, 1, 4, 5), (2, 3, 6, 7), (8, 9, 12, 13), (10, 11, 14, 15))
    grids = (tuple(cell + 1 for cell in square) for square in brute_latin())
    return [grid for grid in grids if all(len({grid[c] for c in box}) == 4 for box in boxes)]


def test_the_solver_finds_all_288_grids_each_once():
    grids = list(completions([0] * 16))
    assert sorted(grids) == sorted(brute_sudoku())
    assert len(grids) == 288


@pytest.mark.parametrize("blanks", [1, 4, 8, 12])
def test_drawn_puzzles_have_one_solution_by_brute_force(blanks):
    everyone = np.array(brute_sudoku())
    for number in range(30):
        given, solution = puzzle(Dice("test", number), 4, blanks)
        told = np.array(given)
        fitting = everyone[((told == 0) | (told == everyone)).all(-1)]
        assert fitting.tolist() == [list(solution)]
        assert given.count(0) == blanks


def test_large_puzzles_have_one_solution():
    for number in range(3):
        given, solution = puzzle(Dice("test", number), 9, 50)
        assert list(islice(completions(given), 2)) == [solution]
        assert given.count(0) == 50
        units = np.array(solution).reshape(9, 9)
        boxes = units.reshape(3, 3, 3, 3).swapaxes(1, 2).reshape(9, 9)
        for unit in (*units, *units.T, *boxes):
            assert sorted(unit.tolist()) == list(range(1, 10))


def test_the_solver_says_what_cannot_be_solved():
    assert list(completions([1, 1, *[0] * 14])) == []
    assert list(completions([1, 2, 0, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0])) == [
        grid
        for grid in sorted(brute_sudoku())
        if (grid[0], grid[1], grid[6], grid[10]) == (1, 2, 3, 4)
    ]


def test_a_sudoku_is_right_for_its_solution_alone():
    task = Sudoku(blanks=6)
    for problem in task.problems(5, 0):
        right = [
            grid
            for grid in brute_sudoku()
            if task.grade(problem, " ".join(map(str, grid))).score == 1
        ]
        assert [str(cell) for cell in right[0]] == problem.answer.replace("|", "").split()
        assert len(right) == 1


def test_a_sudoku_is_certain_from_the_start():
    law, problem = Sudoku().law(), Sudoku().problems(1, 0)[0]
    belief = law.belief(np.full((1, 16), -1))[0]
    assert (belief.max(-1) == 1).all()
    solution = [int(cell) for cell in problem.answer.replace("|", "").split()]
    assert (belief.argmax(-1) + 1).tolist() == solution


DREAM = '{"input": "1003\\n0300\\n3210\\n4132", "output": "1423\\n2341\\n3214\\n4132"}\n'
D1 = "Puzzle,Solution\n3102200002100320,3142243142131324\n0140432014020000,2143432114323214\n"


def written(tmp_path, text):
    path = tmp_path / "puzzles.txt"
    path.write_text(text)
    return path


def test_puzzles_of_dream_and_d1_are_read(tmp_path):
    problem = Sudoku(path=written(tmp_path, DREAM)).problems(9, 0)[0]
    assert problem.prompt.endswith("Puzzle: 1 _ _ 3 | _ 3 _ _ | 3 2 1 _ | 4 1 3 2\nSolution:")
    assert problem.answer == " 1 4 2 3 | 2 3 4 1 | 3 2 1 4 | 4 1 3 2"
    task = Sudoku(path=written(tmp_path, D1))
    problems = task.problems(9, 0)
    assert {problem.name for problem in problems} == {
        "sudoku/puzzles/0002",
        "sudoku/puzzles/0003",
    }
    assert all(task.grade(problem, problem.answer).score == 1 for problem in problems)
    assert task.problems(1, 0) == problems[:1]


def test_a_puzzle_with_several_solutions_is_right_with_any(tmp_path):
    """As 124 of the 500 puzzles of d1 have, whatever the file says."""
    text = "Puzzle,Solution\n0034341200434321,1234341221434321\n"
    task = Sudoku(path=written(tmp_path, text))
    problem = task.problems(1, 0)[0]
    ways = ["1234341221434321", "2134341212434321"]
    assert [task.grade(problem, way).score for way in ways] == [1, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Puzzle,Answer\n", "puzzles.txt:1 holds 'Puzzle,Answer'; expected the heads"),
        (D1 + "3102200002100320\n", ":4 has 1 columns"),
        (D1 + "310220000210032,3142243142131324\n", ":4 holds '31_22____21__32', not 16 digits"),
        (D1 + "3102200002100325,3142243142131324\n", ":4 holds .* not 16 digits up to 4"),
        (D1 + "3102200002100320,3142243142131342\n", ":4 holds 3142243142131342, which does not"),
        (D1 + "4102200002100320,3142243142131324\n", ":4 holds .*, which does not solve 41"),
        (D1 + "3102200002100320,3102243142131324\n", ":4 holds '3102243142131324', not 16"),
        (DREAM + '{"input": "1003"}\n', ":2 has no field 'output'"),
        (DREAM + "{\n", ":2 is not JSON"),
        ("", "is empty"),
    ],
)
def test_a_wrong_file_of_puzzles_is_refused_with_the_line(tmp_path, text, said):
    with pytest.raises(SuiteError, match=said):
        Sudoku(path=written(tmp_path, text)).problems(9, 0)


def test_a_file_of_the_other_size_says_which_setting_helps(tmp_path):
    with pytest.raises(SuiteError, match="not 81 digits up to 9; the setting side"):
        Sudoku(9, path=written(tmp_path, D1)).problems(9, 0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"side": 6}, "4 or 9, got 6"),
        ({"blanks": 13}, "1 to 12 where side is 4, got 13"),
        ({"side": 9, "blanks": 0}, "1 to 54 where side is 9, got 0"),
        ({"shots": -1}, "at least 0, got -1"),
    ],
)
def test_impossible_sudoku_settings_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Sudoku(**settings)


def test_the_large_sudoku_keeps_its_side():
    assert made(TASKS["sudoku9"], "sudoku9", {"blanks": 20}) == Sudoku(9, 20)
    with pytest.raises(SuiteError, match="no setting 'side'"):
        made(TASKS["sudoku9"], "sudoku9:side=4", {"side": 4})
