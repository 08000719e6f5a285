"""What is a deterministic automaton while it is being made? Byte ranges, and how it is trimmed."""

from dataclasses import dataclass

from unison.constrain.language import ConstraintError

NO_LABEL = -1
STATES = 100_000  # more are refused, unless a caller says otherwise


class TooManyStatesError(ConstraintError):
    """A regular language whose automaton is too large to be written down in full."""


def too_many(about: str, limit: int) -> TooManyStatesError:
    """Return the refusal of an automaton beyond its limit."""
    return TooManyStatesError(
        f"{about} needs an automaton of more than {limit:,} states, which is the limit. Bound "
        "repetitions by smaller numbers (most of all repetitions inside repetitions), or leave "
        "them unbounded, or split the pattern into rules that do not overlap."
    )


@dataclass(frozen=True)
class Draft:
    """A deterministic automaton over bytes that starts in state 0.

    Attributes:
        edges: For each state, first byte, last byte and target of each range, ascending and apart.
        labels: What each state accepts; ``NO_LABEL`` for nothing.
    """

    edges: list[list[tuple[int, int, int]]]
    labels: list[int]


def trimmed(draft: Draft) -> Draft | None:
    """Return only the states that lead to a label; ``None`` if the start does not.

    Every state is taken to be reachable, and so are those that stay.
    """
    live = _live(draft)
    if len(live) == len(draft.labels):
        return draft
    if 0 not in live:
        return None
    kept = sorted(live)
    number = {state: place for place, state in enumerate(kept)}
    return Draft(
        [[(a, b, number[to]) for a, b, to in draft.edges[q] if to in live] for q in kept],
        [draft.labels[q] for q in kept],
    )


def _live(draft: Draft) -> set[int]:
    before: list[list[int]] = [[] for _ in draft.labels]
    for state, row in enumerate(draft.edges):
        for _, _, to in row:
            before[to].append(state)
    stack = [state for state, label in enumerate(draft.labels) if label != NO_LABEL]
    live = set(stack)
    while stack:
        fresh = [state for state in before[stack.pop()] if state not in live]
        live.update(fresh)
        stack += fresh
    return live
