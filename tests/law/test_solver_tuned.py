"""The default solver against exact flows, on laws and starts its table never saw."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from unison.decode.continuous import (
    GRIDS,
    Levels,
    Multistep,
    Span,
    Tuned,
    TunedGrid,
    default,
    solve,
)
from unison.decode.continuous.tuned import row_of
from unison.exact.mixtures import flow, gaussian
from unison.exact.zoo import ZOO
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import EDM, VariancePreserving

HIGH, LOW = 157.4, 0.01
SPAN = Span(HIGH, LOW, VariancePreserving())
KEY = Key(rng.rows(11, 50_000, 600))


def _noise() -> Tensor:
    return rng.normal(KEY, 5, 2)


def _error(law: object, levels: Levels, ends: Tensor) -> float:
    drawn = solve(Tuned(), levels, law, levels[0] * _noise(), KEY)  # pyright: ignore
    return float((drawn.x - ends).square().sum(1).mean().sqrt())


@pytest.mark.parametrize("name", ["gmm5", "ring8", "guided"])
def test_it_is_nearer_than_the_usual_solver_and_never_farther_with_more_steps(name: str) -> None:
    law = ZOO[name]()
    ends = flow(law, HIGH * _noise(), HIGH, LOW, 400)
    errors = [_error(law, TunedGrid().levels(SPAN, n), ends) for n in (5, 8, 10, 15, 20)]
    usual = [
        float((solve(Multistep(), GRIDS["logsnr"]().levels(SPAN, n), law, HIGH * _noise(), KEY).x
               - ends).square().sum(1).mean().sqrt())
        for n in (5, 8, 10)
    ]  # fmt: skip
    assert all(ours < 0.5 * theirs for ours, theirs in zip(errors, usual, strict=False))
    assert all(after <= before for before, after in pairwise(errors))


def test_a_constant_mean_is_solved_exactly() -> None:
    law = gaussian(torch.tensor([0.7, -0.2]).double(), torch.zeros(2, 2).double())
    for count in (5, 10):
        levels = TunedGrid().levels(SPAN, count)
        start = HIGH * _noise()
        drawn = solve(Tuned(), levels, law, start, KEY)
        wanted = law.means + LOW / HIGH * (start - law.means)
        torch.testing.assert_close(drawn.x, wanted, rtol=0, atol=1e-7)


def test_data_of_another_spread_are_the_same_problem() -> None:
    law = ZOO["gmm5"]()
    small = type(law)(law.log_weights, 0.25 * law.means, 0.0625 * law.covariances)
    levels = TunedGrid().levels(SPAN, 8)
    narrow = TunedGrid().levels(Span(0.25 * HIGH, 0.25 * LOW, SPAN.process, 0.25), 8)
    large = solve(Tuned(), levels, law, HIGH * _noise(), KEY).x
    little = solve(Tuned(), narrow, small, 0.25 * HIGH * _noise(), KEY).x
    torch.testing.assert_close(little, 0.25 * large, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("high", "low"), [(80.0, 0.002), pytest.param(400.0, 0.02, marks=pytest.mark.slow)]
)
def test_other_ends_are_solved_as_well(high: float, low: float) -> None:
    law = ZOO["ring8"]()
    ends = flow(law, high * _noise(), high, low, 600)
    assert _error(law, TunedGrid().levels(Span(high, low, EDM()), 10), ends) < 0.03


def test_the_default_is_another_where_the_table_does_not_reach() -> None:
    assert isinstance(default(SPAN, 10).solver, Tuned)
    assert default(SPAN, 30) == default(SPAN, 25)
    assert isinstance(default(SPAN, 1000).solver, Multistep)
    assert isinstance(default(Span(3.0, 0.01, SPAN.process), 10).solver, Multistep)
    assert isinstance(default(Span(HIGH, 1.5, SPAN.process), 10).solver, Multistep)


def test_levels_that_are_not_its_own_are_refused() -> None:
    with pytest.raises(ValueError, match="the levels of the grid 'tuned' alone"):
        _error(ZOO["gmm5"](), GRIDS["logsnr"]().levels(SPAN, 10), _noise())
    with pytest.raises(ValueError, match="not for 1000"):
        TunedGrid().levels(SPAN, 1000)
    with pytest.raises(ValueError, match=r"from 20 or more"):
        TunedGrid().levels(Span(3.0, 0.01, SPAN.process), 10)


def test_the_table_s_weights_sum_to_one() -> None:
    for count in (5, 8, 10, 15, 20):
        row = row_of(count)
        assert len(row.grid) == count + 1
        assert all(math.isclose(math.fsum(line), 1, abs_tol=1e-6) for line in row.weights)
