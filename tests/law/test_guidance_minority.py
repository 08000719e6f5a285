"""Minority scores in closed form, and how guidance by them moves the share of what is rare."""

import math
from itertools import pairwise

import pytest
import torch

from unison.decode.continuous import solve
from unison.decode.continuous.ddim import DDIM
from unison.decode.continuous.guidance import (
    Classified,
    SelfGuided,
    minority_score,
    quantile_classes,
)
from unison.exact.mixtures import Mixture, gaussian
from unison.prob import rng
from unison.prob.rng import Key

# Nine tenths in one component, one tenth in another of the same shape: rarity alone differs.
LAW = Mixture(
    torch.tensor([0.9, 0.1]).double().log(),
    torch.tensor([[-1.5, 0.0], [1.5, 0.5]]).double(),
    (0.3**2 * torch.eye(2).double()).expand(2, 2, 2),
)
GRID = (*(20 * 0.75**i for i in range(28)), 0.0)
KEY = Key(rng.rows(1, 0, 1500))
START = 20 * rng.normal(KEY, 1, 2)


def rare(points):
    level = torch.full((len(points),), 1e-3).double()
    return LAW.responsibilities(points, level)[:, 1]


def support():
    """The log density that one in a hundred of the data fall below."""
    data = LAW.sample(Key(rng.rows(2, 0, 20_000)))
    return LAW.log_prob(data, torch.zeros(20_000).double()).quantile(0.01)


def test_the_score_of_a_gaussian_is_its_closed_form():
    law = gaussian(
        torch.tensor([0.5, -1.0]).double(), torch.diag(torch.tensor([2.0, 0.3]).double())
    )
    x, level = torch.tensor([[0.5, -1.0], [3.0, 0.0]]).double(), 0.8
    variances, square = torch.tensor([2.0, 0.3]).double(), 0.64
    kept = variances / (variances + square)
    away = (1 - kept) * (x - torch.tensor([0.5, -1.0]))
    expected = (away.square() + kept.square() * square).sum(1)
    many = x.repeat_interleave(20_000, 0)
    found = minority_score(law, many, level, Key(rng.rows(3, 0, 40_000)), 2).view(2, -1)
    error = found.std(1) / math.sqrt(20_000)
    assert ((found.mean(1) - expected).abs() < 5 * error).all()


def test_the_rare_component_scores_higher_at_levels_that_mix_the_components():
    points = LAW.sample(Key(rng.rows(4, 0, 2000)))
    scores = minority_score(LAW, points, 1.5, Key(rng.rows(5, 0, 2000)), 8)
    is_rare = rare(points) > 0.5
    assert float(scores[is_rare].mean()) > 2 * float(scores[~is_rare].mean())
    classes = quantile_classes(scores, 10)
    assert classes.bincount().tolist() == [200] * 10
    assert float(is_rare[classes == 9].double().mean()) > 0.7
    assert float(is_rare[classes == 0].double().mean()) < 0.05


def test_a_wide_component_scores_as_a_rare_one_does():
    """The score's known trap: it rewards variance too, so both are reported."""
    wide = Mixture(
        torch.tensor([0.5, 0.5]).double().log(),
        LAW.means * 3,
        torch.stack([0.3**2 * torch.eye(2), 1.0**2 * torch.eye(2)]).double(),
    )
    points = wide.sample(Key(rng.rows(6, 0, 2000)))
    scores = minority_score(wide, points, 0.8, Key(rng.rows(7, 0, 2000)))
    assert float(scores[points[:, 0] > 0].mean()) > 3 * float(scores[points[:, 0] < 0].mean())


@pytest.mark.law
def test_the_share_of_the_minority_rises_with_the_weight_and_stays_in_the_support():
    def rarest(x, level):
        return LAW.responsibilities(x, level)[:, 1].clamp(min=1e-300).log()

    shares, inside = [], []
    for weight in (0.0, 0.25, 0.5, 1.0, 2.0):
        drawn = solve(DDIM(), GRID, Classified(LAW, rarest, weight), START, KEY).x
        shares.append(float(rare(drawn).mean()))
        dense = LAW.log_prob(drawn, torch.zeros(1500).double()) >= support()
        inside.append(float(dense.double().mean()))
    assert abs(shares[0] - 0.1) < 0.05
    assert all(after > before for before, after in pairwise(shares[:4]))
    assert min(shares[3:]) > 0.99
    # Half a weight tempers the classifier at every level alike, which is no law's belief: what is
    # drawn then lies between the components. Whole weights and more stay inside.
    assert min(inside[0], *inside[3:]) > 0.9
    assert min(inside[1:3]) < 0.7


@pytest.mark.law
def test_without_a_classifier_the_share_rises_too():
    shares, inside = [], []
    for weight in (0.0, 0.2, 0.8):
        guided = SelfGuided(LAW, weight, KEY.seed, below=4.0)
        drawn = solve(DDIM(), GRID, guided, START, KEY).x
        shares.append(float(rare(drawn).mean()))
        dense = LAW.log_prob(drawn, torch.zeros(1500).double()) >= support()
        inside.append(float(dense.double().mean()))
    assert shares[2] > 1.7 * shares[0]
    assert shares[1] > 1.2 * shares[0]
    assert min(inside) > 0.9


def test_self_guidance_climbs_the_distance_the_answer_moves():
    x, level = 2 * rng.normal(Key(rng.rows(8, 0, 6)), 2, 2), torch.full((6,), 0.9).double()
    seed = rng.rows(9, 0, 6)
    step = SelfGuided(LAW, 1.0, seed)(x, level) - LAW(x, level)
    gains = []
    for size in (-1e-4, 1e-4):
        mean = LAW(x + size * step, level)
        again = SelfGuided(LAW, 0.0, seed)  # the same noise
        assert torch.equal(again(x, level), LAW(x, level))
        noise = rng.normal(Key(seed), 0x7FFFFF16, 2)
        fixed = LAW(LAW(x, level) + 0.9 * noise, level)
        gains.append((mean - fixed).square().sum(1))
    slope = (gains[1] - gains[0]) / 2e-4
    assert torch.allclose(slope, step.square().sum(1) / 0.81, rtol=1e-4)
    kept = SelfGuided(LAW, 1.0, seed).keep(torch.tensor([4]))(x[[4]], level[[4]])
    assert torch.allclose(kept, (LAW(x, level) + step)[[4]])


def test_more_classes_than_scores_are_refused():
    with pytest.raises(ValueError, match="from 2 to the 3 scores"):
        quantile_classes(torch.zeros(3), 4)
