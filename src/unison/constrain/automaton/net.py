"""How do expressions become states? A net with byte ranges and free jumps.

The construction of Thompson (1968, doi:10.1145/363347.363387), with fewer jumps: a piece between
two states adds no edge into the first and none out of the second, so pieces may share their ends.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from unison.constrain.automaton.draft import NO_LABEL, Draft, too_many
from unison.constrain.automaton.utf8 import utf8
from unison.constrain.language import (
    NOTHING,
    Alt,
    Chars,
    ConstraintError,
    Expr,
    Ref,
    Repeat,
    Seq,
    Text,
    refs,
)

ROOM = 5  # a net may have so many times as many states as its automaton
BYTE = 256
PLAIN = 4  # an expression that may be empty is looked for so deep inside a repeated one


@dataclass
class Net:
    """A nondeterministic automaton over bytes that starts in state 0.

    Attributes:
        edges: For each state, ranges as first byte times 256 plus last byte, and targets.
        jumps: Where a state leads without reading.
        labels: What the states in which a text may end accept.
        entries: Where a rule that leads to a state begins, by name and state.
    """

    edges: list[list[tuple[int, int]]] = field(default_factory=lambda: [[]])
    jumps: dict[int, list[int]] = field(default_factory=dict)
    labels: dict[int, int] = field(default_factory=dict)
    entries: dict[tuple[str, int], int] = field(default_factory=dict)

    def state(self) -> int:
        """Return a new state."""
        self.edges.append([])
        return len(self.edges) - 1

    def jump(self, source: int, target: int) -> None:
        """Let one state lead to another without reading."""
        self.jumps.setdefault(source, []).append(target)


Task = tuple[Expr, int, int]
Combine = Callable[[Expr], Draft | None]


@dataclass(frozen=True)
class Weaver:
    """Lays expressions between states of a net.

    Attributes:
        rules: What references stand for.
        about: What the language is called in messages.
        limit: How many states its automaton may have.
        combine: Turns a ``Both`` or a ``Minus`` into an automaton; ``None`` if it is empty.
    """

    rules: Mapping[str, Expr]
    about: str
    limit: int
    combine: Combine

    def net(self, exprs: Sequence[Expr]) -> Net:
        """Return a net in which the end of the i-th expression has label i."""
        refuse_recursion(exprs, self.rules, self.about)
        net = Net()
        for label, expr in enumerate(exprs):
            end = net.state()
            net.labels[end] = label
            self._lay(net, (expr, 0, end))
        return net

    def _lay(self, net: Net, task: Task) -> None:
        tasks, steps, most = [task], 0, ROOM * self.limit
        while tasks:
            expr, source, target = tasks.pop()
            steps += 1
            if steps > most or len(net.edges) + len(tasks) > most:
                raise too_many(self.about, self.limit)
            tasks += self._step(net, expr, source, target)

    def _step(self, net: Net, expr: Expr, source: int, target: int) -> list[Task]:
        """Lay what needs no further steps; return the others."""
        match expr:
            case Seq(parts):
                return _seq(net, parts, source, target)
            case Alt(options):
                return [(option, source, target) for option in options]
            case Repeat():
                return self._repeat(net, expr, source, target)
            case Ref(name):
                return self._rule(net, name, source, target)
            case Text(text):
                _text(net, spelled(text, self.about), source, target)
            case Chars(ranges):
                _chars(net, ranges, source, target)
            case _:
                _draft(net, self.combine(expr), source, target)
        return []

    def _rule(self, net: Net, name: str, source: int, target: int) -> list[Task]:
        """Lay a rule once for each state it leads to: uses with the same continuation share it."""
        known = net.entries.get((name, target))
        if known is not None:
            net.jump(source, known)
            return []
        net.entries[name, target] = entry = net.state()
        net.jump(source, entry)
        return [(self.rules[name], entry, target)]

    def _repeat(self, net: Net, expr: Repeat, source: int, target: int) -> list[Task]:
        least, most, item = expr.least, expr.most, expr.item
        if least < 0 or (most is not None and most < least):
            raise ConstraintError(
                f"{self.about} repeats something at least {least} and at most {most} times: the "
                "least must not be negative nor more than the most."
            )
        filled = without_empty(item)
        if filled is not None:
            least, item = 0, filled
        if max(least, most or 0) > ROOM * self.limit:
            raise too_many(self.about, self.limit)
        if most is not None:
            return _bounded(net, Repeat(item, least, most), source, target)
        return _unbounded(net, Repeat(item, least), source, target)


def _bounded(net: Net, expr: Repeat, source: int, target: int) -> list[Task]:
    most = expr.most or 0
    if most == 0:
        net.jump(source, target)
        return []
    places = [source, *(net.state() for _ in range(most - 1)), target]
    for place in places[expr.least : most]:
        net.jump(place, target)
    return [(expr.item, a, b) for a, b in pairwise(places)]


def _unbounded(net: Net, expr: Repeat, source: int, target: int) -> list[Task]:
    again = net.state()
    if expr.least == 0:
        net.jump(source, again)
        net.jump(again, target)
        return [(expr.item, again, again)]
    places = [source, *(net.state() for _ in range(expr.least - 1))]
    last = net.state()
    net.jump(places[-1], again)
    net.jump(last, again)
    net.jump(last, target)
    return [(expr.item, a, b) for a, b in [*pairwise(places), (again, last)]]


def _seq(net: Net, parts: tuple[Expr, ...], source: int, target: int) -> list[Task]:
    if not parts:
        net.jump(source, target)
        return []
    places = [source, *(net.state() for _ in parts[1:]), target]
    return [(part, a, b) for part, (a, b) in zip(parts, pairwise(places), strict=True)]


def _text(net: Net, data: bytes, source: int, target: int) -> None:
    if not data:
        net.jump(source, target)
        return
    for byte in data[:-1]:
        state = net.state()
        net.edges[source].append((byte * BYTE + byte, state))
        source = state
    net.edges[source].append((data[-1] * BYTE + data[-1], target))


def _chars(net: Net, ranges: tuple[tuple[int, int], ...], source: int, target: int) -> None:
    edges, size = utf8(ranges)
    base = len(net.edges)
    net.edges += ([] for _ in range(2, size))
    places = [source, target, *range(base, base + size - 2)]
    for start, low, high, to in edges:
        net.edges[places[start]].append((low * BYTE + high, places[to]))


def _draft(net: Net, draft: Draft | None, source: int, target: int) -> None:
    if draft is None:
        return
    base = len(net.edges)
    net.jump(source, base)
    net.edges += ([(low * BYTE + high, base + to) for low, high, to in row] for row in draft.edges)
    for state, label in enumerate(draft.labels):
        if label != NO_LABEL:
            net.jump(base + state, target)


def spelled(text: str, about: str) -> bytes:
    """Return a text in UTF-8, or say which half of a surrogate pair it holds."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ConstraintError(
            f"{about} holds the lone surrogate U+{ord(text[error.start]):04X} in {text!r}, which "
            "no UTF-8 text can hold: write the character that the pair of surrogates stands for."
        ) from error


