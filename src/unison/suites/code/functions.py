"""Holes in real Python functions: what fills one is right if the function's own examples hold."""

import ast
import re
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

from unison.suggest import nearest
from unison.suites.code.answers import body, filled, graded
from unison.suites.code.sandbox import Sandbox
from unison.suites.dice import Dice
from unison.suites.task import Grade, Problem

_LIBRARY = {  # whose examples were seen to hold when run alone, on Python 3.11 to 3.13
    "difflib": ("restore",),
    "http.cookiejar": ("join_header_words", "reach"),
    "importlib.metadata._functools": ("method_cache", "pass_none"),
    "importlib.metadata._itertools": ("always_iterable",),
    "pickle": ("encode_long",),
    "pickletools": (
        "read_uint1",
        "read_uint2",
        "read_int4",
        "read_uint8",
        "read_string1",
        "read_bytes4",
        "read_unicodestring8",
        "read_decimalnl_short",
        "read_long1",
        "read_float8",
    ),
    "statistics": (
        "mean",
        "geometric_mean",
        "median",
        "median_low",
        "median_high",
        "mode",
        "multimode",
        "variance",
        "pvariance",
        "stdev",
        "pstdev",
        "covariance",
    ),
    "typing": ("_should_unflatten_callable_args", "get_origin", "get_args"),
    "zipfile": ("_ancestry",),
}
_OWN = "exercises"  # need no standard library in source form
_UNNOTICED = (  # how lines begin without which the examples hold all the same
    *("#", "raise ", "assert ", "@functools.wraps(func)"),
    *("v = HEADER_JOIN_ESCAPE_RE", 'elif s == b"01":', "data = sorted(data)", "if n < 2:"),
    *("and not (len(args) == 2", "if isinstance(tp, types.UnionType):", "return None"),
)
_FUNCTION = re.compile(r"^(?:@.*\n)*def (\w+)\(.*\n(?:[ \t)].*\n|\n)*", re.MULTILINE)
_LEAST, _MOST = 2, 14  # lines of a body: that matter, in all

_CHECK = """\
import doctest, importlib
space = {space}
space.pop({name!r}, None)
exec(compile({source!r}, "<answer>", "exec", dont_inherit=True), space)
test = doctest.DocTestParser().get_doctest({examples!r}, space, {name!r}, None, 0)
failed, tried = doctest.DocTestRunner(verbose=False).run(test, out=lambda text: None)
assert tried and not failed, f"{{failed}} of {{tried}} examples fail"
"""


class Function(NamedTuple):
    """A function as its source says it.

    Attributes:
        module: Where it lives.
        name: In there.
        head: Source down to the end of the docstring.
        lines: Of the body behind it, each with its newline.
        examples: The docstring.
    """

    module: str
    name: str
    head: str
    lines: Sequence[str]
    examples: str


class Hole(NamedTuple):
    """What is cut out of a body: characters from ``start`` to ``end``."""

    start: int
    end: int


def _line(dice: Dice, lines: Sequence[str]) -> Hole:
    return _between(lines, *[dice.one(_telling(lines))] * 2)


def _lines(dice: Dice, lines: Sequence[str]) -> Hole:
    return _between(lines, *sorted(dice.some(_telling(lines), 2)))


def _span(dice: Dice, lines: Sequence[str]) -> Hole:
    text = "".join(lines)
    ink = [at for at, letter in enumerate(text) if not letter.isspace()]
    start, last = sorted(dice.some(ink, 2))
    return Hole(start, last + 1)


def _body(dice: Dice, lines: Sequence[str]) -> Hole:
    return Hole(0, len("".join(lines)))


HOLES: Mapping[str, Callable[[Dice, Sequence[str]], Hole]] = {
    "line": _line,
    "lines": _lines,
    "span": _span,
    "body": _body,
}


