"""Ensembles of weighted particles against posteriors and evidences that are known exactly."""

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

from unison.decode.continuous import solve
from unison.decode.continuous.ancestral import Ancestral
from unison.decode.continuous.guidance import (
    DPS,
    Dense,
    Function,
    Masked,
    Measurement,
    PiGDM,
)
from unison.exact.distances import directions, sliced_wasserstein
from unison.exact.mixtures import gaussian
from unison.exact.zoo import gmm5
from unison.prob import rng
from unison.prob.rng import Key
from unison.search.posterior import Ensemble

LAW = gmm5()
SEEING = torch.tensor([[1.0, 0.4]], dtype=torch.float64)
SEEN = torch.tensor([0.5], dtype=torch.float64)
NOISE = 0.3
MEASURED = Measurement(Dense(SEEING), SEEN[None], NOISE)
POSTERIOR = LAW.posterior(SEEING, SEEN, NOISE)
EVIDENCE = float(LAW.evidence(SEEING, SEEN, NOISE))
ALONG = directions(Key(rng.rows(1, 0, 64)), 2)
EXACT = POSTERIOR.sample(Key(rng.rows(2, 0, 20_000)))


def levels(count, high=80.0, low=0.01):
    """Karras levels and a last 0: ``count`` evaluations."""
    ends = high ** (1 / 7), low ** (1 / 7)
    ramp = [(ends[0] + i / (count - 1) * (ends[1] - ends[0])) ** 7 for i in range(count)]
    return (*ramp, 0.0)


def distance(points, shares=None):
    return float(sliced_wasserstein(points, EXACT, ALONG, (shares, None)))


def floor(count):
    draws = [POSTERIOR.sample(Key(rng.rows(10 + i, 0, count))) for i in range(6)]
    return sum(distance(x) for x in draws) / 6


@pytest.mark.law
def test_the_ensemble_is_as_near_to_the_posterior_as_exact_draws_are():
    out = Ensemble(1500).sample(LAW, MEASURED, levels(50), (2,), Key(rng.rows(3, 0, 3)))
    assert out.nfe == 50
    off = sum(distance(x, w.exp()) for x, w in zip(out.particles, out.log_weights, strict=True))
    assert off / 3 <= 1.3 * floor(1500)
    assert float((out.mean() - POSTERIOR.mean()).norm(dim=1).mean()) <= 0.05
    assert torch.allclose(out.log_evidence, torch.full((3,), EVIDENCE).double(), atol=0.1)


@pytest.mark.law
def test_at_equal_evaluations_the_error_is_half_of_that_of_guidance_at_most():
    count, grid = 2000, levels(50)
    out = Ensemble(count).sample(LAW, MEASURED, grid, (2,), Key(rng.rows(4, 0, 4)))
    key = Key(rng.rows(5, 0, count))
    start = grid[0] * rng.normal(key, 1, 2)
    guided = {
        **{f"dps {scale}": DPS(LAW, MEASURED, 1.0, scale) for scale in ("noise", "norm")},
        "pigdm": PiGDM(LAW, MEASURED, iterations=1),  # one number is seen
    }
    drawn = {name: solve(Ancestral(), grid, g, start, key) for name, g in guided.items()}
    assert {one.nfe for one in drawn.values()} == {out.nfe}
    least = floor(count)
    excess = {
        name: math.sqrt(max(distance(one.x) ** 2 - least**2, 0)) for name, one in drawn.items()
    }
    found = zip(out.particles, out.log_weights, strict=True)
    squares = [distance(points, weights.exp()) ** 2 for points, weights in found]
    own = math.sqrt(max(sum(squares) / len(squares) - least**2, 0))
    assert own <= 0.5 * min(excess.values()), (own, excess)


@dataclass(frozen=True)
class Shrinking:
    """The denoiser of one standard normal number."""

    def __call__(self, x, level):
        return x / (1 + level.square())[:, None]


@pytest.mark.law
@pytest.mark.parametrize(
    ("steering", "likelihood"), [(0.0, "point"), (0.0, "denoised"), (0.5, "denoised")]
)
def test_in_finite_steps_the_mean_weight_is_the_evidence_of_the_discretised_model(
    steering, likelihood
):
    """False alarm 1e-6 each: the mean of 4000 independent rows, within 5 standard errors.

    Steering by the noisy point has weights of heavy tails in so few levels, whose mean no number
    of rows settles: it is not among the cases. Seven coarse levels, so that the chain's law is far
    from the data's, yet known: a Gaussian whose variance follows a recursion.
    """
    grid = (6.0, 3.0, 1.5, 0.8, 0.4, 0.2, 0.0)
    variance = 1 + 36.0
    for high, low in pairwise(grid[:-1]):
        square = (low / high) ** 2
        variance *= (square + (1 - square) / (1 + high**2)) ** 2
        variance += low**2 * (1 - square)
    variance /= (1 + grid[-2] ** 2) ** 2
    assert abs(variance - 1) > 0.1
    total = 4 * variance + 0.25
    evidence = math.exp(-(1.2**2) / (2 * total)) / math.sqrt(2 * math.pi * total)
    measured = Measurement(
        Dense(torch.tensor([[2.0]]).double()), torch.tensor([[1.2]]).double(), 0.5
    )
    ensemble = Ensemble(
        8, steering, weighting="kernel", likelihood=likelihood, order=1, resample=0.7
    )
    out = ensemble.sample(Shrinking(), measured, grid, (1,), Key(rng.rows(6, 0, 4000)))
    weights = out.log_evidence.exp()
    assert int(out.resampled.sum()) > 0
    error = float(weights.std()) / math.sqrt(4000)
    assert error < 0.15 * evidence
    assert abs(float(weights.mean()) - evidence) < 5 * error


