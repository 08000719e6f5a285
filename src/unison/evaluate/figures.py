"""What do the numbers look like? Line figures as PNG bytes; the only door to ``matplotlib``.

Lines carry their name at their end instead of a legend, axes carry units, and colours are those of
Okabe and Ito (2008), which colour-blind readers tell apart; markers differ too, for print. Nothing
global is set: figures are drawn on their own canvas, in the style given here, for light or dark
paper.
"""

import importlib
import importlib.util
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from unison.types import Estimate

Number = float | int

_WIDTH, _HEIGHT, _DPI = 6.4, 2.7, 160
_SIZE = 10.0
_MARKERS = "osD^vP"
# From the foot of a panel to its head, as shares of it: how far apart two end labels must be.
_LABEL_ROOM = 0.085


class Curve(NamedTuple):
    """One line of a panel.

    Attributes:
        label: What is written at its end; empty for an unnamed line.
        x: Where.
        y: How much; nan leaves a gap.
        error: Standard errors of ``y``, drawn as bars of 1.96 each way; ``None`` draws none.
        marked: Whether each point is a measurement to be seen, or a sample of a long series.
    """

    label: str
    x: Sequence[Number]
    y: Sequence[Number]
    error: Sequence[Number] | None = None
    marked: bool = True


class Panel(NamedTuple):
    """One pair of axes.

    Attributes:
        curves: Its lines; the n-th line of every panel has one colour.
        x_label: Quantity and unit.
        y_label: Quantity and unit; it is written above the axis, not turned.
        log2_x: Whether x doubles from tick to tick.
        log_y: Whether y is logarithmic.
    """

    curves: Sequence[Curve]
    x_label: str
    y_label: str
    log2_x: bool = False
    log_y: bool = False


class Theme(NamedTuple):
    """Colours of figures and of the page around them.

    Attributes:
        paper: Background.
        ink: Text.
        muted: Text of second rank.
        faint: Rules and grid lines.
        glow: Background of what is marked.
        palette: Lines, in order.
    """

    paper: str
    ink: str
    muted: str
    faint: str
    glow: str
    palette: tuple[str, ...]


LIGHT = Theme(
    "#ffffff", "#222222", "#5c6370", "#d9d9d9", "#dcecf7",
    ("#0072b2", "#d55e00", "#009e73", "#b0578d", "#8a6d00", "#222222"),
)  # fmt: skip
DARK = Theme(
    "#16191d", "#e6e6e6", "#a3abb5", "#3a4048", "#1d3a4f",
    ("#56b4e9", "#e69f00", "#2fc79a", "#e08fbf", "#f0e442", "#e6e6e6"),
)  # fmt: skip


