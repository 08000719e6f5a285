"""What do the numbers look like? Lines and named points as PNG or SVG; the only door to matplotlib.

Lines carry their name at their end instead of a legend, axes carry units, markers differ as well as
colours, for print. Nothing global is set and no setting of the user's is read: figures are drawn on
their own canvas, in the style given here, for light or dark paper, and the same numbers are the
same bytes.
"""

import importlib
import importlib.util
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from unison.evaluate import scatter
from unison.evaluate.scatter import Number, Scatter
from unison.evaluate.theme import DARK, LIGHT, Theme
from unison.types import Estimate

_WIDTH, _HEIGHT, _TALL, _DPI = 6.4, 2.7, 3.9, 160
_UNDATED = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
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


def drawn(
    panels: Sequence[Panel | Scatter], *, dark: bool = False, kind: Literal["png", "svg"] = "png"
) -> bytes:
    """Return a picture with the panels one below the other.

    Args:
        panels: From top to bottom; lines share one x axis, which only the last panel names.
        dark: Light ink on dark paper.
        kind: Dots for pages, or outlines for papers.

    Raises:
        ValueError: ``matplotlib`` is missing, there is no panel, or a curve's lists differ in
            length.
    """
    _validate(panels)
    style = _matplotlib("style")
    with style.context(["default", {"svg.hashsalt": "unison"}]):  # default: not the user's own
        figure = _figure(panels, DARK if dark else LIGHT)
        picture = io.BytesIO()
        figure.savefig(picture, format=kind, metadata=_UNDATED[kind])
    return picture.getvalue()


def _figure(panels: Sequence[Panel | Scatter], theme: Theme) -> Any:
    height = sum(_TALL if isinstance(panel, Scatter) else _HEIGHT for panel in panels)
    figure = _matplotlib("figure").Figure(
        figsize=(_WIDTH, height + 0.3), dpi=_DPI, facecolor=theme.paper, layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    shared = not any(isinstance(panel, Scatter) for panel in panels)
    all_axes = figure.subplots(len(panels), 1, sharex=shared, squeeze=False)[:, 0]
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw(axes, panel, theme)
        if panel is panels[-1] or not shared:
            axes.set_xlabel(panel.x_label, color=theme.ink, fontsize=_SIZE)
    # Names are moved apart in units of the panel, so limits and sizes must be final by now.
    if not shared:
        figure.get_layout_engine().execute(figure)
        figure.set_layout_engine("none")
    for axes, panel in zip(all_axes, panels, strict=True):
        if isinstance(panel, Scatter):
            scatter.name(axes, panel, theme)
        else:
            _name_lines(axes, panel, theme)
    return figure


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
        ValueError: As for :func:`drawn`.
    """
    curves = [
        Curve(name, [x for x, _ in points], [y for _, y in points], marked=False)
        for name, points in series.items()
    ]
    return drawn([Panel(curves, "optimiser steps", f"loss, {unit}")], dark=dark)


def steps_vs_quality(
    curves: Mapping[str, Mapping[int, Mapping[str, Estimate]]], *, dark: bool = False
) -> bytes:
    """Return sample quality over decoding steps: perplexity above, entropy below, never one alone.

    Args:
        curves: Per model and number of steps, what ``sample_metrics`` returned.
        dark: Light ink on dark paper.

    Raises:
        ValueError: As for :func:`drawn`, or the models were read by different judges.
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
    return drawn(panels, dark=dark)


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


def _validate(panels: Sequence[Panel | Scatter]) -> None:
    if not panels:
        raise ValueError("A figure needs at least one panel.")
    for curve in (c for panel in panels if isinstance(panel, Panel) for c in panel.curves):
        lengths = {len(curve.x), len(curve.y), len(curve.x if curve.error is None else curve.error)}
        if len(lengths) > 1:
            raise ValueError(
                f"The curve {curve.label!r} has lists of lengths {sorted(lengths)}; "
                "x, y and error go together."
            )


def _draw(axes: Any, panel: Panel | Scatter, theme: Theme) -> None:
    axes.set_facecolor(theme.paper)
    pad = 8 + 14 * scatter.rows_above(panel) if isinstance(panel, Scatter) else 8
    axes.set_title(panel.y_label, loc="left", color=theme.ink, fontsize=_SIZE, pad=pad)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.ink)
    axes.grid(axis="y", color=theme.faint, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=theme.ink, labelsize=_SIZE - 1, length=3)
    axes.tick_params(axis="y", which="both", length=0)
    if isinstance(panel, Scatter):
        scatter.draw(axes, panel, theme)
    else:
        _draw_lines(axes, panel, theme)


def _draw_lines(axes: Any, panel: Panel, theme: Theme) -> None:
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
