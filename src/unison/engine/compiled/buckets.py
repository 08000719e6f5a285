"""Which lengths does a canvas get filled up to, so that a handful of graphs serves all of them?

1, 1.5, 2, 3, 4, 6 ... times the smallest: a canvas grows by less than half. Which graph serves a
canvas is decided by its own shape, never by what was asked before, so that texts do not depend on
the order of requests.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Buckets:
    """The shapes that have graphs.

    Attributes:
        rows: Rows of every evaluation; others have none.
        longest: Positions of the longest canvas.
        shortest: Positions of the smallest graph.
    """

    rows: int
    longest: int
    shortest: int = 16

    def __post_init__(self) -> None:
        for name in ("rows", "longest", "shortest"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")

    @property
    def lengths(self) -> tuple[int, ...]:
        """All lengths that have graphs, rising; the last is the longest canvas."""
        found, power = [], self.shortest
        while power < self.longest:
            found += [size for size in (power, power + power // 2) if size < self.longest]
            power *= 2
        return (*dict.fromkeys(found), self.longest)

    def of(self, rows: int, length: int) -> int | None:
        """Return how many positions the graph for a canvas has; ``None`` where none is for it."""
        if rows != self.rows or not 1 <= length <= self.longest:
            return None
        return next(size for size in self.lengths if size >= length)
