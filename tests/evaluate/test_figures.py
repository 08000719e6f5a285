"""Figures show the numbers they were given, with names, units and errors."""

import importlib.util
import math

import numpy as np
import pytest

from unison.evaluate import figures
from unison.evaluate.figures import Curve, Panel, loss_curves, steps_vs_quality
from unison.types import Estimate

matplotlib = pytest.importorskip("matplotlib", reason="needs the extra 'plot'")


def metrics(ppl, judge="byte 6-gram"):
    return {
        "gen_ppl": Estimate(ppl, ppl / 10, 8, f"perplexity ({judge})"),
        "entropy": Estimate(4.0 + ppl / 1000, 0.05, 8, "nats/token"),
    }


CURVES = {
    "base": {1: metrics(900.0), 4: metrics(300.0), 16: metrics(80.0)},
    "student": {1: metrics(120.0), 4: metrics(85.0)},
}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved during a test."""
    from matplotlib.figure import Figure

    seen, save = [], Figure.savefig

    def keep(self, *args, **options):
        seen.append(self)
        return save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return seen


def test_quality_is_drawn_over_doubling_steps_with_entropy_below_perplexity(drawn):
    png = steps_vs_quality(CURVES)
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    above, below = drawn[0].axes
    assert above.get_title(loc="left").startswith("generative perplexity (byte 6-gram)")
    assert below.get_title(loc="left").endswith("nats/token")
    assert below.get_xlabel() == "decoding steps"
    assert [above.get_xscale(), above.get_yscale(), below.get_yscale()] == ["log", "log", "linear"]
    assert [tick.get_text() for tick in below.get_xticklabels()] == ["1", "4", "16"]
    assert list(above.containers[0].lines[0].get_xdata()) == [1, 4, 16]
    assert list(above.containers[0].lines[0].get_ydata()) == [900.0, 300.0, 80.0]


def test_every_line_is_named_at_its_end_in_its_colour_and_there_is_no_legend(drawn):
    steps_vs_quality(CURVES)
    for axes in drawn[0].axes:
        assert axes.get_legend() is None
        assert {text.get_text() for text in axes.texts} == {"base", "student"}
        colours = {c.lines[0].get_color() for c in axes.containers}
        assert {text.get_color() for text in axes.texts} == colours


def test_error_bars_reach_the_95_percent_interval(drawn):
    steps_vs_quality(CURVES)
    [bars] = drawn[0].axes[0].containers[0].lines[2]
    low, high = np.array(bars.get_segments())[0][:, 1]
    assert (high - low) / 2 == pytest.approx(1.96 * 90.0)


def test_an_unknown_error_draws_a_point_without_a_bar(drawn):
    figures.drawn([Panel([Curve("a", [1, 2], [3.0, math.nan], [math.nan, 0.1])], "x", "y")])
    [bars] = drawn[0].axes[0].containers[0].lines[2]
    assert np.ptp(bars.get_segments()[0][:, 1]) == 0


def test_labels_of_lines_that_end_together_keep_apart_and_move_least(drawn):
    curves = [
        Curve(name, [0, 1], [0.0, end])
        for name, end in zip("abcd", [5, 5.01, 5.02, 0], strict=True)
    ]
    figures.drawn([Panel(curves, "x", "y")])
    heights = {text.get_text(): text.xy[1] for text in drawn[0].axes[0].texts}
    ordered = [heights[name] for name in "dabc"]
    assert min(np.diff(ordered)) >= figures._LABEL_ROOM - 1e-12
    assert heights["b"] == pytest.approx((heights["a"] + heights["c"]) / 2)
    assert heights["d"] == pytest.approx(0.0454, abs=1e-3)


def test_losses_are_drawn_with_their_unit(drawn):
    loss_curves({"train": [(0, 5.5), (10, 3.0)], "held out": []})
    [axes] = drawn[0].axes
    assert axes.get_title(loc="left") == "loss, nats/token"
    assert list(axes.containers[0].lines[0].get_ydata()) == [5.5, 3.0]


def test_drawing_is_repeatable_and_sets_nothing_global():
    before = dict(matplotlib.rcParams)
    assert steps_vs_quality(CURVES) == steps_vs_quality(CURVES)
    assert steps_vs_quality(CURVES, dark=True) != steps_vs_quality(CURVES)
    assert dict(matplotlib.rcParams) == before


def test_perplexities_of_two_judges_are_not_drawn_on_one_axis():
    with pytest.raises(ValueError, match="different judges"):
        steps_vs_quality({"a": {1: metrics(3.0)}, "b": {1: metrics(3.0, "other")}})


def test_figures_that_cannot_be_drawn_are_explained(monkeypatch):
    with pytest.raises(ValueError, match="at least one panel"):
        figures.drawn([])
    with pytest.raises(ValueError, match=r"'a' has lists of lengths \[1, 2\]"):
        figures.drawn([Panel([Curve("a", [1, 2], [3.0])], "x", "y")])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'unison\[plot\]'"):
        loss_curves({"a": [(0, 1.0)]})
