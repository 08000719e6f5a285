"""Objectives of continuous data: the minimiser is the exact mean, the gradient the exact one."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from laws import assert_count
from scipy import stats
from scipy.integrate import quad

from unison.objectives.continuous import (
    EVENT_OBJECTIVES,
    WEIGHTS,
    Ambient,
    Denoising,
    EventBatch,
    FlowMatching,
    LogitNormalTime,
    LogNormal,
    Restoring,
    UniformTime,
)
from unison.objectives.continuous.flow_matching import lever
from unison.objectives.continuous.weights import Balanced, MinSNR, OfClean, OfNoise
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import GAUSSIAN, VariancePreserving
from unison.process.continuous import FlowMatching as Straight
from unison.process.continuous.resshift import ResShift
from unison.types import Level

WEIGHT, MEANS, SPREADS = (0.3, 0.7), (-1.0, 0.6), (0.2, 0.4)
SIGMAS = 6.0  # a false alarm of 2e-9 a comparison
FLOW = Straight()


@dataclass(frozen=True)
class At:
    """Every row at one level."""

    level: float

    def draw(self, process, strata, low: Level, high: Level):
        return torch.full_like(strata, self.level, dtype=torch.float64)


def key(rows, step=0):
    return Key(rng.rows(0, 0, rows), step)


def strata(rows):
    return rng.stratified(0, 0, rows)


def points(rows, seed=0):
    """Draws of a mixture on the line, exactly as the formulas below have it."""
    random = np.random.default_rng(seed)
    which = random.random(rows) > WEIGHT[0]
    draws = np.where(which, MEANS[1], MEANS[0])
    draws = draws + np.where(which, SPREADS[1], SPREADS[0]) * random.normal(size=rows)
    return torch.from_numpy(draws)[:, None]


def joint(y, s):
    """p(y) of each component, and E[x_0 | y] of each: Bayes' rule for two normals."""
    for w, m, c in zip(WEIGHT, MEANS, SPREADS, strict=True):
        total = c**2 + s**2
        yield w * stats.norm.pdf(y, m, math.sqrt(total)), m + c**2 / total * (y - m)


def mean_in(first, last, s):
    """E[x_0 | y in a bin] by quadrature."""
    above = quad(lambda y: sum(p * m for p, m in joint(y, s)), first, last)[0]
    return above / quad(lambda y: sum(p for p, _ in joint(y, s)), first, last)[0]


EDGES = np.linspace(-2.0, 2.0, 17)


class Histogram:
    """A denoiser that is constant in bins: the freest regression there is."""

    def __init__(self):
        self.heights = torch.zeros(len(EDGES) + 1, dtype=torch.float64, requires_grad=True)

    def __call__(self, x, level):
        return self.heights[torch.bucketize(x, torch.from_numpy(EDGES))]


def minimiser(objective, batch, process=FLOW):
    """Where a quadratic loss with a diagonal second derivative is least."""
    table = Histogram()
    loss = objective(process, lambda label, beside: table, batch, key(len(batch.events)))
    (slope,) = torch.autograd.grad(loss.total, table.heights, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), table.heights)
    return (-slope / bend).detach().numpy()


ROWS, LEVEL = 100_000, 0.8
KNOWN = torch.where(torch.arange(ROWS) % 4 == 0, 0.0, 0.5).double()


@pytest.mark.parametrize(
    ("objective", "noisy"),
    [
        (Denoising(At(LEVEL), Balanced()), False),
        (Denoising(At(LEVEL), OfClean()), False),
        (FlowMatching(At(LEVEL)), False),
        (Ambient(At(LEVEL)), False),
        (Ambient(At(LEVEL)), True),
    ],
)
def test_the_minimiser_over_histograms_is_the_exact_mean(objective, noisy):
    clean = points(ROWS)
    known = KNOWN if noisy else torch.zeros(ROWS, dtype=torch.float64)
    own = rng.normal(key(ROWS, step=7), 3, 1)
    batch = EventBatch(clean + known[:, None] * own, strata(ROWS), known=known if noisy else None)
    found = minimiser(objective, batch)
    for i, (first, last) in enumerate(pairwise(EDGES)):
        share = quad(lambda y: sum(p for p, _ in joint(y, LEVEL)), first, last)[0]
        # what is seen of a noisy row varies 1 / (1 - n^2/s^2) times as much about its mean
        spread = 0.8 if not noisy else 0.8 + 0.5 / (1 - 0.5**2 / LEVEL**2)
        assert abs(found[i + 1] - mean_in(first, last, LEVEL)) < SIGMAS * spread / math.sqrt(
            share * ROWS
        )


