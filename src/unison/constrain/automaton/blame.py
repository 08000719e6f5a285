"""Which part allows no text? The innermost one that does not, put into words."""

from collections.abc import Callable, Mapping

from unison.constrain.language import Alt, Both, Chars, Expr, Minus, Ref, Repeat, Seq, Text

WIDTH = 60  # of an expression in a message


IsEmpty = Callable[[Expr], bool]


def blame(expr: Expr, rules: Mapping[str, Expr], is_empty: IsEmpty) -> str:
    """Say which innermost part of an empty language is empty, and why.

    Args:
        expr: The language.
        rules: What references in it stand for.
        is_empty: Whether a part holds no text.
    """
    where: list[str] = []
    while True:
        inner = _inner(expr, rules, is_empty)
        if inner is None:
            place = f"in rule {where[-1]!r}, " if where else ""
            return place + _reason(expr)
        if isinstance(expr, Ref):
            where.append(expr.name)
        expr = inner


def _inner(expr: Expr, rules: Mapping[str, Expr], is_empty: IsEmpty) -> Expr | None:
    """Return a part that is empty and makes the whole empty; ``None`` if the whole is to blame."""
    match expr:
        case Ref(name):
            return rules[name]
        case Repeat(item, least, _) if least > 0:
            return item
        case Seq(parts) | Alt(parts):
            return next((part for part in parts if is_empty(part)), None)
        case Both(left, right):
            return next((side for side in (left, right) if is_empty(side)), None)
        case Minus(left, _):
            return left if is_empty(left) else None
    return None


def _reason(expr: Expr) -> str:
    match expr:
        case Both(left, right):
            return f"no text is both {show(left)} and {show(right)}"
        case Minus(left, right):
            return f"every text of {show(left)} is excluded by {show(right)}"
        case Chars(()):
            return "a set of characters is empty"
        case Chars():
            return "a set of characters holds nothing but surrogates, which are no characters"
        case Alt(()):
            return "a choice has no options"
    return f"{show(expr)} holds no text"


def show(expr: Expr) -> str:
    """Return an expression as people write patterns, shortened."""
    pieces, length = [], 0
    stack: list[Expr | str] = [expr]
    while stack and length <= WIDTH:
        top = stack.pop()
        if isinstance(top, str):
            pieces.append(top)
            length += len(top)
        else:
            stack += reversed(_pieces(top))
    text = "".join(pieces)
    return text if len(text) <= WIDTH and not stack else text[:WIDTH] + "..."


def _pieces(expr: Expr) -> list["Expr | str"]:
    match expr:
        case Text(text):
            return [repr(text)]
        case Chars(ranges):
            return ["[", *(_range(first, last) for first, last in ranges[:WIDTH]), "]"]
        case Seq(parts):
            return _joined(parts, " ")
        case Alt(options):
            return ["(", *_joined(options, " | "), ")"]
        case Repeat(item, least, most):
            return [item, _count(least, most)]
        case Ref(name):
            return [name]
        case Both(left, right) | Minus(left, right):
            return ["(", left, " & " if isinstance(expr, Both) else " - ", right, ")"]


def _joined(parts: tuple[Expr, ...], between: str) -> list["Expr | str"]:
    return [piece for part in parts[:WIDTH] for piece in (between, part)][1:]


def _range(first: int, last: int) -> str:
    return _char(first) if first == last else f"{_char(first)}-{_char(last)}"


def _char(code: int) -> str:
    char = chr(code)
    return char if char.isprintable() and char not in "[]-\\" else f"\\u{code:04x}"


def _count(least: int, most: int | None) -> str:
    names = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    return names.get((least, most), f"{{{least},{'' if most is None else most}}}")
