"""Which texts are numbers between bounds and multiples of a step? Digit by digit, exactly."""

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor, gcd, lcm

from unison.constrain.language import EMPTY, NOTHING, Alt, Chars, Expr, Repeat, Seq, Text
from unison.constrain.sources.json_schema.branches import Branch
from unison.constrain.sources.json_schema.regular import alt, both, empty, minus, repeat, seq

PRECISE = 15  # decimal digits that a double tells apart (IEEE 754): a bound is met after rounding
LISTED = 2000  # multiples written out where their digits follow no simple rule
DIGIT = Chars(((0x30, 0x39),))
NONZERO = Chars(((0x31, 0x39),))
MINUS = Text("-")
ZEROS = Repeat(Text("0"))
NATURAL = Alt((Text("0"), Seq((NONZERO, Repeat(DIGIT)))))
POINT = Text(".")
EXPONENT = Seq(
    (
        Chars(((0x45, 0x45), (0x65, 0x65))),
        Alt((EMPTY, Chars(((0x2B, 0x2B), (0x2D, 0x2D))))),
        Repeat(DIGIT, 1, 2),
    )
)
FRACTION = Seq((POINT, Repeat(DIGIT, 1)))
ANY_NUMBER = Seq((Alt((EMPTY, MINUS)), NATURAL, Alt((EMPTY, FRACTION)), Alt((EMPTY, EXPONENT))))
ANY_INTEGER = Alt((Text("0"), Seq((Alt((EMPTY, MINUS)), NONZERO, Repeat(DIGIT)))))

Bound = tuple[Fraction, bool]  # the number, and whether it is itself left out


@dataclass(frozen=True)
class Numbers:
    """Conditions on a number, put together.

    Attributes:
        low: Lower bound.
        high: Upper bound.
        whole: ``True`` for integers alone, ``False`` for numbers that are none, ``None`` for all.
        step: What it is a multiple of.
        not_steps: What it is no multiple of.
        excluded: What it is not.
    """

    low: Bound | None = None
    high: Bound | None = None
    whole: bool | None = None
    step: Fraction | None = None
    not_steps: tuple[Fraction, ...] = ()
    excluded: frozenset[Fraction] = field(default_factory=frozenset)


def numbers(branch: Branch) -> Numbers | None:
    """Return the conditions of an alternative; ``None`` if they contradict each other plainly."""
    lows = [atom.value for atom in branch if atom.name == "low"]
    highs = [atom.value for atom in branch if atom.name == "high"]
    steps = [atom.value for atom in branch if atom.name == "multipleOf"]
    kinds = {atom.name for atom in branch} & {"integer", "fraction"}
    if len(kinds) == 2:
        return None
    return Numbers(
        low=max(lows, default=None),
        high=min(highs, key=lambda bound: (bound[0], not bound[1]), default=None),
        whole=("integer" in kinds) if kinds else None,
        step=_common_multiple(steps),
        not_steps=tuple(a.value.value for a in branch if a.name == "not"),
        excluded=frozenset(Fraction(v) for a in branch if a.name == "exclude" for v in a.value),
    )


def _common_multiple(steps: list[Fraction]) -> Fraction | None:
    if not steps:
        return None
    below = lcm(*(s.denominator for s in steps))
    return Fraction(lcm(*(int(s * below) for s in steps)), below)


def number(branch: Branch) -> Expr:
    """Return the JSON numbers of an alternative; nothing if there are none.

    Bounded numbers have no exponent and so few decimals that a reader who rounds to doubles stays
    within the bounds. Multiples of a step such as 7, whose digits follow no simple rule, are
    written up to the two thousandth.
    """
    said = numbers(branch)
    if said is None:
        return NOTHING
    found = _whole(said) if _integral(said) else _decimal(said)
    for step in said.not_steps:
        found = minus(found, _decimals_of(step) or found)
    found = minus(found, alt(*map(_spellings, sorted(said.excluded))))
    return NOTHING if empty(found) else found


def _integral(said: Numbers) -> bool:
    whole_step = said.step is not None and said.step.denominator == 1
    return said.whole is True or whole_step


def _whole(said: Numbers) -> Expr:
    if said.whole is False:
        return NOTHING
    low, high = _integers(said.low, 1), _integers(said.high, -1)
    step = said.step
    if step is not None and step.denominator != 1:  # an integer multiple of 2.5 is one of 5
        step = Fraction(step.numerator)
    if step is None or step == 1:
        return _between(low, high)
    rule = _endings(int(step))
    if rule is None:
        return _listed(step, said.low, said.high)
    return both(_between(low, high), rule)


def _integers(bound: Bound | None, inwards: int) -> int | None:
    """Return the first integer within a bound."""
    if bound is None:
        return None
    value, is_open = bound
    first = ceil(value) if inwards > 0 else floor(value)
    return first + inwards if is_open and first == value else first


