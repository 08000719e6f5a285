"""Where does each way of writing stand? Named points with intervals, and the line of the best.

Points of one colour belong together and are named above the axes; each point bears a name of its
own, put where it covers no point, no bar and no other name. A name that finds no room is left out,
those on the front last: a name nobody can read says less than none.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from unison.evaluate.labels import Box, Wanted, placed
from unison.evaluate.theme import Theme

Number = float | int

_MARKERS = "osD^vP"
_SIZE = 10.0


class Spot(NamedTuple):
    """One named point.

    Attributes:
        label: Written beside it.
        x: Where; points that are not finite, or not positive on a log axis, are left out.
        y: How much.
        x_interval: From where to where the bar goes; ``None`` draws none.
        y_interval: The same for y.
        best: Whether its name is placed before those of others.
    """

    label: str
    x: Number
    y: Number
    x_interval: tuple[Number, Number] | None = None
    y_interval: tuple[Number, Number] | None = None
    best: bool = False


class Cloud(NamedTuple):
    """Points of one colour and shape.

    Attributes:
        label: Written above the axes.
        spots: The points.
    """

    label: str
    spots: Sequence[Spot]


class Scatter(NamedTuple):
    """One pair of axes with named points.

    Attributes:
        clouds: What is shown; the n-th cloud of every panel has one colour.
        x_label: Quantity and unit.
        y_label: Quantity and unit; it is written above the axis, not turned.
        log_x: Whether x is logarithmic.
        front: Corners of a line under the best points, as (x, y).
        y_range: Least and largest possible y; the axis goes no further.
    """

    clouds: Sequence[Cloud]
    x_label: str
    y_label: str
    log_x: bool = True
    front: Sequence[tuple[Number, Number]] = ()
    y_range: tuple[Number, Number] = (-math.inf, math.inf)


def visible(panel: Scatter) -> list[Cloud]:
    """Return the clouds with the points that have a place on the axes."""
    return [
        Cloud(cloud.label, [spot for spot in cloud.spots if _drawable(spot, panel.log_x)])
        for cloud in panel.clouds
    ]


def draw(axes: Any, panel: Scatter, theme: Theme) -> None:
    """Draw points, bars and front on axes whose style is set."""
    axes.grid(axis="x", color=theme.faint, linewidth=0.8)
    if panel.log_x:
        axes.set_xscale("log")
    if panel.front:
        x, y = zip(*panel.front, strict=True)
        axes.plot(x, y, color=theme.muted, linewidth=1.4, linestyle=(0, (4, 2)), zorder=1)
    clouds = visible(panel)
    for i, cloud in enumerate(clouds):
        if cloud.spots:
            _draw_cloud(axes, cloud, i, theme)
    _limit(axes, panel, [spot for cloud in clouds for spot in cloud.spots])
    if len(clouds) > 1:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=_columns([cloud.label for cloud in clouds]),
            frameon=False,
            labelcolor=theme.ink,
            fontsize=_SIZE - 1,
            handletextpad=0.1,
            columnspacing=1.2,
            borderpad=0.1,
            borderaxespad=0.3,
        )


def rows_above(panel: Scatter) -> int:
    """Return how many rows of names stand between the axes and their title."""
    labels = [cloud.label for cloud in panel.clouds]
    return math.ceil(len(labels) / _columns(labels)) if len(labels) > 1 else 0


def name(axes: Any, panel: Scatter, theme: Theme) -> None:
    """Write the names of the points, once the axes have their final size."""
    owners = [(i, spot) for i, cloud in enumerate(visible(panel)) for spot in cloud.spots]
    if not owners:
        return
    texts = [_written(axes, spot, theme.palette[i % len(theme.palette)]) for i, spot in owners]
    room, unit = axes.get_window_extent(), axes.figure.dpi / 72
    sizes = [text.get_window_extent() for text in texts]
    points = axes.transData.transform([(spot.x, spot.y) for _, spot in owners]).tolist()
    wanted = [
        Wanted((x, y), float(size.width), float(size.height), spot.best)
        for (x, y), size, (_, spot) in zip(points, sizes, owners, strict=True)
    ]
    lines = [box for _, spot in owners for box in _bars(axes, spot)] + _traced(axes, panel.front)
    paper = Box(*map(float, (room.x0, room.y0, axes.figure.bbox.x1, room.y1)))
    for text, (x, y), box in zip(texts, points, placed(wanted, lines, paper, unit), strict=True):
        if box is None:
            text.remove()
        else:
            height = (box.foot + box.head) / 2
            text.set_position(((box.left - x) / unit, (height - y) / unit))


def _written(axes: Any, spot: Spot, colour: str) -> Any:
    text = axes.annotate(
        spot.label,
        (spot.x, spot.y),
        xytext=(0, 0),
        textcoords="offset points",
        va="center",
        color=colour,
        fontsize=_SIZE - 1.5,
        annotation_clip=False,
    )
    text.set_in_layout(False)  # the size of the axes must not change any more
    return text


def _drawable(spot: Spot, log_x: bool) -> bool:
    return math.isfinite(spot.x) and math.isfinite(spot.y) and not (log_x and spot.x <= 0)


def _draw_cloud(axes: Any, cloud: Cloud, i: int, theme: Theme) -> None:
    x, y = [spot.x for spot in cloud.spots], [spot.y for spot in cloud.spots]
    axes.errorbar(
        x,
        y,
        xerr=_reaches(x, [spot.x_interval for spot in cloud.spots]),
        yerr=_reaches(y, [spot.y_interval for spot in cloud.spots]),
        color=theme.palette[i % len(theme.palette)],
        linestyle="none",
        elinewidth=1.0,
        marker=_MARKERS[(i + i // len(_MARKERS)) % len(_MARKERS)],
        markersize=6,
        markeredgecolor=theme.paper,
        markeredgewidth=0.7,
        label=cloud.label,
    )


def _reaches(
    values: Sequence[Number], intervals: Iterable[tuple[Number, Number] | None]
) -> list[list[Number]]:
    """Return how far the bars reach down and up from their points."""
    ends = [interval or (x, x) for x, interval in zip(values, intervals, strict=True)]
    return [
        [_reach(x - low) for x, (low, _) in zip(values, ends, strict=True)],
        [_reach(high - x) for x, (_, high) in zip(values, ends, strict=True)],
    ]


def _reach(distance: Number) -> Number:
    return max(distance, 0.0) if math.isfinite(distance) else 0.0


def _limit(axes: Any, panel: Scatter, spots: Sequence[Spot]) -> None:
    """Leave room for names at the sides, and none beyond what is possible."""
    if not spots:
        return
    heights = [y for spot in spots for y in (spot.y, *(spot.y_interval or ()))]
    heights = [y for y in heights if math.isfinite(y)]
    room = 0.08 * (max(heights) - min(heights)) or 1.0
    low, high = panel.y_range
    axes.set_ylim(
        max(min(heights) - room, low - room / 2), min(max(heights) + room, high + room / 2)
    )
    places = [x for spot in spots for x in (spot.x, *(spot.x_interval or ()))]
    places = [x for x in places if math.isfinite(x) and (x > 0 or not panel.log_x)]
    if not panel.log_x:
        aside = 0.12 * (max(places) - min(places)) or 1.0
        axes.set_xlim(min(places) - aside, max(places) + aside)
        return
    factor = max((max(places) / min(places)) ** 0.12, 1.2)
    axes.set_xlim(min(places) / factor, max(places) * factor)
    ticks = _ticks(min(places) / factor, max(places) * factor)
    axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
    axes.minorticks_off()


def _ticks(low: float, high: float) -> list[float]:
    """Return at most eight round numbers between two: halvings and doublings, or powers of ten."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{d}e{n}") for n in range(first, last + 1) for d in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= _MOST_TICKS:
            return ticks
    return ticks[:: -(-len(ticks) // _MOST_TICKS)]


def _columns(labels: Sequence[str]) -> int:
    """Return how many names fit beside one another."""
    longest = max(map(len, labels), default=1) + 4
    return max(1, min(len(labels), _ROW_LETTERS // longest))


def _bars(axes: Any, spot: Spot) -> list[Box]:
    """Return the boxes that the bars of a point fill."""
    across, along = spot.x_interval or (spot.x, spot.x), spot.y_interval or (spot.y, spot.y)
    bars = [
        ((across[0], spot.y), (across[1], spot.y)),
        ((spot.x, along[0]), (spot.x, along[1])),
    ]
    return [box for bar in bars for box in _traced(axes, bar)]


def _traced(axes: Any, corners: Sequence[tuple[Number, Number]]) -> list[Box]:
    """Return the boxes that a line of steps fills."""
    places = axes.transData.transform(list(corners)).tolist() if corners else []
    return [
        Box(min(x, u) - 1, min(y, v) - 1, max(x, u) + 1, max(y, v) + 1)
        for (x, y), (u, v) in pairwise(places)
        if all(map(math.isfinite, (x, y, u, v)))
    ]


_MOST_TICKS = 8
_ROW_LETTERS = 84  # letters of a row of names