def lines(panels: Sequence[Panel], *, dark: bool = False) -> bytes:
    """Return a PNG with the panels one below the other, on one x axis.

    Args:
        panels: From top to bottom; only the last one names its x axis.
        dark: Light ink on dark paper.

    Raises:
        ValueError: ``matplotlib`` is missing, there is no panel, or a curve's lists differ in
            length.
    """
    _validate(panels)
    figure_module = _matplotlib("figure")
    theme = DARK if dark else LIGHT
    figure = figure_module.Figure(
        figsize=(_WIDTH, _HEIGHT * len(panels) + 0.3),
        dpi=_DPI,
        facecolor=theme.paper,
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    all_axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw(axes, panel, theme)
    all_axes[-1].set_xlabel(panels[-1].x_label, color=theme.ink, fontsize=_SIZE)
    # Labels are moved apart in units of the panel, so its limits must be final by now.
    for axes, panel in zip(all_axes, panels, strict=True):
        _name_lines(axes, panel, theme)
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def loss_curves(
    series: Mapping[str, Sequence[tuple[Number, Number]]],
    *,
    unit: str = "nats/token",
    dark: bool = False,
) -> bytes:
    """Return losses over training.

    Args:
        series: Per name, pairs of optimiser step and loss.
        unit: Of the losses.
        dark: Light ink on dark paper.

    Raises:
        ValueError: As for :func:`lines`.
    """
    curves = [
        Curve(name, [x for x, _ in points], [y for _, y in points], marked=False)
        for name, points in series.items()
    ]
    return lines([Panel(curves, "optimiser steps", f"loss, {unit}")], dark=dark)


def steps_vs_quality(
    curves: Mapping[str, Mapping[int, Mapping[str, Estimate]]], *, dark: bool = False
) -> bytes:
    """Return sample quality over decoding steps: perplexity above, entropy below, never one alone.

    Args:
        curves: Per model and number of steps, what ``sample_metrics`` returned.
        dark: Light ink on dark paper.

    Raises:
        ValueError: As for :func:`lines`, or the models were read by different judges.
    """
    units = {e["gen_ppl"].unit for by_steps in curves.values() for e in by_steps.values()}
    if len(units) > 1:
        raise ValueError(
            f"Perplexities under different judges share no axis: {', '.join(sorted(units))}."
        )
    panels = [
        Panel(
            [_over_steps(name, by_steps, key) for name, by_steps in curves.items()],
            "decoding steps",
            label,
            log2_x=True,
            log_y=key == "gen_ppl",
        )
        for key, label in (
            ("gen_ppl", f"generative {''.join(units)}, lower is better"),
            ("entropy", "entropy within a sample, nats/token"),
        )
    ]
    return lines(panels, dark=dark)


def _over_steps(name: str, by_steps: Mapping[int, Mapping[str, Estimate]], key: str) -> Curve:
    steps = sorted(by_steps)
    estimates = [by_steps[n][key] for n in steps]
    return Curve(name, steps, [e.value for e in estimates], [e.stderr for e in estimates])


def require() -> None:
    """Refuse to start work that ends in figures where they cannot be drawn.

    Raises:
        ValueError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(
            "Figures need the package 'matplotlib', which is not installed; "
            "run: pip install 'unison[plot]'"
        )


def _matplotlib(part: str) -> Any:
    require()
    return importlib.import_module(f"matplotlib.{part}")


def _validate(panels: Sequence[Panel]) -> None:
    if not panels:
        raise ValueError("A figure needs at least one panel.")
    for curve in (curve for panel in panels for curve in panel.curves):
        lengths = {len(curve.x), len(curve.y), len(curve.x if curve.error is None else curve.error)}
        if len(lengths) > 1:
            raise ValueError(
                f"The curve {curve.label!r} has lists of lengths {sorted(lengths)}; "
                "x, y and error go together."
            )


def _draw(axes: Any, panel: Panel, theme: Theme) -> None:
    axes.set_facecolor(theme.paper)
    axes.set_title(panel.y_label, loc="left", color=theme.ink, fontsize=_SIZE, pad=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.ink)
    axes.grid(axis="y", color=theme.faint, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=theme.ink, labelsize=_SIZE - 1, length=3)
    axes.tick_params(axis="y", which="both", length=0)
    if panel.log_y:
        axes.set_yscale("log")
        _plain_log_ticks(axes)
    for i, curve in enumerate(panel.curves):
        axes.errorbar(
            curve.x,
            curve.y,
            yerr=None if curve.error is None else [1.96 * _finite(e) for e in curve.error],
            color=theme.palette[i % len(theme.palette)],
            linewidth=1.8,
            elinewidth=1.2,
            marker=_MARKERS[i % len(_MARKERS)] if curve.marked else None,
            markersize=4.5,
        )
    if panel.log2_x:
        _powers_of_two(axes, sorted({x for curve in panel.curves for x in curve.x}))


def _finite(error: Number) -> Number:
    return error if math.isfinite(error) else 0.0


def _powers_of_two(axes: Any, ticks: list[Number]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def _plain_log_ticks(axes: Any) -> None:
    """Write 20, 50, 100 instead of powers of ten, between which samples usually lie."""
    ticker = _matplotlib("ticker")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(ticker.NullLocator())


def _name_lines(axes: Any, panel: Panel, theme: Theme) -> None:
    axes.autoscale_view()  # matplotlib puts it off until drawing; until then the limits are 0 and 1
    ends = [
        (float(axes.transAxes.inverted().transform(axes.transData.transform(last))[1]), last, i)
        for i, curve in enumerate(panel.curves)
        for last in _last(curve)
    ]
    ends.sort()
    for height, (_, _, i) in zip(_spread([end[0] for end in ends]), ends, strict=True):
        axes.annotate(
            panel.curves[i].label,
            (1.0, height),
            xycoords="axes fraction",
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=theme.palette[i % len(theme.palette)],
            fontsize=_SIZE,
            annotation_clip=False,
        )


def _last(curve: Curve) -> list[tuple[Number, Number]]:
    """Return the last point that can be drawn, if the curve has one and a name."""
    points = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if math.isfinite(y)]
    return points[-1:] if curve.label else []


def _spread(heights: list[float]) -> list[float]:
    """Return the nearest heights, in squares, that keep their order and their distance.

    Without the distances owed to the labels below, that is isotonic regression: neighbours in the
    wrong order are pooled.
    """
    pools: list[list[float]] = []
    for i, height in enumerate(heights):
        pool = [height - i * _LABEL_ROOM]
        while pools and sum(pools[-1]) / len(pools[-1]) > sum(pool) / len(pool):
            pool = pools.pop() + pool
        pools.append(pool)
    level = [sum(pool) / len(pool) for pool in pools for _ in pool]
    return [height + i * _LABEL_ROOM for i, height in enumerate(level)]