def _between(low: int | None, high: int | None) -> Expr:
    """Return the integers from one to another."""
    if low is None and high is None:
        return ANY_INTEGER
    options = []
    if high is None or high >= 0:
        options.append(naturals(max(low or 0, 0), high))
    if low is None or low < 0:
        least = 1 if high is None or high >= 0 else -high
        options.append(seq(MINUS, naturals(least, None if low is None else -low)))
    return alt(*options)


def naturals(low: int, high: int | None) -> Expr:
    """Return the natural numbers from one to another, without leading zeros."""
    if high is None:
        longer = seq(NONZERO, repeat(DIGIT, len(str(low))))
        return alt(naturals(low, 10 ** len(str(low)) - 1), longer)
    options = []
    for size in range(len(str(low)), len(str(high)) + 1):
        first = max(low, 10 ** (size - 1) if size > 1 else 0)
        last = min(high, 10**size - 1)
        if first <= last:
            options.append(_span(str(first), str(last)))
    return alt(*options)


def _span(low: str, high: str) -> Expr:
    """Return the digits from one text to another of the same length."""
    size = len(low)
    if low == high:
        return Text(low)
    if set(low[1:]) <= {"0"} and set(high[1:]) <= {"9"}:
        return seq(_digits(low[0], high[0]), repeat(DIGIT, size - 1, size - 1))
    if low[0] == high[0]:
        return seq(Text(low[0]), _span(low[1:], high[1:]))
    rest = size - 1
    options = [seq(Text(low[0]), _span(low[1:], "9" * rest))]
    if ord(high[0]) - ord(low[0]) > 1:
        inner = _digits(chr(ord(low[0]) + 1), chr(ord(high[0]) - 1))
        options.append(seq(inner, repeat(DIGIT, rest, rest)))
    return alt(*options, seq(Text(high[0]), _span("0" * rest, high[1:])))


def _digits(first: str, last: str) -> Expr:
    return Text(first) if first == last else Chars(((ord(first), ord(last)),))


def _endings(step: int) -> Expr | None:
    """Return the integers that are multiples of a step, if their last digits tell.

    They do for divisors of a power of ten; three has a rule of its own, and the two combine.
    """
    rest, size = step, 0
    while (common := gcd(rest, 10)) > 1:
        rest, size = rest // common, size + 1
    if rest not in (1, 3) or 10**size // (step // rest) > LISTED:
        return None
    divisor = step // rest
    last = [str(value).zfill(size) for value in range(0, 10**size, divisor)]
    tail = alt(*(Text(text) for text in last)) if size else EMPTY
    short = alt(*(Text(str(value)) for value in range(0, 10**size, divisor)))
    found = seq(Alt((EMPTY, MINUS)), alt(short, seq(NONZERO, Repeat(DIGIT), tail)))
    return found if rest == 1 else both(found, _threes()) if size else _threes()


def _threes() -> Expr:
    """Return digits divisible by three: automaton of remainders, 2 and then 1 eliminated."""
    none, one, two = (Chars(tuple((0x30 + d, 0x30 + d) for d in range(r, 10, 3))) for r in range(3))
    stay = Repeat(none)
    home = seq(Repeat(alt(none, seq(one, stay, two))), alt(two, seq(one, stay, one)))  # from 1 to 0
    cycle = alt(none, seq(one, home), seq(two, stay, alt(one, seq(two, home))))
    return seq(Alt((EMPTY, MINUS)), Repeat(cycle, 1))


def _listed(step: Fraction, low: Bound | None, high: Bound | None) -> Expr:
    """Return multiples of a step within bounds, those nearest to zero first."""
    first = None if low is None else _integers((low[0] / step, low[1]), 1)
    last = None if high is None else _integers((high[0] / step, high[1]), -1)
    start = 0 if first is None else first
    stop = start + LISTED if last is None else last
    if first is None:
        start = min(0, stop) - LISTED
    if stop - start > 2 * LISTED:
        middle = max(start, min(0, stop))
        start, stop = max(start, middle - LISTED), min(stop, middle + LISTED)
    return alt(*(Text(decimal(step * factor)) for factor in range(start, stop + 1)))


def decimal(value: Fraction) -> str:
    """Return a number whose decimals end, as digits without an exponent."""
    size = 0
    while (value * 10**size).denominator != 1:
        size += 1
    digits = str(abs(int(value * 10**size))).zfill(size + 1)
    sign = "-" if value < 0 else ""
    return sign + (f"{digits[:-size]}.{digits[-size:]}" if size else digits)


def _spellings(value: Fraction) -> Expr:
    """Return the ways to write one number without an exponent."""
    text = decimal(value)
    zeros = seq(POINT, Text("0"), ZEROS)
    tail = ZEROS if "." in text else alt(EMPTY, zeros)
    return seq(alt(EMPTY, MINUS) if value == 0 else EMPTY, Text(text), tail)


