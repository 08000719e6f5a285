r"""Do two mathematical answers say the same? Spelling is evened out, then values are compared.

Values are compared without any algebra system: both answers are read as expressions and evaluated
at three points, exactly where all is rational, else to 1e-9. So ``\frac12`` is ``0.5``,
``(x+1)^2`` is ``x^2+2x+1`` and ``3\sqrt{13}`` is ``\sqrt{117}``. What cannot be read as an
expression (words, functions, matrices) must be spelt alike. Nothing is ever executed, and the work
is bounded whatever the text.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from math import isqrt
from typing import NamedTuple

from unison.suites.dice import Dice

Number = Fraction | complex

_LONGEST = 200  # characters of an answer that is evaluated
_READ = 2000  # characters of one whose spelling is evened out
_DEEPEST = 20  # brackets in brackets
_LARGEST = 20_000  # bits of an exact power
_CLOSE = 1e-9
_POINTS = 3

_GREEK = r"\\(?:pi|infty|alpha|beta|gamma|delta|theta|lambda|mu|sigma|phi|omega)"
_SPELLINGS: Sequence[tuple[str, str]] = (
    (r"\\\\(?:\[[^\]]*\])?", ";"),  # rows of a matrix
    (r"\\[!,;: ]|\\q?quad(?![a-zA-Z])|~", " "),
    (r"\\(?:left|right|big|Big|bigg|Bigg|displaystyle)(?![a-zA-Z])", ""),
    (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    (r"\^?\{?\\(?:circ|degree)(?![a-zA-Z])\}?|\u00b0", ""),
    (r"\\[()\[\]]|\\?[$%]", ""),
    (r"\u2212", "-"),
    (r"\u03c0", r"\\pi"),
    (r"\\(?:cdot|times)(?![a-zA-Z])", "*"),
    (r"\\div(?![a-zA-Z])", "/"),
    (rf"({_GREEK})\s+(?=[a-zA-Z])", r"\1*"),
)
_WORDS = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_UNIT = re.compile(rf"(?<=\S)\s*{_WORDS.pattern}(?:\^\{{?[0-9]\}}?)?$")
_NAMED = re.compile(r"^[a-zA-Z](?:\([a-zA-Z]\))?(?:=|\\in(?![a-zA-Z]))(?=[^=]+$)")
_GROUPS = re.compile(r"^-?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?$")
_MIXED = re.compile(r"(?<![\w.^}\\])([0-9]+)\\frac([0-9]|\{[0-9]+\})([0-9]|\{[0-9]+\})")
_TOKEN = re.compile(r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+|\\[a-zA-Z]+|[a-zA-Z]|[-+*/^(){}\[\]]")
_MATRIX = re.compile(r"\\begin\{[pb]matrix\}([^\\]*(?:\\[a-df-z][^\\]*)*)\\end\{[pb]matrix\}$")
_SYMBOL = re.compile(rf"[a-zA-Z]$|{_GREEK}$")


class Spelt(NamedTuple):
    """An answer in one spelling.

    Attributes:
        body: Without blanks, a name before it (``x=``) and a unit behind it.
        unit: Words behind it.
    """

    body: str
    unit: str


def same(one: str, other: str) -> bool:
    """Return whether two answers say the same; a unit may be left out, but not be another."""
    left, right = spelt(one), spelt(other)
    if left.unit and right.unit and left.unit != right.unit:
        return False
    return _same(left.body, right.body)


def spelt(text: str) -> Spelt:
    """Return an answer in one spelling."""
    if len(text) > _READ:
        return Spelt("".join(text.split()), "")
    for pattern, new in _SPELLINGS:
        text = re.sub(pattern, new, text)
    text = text.strip().rstrip(".,").strip()
    ending = _UNIT.search(text)
    unit = "".join(ending[1].split()) if ending else ""
    text = _WORDS.sub(r"\1", text[: ending.start()] if ending else text)
    text = _NAMED.sub("", "".join(text.split()))
    text = re.sub(r"([_^])\{(\w)\}", r"\1\2", text)
    text = re.sub(r"^\(([A-Z])\)$", r"\1", text)  # the letter of a choice
    text = text.replace(",", "") if _GROUPS.match(text) else text
    return Spelt(_MIXED.sub(r"(\1+\\frac\2\3)", text), unit)


def _same(one: str, other: str) -> bool:
    if one == other:
        return bool(one)
    if max(len(one), len(other)) > _LONGEST:
        return False
    for taken_apart in (_matrix, _union, _set, _tuple, _list):
        left, right = taken_apart(one), taken_apart(other)
        if left and right:
            return left[0] == right[0] and _match(left[1:], right[1:], ordered=bool(left[0]))
        if left or right:
            return False
    return _same_value(one, other)


def _match(one: Sequence[str], other: Sequence[str], *, ordered: bool) -> bool:
    if len(one) != len(other):
        return False
    if ordered:
        return all(map(_same, one, other))
    left = list(other)
    for part in one:
        at = next((i for i, candidate in enumerate(left) if _same(part, candidate)), None)
        if at is None:
            return False
        del left[at]
    return True


# Each of these returns nothing unless the answer is of its form; else its kind, empty where order
# does not matter, and the parts.


def _matrix(text: str) -> list[str]:
    inside = _MATRIX.match(text)
    if inside is None:
        return []
    shape = re.sub(r"[^;&]", "", inside[1])
    return [f"matrix{shape}", *re.split(r"[;&]", inside[1])]


def _union(text: str) -> list[str]:
    parts = text.split("\\cup")
    return ["", *parts] if len(parts) > 1 and all(parts) else []


def _set(text: str) -> list[str]:
    inside = text.startswith("\\{") and text.endswith("\\}")
    return ["", *_signed(_parts(text[2:-2]))] if inside else []


def _tuple(text: str) -> list[str]:
    if not (text[:1] in {"(", "["} and text[-1:] in {")", "]"}):
        return []
    parts = _parts(text[1:-1])
    return [text[0] + text[-1], *parts] if len(parts) > 1 else []


def _list(text: str) -> list[str]:
    parts = _signed(_parts(text))
    return ["", *parts] if len(parts) > 1 else []


def _signed(parts: Sequence[str]) -> list[str]:
    r"""Return the parts with two in place of each that holds ``\pm``."""
    return [
        part.replace("\\pm", sign) for part in parts for sign in ("+-" if "\\pm" in part else ("",))
    ]


def _parts(text: str) -> list[str]:
    """Return what stands between commas outside brackets; all of it where brackets do not match."""
    depth, parts = 0, [""]
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if depth < 0:
            return [text]
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts if depth == 0 else [text]


def _same_value(one: str, other: str) -> bool:
    try:
        return all(_near(_value(one, point), _value(other, point)) for point in range(_POINTS))
    except (ValueError, ArithmeticError):
        return False


def _near(one: Number, other: Number) -> bool:
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one == other
    left, right = complex(one), complex(other)
    return abs(left - right) <= _CLOSE * max(abs(left), abs(right))


def _value(text: str, point: int) -> Number:
    """Return the value of an expression where every letter is a number of its own.

    Raises:
        ValueError: The text is no expression.
        ArithmeticError: It has no value, or too large a one.
    """
    tokens, at = [], 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise ValueError(f"{text[at]!r} is no part of an expression")
        tokens.append(token[0])
        at = token.end()
    reader = _Reader(tokens, point)
    value = reader.sum(0)
    reader.expect("")
    return value


class _Reader:
    """Reads tokens from the left: sums of products of powers of atoms."""

    def __init__(self, tokens: list[str], point: int) -> None:
        self._left = tokens[::-1]
        self._point = point

    def expect(self, token: str) -> None:
        if self._next() != token:
            raise ValueError(f"expected {token or 'the end'}")
        if token:
            self._left.pop()

    def sum(self, depth: int) -> Number:
        if depth > _DEEPEST:
            raise ValueError("brackets too deep")
        total = self._product(depth)
        while self._next() in ("+", "-"):
            sign = 1 if self._left.pop() == "+" else -1
            total = total + sign * self._product(depth)
        return total

    def _product(self, depth: int) -> Number:
        value = self._power(depth)
        while self._next() in ("*", "/") or self._next() not in _ENDS:
            if self._next() not in ("*", "/") or self._left.pop() == "*":
                value = value * self._power(depth)
            else:
                value = value / self._power(depth)
        return value

    def _power(self, depth: int) -> Number:
        sign = 1
        while self._next() in ("+", "-"):
            sign = -sign if self._left.pop() == "-" else sign
        base = self._atom(depth)
        if self._next() == "^":
            self._left.pop()
            base = _raised(base, self._argument(depth))
        return sign * base

    def _atom(self, depth: int) -> Number:
        token = self._left.pop() if self._left else ""
        if token in _CLOSING:
            value = self.sum(depth + 1)
            self.expect(_CLOSING[token])
            return value
        if token == "\\frac":
            return self._argument(depth) / self._argument(depth)
        if token == "\\sqrt":
            return self._root(depth)
        if _SYMBOL.match(token):
            return Fraction(Dice("latex", token, self._point).between(10_000, 99_999), 9973)
        if token and token[0] in "0123456789.":
            return Fraction(token)
        raise ValueError(f"{token or 'the end'} is no number")

    def _argument(self, depth: int) -> Number:
        r"""Return what a command is applied to: a group, or one sign, as in ``\frac12``."""
        token = self._next()
        if token[:1].isdigit() and len(token) > 1:
            self._left[-1:] = [token[1:], token[0]]
        return self._atom(depth + 1)

    def _root(self, depth: int) -> Number:
        if depth > _DEEPEST:
            raise ValueError("roots too deep")
        if self._next() != "[":
            return _raised(self._argument(depth), Fraction(1, 2))
        self._left.pop()
        degree = self.sum(depth + 1)
        self.expect("]")
        return _raised(self._argument(depth), 1 / degree)

    def _next(self) -> str:
        return self._left[-1] if self._left else ""


_CLOSING = {"(": ")", "{": "}", "[": "]"}
_ENDS = ("", "+", "-", "^", *_CLOSING.values())


def _raised(base: Number, exponent: Number) -> Number:
    """Return a power, exactly where it is rational."""
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if exponent.denominator == 1:
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if bits * abs(exponent) > _LARGEST:
                raise OverflowError("too large a power")
            return base ** int(exponent)
        if exponent == Fraction(1, 2) and base >= 0:
            above, below = isqrt(base.numerator), isqrt(base.denominator)
            if Fraction(above * above, below * below) == base:
                return Fraction(above, below)
    return complex(base) ** complex(exponent)
