"""How are rules read from the left without going in circles? Networks free of left recursion.

A rule that may begin with itself would be entered for ever. Where rules begin with each other in a
circle, each text of theirs begins with something that is none of them; from there the rules are
completed one after another, each the beginning of the next, until the wanted one is. This is the
left-corner transform (Rosenkrantz and Lewis 1970), here on networks: what follows a first call of a
rule is hung behind the end of that rule, and the wanted rule ends at its own last spot only.
Before it, what no text can use is dropped, and every rule is read without its empty text, which is
skipped at the call instead; so hidden left recursion is plain, and circles of single rules are
skips.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unison.constrain.context_free.components import components
from unison.constrain.context_free.drafting import Draft, draft
from unison.constrain.language import ConstraintError, Grammar

Step = tuple[int, int, int]
Call = tuple[int, int]
NAMED = 5


@dataclass(frozen=True)
class Network:
    """Rules as networks that read at least one symbol before any call returns.

    Attributes:
        names: Of the rules; the first is the start.
        empty: Whether the start may read nothing.
        entries: Spots each rule begins at.
        last: Spot each rule ends at.
        useful: Spots from which the end of a rule can be reached within it; ``None`` where all of
            its own can. Rules that begin with each other share their spots.
        order: Place of each rule in an order in which callers at the beginning come first.
        steps: From each spot, ``(low, high, spot)``: any symbol from low to high leads there.
        calls: From each spot, ``(rule, spot)``; the rule reads at least one symbol.
        skips: From each spot, spots that may be taken for it.
    """

    names: tuple[str, ...]
    empty: bool
    entries: tuple[tuple[int, ...], ...]
    last: tuple[int, ...]
    useful: tuple[frozenset[int] | None, ...]
    order: tuple[int, ...]
    steps: tuple[tuple[Step, ...], ...]
    calls: tuple[tuple[Call, ...], ...]
    skips: tuple[tuple[int, ...], ...]


def network(grammar: Grammar, letters: Mapping[str, int]) -> Network:
    """Return the rules a grammar needs, ready to be read.

    Args:
        grammar: The rules.
        letters: The symbol of each lexeme that the lexer may give; of others, there is no text.

    Raises:
        ConstraintError: No text follows the rules.
    """
    drawn = draft(grammar, letters)
    alive = _drop_useless(drawn)
    if drawn.first[0] not in alive:
        dead = [
            name for name, spot in zip(drawn.names, drawn.first, strict=True) if spot not in alive
        ]
        raise ConstraintError(_endless(grammar.about, dead, drawn.lost))
    empty = _skip_empty(drawn)
    _drop_useless(drawn)
    groups = components([[called for called, _ in drawn.calls[spot]] for spot in drawn.first])
    entries: list[tuple[int, ...]] = [(spot,) for spot in drawn.first]
    useful: list[frozenset[int] | None] = [None] * len(entries)
    circles = [group for group in groups if _turn(drawn, group)]
    before = _before(drawn) if circles else []
    for group in circles:
        for rule in group:
            known = _reaching(drawn.last[rule], before)
            useful[rule] = known
            entries[rule] = tuple(drawn.first[peer] for peer in group if drawn.first[peer] in known)
    order = {rule: len(groups) - place for place, group in enumerate(groups) for rule in group}
    return Network(
        tuple(drawn.names),
        empty,
        tuple(entries),
        tuple(drawn.last),
        tuple(useful),
        tuple(order[rule] for rule in range(len(entries))),
        tuple(map(tuple, drawn.steps)),
        tuple(map(tuple, drawn.calls)),
        tuple(map(tuple, drawn.skips)),
    )


def _reading(drawn: Draft, within: bool) -> set[int]:
    """Return spots that lead to the end of their rule: at all, or without reading anything.

    Args:
        drawn: The network.
        within: Whether steps may be taken on the way; else skips alone, and empty calls.
    """
    before: list[list[int]] = [[] for _ in drawn.steps]
    callers: list[list[tuple[int, int]]] = [[] for _ in drawn.names]
    waits: list[list[tuple[int, int]]] = [[] for _ in drawn.steps]  # at a call's target
    for spot, targets in enumerate(drawn.skips):
        read = [target for _, _, target in drawn.steps[spot]] if within else []
        for target in [*targets, *read]:
            before[target].append(spot)
        for rule, target in drawn.calls[spot]:
            callers[rule].append((spot, target))
            waits[target].append((spot, rule))
    ends = {spot: rule for rule, spot in enumerate(drawn.first)}
    found = set(drawn.last)
    todo = list(drawn.last)
    while todo:
        spot = todo.pop()
        fresh = [*before[spot]]
        fresh += [caller for caller, rule in waits[spot] if drawn.first[rule] in found]
        if spot in ends:
            fresh += [caller for caller, target in callers[ends[spot]] if target in found]
        fresh = [one for one in dict.fromkeys(fresh) if one not in found]
        found.update(fresh)
        todo += fresh
    return found


def _drop_useless(drawn: Draft) -> set[int]:
    """Drop steps, calls and skips that lead to no text; return the spots that lead to one."""
    alive = _reading(drawn, within=True)
    for spot in range(len(drawn.steps)):
        drawn.steps[spot] = [step for step in drawn.steps[spot] if step[2] in alive]
        drawn.skips[spot] = [target for target in drawn.skips[spot] if target in alive]
        drawn.calls[spot] = [
            (rule, target)
            for rule, target in drawn.calls[spot]
            if target in alive and drawn.first[rule] in alive
        ]
    return alive


def _endless(about: str, names: Sequence[str], lost: Sequence[str]) -> str:
    """Return the refusal of rules that no text follows."""
    if lost:
        return (
            f"{about} describes no text: its rules need the lexeme {lost[0]!r}, which never comes, "
            "since it is ignored or other lexemes that are named before it take all its texts; "
            "name it first, or do not ignore it."
        )
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return (
        f"{about} describes no text: its rules {', '.join(map(repr, names[:NAMED]))}{more} can "
        "never end, since each way to read them needs another of them; give one of them a way out."
    )


def _skip_empty(drawn: Draft) -> bool:
    """Let every rule read at least one symbol, and calls of empty rules be skipped.

    Returns:
        Whether the start was empty.
    """
    empty = _reading(drawn, within=False)
    for spot, calls in enumerate(drawn.calls):
        drawn.skips[spot] += [target for rule, target in calls if drawn.first[rule] in empty]
    for spot in drawn.first:
        ahead = closure(spot, drawn.skips)
        drawn.steps[spot] = [step for one in ahead for step in drawn.steps[one]]
        drawn.calls[spot] = list(dict.fromkeys(call for one in ahead for call in drawn.calls[one]))
        drawn.skips[spot] = []
    return drawn.first[0] in empty


def closure(spot: int, skips: Sequence[Sequence[int]]) -> list[int]:
    """Return the spots that a spot may be taken for, itself first."""
    found = {spot: None}
    todo = [spot]
    while todo:
        fresh = [target for target in skips[todo.pop()] if target not in found]
        found.update(dict.fromkeys(fresh))
        todo += fresh
    return list(found)


def _turn(drawn: Draft, group: list[int]) -> bool:
    """Hang what follows a first call behind the end of the called rule, in one circle of rules.

    Returns:
        Whether the group is a circle at all.
    """
    circle = False
    for rule in group:
        spot = drawn.first[rule]
        for called, target in drawn.calls[spot]:
            if called in group:
                drawn.skips[drawn.last[called]].append(target)
                circle = True
        drawn.calls[spot] = [call for call in drawn.calls[spot] if call[0] not in group]
    return circle


def _before(drawn: Draft) -> list[list[int]]:
    before: list[list[int]] = [[] for _ in drawn.steps]
    for spot in range(len(drawn.steps)):
        targets = [*drawn.skips[spot], *(step[2] for step in drawn.steps[spot])]
        for target in [*targets, *(call[1] for call in drawn.calls[spot])]:
            before[target].append(spot)
    return before


def _reaching(spot: int, before: list[list[int]]) -> frozenset[int]:
    return frozenset(closure(spot, before))