def without_empty(expr: Expr, depth: int = PLAIN) -> Expr | None:
    """Return an expression's texts but the empty one where it plainly has it, ``None`` elsewhere.

    Repeating the answer any number of times, zero included, is repeating the expression, and the
    automaton need not follow all the copies that could have been empty.
    """
    if depth == 0:
        return None
    match expr:
        case Text(""):
            return NOTHING
        case Repeat(_, 0, 0):
            return NOTHING
        case Repeat(item, 0, most):
            return Repeat(without_empty(item, depth - 1) or item, 1, most)
        case Alt(options):
            shorter = [without_empty(option, depth - 1) for option in options]
            if any(option is not None for option in shorter):
                return Alt(tuple(new or old for new, old in zip(shorter, options, strict=True)))
    return None


def refuse_recursion(exprs: Sequence[Expr], rules: Mapping[str, Expr], about: str) -> None:
    """Raise an error if an expression needs a rule that uses itself."""
    done: set[str] = set()
    open_: list[str] = []
    stack = [(False, name) for expr in exprs for name in refs(expr)]
    while stack:
        leaving, name = stack.pop()
        if leaving:
            done.add(open_.pop())
            continue
        if name in open_:
            raise ConstraintError(
                f"in {about}, rule {name!r} uses itself ({' -> '.join(open_)} -> {name}), but here "
                "only regular languages are possible: repeat with a count or * instead."
            )
        if name in done:
            continue
        open_.append(name)
        stack.append((True, name))
        stack += ((False, used) for used in refs(rules[name]))