@pytest.mark.law
@pytest.mark.parametrize(
    ("proposal", "steering"), [("sde", 0.0), ("sde", 0.5), ("sde", 1.0), ("ode", 0.0)]
)
def test_by_rates_the_mean_weight_approaches_the_evidence(proposal, steering):
    """False alarm 1e-6: 5 standard errors of 1500 rows, and 2 % for finitely many levels."""
    measured = Measurement(
        Dense(torch.tensor([[1.0]]).double()), torch.tensor([[0.8]]).double(), 0.7
    )
    evidence = math.exp(-(0.8**2) / (2 * 1.49)) / math.sqrt(2 * math.pi * 1.49)
    ensemble = Ensemble(16, steering, proposal)
    grid = levels(80, 20.0, 0.02)
    out = ensemble.sample(Shrinking(), measured, grid, (1,), Key(rng.rows(7, 0, 1500)))
    weights = out.log_evidence.exp()
    error = float(weights.std()) / math.sqrt(1500)
    assert error < 0.1 * evidence
    assert abs(float(weights.mean()) - evidence) < 5 * error + 0.02 * evidence


@pytest.mark.law
def test_functions_that_are_not_linear_are_followed_by_their_gradient():
    measured = Measurement(
        Function(lambda x: (0.5 + x.square().sum(1, True)).sqrt()), SEEN[None] * 3, 0.2
    )
    points = LAW.sample(Key(rng.rows(8, 0, 200_000)))
    weights = (-measured.misfit(points) / (2 * 0.04)).softmax(0)
    expected = (weights[:, None] * points).sum(0)
    grid = levels(80, 10.0, 0.02)
    out = Ensemble(1500).sample(LAW, measured, grid, (2,), Key(rng.rows(9, 0, 3)))
    assert float((out.mean() - expected).norm(dim=1).mean()) < 0.1
    spread = (out.log_weights.exp()[..., None] * (out.particles - out.mean()[:, None]) ** 2).sum(1)
    exact = (weights[:, None] * (points - expected) ** 2).sum(0)
    assert torch.allclose(spread.mean(0), exact, rtol=0.1)


def test_a_row_is_sampled_alike_whatever_stands_beside_it():
    law = gaussian(
        torch.tensor([0.2, -0.4]).double(), torch.tensor([[1.0, 0.8], [0.8, 1.0]]).double()
    )
    mask = torch.tensor([[True, False], [False, True], [True, True]])
    seen = torch.tensor([[1.0, 99.0], [99.0, -1.0], [0.5, 0.5]]).double()
    measured, key = Measurement(Masked(mask), seen, 0.2), Key(rng.rows(11, 0, 3))
    ensemble, grid = Ensemble(400), levels(30, 20.0, 0.02)
    whole = ensemble.sample(law, measured, grid, (2,), key)
    rows = torch.tensor([1])
    alone = ensemble.sample(law, measured.keep(rows), grid, (2,), Key(key.seed[rows]))
    assert torch.allclose(alone.particles[0], whole.particles[1], atol=1e-9)
    assert torch.allclose(alone.log_evidence[0], whole.log_evidence[1], atol=1e-9)
    for row in range(3):
        shown = torch.eye(2).double()[mask[row]]
        exact = law.posterior(shown, seen[row, mask[row]], 0.2)
        assert float((whole.mean()[row] - exact.mean()).norm()) < 0.15
        evidence = law.evidence(shown, seen[row, mask[row]], 0.2)
        assert float(whole.log_evidence[row]) == pytest.approx(float(evidence), abs=0.15)


def test_particles_of_equal_weight_are_drawn_and_the_best_one_is_named():
    out = Ensemble(200).sample(LAW, MEASURED, levels(20), (2,), Key(rng.rows(12, 0, 2)))
    drawn = out.draw(Key(rng.rows(13, 0, 2)), 5000)
    assert torch.allclose(drawn.mean(1), out.mean(), atol=2e-3)
    heaviest = out.log_weights.argmax(1).tolist()
    assert torch.equal(
        out.best(), torch.stack([out.particles[r, i] for r, i in enumerate(heaviest)])
    )


@dataclass
class Never:
    """A model that must not be asked."""

    def __call__(self, x, level):
        raise AssertionError("the model was asked")


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        (Measurement(Dense(torch.ones(1, 5).double()), SEEN[None], 0.1), "5 columns"),
        (Measurement(Dense(SEEING), torch.ones(1, 2).double(), 0.1), "was measured"),
        (Measurement(Dense(SEEING), torch.ones(3, 1).double(), 0.1), "2 rows are sampled"),
        (Measurement(Function(lambda x: x @ torch.ones(7, 1)), SEEN[None], 0.1), "not take 2"),
        (Measurement(Dense(SEEING), SEEN[None], 0.0), "without noise"),
    ],
)
def test_what_cannot_have_been_measured_is_refused_before_the_model_is_asked(measured, message):
    with pytest.raises(ValueError, match=message):
        Ensemble(4).sample(Never(), measured, levels(5), (2,), Key(rng.rows(14, 0, 2)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"particles": 0}, "at least one particle"),
        ({"resample": 1.5}, "share from 0 to 1"),
        ({"temper": -1.0}, "temper"),
        ({"weighting": "kernel", "proposal": "ode"}, "no kernel"),
        ({"likelihood": "denoised"}, "'kernel'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Ensemble(**settings)


def test_a_model_that_answers_nan_is_named():
    with pytest.raises(ValueError, match="NaN"):
        Ensemble(4).sample(
            lambda x, level: x * math.nan, MEASURED, levels(5), (2,), Key(rng.rows(15, 0, 1))
        )
