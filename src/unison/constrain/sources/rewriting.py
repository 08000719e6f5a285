"""How are the rules that an expression uses exchanged for others?"""

from collections.abc import Callable

from unison.constrain.language import Alt, Both, Expr, Minus, Ref, Repeat, Seq


def replaced(expr: Expr, new: Callable[[str], Expr]) -> Expr:
    """Return the expression with ``new(name)`` wherever it uses the rule ``name``."""
    match expr:
        case Ref(name):
            return new(name)
        case Seq(parts):
            return Seq(tuple(replaced(part, new) for part in parts))
        case Alt(options):
            return Alt(tuple(replaced(option, new) for option in options))
        case Repeat(item, least, most):
            return Repeat(replaced(item, new), least, most)
        case Both(left, right):
            return Both(replaced(left, new), replaced(right, new))
        case Minus(left, right):
            return Minus(replaced(left, new), replaced(right, new))
    return expr
