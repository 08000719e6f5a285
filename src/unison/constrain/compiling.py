"""Which machine reads a grammar? A table where one suffices, else one that finds its states."""

from collections import OrderedDict
from collections.abc import Iterator
from hashlib import sha256
from threading import Lock

from unison.constrain.automaton import TooManyStatesError, dfa
from unison.constrain.context_free.parsing import parsing
from unison.constrain.language import (
    Alt,
    Both,
    Chars,
    Expr,
    Grammar,
    Minus,
    Ref,
    Repeat,
    Seq,
    Text,
    recursive,
)
from unison.constrain.machine import Machine

KEPT = 64  # machines in memory

_machines: OrderedDict[str, Machine] = OrderedDict()
_lock = Lock()


def machine(grammar: Grammar) -> Machine:
    """Return what reads a grammar; the same one for the same grammar, while it is remembered.

    Raises:
        ConstraintError: No text follows the grammar, or it cannot be read by a machine.
    """
    name = fingerprint(grammar)
    with _lock:
        known = _machines.get(name)
        if known is not None:
            _machines.move_to_end(name)
            return known
    made = _machine(grammar)  # outside the lock: others need not wait; the first to finish counts
    with _lock:
        kept = _machines.setdefault(name, made)
        _machines.move_to_end(name)
        while len(_machines) > KEPT:
            _machines.popitem(last=False)
    return kept


def _machine(grammar: Grammar) -> Machine:
    if not grammar.lexemes and not recursive(grammar):
        try:
            return dfa(Ref(grammar.start), grammar.rules, grammar.about)
        except TooManyStatesError:
            pass  # a machine that finds its states on the way has no limit
    return parsing(grammar)


def fingerprint(grammar: Grammar) -> str:
    """Return a name for what a grammar says; what it is called in messages does not count."""
    digest = sha256()
    head = (grammar.start, grammar.lexemes, sorted(grammar.ignored))
    digest.update(repr(head).encode())
    for name in sorted(grammar.rules):
        digest.update(repr(name).encode())
        for word in _words(grammar.rules[name]):
            digest.update(word.encode())
    return digest.hexdigest()


def _words(expr: Expr) -> Iterator[str]:
    """Yield an expression in Polish notation: operators, their numbers of operands, operands."""
    stack = [expr]
    while stack:
        part = stack.pop()
        match part:
            case Text() | Chars() | Ref():
                yield repr(part)
            case Seq(parts) | Alt(parts):
                yield f"{type(part).__name__} {len(parts)};"
                stack += reversed(parts)
            case Repeat(item, least, most):
                yield f"Repeat {least} {most};"
                stack.append(item)
            case Both(left, right) | Minus(left, right):
                yield f"{type(part).__name__};"
                stack += (right, left)