@pytest.mark.parametrize("known", [0.0, 0.3])
def test_the_gradient_is_the_one_written_by_hand(known):
    rows, slope = 64, torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    seen = points(rows)
    batch = EventBatch(seen, strata(rows), known=torch.full((rows,), known, dtype=torch.float64))
    objective = Ambient(LogNormal(0.5, 0.5), Balanced(0.7))
    loss = objective(FLOW, lambda label, beside: lambda x, level: slope * x, batch, key(rows))
    (gradient,) = torch.autograd.grad(loss.total, slope)
    # levels by scipy, noise by the draw's name
    below = stats.norm.cdf(math.log(known), 0.5, 0.5) if known else 0.0
    s = np.exp(stats.norm.ppf(below + batch.strata.numpy() * (1 - below), 0.5, 0.5))
    noise = rng.normal(key(rows), 0, 1).numpy()[:, 0]
    x = seen.numpy()[:, 0] + np.sqrt(s**2 - known**2) * noise
    share = known**2 / s**2
    error = share * x + (1 - share) * 0.4 * x - seen.numpy()[:, 0]
    weight = (s**2 + 0.7**2) / (s * 0.7) ** 2
    assert loss.total.item() == pytest.approx((weight * error**2).sum(), rel=1e-9)
    assert gradient.item() == pytest.approx((2 * weight * error * (1 - share) * x).sum(), rel=1e-9)
    assert loss.count.item() == rows


def test_the_velocity_loss_of_the_straight_path_is_that_of_its_velocity():
    rows = 64
    batch = EventBatch(points(rows), strata(rows))
    loss = FlowMatching(UniformTime(0.01))(
        FLOW, lambda label, beside: lambda x, level: 0.4 * x, batch, key(rows)
    )
    share = FLOW.highest / (1 + FLOW.highest)
    t = share * (0.01 + 0.99 * batch.strata.numpy())
    clean, noise = batch.events.numpy()[:, 0], rng.normal(key(rows), 0, 1).numpy()[:, 0]
    x = (1 - t) * clean + t * noise
    velocity = (x - 0.4 * x / (1 - t)) / t
    # per unit of the process's own time, which ends at t = share
    exact = share**2 * ((velocity - (noise - clean)) ** 2).sum()
    assert loss.total.item() == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("name", GAUSSIAN)
def test_an_error_of_the_mean_moves_the_velocity_by_the_lever(name):
    process = GAUSSIAN[name]()
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    step = 1e-6
    rise = (process.level(t + step) - process.level(t - step)) / (2 * step)
    exact = process.alpha(t) * rise / process.level(t)
    assert torch.allclose(lever(process, process.level(t)), exact, rtol=1e-6)


def ends(low, high):
    return torch.tensor([low] * 9, dtype=torch.float64), torch.tensor([high] * 9).double()


QUANTILES = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)


def test_laws_of_levels_invert_their_distributions_within_a_range():
    found = LogNormal(-1.2, 1.2).draw(FLOW, QUANTILES, *ends(0.0, math.inf))
    assert np.allclose(found.log(), stats.norm.ppf(QUANTILES, -1.2, 1.2))
    found = LogNormal(-1.2, 1.2).draw(FLOW, QUANTILES, *ends(0.2, 3.0))
    cut = [(math.log(end) + 1.2) / 1.2 for end in (0.2, 3.0)]
    assert np.allclose(found.log(), stats.truncnorm.ppf(QUANTILES, *cut, -1.2, 1.2))
    process = VariancePreserving()
    found = UniformTime(0.1).draw(process, QUANTILES, *ends(0.0, math.inf))
    assert torch.allclose(process.time_of(found), 0.1 + 0.9 * QUANTILES)
    found = UniformTime().draw(process, QUANTILES, *ends(0.5, 2.0))
    first, last = process.time_of(torch.tensor([0.5, 2.0]).double())
    assert torch.allclose(process.time_of(found), first + (last - first) * QUANTILES)
    found = LogitNormalTime(0.3, 0.8, 1e-9).draw(FLOW, QUANTILES, *ends(0.0, math.inf))
    logit = torch.special.logit(FLOW.time_of(found))
    assert np.allclose(logit, stats.norm.ppf(QUANTILES, 0.3, 0.8), atol=1e-6)


def test_weights_are_those_of_the_errors_they_are_named_after():
    s = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    exact = {
        "balanced": (s**2 + 0.5**2) / (0.5 * s) ** 2,
        "noise": 1 / s**2,
        "clean": torch.ones(3, dtype=torch.float64),
        "min_snr": torch.tensor([5.0, 4.0, 0.25], dtype=torch.float64),
    }
    for name, kind in WEIGHTS.items():
        assert torch.allclose(kind()(s), exact[name])


class Watching:
    """A denoiser that remembers what it was asked, and what it says it knows."""

    span = (0.25, 4.0)

    def __init__(self):
        self.levels = torch.empty(0)
        self.labels = torch.empty(0)

    def __call__(self, x, level):
        self.levels = level
        return 0.4 * x


def test_ambient_rows_are_never_shown_below_their_own_noise_nor_any_row_out_of_range():
    rows, watching = 512, Watching()
    known = torch.where(torch.arange(rows) % 2 == 0, 0.0, 1.0).double()
    batch = EventBatch(points(rows), strata(rows), known=known)
    Ambient()(FLOW, lambda label, beside: watching, batch, key(rows))
    assert (watching.levels >= known).all()
    assert watching.levels.min() >= 0.25
    assert watching.levels.max() <= 4.0
    assert watching.levels[known == 0].min() < 0.3, "clean rows are shown at all levels"


