"""How do parts of a pattern go together, if some hold only at an end of the text?

Each part comes in up to four forms: what it matches anywhere, only at the beginning (``^``), only
at the end (``$``), and only as the whole text.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from unison.constrain.language import EMPTY, ConstraintError, Expr, Repeat, Seq, Text
from unison.constrain.language import Alt as Choice

Bound = tuple[bool, bool]  # at the beginning, at the end
ANYWHERE: Bound = (False, False)


@dataclass(frozen=True)
class Piece:
    """A part of a pattern.

    Attributes:
        forms: What it matches, by whether it is bound to the beginning and to the end.
        at: Where the pattern binds it first.
    """

    forms: dict[Bound, Expr]
    at: int = 0

    @property
    def free(self) -> bool:
        """Whether it may stand anywhere."""
        return self.forms.keys() == {ANYWHERE}


Refuse = Callable[[str, int], ConstraintError]


def anywhere(expr: Expr) -> Piece:
    """Return what may stand anywhere."""
    return Piece({ANYWHERE: expr})


def either(options: Sequence[Piece]) -> Piece:
    """Return one of several."""
    if len(options) == 1:
        return options[0]
    found: dict[Bound, list[Expr]] = {}
    for option in options:
        for bound, expr in option.forms.items():
            found.setdefault(bound, []).append(expr)
    return Piece({bound: _choice(exprs) for bound, exprs in found.items()}, _first(options))


def after_another(parts: Sequence[Piece], refuse: Refuse) -> Piece:
    """Return one after the other.

    Raises:
        ConstraintError: Something has to stand before the beginning or behind the end.
    """
    if all(part.free for part in parts):
        return anywhere(_sequence([part.forms[ANYWHERE] for part in parts]))
    so_far: dict[Bound, list[Expr]] = {ANYWHERE: []}
    at = 0
    for part in parts:
        found: dict[Bound, list[list[Expr]]] = {}
        for (begun, ended), before in so_far.items():
            for (begins, ends), expr in part.forms.items():
                if begins and before:
                    raise refuse("an anchor for the beginning stands behind something", part.at)
                if ended and expr != EMPTY:
                    raise refuse("an anchor for the end stands before something", at)
                bound = (begun or begins, ended or ends)
                found.setdefault(bound, []).append(before if expr == EMPTY else [*before, expr])
        so_far = {
            bound: ways[0] if len(ways) == 1 else [_choice([_sequence(way) for way in ways])]
            for bound, ways in found.items()
        }
        at = at if part.free else part.at
    return Piece({bound: _sequence(way) for bound, way in so_far.items()}, _first(parts))


def repeated(piece: Piece, least: int, most: int | None, refuse: Refuse) -> Piece:
    """Return a part some number of times.

    Raises:
        ConstraintError: It is bound to an end of the text, and may come twice.
    """
    if piece.free:
        return anywhere(Repeat(piece.forms[ANYWHERE], least, most))
    if most == 0:
        return anywhere(EMPTY)
    if most != 1:
        raise refuse("an anchor stands inside a repeat", piece.at)
    return piece if least else either([piece, anywhere(EMPTY)])


def _first(parts: Iterable[Piece]) -> int:
    return min((part.at for part in parts if not part.free), default=0)


def _choice(exprs: list[Expr]) -> Expr:
    return exprs[0] if len(exprs) == 1 else Choice(tuple(exprs))


def _sequence(exprs: Sequence[Expr]) -> Expr:
    found: list[Expr] = []
    run: list[str] = []
    for expr in [*exprs, None]:
        if isinstance(expr, Text):
            run.append(expr.text)
            continue
        if any(run):
            found.append(Text("".join(run)))
        run = []
        if expr is not None:
            found.append(expr)
    if not found:
        return EMPTY
    return found[0] if len(found) == 1 else Seq(tuple(found))
