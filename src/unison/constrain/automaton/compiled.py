"""How does an expression become an automaton? Intersections and differences first, then the whole.

Where nothing is left, the part that allows no text is named.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from unison.constrain.automaton.blame import blame
from unison.constrain.automaton.draft import STATES, Draft, trimmed
from unison.constrain.automaton.minimal import minimal
from unison.constrain.automaton.net import Weaver
from unison.constrain.automaton.product import product
from unison.constrain.automaton.subsets import determinise
from unison.constrain.automaton.table import Dfa, tabled
from unison.constrain.language import Both, ConstraintError, Expr, Minus

DEPTH = 20  # intersections and differences in the right side of others


def dfa(expr: Expr, rules: Mapping[str, Expr], about: str, limit: int = STATES) -> Dfa:
    """Return the automaton of an expression.

    Args:
        expr: What to read.
        rules: What references in it stand for; none may use itself.
        about: What the language is called in messages.
        limit: How many states the automaton may have before it is made as small as possible.

    Raises:
        TooManyStatesError: The limit does not suffice.
        ConstraintError: The language holds no text at all, or is not regular.
    """
    regular = Regular(rules, about, limit)
    draft = regular.draft([expr])
    if draft is None:
        raise ConstraintError(f"{about} allows no text: {regular.reason(expr)}.")
    return tabled(minimal(draft))


@dataclass(frozen=True)
class Regular:
    """Makes automata of expressions that share their rules.

    Attributes:
        rules: What references stand for.
        about: What the language is called in messages.
        limit: How many states each automaton may have.
        depth: In how many right sides of intersections and differences it stands.
    """

    rules: Mapping[str, Expr]
    about: str
    limit: int = STATES
    depth: int = 0
    known: dict[int, tuple[Expr, Draft | None]] = field(default_factory=dict, repr=False)

    def draft(self, exprs: Sequence[Expr]) -> Draft | None:
        """Return an automaton that labels texts by the first expression that holds them.

        It is trimmed but not the smallest; ``None`` if no expression holds a text.
        """
        net = Weaver(self.rules, self.about, self.limit, self.combined).net(exprs)
        return trimmed(determinise(net, self.about, self.limit))

    def reason(self, expr: Expr) -> str:
        """Say which part of an expression without texts is to blame."""
        return blame(expr, self.rules, lambda part: self.draft([part]) is None)

    def combined(self, expr: Expr) -> Draft | None:
        """Return the smallest automaton of an intersection or difference; ``None`` for no text."""
        if id(expr) not in self.known:  # the expression is kept, so that its id stays its own
            self.known[id(expr)] = expr, self._combined(expr)
        return self.known[id(expr)][1]

    def _combined(self, expr: Expr) -> Draft | None:
        if self.depth > DEPTH:
            raise ConstraintError(
                f"{self.about} has intersections or differences inside others more than {DEPTH} "
                "deep: give the inner ones first, or flatten them."
            )
        inner = Regular(self.rules, self.about, self.limit, self.depth + 1, self.known)
        first, steps = _chain(expr)
        left = inner.draft([first])
        for right, both in steps:
            left = None if left is None else self._step(minimal(left), inner.draft([right]), both)
        return None if left is None else minimal(left)

    def _step(self, left: Draft, right: Draft | None, both: bool) -> Draft | None:
        if right is None:
            return None if both else left
        return product(left, minimal(right), both, self.about, self.limit)


def _chain(expr: Expr) -> tuple[Expr, list[tuple[Expr, bool]]]:
    """Unfold the sides: what to start from, and what to intersect it with or take away."""
    steps: list[tuple[Expr, bool]] = []
    while isinstance(expr, Both | Minus):
        sides = [expr.right]
        while isinstance(expr, Both) and isinstance(sides[-1], Both):
            sides[-1:] = [sides[-1].left, sides[-1].right]
        steps += [(side, isinstance(expr, Both)) for side in reversed(sides)]
        expr = expr.left
    return expr, steps[::-1]
