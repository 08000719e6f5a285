"""How do several languages become one? Their rules side by side, under names of their own."""

from collections.abc import Sequence
from typing import NamedTuple

from unison.constrain import Grammar
from unison.constrain.language import Alt, Expr, Ref
from unison.constrain.sources.rewriting import replaced


class Beside(NamedTuple):
    """Several grammars.

    Attributes:
        rules: Of all of them.
        starts: What stands for whole texts of each.
    """

    rules: dict[str, Expr]
    starts: tuple[Ref, ...]


def beside(grammars: Sequence[Grammar]) -> Beside:
    """Return the rules of several grammars, none of which has lexemes."""
    rules = {
        f"{number}.{name}": replaced(rule, lambda used, at=number: Ref(f"{at}.{used}"))
        for number, grammar in enumerate(grammars)
        for name, rule in grammar.rules.items()
    }
    starts = tuple(Ref(f"{number}.{grammar.start}") for number, grammar in enumerate(grammars))
    return Beside(rules, starts)


def either(grammars: Sequence[Grammar]) -> Grammar:
    """Return the texts of any of several grammars, none of which has lexemes."""
    rules, starts = beside(grammars)
    about = " or ".join(grammar.about for grammar in grammars)
    return Grammar({"either": Alt(starts), **rules}, "either", about=about)
