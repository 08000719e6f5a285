"""Which states can no continuation tell apart? The smallest automaton, numbered canonically.

Partition refinement that always works with the smaller half (Hopcroft 1971), with all bytes that
lead into a block at once: what leads there is a set of bytes, held in the bits of one number.
"""

from unison.constrain.automaton.draft import NO_LABEL, Draft

Edge = tuple[int, int, int]


def minimal(draft: Draft, lone_start: bool = False) -> Draft:
    """Return the smallest automaton with the same labels, its states in order of first visit.

    The order goes by breadth and byte, so equal languages give equal automata.

    Args:
        draft: Trimmed: each state is reached, and leads to a label.
        lone_start: Keep the start a state of its own, to which nothing leads back.
    """
    edges, labels = draft.edges, list(draft.labels)
    if lone_start:
        edges, labels = _apart(edges), [NO_LABEL - 1, *labels]
    block = _refined(edges, labels)
    if lone_start:
        labels[0] = draft.labels[0]
    return _numbered(edges, labels, block)


def _apart(edges: list[list[Edge]]) -> list[list[Edge]]:
    moved = [[(low, high, to + 1) for low, high, to in row] for row in edges]
    return [moved[0], *moved]


def _refined(edges: list[list[Edge]], labels: list[int]) -> list[int]:
    """Return the block of each state in the coarsest partition that respects labels and bytes."""
    before, reads = _backwards(edges)
    blocks, block = _first_blocks(list(zip(labels, reads, strict=True)))
    waiting = set(range(len(blocks) - 1))  # all but the largest
    while waiting:
        for number, groups in _touched(blocks[waiting.pop()], before, block).items():
            size = len(blocks[number])
            if len(groups) == 1 and len(next(iter(groups.values()))) == size:
                continue
            fresh = _split(blocks, number, list(groups.values()))
            for new in fresh:
                for state in blocks[new]:
                    block[state] = new
            waiting.update(fresh)
    return block


def _first_blocks(kinds: list[tuple[int, int]]) -> tuple[list[set[int]], list[int]]:
    """Group states by their label and the bytes they read; the largest group comes last."""
    groups: dict[tuple[int, int], set[int]] = {}
    for state, kind in enumerate(kinds):
        groups.setdefault(kind, set()).add(state)
    blocks = sorted(groups.values(), key=len)
    block = [0] * len(kinds)
    for number, members in enumerate(blocks):
        for state in members:
            block[state] = number
    return blocks, block


def _backwards(edges: list[list[Edge]]) -> tuple[list[list[tuple[int, int]]], list[int]]:
    """Return what leads to each state by which bytes, and the bytes that each state reads."""
    before: list[list[tuple[int, int]]] = [[] for _ in edges]
    reads = []
    for state, row in enumerate(edges):
        masks: dict[int, int] = {}
        for low, high, to in row:
            masks[to] = masks.get(to, 0) | ((2 << high) - (1 << low))
        for to, mask in masks.items():
            before[to].append((state, mask))
        reads.append(sum(masks.values()))
    return before, reads


def _touched(
    splitter: set[int], before: list[list[tuple[int, int]]], block: list[int]
) -> dict[int, dict[int, list[int]]]:
    """Group what leads into the splitter by block, and there by the bytes that do."""
    into: dict[int, int] = {}
    for state in splitter:
        for source, mask in before[state]:
            into[source] = into.get(source, 0) | mask
    touched: dict[int, dict[int, list[int]]] = {}
    for state, mask in into.items():
        touched.setdefault(block[state], {}).setdefault(mask, []).append(state)
    return touched


def _split(blocks: list[set[int]], number: int, parts: list[list[int]]) -> range:
    """Split one block; the largest part keeps the number. Return the numbers of the others."""
    members = blocks[number]
    rest = len(members) - sum(map(len, parts))
    largest = max(parts, key=len)
    moved = [set(part) for part in parts if rest >= len(largest) or part is not largest]
    if rest >= len(largest):
        members.difference_update(*moved)
    else:
        if rest:
            moved.append(members.difference(*parts))
        blocks[number] = set(largest)
    blocks += moved
    return range(len(blocks) - len(moved), len(blocks))


def _numbered(edges: list[list[Edge]], labels: list[int], block: list[int]) -> Draft:
    order, number = [0], {block[0]: 0}
    rows: list[list[Edge]] = []
    for state in order:  # grows meanwhile
        row: list[Edge] = []
        for low, high, to in edges[state]:
            place = number.setdefault(block[to], len(order))
            if place == len(order):
                order.append(to)
            if row and row[-1][1] == low - 1 and row[-1][2] == place:
                row[-1] = (row[-1][0], high, place)
            else:
                row.append((low, high, place))
        rows.append(row)
    return Draft(rows, [labels[state] for state in order])
