"""A path from counters is Brownian, and the same whatever times it is read at."""

import math
from itertools import pairwise

import pytest
import torch
from scipy import stats

from unison.prob import rng
from unison.prob.brownian import increment
from unison.prob.rng import Key

KEY = Key(rng.rows(1, 0, 2000))
TIMES = (0.3, 0.5, 0.77, 1.0, 1.9, 6.5)


def test_increments_over_adjoining_times_add_up() -> None:
    whole = increment(KEY, 5, 3, TIMES[0], TIMES[-1])
    parts = [increment(KEY, 5, 3, a, b) for a, b in pairwise(TIMES)]
    torch.testing.assert_close(torch.stack(parts).sum(0), whole, rtol=0, atol=1e-12)


def test_increments_are_independent_normals_with_the_variance_of_their_duration() -> None:
    parts = [increment(KEY, 5, 3, a, b).flatten() / math.sqrt(b - a) for a, b in pairwise(TIMES)]
    for i, part in enumerate(parts):
        assert stats.kstest(part.numpy(), "norm").pvalue > 1e-6
        for other in parts[:i]:
            correlation = float((part * other).mean()) * math.sqrt(len(part))
            assert abs(correlation) < 5.1  # passed once in three million


def test_a_path_does_not_depend_on_the_step_or_on_other_rows() -> None:
    row = increment(Key(KEY.seed[7:8], 3), 5, 3, 0.2, 0.9)
    assert torch.equal(row, increment(KEY, 5, 3, 0.2, 0.9)[7:8])


def test_two_sites_have_two_paths() -> None:
    assert (increment(KEY, 5, 3, 0.2, 0.9) != increment(KEY, 6, 3, 0.2, 0.9)).all()


def test_times_that_do_not_rise_are_refused() -> None:
    for start, end in ((0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (1.0, math.inf)):
        with pytest.raises(ValueError, match="0 < start < end is needed"):
            increment(KEY, 5, 3, start, end)
