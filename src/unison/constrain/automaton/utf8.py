"""Which bytes spell one character of a set? The smallest automaton, exact by the UTF-8 standard.

UTF-8 (RFC 3629): a code point takes one to four bytes, always the fewest that hold it, and the
surrogates U+D800 to U+DFFF are none.
"""

from functools import lru_cache

from unison.constrain.language import LAST_CODE, SURROGATES

LONGEST = ((0, 0x7F), (0x80, 0x7FF), (0x800, 0xFFFF), (0x10000, LAST_CODE))  # by length
TAIL_BITS = 6
END = 1

Ranges = tuple[tuple[int, int], ...]
Edge = tuple[int, int, int, int]  # from, first byte, last byte, to
Branches = tuple[tuple[int, int, int], ...]


@lru_cache(maxsize=1024)
def utf8(ranges: Ranges) -> tuple[tuple[Edge, ...], int]:
    """Return the edges of an automaton from state 0 to state ``END``, and its number of states.

    It is the smallest, has no loops, and ranges that leave one state are apart.
    """
    numbers: dict[Branches, int] = {}
    spellings = [s for first, last in ranges for s in _spellings(first, last)]
    root = _shared(sorted(spellings), numbers)
    states = {number: 0 if branches == root else 2 + number for branches, number in numbers.items()}
    states[-1] = END
    edges = tuple(
        (states[number], low, high, states[to])
        for branches, number in numbers.items()
        for low, high, to in branches
    )
    return edges, 2 + len(numbers)


def _shared(spellings: list[Ranges], numbers: dict[Branches, int]) -> Branches:
    """Return the branches of the state that reads any of the spellings, numbering those below."""
    tails: dict[tuple[int, int], list[Ranges]] = {}
    for head, *tail in spellings:
        tails.setdefault(head, []).append(tuple(tail))
    branches: list[tuple[int, int, int]] = []
    for (low, high), below in tails.items():
        to = -1 if below == [()] else numbers[_shared(below, numbers)]
        if branches and branches[-1][1] == low - 1 and branches[-1][2] == to:
            branches[-1] = (branches[-1][0], high, to)
        else:
            branches.append((low, high, to))
    found = tuple(branches)
    numbers.setdefault(found, len(numbers))
    return found


def _spellings(first: int, last: int) -> list[Ranges]:
    """Return sequences of byte ranges that together spell each code point of a range once."""
    below, above = SURROGATES
    found: list[Ranges] = []
    for low, high in ((first, min(last, below - 1)), (max(first, above + 1), last)):
        for length, (least, most) in enumerate(LONGEST, start=1):
            a, b = max(low, least), min(high, most)
            if a <= b:
                found += _of_length(a, b, length)
    return found


def _of_length(first: int, last: int, length: int) -> list[Ranges]:
    if length == 1:
        return [((first, last),)]
    mark = (0xFF00 >> length) & 0xFF  # 110..., 1110..., 11110...
    return [
        ((mark | path[0][0], mark | path[0][1]), *((0x80 | a, 0x80 | b) for a, b in path[1:]))
        for path in _digits(first, last, length)
    ]


def _digits(first: int, last: int, length: int) -> list[Ranges]:
    """Cover numbers of ``length`` digits in base 64 by products of digit ranges."""
    if length == 1:
        return [((first, last),)]
    unit = 1 << (TAIL_BITS * (length - 1))
    (head, low), (end, high) = divmod(first, unit), divmod(last, unit)
    if head == end:
        return [((head, head), *rest) for rest in _digits(low, high, length - 1)]
    found: list[Ranges] = []
    if low:
        found += [((head, head), *rest) for rest in _digits(low, unit - 1, length - 1)]
        head += 1
    upper: list[Ranges] = []
    if high != unit - 1:
        upper = [((end, end), *rest) for rest in _digits(0, high, length - 1)]
        end -= 1
    if head <= end:
        found.append(((head, end), *(((0, (1 << TAIL_BITS) - 1),) * (length - 1))))
    return found + upper
