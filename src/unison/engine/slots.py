"""Where in a shared memory does each running request live? Live slots stay side by side."""

from typing import NamedTuple


class Move(NamedTuple):
    """One request's memory goes from a slot to another.

    Attributes:
        source: The slot it leaves.
        goal: The slot it goes to, free before.
    """

    source: int
    goal: int


class Slots:
    """A table of slots whose live ones form one window, so that a slice of the memory is a batch.

    Flover (Yao et al., 2023, arXiv:2305.13484): a request that leaves at either end of the window
    moves nothing; one that leaves in the middle costs the fewest moves that make the live slots
    contiguous again, wherever in the memory that is.

    Args:
        size: Slots in all.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"there must be at least 1 slot, got {size}.")
        self.size = size
        self._held: dict[int, int] = {}  # request by slot

    @property
    def window(self) -> tuple[int, int]:
        """First live slot and one past the last; equal where nothing is live."""
        return (min(self._held), max(self._held) + 1) if self._held else (0, 0)

    @property
    def requests(self) -> list[int]:
        """Requests in the order of their slots."""
        return [self._held[slot] for slot in sorted(self._held)]

    @property
    def free(self) -> int:
        """How many requests may still join."""
        return self.size - len(self._held)

    def join(self, request: int) -> int:
        """Give a request a slot next to the window, and return it.

        Raises:
            ValueError: No slot is free, or the request has one.
        """
        if request in self._held.values():
            raise ValueError(f"request {request} already has a slot.")
        if not self.free:
            raise ValueError(f"all {self.size} slots are taken; wait for a request to leave.")
        first, past = self.window
        slot = past if past < self.size else first - 1
        self._held[slot] = request
        return slot

    def leave(self, request: int) -> list[Move]:
        """Free a request's slot; return the moves to make, in any order.

        Raises:
            ValueError: The request has no slot.
        """
        mine = [slot for slot, held in self._held.items() if held == request]
        if not mine:
            raise ValueError(f"request {request} has no slot.")
        del self._held[mine[0]]
        moves = compaction(sorted(self._held), self.size)
        for move in moves:
            self._held[move.goal] = self._held.pop(move.source)
        return moves


def compaction(live: list[int], size: int) -> list[Move]:
    """Return the fewest moves that make live slots contiguous.

    Of all windows of as many slots as are live, the one that holds most of them already.

    Args:
        live: Live slots, ascending.
        size: Slots in all.
    """
    count = len(live)
    held = set(live)
    starts = range(size - count + 1)
    first = max(starts, key=lambda start: sum(start <= slot < start + count for slot in live))
    window = range(first, first + count)
    holes = [slot for slot in window if slot not in held]
    outside = [slot for slot in live if slot not in window]
    return [Move(source, goal) for source, goal in zip(outside, holes, strict=True)]
