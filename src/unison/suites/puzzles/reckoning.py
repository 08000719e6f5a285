"""What does a written calculation use, and what comes out? Exactly, without running the text."""

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import permutations
from typing import NamedTuple

from unison.suites.dice import Dice

_OPERATIONS: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_SPOKEN = str.maketrans({"\u00d7": "*", "\u00f7": "/", "\u2212": "-"})
_READABLE = re.compile(r"[0-9+\-*/()=, ]+")
_LONGEST = 200  # characters; deeper nesting than fits here could exhaust the parser


class ReckoningError(ValueError):
    """A calculation that cannot be read, is wrong, or uses what it may not."""


class Outcome(NamedTuple):
    """What a calculation came to.

    Attributes:
        value: The last result.
        left: How many numbers, intermediate results included, were not used.
    """

    value: Fraction
    left: int


def outcome(text: str, numbers: Sequence[int]) -> Outcome:
    """Work out a calculation: one expression, or steps such as ``44-15=29,79-29=50``.

    Every step may use each number and each earlier result once.

    Raises:
        ReckoningError: As it says.
    """
    text = text.translate(_SPOKEN)
    if len(text) > _LONGEST or not _READABLE.fullmatch(text):
        raise ReckoningError("not a calculation")
    left = Counter(map(Fraction, numbers))
    value = Fraction(0)
    for step in text.split(","):
        value = _stepped(step, left)
        left[value] += 1
    return Outcome(value, left.total() - 1)


def _stepped(step: str, left: Counter[Fraction]) -> Fraction:
    expression, equals, result = step.partition("=")
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body, left)
        stated = Fraction(result.strip()) if equals else value
    except ZeroDivisionError:
        raise ReckoningError(f"{step.strip()} divides by 0") from None
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        why = str(error) if isinstance(error, ReckoningError) else "not a calculation"
        raise ReckoningError(why) from None
    if stated != value:
        raise ReckoningError(f"{expression.strip()} is {value}, not {stated}")
    return value


def _value(node: ast.expr, left: Counter[Fraction]) -> Fraction:
    """Return what an expression is worth; take its numbers away from those left."""
    match node:
        case ast.BinOp(op=op) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)](_value(node.left, left), _value(node.right, left))
        case ast.Constant(value=int(number)):
            taken = Fraction(number)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(number))):
            taken = Fraction(-number)
        case _:
            raise ReckoningError("not a calculation")
    if not left[taken]:
        raise ReckoningError(f"{taken} is not there, or used up")
    left[taken] -= 1
    return taken


def steps_to(numbers: Sequence[int], target: int) -> str:
    """Return steps from all the numbers to the target, all results whole and not below 0.

    Returns:
        Such as ``44-15=29,79-29=50``; empty where no such steps lead there.
    """
    return ",".join(next(_ways(list(numbers), target), []))


def _ways(numbers: list[int], target: int) -> Iterator[list[str]]:
    if numbers == [target]:
        yield []
    for first, second in permutations(range(len(numbers)), 2):
        rest = [n for at, n in enumerate(numbers) if at not in (first, second)]
        for sign, result in _results(numbers[first], numbers[second]):
            step = f"{numbers[first]}{sign}{numbers[second]}={result}"
            yield from ([step, *way] for way in _ways([*rest, result], target))


def random_steps(dice: Dice, numbers: Sequence[int]) -> tuple[str, int]:
    """Return random steps that use all the numbers, and where they lead."""
    left, steps = list(numbers), []
    while len(left) > 1:
        a, b = dice.some(left, 2)
        sign, result = dice.one(_results(a, b))
        left.remove(a)
        left.remove(b)
        left.append(result)
        steps.append(f"{a}{sign}{b}={result}")
    return ",".join(steps), left[0]


def _results(a: int, b: int) -> list[tuple[str, int]]:
    """Return every sign between two numbers whose result is whole and not below 0."""
    results = [("+", a + b), ("*", a * b)]
    if a >= b:
        results.append(("-", a - b))
    if b and a % b == 0:
        results.append(("/", a // b))
    return results