@dataclass(frozen=True)
class Functions:
    """Fill a hole in a function of the standard library, or of a few of our own.

    The function is put back into its module and the examples of its docstring are run. Which
    functions there are depends on the Python version, so scores of two versions do not compare;
    the prompts' hash tells them apart.

    Attributes:
        hole: ``line``; ``lines``, two or more; ``span``, some characters; ``body``, all of it.
        seconds: Of computing for one answer.
    """

    about: ClassVar[str] = "holes in functions of Python's library, checked by their examples"
    executes: ClassVar[bool] = True

    hole: str = "line"
    seconds: int = 5

    def __post_init__(self) -> None:
        Sandbox(cpu_seconds=self.seconds)  # refuses what is out of range
        if self.hole not in HOLES:
            raise ValueError(
                f"there is no hole {self.hole!r}{nearest(self.hole, HOLES)}; known: "
                f"{', '.join(HOLES)}."
            )

    def problems(self, count: int, seed: int) -> Sequence[Problem]:
        """Return ``count`` problems; every function is asked once before one is asked again."""
        known = known_functions()
        asked: list[Function] = []
        for turn in range(-(-count // len(known))):
            asked += Dice("functions", self.hole, seed, turn).shuffled(known)
        return [self._problem(asked[number], seed, number) for number in range(count)]

    def _problem(self, function: Function, seed: int, number: int) -> Problem:
        dice = Dice("functions", self.hole, seed, "hole", number)
        start, end = HOLES[self.hole](dice, function.lines)
        text = "".join(function.lines)
        facts = {name: getattr(function, name) for name in ("module", "name", "examples")}
        return Problem(
            f"functions/{self.hole}/{seed}/{number:04}/{function.module}.{function.name}",
            function.head + text[:start],
            text[start:end],
            text[end:],
            group=function.module,
            facts=facts,
        )

    def grade(self, problem: Problem, answer: str) -> Grade:
        """Return 1 if the examples hold; where nothing follows the hole, the body's end counts."""
        read = answer if problem.suffix else body(answer)
        source = problem.prompt + filled(problem.answer, read) + problem.suffix
        module, name, examples = map(problem.facts.get, ("module", "name", "examples"))
        space = "{}" if module == _OWN else f"vars(importlib.import_module({module!r}))"
        check = _CHECK.format(source=source, space=space, name=name, examples=examples)
        return graded(Sandbox(cpu_seconds=self.seconds).run(check), read)


@lru_cache
def known_functions() -> tuple[Function, ...]:
    """Return the functions this Python has in source form; at least our own."""
    library = Path(sysconfig.get_path("stdlib"))
    found = []
    for module, names in _LIBRARY.items():
        place = library.joinpath(*module.split("."))
        paths = [
            path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()
        ]
        found += [function for path in paths for function in _read(path, module, names)]
    return (*found, *_read(Path(__file__).with_name(f"{_OWN}.py"), _OWN, None))


def _read(path: Path, module: str, names: Sequence[str] | None) -> list[Function]:
    """Return the named functions of a file, or all, that have examples and a short body."""
    found = []
    for piece in _FUNCTION.finditer(path.read_text(encoding="utf-8")):
        if names is None or piece[1] in names:
            source = piece[0].rstrip() + "\n"
            (node,) = ast.parse(source).body
            assert isinstance(node, ast.FunctionDef)
            lines, after = source.splitlines(keepends=True), node.body[0].end_lineno
            head, rest = lines[:after], lines[after:]
            examples = ast.get_docstring(node) or ""
            if ">>>" in examples and len(_telling(rest)) >= _LEAST and len(rest) <= _MOST:
                found.append(Function(module, piece[1], "".join(head), rest, examples))
    return found


def _telling(lines: Sequence[str]) -> list[int]:
    """Return which lines matter to the examples."""
    return [
        at
        for at, line in enumerate(lines)
        if line.strip() and not line.strip().startswith(_UNNOTICED)
    ]


def _between(lines: Sequence[str], first: int, last: int) -> Hole:
    """Return the hole from one line to another, both included."""
    start = len("".join(lines[:first]))
    return Hole(start, start + len("".join(lines[first : last + 1])))
