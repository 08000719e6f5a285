"""Which characters belong together? Sets of code points as ranges, classes, and letter case."""

import re
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from functools import cache

from unison.constrain.language import LAST_CODE

Ranges = tuple[tuple[int, int], ...]
EVERYTHING: Ranges = ((0, LAST_CODE),)
LAST_CASED = 0x1FFFF  # no letter behind it has two cases


def joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return the same code points as ranges that ascend and do not touch."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return tuple(found)


def others(ranges: Ranges) -> Ranges:
    """Return all code points that are in no range; the ranges ascend and are apart."""
    ends = [-1, *(last for _, last in ranges)]
    begins = [*(first for first, _ in ranges), LAST_CODE + 1]
    return tuple(
        (end + 1, begin - 1) for end, begin in zip(ends, begins, strict=True) if end + 1 < begin
    )


def common(left: Ranges, right: Ranges) -> Ranges:
    """Return the code points of both."""
    return others(joined((*others(left), *others(right))))


@cache
def matching(pattern: str) -> Ranges:
    r"""Return the code points that a pattern such as ``\w`` matches in Python's ``re``."""
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    found = re.finditer(f"(?:{pattern})+", everything)
    return tuple((match.start(), match.end() - 1) for match in found)


def folded(first: int, last: int, ascii_only: bool) -> Ranges:
    """Return a range with the other cases of all its letters, one character for one."""
    known = _ascii_cases() if ascii_only else cases()
    letters = list(known)
    inside = letters[bisect_left(letters, first) : bisect_right(letters, last)]
    return joined(
        [(first, last), *((other, other) for letter in inside for other in known[letter])]
    )


@cache
def _ascii_cases() -> dict[int, tuple[int, ...]]:
    letters = (letter for letter in map(chr, range(0x80)) if letter.isalpha())
    return {ord(letter): (ord(letter.swapcase()),) for letter in letters}


@cache
def cases() -> dict[int, tuple[int, ...]]:
    """Return for each letter with several cases all of them, itself among them."""
    groups: dict[int, set[int]] = {}
    for code in range(LAST_CASED + 1):
        char = chr(code)
        forms = {code, *(ord(form) for form in (char.lower(), char.upper()) if len(form) == 1)}
        if len(forms) > 1:
            group = set(forms).union(*(groups.get(form, ()) for form in forms))
            groups.update(dict.fromkeys(group, group))
    return {code: tuple(sorted(groups[code])) for code in sorted(groups)}
