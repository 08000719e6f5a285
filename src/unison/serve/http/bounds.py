"""How large a language may a stranger ask for? Small enough that nobody waits for its machine.

A short text can describe a large machine: a count inside a count, a rule that uses another twice
and so on for forty rules. What the counts and rules unfold to is measured before anything is made
of it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unison.constrain import ConstraintError, Grammar
from unison.constrain.language import (
    Alt,
    Both,
    Chars,
    Expr,
    Minus,
    Ref,
    Repeat,
    Seq,
    Text,
    refs,
)

LETTERS = 32_768  # of a schema, pattern or grammar
DEPTH = 64  # of a schema
UNFOLDED = 500_000  # characters and classes, once counts and rules are written out


def short(text: str, about: str) -> str:
    """Return a text that is not too long to read.

    Raises:
        ConstraintError: It is.
    """
    if len(text) > LETTERS:
        raise ConstraintError(
            f"{about} has {len(text):,} characters; at most {LETTERS:,} are read: leave out what "
            "is not needed."
        )
    return text


def shallow(schema: Any, about: str) -> Any:
    """Return JSON data that is neither too deep nor too long.

    Raises:
        ConstraintError: It is.
    """
    level: list[Any] = [schema]
    depth = 0
    while level:
        if depth > DEPTH:
            raise ConstraintError(
                f"{about} is nested more than {DEPTH} deep; use $defs and $ref instead."
            )
        level, depth = [inner for one in level for inner in _inside(one)], depth + 1
    short(json.dumps(schema), about)
    return schema


def small(grammar: Grammar) -> Grammar:
    """Return a grammar that unfolds to little enough.

    Rules that use themselves are not unfolded, and none is where there are lexemes: each of those
    counts once, and as one wherever it is used.

    Raises:
        ConstraintError: It unfolds to more than ``UNFOLDED``.
    """
    whole = set(grammar.rules) if grammar.lexemes else _recursive(grammar)
    known = dict.fromkeys(whole, 1)
    size = sum([_unfolded(grammar, name, known) for name in {grammar.start, *whole}])
    if size > UNFOLDED:
        raise ConstraintError(
            f"{grammar.about} unfolds to {size:,} characters and classes, more than the "
            f"{UNFOLDED:,} that are served; lower its counts, such as {{n}}, minItems or "
            "minLength."
        )
    return grammar


def _recursive(grammar: Grammar) -> set[str]:
    """Return the rules that use themselves, by way of others or at once."""
    number = {name: i for i, name in enumerate(grammar.rules)}
    uses = {(number[name], number[used]) for name in number for used in refs(grammar.rules[name])}
    graph = np.zeros((0, 2), dtype=np.int64) if not uses else np.array(sorted(uses))
    shape = (len(number), len(number))
    links = coo_array((np.ones(len(graph)), (graph[:, 0], graph[:, 1])), shape)
    _, ring = connected_components(links, connection="strong")
    crowded = np.bincount(ring)[ring] > 1
    return {name for name, i in number.items() if crowded[i] or (i, i) in uses}


def _unfolded(grammar: Grammar, start: str, known: dict[str, int]) -> int:
    """Return what a rule unfolds to; ``known`` learns those of the rules it needs."""
    todo, size = [start], 0
    while todo:
        rule = grammar.rules[todo[-1]]
        missing = next((used for used in refs(rule) if used not in known), None)
        if missing is not None:
            todo.append(missing)
            continue
        size = _measured(rule, known)
        known.setdefault(todo.pop(), size)
    return size


def _measured(expr: Expr, known: Mapping[str, int]) -> int:
    match expr:
        case Text(text):
            return len(text)
        case Chars():
            return 1
        case Ref(name):
            return known[name]
        case Seq(parts) | Alt(parts):
            return sum(_measured(part, known) for part in parts)
        case Repeat(item, least, _):
            return max(least, 1) * _measured(item, known)
        case Both(left, right) | Minus(left, right):
            return _measured(left, known) + _measured(right, known)


def _inside(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()
