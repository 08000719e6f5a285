"""What do two automata say together? Intersection and difference, step by step in both."""

from unison.constrain.automaton.draft import NO_LABEL, Draft, too_many, trimmed

NOWHERE = -1

Edge = tuple[int, int, int]


def product(left: Draft, right: Draft, both: bool, about: str, limit: int) -> Draft | None:
    """Return the texts of both, or those of the left alone; ``None`` if there are none."""
    rows = [*right.edges, []]  # the last is that of NOWHERE, -1
    pairs = [(0, 0)]
    numbers = {(0, 0): 0}
    edges: list[list[Edge]] = []
    for one, other in pairs:  # grows meanwhile
        row: list[Edge] = []
        for low, high, pair in _together(left.edges[one], rows[other], both):
            number = numbers.setdefault(pair, len(pairs))
            if number == len(pairs):
                pairs.append(pair)
            row.append((low, high, number))
        edges.append(row)
        if len(pairs) > limit:
            raise too_many(about, limit)
    accepted = [
        left.labels[one] != NO_LABEL
        and both == (other != NOWHERE and right.labels[other] != NO_LABEL)
        for one, other in pairs
    ]
    return trimmed(Draft(edges, [0 if yes else NO_LABEL for yes in accepted]))


def _together(
    left: list[Edge], right: list[Edge], both: bool
) -> list[tuple[int, int, tuple[int, int]]]:
    """Return where the two lead: with ``both`` where both go on, else where the left does."""
    found: list[tuple[int, int, tuple[int, int]]] = []
    place = 0
    for low, high, to in left:
        while low <= high:
            while place < len(right) and right[place][1] < low:
                place += 1
            begin, end, other = right[place] if place < len(right) else (high + 1, high, NOWHERE)
            if begin > low:
                stop = min(high, begin - 1)
                other = NOWHERE
            else:
                stop = min(high, end)
            if other != NOWHERE or not both:
                found.append((low, stop, (to, other)))
            low = stop + 1
    return found
