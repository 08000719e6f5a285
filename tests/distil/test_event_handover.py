"""A base above a level gives back the modes that a student loses there."""

import math

import pytest
import torch

from unison.decode.continuous import solve
from unison.decode.continuous.ddim import DDIM
from unison.distil.continuous.handover import (
    HandingOver,
    HandOver,
    diversity,
    handed_over,
    student_levels,
)
from unison.exact.zoo import part, ring8
from unison.prob import rng
from unison.prob.rng import Key

LAW = ring8()
DROPPED = part(LAW, (0, 1, 2, 3))
ROWS, HIGH = 800, 20.0
KEY = Key(rng.rows(1, 0, ROWS))
START = (HIGH**2 + 1) ** 0.5 * rng.normal(KEY, 1, 2)
STUDENT = (HIGH, 0.5, 0.2, 0.08, 0.0)  # four steps


def student(x, level):
    """Knows half of the modes where the composition is decided, all of them below."""
    far = (level > 0.6)[:, None]
    return torch.where(far, DROPPED(x, level), LAW(x, level))


def base_levels(low, steps):
    return tuple(HIGH * (low / HIGH) ** (i / steps) for i in range(steps + 1))


def mode(x):
    return torch.cdist(x.double(), LAW.means).argmin(1)


def test_a_handover_restores_the_bases_coverage_at_the_cost_of_its_steps():
    alone = solve(DDIM(), STUDENT, student, START, KEY)
    base = solve(DDIM(), (*base_levels(0.05, 19), 0.0), LAW, START, KEY)
    run = HandingOver(base_levels(0.5, 6), student_levels(STUDENT))
    both = handed_over(run, LAW, student, START, KEY)
    lost, full, found = (diversity(x, mode) for x in (alone.x, base.x, both.x))
    assert (alone.nfe, base.nfe, both.base, both.student) == (4, 20, 6, 3)
    assert full.kinds == found.kinds == 8
    assert found.entropy > 0.95 * full.entropy > 1.4 * lost.entropy, (lost, full, found)
    assert abs(found.distance / full.distance - 1) < 0.05 < 1 - lost.distance / full.distance


def test_one_step_of_the_base_can_be_enough():
    run = HandingOver((HIGH, 0.5), student_levels(STUDENT))
    both = handed_over(run, LAW, student, START, KEY)
    assert (both.base, both.student) == (1, 3)
    assert diversity(both.x, mode).entropy > 0.95 * math.log(8)


def test_the_run_is_that_of_one_denoiser_that_changes_hands():
    run = HandingOver((HIGH, 2.0, 0.5), (0.2, 0.08, 0.0))
    both = handed_over(run, LAW, student, START, KEY)
    asked = []
    joined = HandOver(LAW, student, 0.5, lambda who, rows: asked.append((who, rows)))
    once = solve(DDIM(), (HIGH, 2.0, 0.5, 0.2, 0.08, 0.0), joined, START, KEY)
    torch.testing.assert_close(once.x, both.x)
    assert asked == [("base", ROWS)] * 2 + [("student", ROWS)] * 3


def test_the_base_answers_above_the_level_and_the_student_at_it():
    joined = HandOver(lambda x, s: x + 1, lambda x, s: x - 1, 0.5)
    x = torch.zeros(2, 3)
    assert torch.equal(joined(x, torch.tensor([0.6, 9.0])), x + 1)
    assert torch.equal(joined(x, torch.tensor([0.5, 0.1])), x - 1)
    with pytest.raises(ValueError, match=r"both sides of the level 0\.5"):
        joined(x, torch.tensor([0.6, 0.4]))


def test_diversity_is_the_mean_distance_and_the_entropy_of_kinds():
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [3.0, 4.0]])
    found = diversity(points, lambda x: (x[:, 0] > 1).long())
    assert found.distance == pytest.approx(5.0 * 4 / 6)
    assert found.entropy == pytest.approx(math.log(2))
    assert found.kinds == 2
    with pytest.raises(ValueError, match="needs two events, got 1"):
        diversity(points[:1], lambda x: x[:, 0].long())


def test_levels_that_do_not_follow_each_other_are_refused():
    with pytest.raises(ValueError, match=r"go on below 0\.5"):
        HandingOver((3.0, 0.5), (0.5, 0.0))
    with pytest.raises(ValueError, match="the base needs two levels"):
        HandingOver((3.0,), (0.5, 0.0))
    with pytest.raises(ValueError, match="hand over at a level above 0"):
        HandOver(LAW, LAW, 0.0)
    with pytest.raises(ValueError, match="between 1 and 3 can be the base's, got 4"):
        student_levels(STUDENT, 4)