def test_clean_rows_make_the_ambient_loss_that_of_denoising():
    batch = EventBatch(points(32), strata(32))
    bind = lambda label, beside: Watching()  # noqa: E731
    one = Denoising()(FLOW, bind, batch, key(32))
    other = Ambient()(FLOW, bind, batch, key(32))
    assert one.total == other.total


def test_labels_are_left_unsaid_at_the_stated_rate_and_only_then():
    rows, watching = 4000, Watching()

    def bind(label, beside):
        watching.labels = label
        return watching

    label = torch.arange(rows) % 3
    batch = EventBatch(points(rows), strata(rows), label)
    Denoising(dropout=0.25)(FLOW, bind, batch, key(rows))
    unsaid = watching.labels == -1
    assert_count(int(unsaid.sum()), rows, 0.25)
    assert torch.equal(watching.labels[~unsaid], label[~unsaid])
    Denoising(dropout=0.0)(FLOW, bind, batch, key(rows))
    assert torch.equal(watching.labels, label)


def part(batch, i):
    return EventBatch(*(None if field is None else field[i : i + 1] for field in batch))


@pytest.mark.parametrize("name", EVENT_OBJECTIVES)
def test_a_row_s_loss_does_not_depend_on_its_batch(name):
    clean = points(6).view(2, 3).float()
    known = torch.tensor([0.0, 0.3]) if name == "ambient" else None
    batch = EventBatch(clean, strata(2), torch.tensor([1, 2]), clean + 0.5, known)
    process = ResShift() if name == "restoring" else FLOW

    def bind(label, beside):
        return lambda x, level: torch.tanh(x) + label.view(-1, 1) * 0.1

    objective = EVENT_OBJECTIVES[name]()
    whole = objective(process, bind, batch, key(2))
    alone = [objective(process, bind, part(batch, i), Key(key(2).seed[i : i + 1])) for i in (0, 1)]
    assert whole.total.item() == pytest.approx(sum(a.total.item() for a in alone), rel=1e-5)
    assert whole.count.item() == sum(a.count.item() for a in alone) == 6


def test_restoring_learns_the_mean_given_both_what_is_left_and_the_way_there():
    rows, t = 100_000, 0.6
    random = np.random.default_rng(1)
    clean = 0.4 + 0.7 * random.normal(size=(rows, 1))
    degraded = clean + 0.3 * random.normal(size=(rows, 1))
    process = ResShift()
    weights = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    kept = []

    def bind(label, beside):
        def denoise(x, level):
            seen = torch.cat([x, beside, torch.ones_like(x)], 1)
            kept.append(seen)
            return seen @ weights[:, None]

        denoise.span = (t, t + 1e-9)
        return denoise

    from unison.types import Ranged

    assert isinstance(bind(None, None), Ranged)
    batch = EventBatch(torch.from_numpy(clean), strata(rows), beside=torch.from_numpy(degraded))
    loss = Restoring(OfNoise())(process, bind, batch, key(rows))
    (slope,) = torch.autograd.grad(loss.total, weights, create_graph=True)
    bend = torch.stack([torch.autograd.grad(part, weights, retain_graph=True)[0] for part in slope])
    found = -torch.linalg.solve(bend, slope.detach())
    # the normal law of (x_t, degraded) and x_0, from the process's formula
    at = torch.tensor(t, dtype=torch.float64)
    a, b, v = (f(at).item() for f in (process.alpha, process.shift, process.variance))
    c, n = 0.49, 0.09
    cov = np.array(
        [[(a + b) ** 2 * c + b**2 * n + v, (a + b) * c + b * n], [(a + b) * c + b * n, c + n]]
    )
    gain = np.linalg.solve(cov, [(a + b) * c, c])
    exact = [*gain, 0.4 - 0.4 * (gain[0] * (a + b) + gain[1])]
    left = c - gain @ [(a + b) * c, c]
    inverse = torch.linalg.inv(kept[0].T @ kept[0])
    errors = (left * inverse.diagonal()).sqrt().numpy()
    assert (np.abs(found.numpy() - exact) < SIGMAS * errors).all()
    assert loss.count.item() == rows


def test_objectives_refuse_what_they_cannot_use():
    batch = EventBatch(points(4), strata(4))
    bind = lambda label, beside: Watching()  # noqa: E731
    with pytest.raises(ValueError, match="name a degradation"):
        Restoring()(ResShift(), bind, batch, key(4))
    far = batch._replace(known=torch.full((4,), 5.0))
    with pytest.raises(ValueError, match="below the model's highest"):
        Ambient()(FLOW, bind, far, key(4))
    for kind in EVENT_OBJECTIVES.values():
        with pytest.raises(ValueError, match="dropout"):
            kind(dropout=1.0)
    for make in (
        lambda: LogNormal(std=0.0),
        lambda: UniformTime(0.0),
        lambda: LogitNormalTime(std=-1.0),
        lambda: LogitNormalTime(earliest=1.0),
        lambda: Balanced(0.0),
        lambda: MinSNR(-1.0),
        lambda: Restoring(earliest=0.0),
    ):
        with pytest.raises(ValueError, match=r"must be"):
            make()
