"""Where does the name of a point go, so that it covers nothing and belongs to nothing else?

All in dots of the picture. Names are placed one after another; each takes the first place that is
free and crosses least of the lines. One that finds none is not placed.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

Point = tuple[float, float]


class Box(NamedTuple):
    """A rectangle; heights grow upwards."""

    left: float
    foot: float
    right: float
    head: float

    def shared(self, other: "Box") -> float:
        """Return the area shared with another box."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.head, other.head) - max(self.foot, other.foot)
        return max(width, 0.0) * max(height, 0.0)

    def holds(self, other: "Box") -> bool:
        """Return whether another box lies inside."""
        return (
            self.left <= other.left
            and self.foot <= other.foot
            and other.right <= self.right
            and other.head <= self.head
        )

    def distance(self, point: Point) -> float:
        """Return how far a point lies outside; 0 inside."""
        across = max(self.left - point[0], point[0] - self.right, 0.0)
        along = max(self.foot - point[1], point[1] - self.head, 0.0)
        return math.hypot(across, along)


class Wanted(NamedTuple):
    """A name that wants a place.

    Attributes:
        point: What it names.
        width: Of the name.
        height: Of the name.
        first: Whether it chooses before others.
    """

    point: Point
    width: float
    height: float
    first: bool = False


def placed(
    names: Sequence[Wanted], lines: Sequence[Box], paper: Box, unit: float
) -> list[Box | None]:
    """Return where each name stands, or ``None`` where it finds no room.

    Args:
        names: With the points they belong to; points are not covered.
        lines: Crossed where there is no better place.
        paper: What names stay on.
        unit: Dots of one typographical point.
    """
    taken = [_marker(name.point, unit) for name in names]
    boxes: list[Box | None] = [None] * len(names)
    for n in sorted(range(len(names)), key=lambda n: (not names[n].first, names[n].point)):
        point = names[n].point
        others = [name.point for name in names if name.point != point]
        free = [
            (cost + sum(box.shared(line) for line in lines), box)
            for cost, box in _places(names[n], unit)
            if paper.holds(box)
            and not any(box.shared(other) for other in taken)
            and _belongs(box, point, others)
        ]
        if free:
            boxes[n] = box = min(free, key=lambda choice: choice[0])[1]
            taken.append(box)
    return boxes


def _places(name: Wanted, unit: float) -> Iterable[tuple[float, Box]]:
    """Yield where a name could stand, from the most to the least wanted, and what that costs."""
    (x, y), width, height = name.point, name.width, name.height
    for cost, gap in ((0.0, 5 * unit), (10 * unit, 9 * unit), (40 * unit, 14 * unit)):
        for across, up in _DIRECTIONS:
            left = x + across * gap - (width if across < 0 else 0 if across > 0 else width / 2)
            foot = y + up * (gap + height / 2) - height / 2
            yield cost, Box(left, foot, left + width, foot + height)


def _belongs(box: Box, point: Point, others: Sequence[Point]) -> bool:
    """Return whether a reader would take the name for that of its own point."""
    own = box.distance(point)
    return all(own < box.distance(other) for other in others)


def _marker(point: Point, unit: float) -> Box:
    x, y = point
    return Box(x - 4 * unit, y - 4 * unit, x + 4 * unit, y + 4 * unit)


_DIRECTIONS = ((1, 0), (-1, 0), (1, 0.7), (1, -0.7), (-1, 0.7), (-1, -0.7), (0, 1), (0, -1))
