"""Which symbols can stand behind a symbol, as far as the rules go?"""

from collections.abc import Sequence

from unison.constrain.context_free.normal import Network, Step


def followers(net: Network) -> dict[int, int]:
    """Return for each symbol that rules read, alone in its step, those that may come next as bits.

    A rule goes back to wherever it is called, so some may come only elsewhere; none is missed.
    """
    onward = [list(skips) for skips in net.skips]
    for spot, calls in enumerate(net.calls):
        for rule, target in calls:
            onward[spot] += net.entries[rule]
            onward[net.last[rule]].append(target)
    after = _gathered(onward, [_symbols(steps) for steps in net.steps])
    found: dict[int, int] = {}
    for steps in net.steps:
        for low, _, target in steps:
            found[low] = found.get(low, 0) | after[target]
    return found


def _symbols(steps: Sequence[Step]) -> int:
    return sum(1 << symbol for symbol in {low for low, _, _ in steps})


def _gathered(onward: Sequence[Sequence[int]], own: Sequence[int]) -> list[int]:
    """Return the bits of each spot and of all it leads to."""
    before: list[list[int]] = [[] for _ in onward]
    for spot, targets in enumerate(onward):
        for target in targets:
            before[target].append(spot)
    found = list(own)
    todo = [spot for spot, symbols in enumerate(found) if symbols]
    while todo:
        spot = todo.pop()
        for source in before[spot]:
            if found[spot] & ~found[source]:
                found[source] |= found[spot]
                todo.append(source)
    return found
