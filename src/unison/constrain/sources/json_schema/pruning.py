"""Which rules can ever end, and which are worth a name?"""

from collections import Counter
from collections.abc import Mapping

from unison.constrain.language import (
    EMPTY,
    NOTHING,
    Alt,
    Both,
    Chars,
    Expr,
    Minus,
    Ref,
    Repeat,
    Seq,
    refs,
)
from unison.constrain.sources.json_schema.regular import alt, repeat, seq


def pruned(rules: Mapping[str, Expr], start: str) -> dict[str, Expr]:
    """Return the rules the start needs, without parts that never end; none if it never does.

    A rule that is used once moves to where it is used.
    """
    alive = _productive(rules)
    if start not in alive:
        return {}
    cut = {name: _cut(rules[name], alive) for name in alive}
    uses = Counter(used for rule in cut.values() for used in refs(rule))
    kept: dict[str, Expr] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept[name] = _inlined(cut[name], cut, uses, start)
            waiting += refs(kept[name])
    return kept


def _productive(rules: Mapping[str, Expr]) -> set[str]:
    users: dict[str, set[str]] = {}
    for name, rule in rules.items():
        for used in refs(rule):
            users.setdefault(used, set()).add(name)
    alive: set[str] = set()
    waiting = list(rules)
    while waiting:
        name = waiting.pop()
        if name not in alive and _ends(rules[name], alive):
            alive.add(name)
            waiting += users.get(name, ())
    return alive


def _ends(expr: Expr, alive: set[str]) -> bool:
    match expr:
        case Chars(ranges):
            return bool(ranges)
        case Seq(parts):
            return all(_ends(part, alive) for part in parts)
        case Alt(options):
            return any(_ends(option, alive) for option in options)
        case Repeat(item, least, _):
            return least == 0 or _ends(item, alive)
        case Ref(name):
            return name in alive
        case _:
            return True  # Both and Minus were looked at where they were made


def _cut(expr: Expr, alive: set[str]) -> Expr:
    match expr:
        case Seq(parts):
            return seq(*(_cut(part, alive) for part in parts))
        case Alt(options):
            return alt(*(_cut(option, alive) for option in options))
        case Repeat(item, least, most):
            return repeat(_cut(item, alive), least, most)
        case Ref(name):
            return expr if name in alive else NOTHING
        case _:
            return expr


def _inlined(expr: Expr, rules: Mapping[str, Expr], uses: Counter[str], start: str) -> Expr:
    match expr:
        case Ref(name) if name != start and (uses[name] == 1 or _short(rules[name])):
            return _inlined(rules[name], rules, uses, start)
        case Seq(parts):
            return seq(*(_inlined(part, rules, uses, start) for part in parts))
        case Alt(options):
            return alt(*(_inlined(option, rules, uses, start) for option in options))
        case Repeat(item, least, most):
            return repeat(_inlined(item, rules, uses, start), least, most)
        case Both() | Minus():
            return expr  # regular, and made without names
        case _:
            return expr


def _short(expr: Expr) -> bool:
    return expr == EMPTY or not isinstance(expr, Seq | Alt | Repeat | Both | Minus | Ref)
