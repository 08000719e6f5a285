"""Does any text fit, and does this one? Derivatives of regular expressions over characters.

Brzozowski, 1964, doi:10.1145/321239.321249: the derivative of a language by a character holds the
rests of its texts that begin with it. Both and Minus need no construction of their own.
"""

from collections.abc import Callable

from unison.constrain.language import (
    EMPTY,
    LAST_CODE,
    NOTHING,
    Alt,
    Both,
    Chars,
    Expr,
    Minus,
    Repeat,
    Seq,
    Text,
)

BUDGET = 4000  # derivatives looked at before a language counts as inhabited


def seq(*parts: Expr) -> Expr:
    """Return one after the other, without nesting, empty texts and impossible parts."""
    flat: list[Expr] = []
    for part in parts:
        inner = part.parts if isinstance(part, Seq) else (part,)
        for piece in inner:
            if piece == NOTHING:
                return NOTHING
            if isinstance(piece, Text) and flat and isinstance(flat[-1], Text):
                flat[-1] = Text(flat[-1].text + piece.text)
            elif piece != EMPTY:
                flat.append(piece)
    if not flat:
        return EMPTY
    return flat[0] if len(flat) == 1 else Seq(tuple(flat))


def alt(*options: Expr) -> Expr:
    """Return one of several, each once, without nesting and impossible options."""
    flat: dict[Expr, None] = {}
    for option in options:
        inner = option.options if isinstance(option, Alt) else (option,)
        flat.update(dict.fromkeys(piece for piece in inner if piece != Chars(())))
    kept = tuple(flat)
    return kept[0] if len(kept) == 1 else Alt(kept)


def both(left: Expr, right: Expr) -> Expr:
    """Return the texts of both."""
    if NOTHING in (left, right):
        return NOTHING
    return left if left == right else Both(left, right)


def minus(left: Expr, right: Expr) -> Expr:
    """Return the texts of the left alone."""
    if left in (NOTHING, right):
        return NOTHING
    return left if right == NOTHING else Minus(left, right)


def repeat(item: Expr, least: int = 0, most: int | None = None) -> Expr:
    """Return some number of times; nothing where the numbers contradict each other."""
    if most is not None and most < least:
        return NOTHING
    if most == 0 or item == EMPTY:
        return EMPTY
    if item == NOTHING:
        return EMPTY if least == 0 else NOTHING
    return item if least == 1 and most == 1 else Repeat(item, least, most)


def span(expr: Expr) -> tuple[int, int | None]:
    """Return bounds on the lengths of an expression's texts, ``None`` for no upper one."""
    match expr:
        case Text(text):
            return len(text), len(text)
        case Seq(parts) | Alt(parts):
            return _span_of_several(parts, sum if isinstance(expr, Seq) else None)
        case Repeat(item, least, most):
            shortest, longest = span(item)
            endless = longest != 0 and (longest is None or most is None)
            return shortest * least, None if endless else (longest or 0) * (most or 0)
        case Both(left, right):
            (low, high), (other_low, other_high) = span(left), span(right)
            bounds = [bound for bound in (high, other_high) if bound is not None]
            return max(low, other_low), min(bounds, default=None)
        case Minus(left, _):
            return span(left)
        case _:
            return 1, 1


def _span_of_several(
    parts: tuple[Expr, ...], join: Callable[[list[int]], int] | None
) -> tuple[int, int | None]:
    """Return the lengths of a sequence, which adds, or of a choice without a way to join."""
    spans = list(map(span, parts)) or [(0, 0)]
    bounded = [most for _, most in spans if most is not None]
    least = (join or min)([low for low, _ in spans])
    return least, (join or max)(bounded) if len(bounded) == len(spans) else None


def nullable(expr: Expr) -> bool:
    """Return whether the empty text fits."""
    match expr:
        case Text(text):
            return not text
        case Seq(parts):
            return all(map(nullable, parts))
        case Alt(options):
            return any(map(nullable, options))
        case Repeat(item, least, _):
            return least == 0 or nullable(item)
        case Both(left, right):
            return nullable(left) and nullable(right)
        case Minus(left, right):
            return nullable(left) and not nullable(right)
        case _:
            return False


def derive(expr: Expr, code: int) -> Expr:
    """Return the rests of the texts that begin with a character."""
    match expr:
        case Text(text):
            return Text(text[1:]) if text and ord(text[0]) == code else NOTHING
        case Chars(ranges):
            return EMPTY if any(a <= code <= b for a, b in ranges) else NOTHING
        case Seq(parts):
            return _derive_seq(parts, code)
        case Alt(options):
            return alt(*(derive(option, code) for option in options))
        case Repeat(item, least, most):
            fewer = repeat(item, max(least - 1, 0), most and most - 1)
            return seq(derive(item, code), fewer)
        case Both(left, right):
            return both(derive(left, code), derive(right, code))
        case Minus(left, right):
            return minus(derive(left, code), derive(right, code))
        case _:
            raise ValueError(f"{expr} is no regular expression.")


def _derive_seq(parts: tuple[Expr, ...], code: int) -> Expr:
    options = []
    for i, part in enumerate(parts):
        options.append(seq(derive(part, code), *parts[i + 1 :]))
        if not nullable(part):
            break
    return alt(*options)


def edges(expr: Expr) -> set[int]:
    """Return the codes at which what a first character leads to may change."""
    match expr:
        case Text(text):
            return {ord(text[0]), ord(text[0]) + 1} if text else set()
        case Chars(ranges):
            return {code for a, b in ranges for code in (a, b + 1)}
        case Seq(parts):
            stop = next((i for i, part in enumerate(parts) if not nullable(part)), len(parts))
            return set().union(*map(edges, parts[: stop + 1]))
        case Alt(options):
            return set().union(*map(edges, options))
        case Repeat(item, _, _):
            return edges(item)
        case Both(left, right) | Minus(left, right):
            return edges(left) | edges(right)
        case _:
            return set()


def matches(expr: Expr, text: str) -> bool:
    """Return whether a text fits a regular expression."""
    for character in text:
        expr = derive(expr, ord(character))
        if expr == NOTHING:
            return False
    return nullable(expr)


def empty(expr: Expr) -> bool:
    """Return whether no text fits a regular expression; not if that takes long to find out."""
    if not _combined(expr):
        return _plainly_empty(expr)
    seen, stack = {expr}, [expr]
    while stack and len(seen) < BUDGET:
        here = stack.pop()
        if nullable(here):
            return False
        for code in sorted(code for code in edges(here) if code <= LAST_CODE):
            after = derive(here, code)
            if after not in seen and after != NOTHING:
                seen.add(after)
                stack.append(after)
    return not stack


def _combined(expr: Expr) -> bool:
    match expr:
        case Both() | Minus():
            return True
        case Seq(parts) | Alt(parts):
            return any(map(_combined, parts))
        case Repeat(item, _, _):
            return _combined(item)
        case _:
            return False


def _plainly_empty(expr: Expr) -> bool:
    match expr:
        case Chars(ranges):
            return not ranges
        case Seq(parts):
            return any(map(_plainly_empty, parts))
        case Alt(options):
            return all(map(_plainly_empty, options))
        case Repeat(item, least, _):
            return least > 0 and _plainly_empty(item)
        case _:
            return False