def _decimal(said: Numbers) -> Expr:
    plain = said.low is None and said.high is None and said.step is None
    if plain and said.whole is None and not said.excluded and not said.not_steps:
        return ANY_NUMBER
    size = _decimals(said)
    found = _in_range(said.low, said.high, size)
    if said.step is not None:
        rule = _decimals_of(said.step)
        found = _listed(said.step, said.low, said.high) if rule is None else both(found, rule)
    if said.whole is False:
        broken = seq(POINT, Repeat(DIGIT), NONZERO, Repeat(DIGIT))
        found = both(found, seq(alt(EMPTY, MINUS), NATURAL, broken))
    return found


def _decimals(said: Numbers) -> int:
    """Return how many decimals may be written."""
    texts = [decimal(bound[0]).lstrip("-") for bound in (said.low, said.high) if bound]
    parts = [text.partition(".") for text in texts]
    before = max((len(whole) for whole, _, _ in parts), default=1)
    after = max((len(rest) for _, _, rest in parts), default=0)
    return max(after, PRECISE - before, 1)


def _in_range(low: Bound | None, high: Bound | None, size: int) -> Expr:
    zero = (Fraction(0), False)
    options = []
    if high is None or high[0] >= 0:
        options.append(_magnitudes(max(low or zero, zero), high, size))
    if low is None or low[0] < 0:
        least = (Fraction(0), True) if high is None or high[0] >= 0 else (-high[0], high[1])
        most = None if low is None else (-low[0], low[1])
        options.append(seq(MINUS, _magnitudes(least, most, size)))
    return alt(*options)


def _magnitudes(low: Bound, high: Bound | None, size: int) -> Expr:
    """Return the decimals from a bound of at least 0 up to another."""
    if high is not None and (low[0] > high[0] or (low[0] == high[0] and (low[1] or high[1]))):
        return NOTHING
    whole, rest = _parts(low[0])
    above = alt(
        seq(naturals(whole + 1, None), _fraction(size)),
        seq(Text(str(whole)), _optional(_at_least(rest, low[1], size))),
    )
    if high is None:
        return above
    whole, rest = _parts(high[0])
    under = seq(naturals(0, whole - 1), _fraction(size)) if whole else NOTHING
    upper = alt(under, seq(Text(str(whole)), _optional(_at_most(rest, high[1], size))))
    return both(above, upper)


def _parts(value: Fraction) -> tuple[int, str]:
    whole, _, rest = decimal(value).partition(".")
    return int(whole), rest.rstrip("0")


def _fraction(size: int) -> Expr:
    return alt(EMPTY, seq(POINT, repeat(DIGIT, 1, size)))


def _optional(decimals: tuple[bool, Expr]) -> Expr:
    """Return decimals behind a point; the point falls away with them."""
    without, digits = decimals
    return alt(EMPTY if without else NOTHING, seq(POINT, digits))


def _at_least(rest: str, is_open: bool, size: int) -> tuple[bool, Expr]:
    """Return whether no decimals will do, and which decimals do, to be at least 0.rest."""
    if not rest:
        digits = _some_nonzero(size) if is_open else repeat(DIGIT, 1, size)
        return not is_open, digits
    without, digits = _at_least(rest[1:], is_open, size - 1)
    same = seq(Text(rest[0]), alt(EMPTY if without else NOTHING, digits))
    if rest[0] == "9":
        return False, same
    more = seq(_digits(chr(ord(rest[0]) + 1), "9"), repeat(DIGIT, 0, size - 1))
    return False, alt(same, more)


def _at_most(rest: str, is_open: bool, size: int) -> tuple[bool, Expr]:
    """Return whether no decimals will do, and which decimals do, to be at most 0.rest."""
    if not rest:
        return not is_open, NOTHING if is_open else repeat(Text("0"), 1, size)
    without, digits = _at_most(rest[1:], is_open, size - 1)
    same = seq(Text(rest[0]), alt(EMPTY if without else NOTHING, digits))
    if rest[0] == "0":
        return True, same
    less = seq(_digits("0", chr(ord(rest[0]) - 1)), repeat(DIGIT, 0, size - 1))
    return True, alt(same, less)


def _some_nonzero(size: int) -> Expr:
    if size < 1:
        return NOTHING
    return alt(seq(NONZERO, repeat(DIGIT, 0, size - 1)), seq(Text("0"), _some_nonzero(size - 1)))


def _decimals_of(step: Fraction) -> Expr | None:
    """Return the decimals that are multiples of a step that divides a power of ten's inverse."""
    size = 0
    while (step * 10**size).denominator != 1:
        size += 1
    factor = int(step * 10**size)
    if step.denominator == 1:
        rule = _endings(int(step))
        return None if rule is None else seq(rule, alt(EMPTY, seq(POINT, Text("0"), ZEROS)))
    if 10**size % factor or 10**size // factor > LISTED:
        return None
    ends = {str(value).zfill(size).rstrip("0") for value in range(0, 10**size, factor)} - {""}
    tails = [repeat(Text("0"), 1)] + [seq(Text(end), ZEROS) for end in sorted(ends)]
    return seq(alt(EMPTY, MINUS), NATURAL, alt(EMPTY, seq(POINT, alt(*tails))))
