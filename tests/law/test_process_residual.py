"""Residual processes against their published chains, and their posterior step against algebra."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from unison.decode.continuous import DDIM, State, solve
from unison.decode.continuous.centred import Centred
from unison.decode.continuous.posterior_step import SITE_STEP, PosteriorStep
from unison.decode.continuous.reverse_sde import ReverseSDE
from unison.decode.continuous.two_stage import Known, regenerated, structured
from unison.exact.mixtures import gaussian
from unison.exact.restoration import ExactRestoration
from unison.exact.zoo import gmm5, part
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import EDM, OUVE, RESIDUAL, SBVE, Resfusion, ResShift
from unison.process.continuous.gaussian import Cosine
from unison.process.continuous.resfusion import clean_of_resnoise, resnoise, truncated
from unison.process.continuous.residual import (
    SITE_START,
    ResidualProcess,
    degraded_at,
    start,
    transition,
)

F64 = torch.float64
PATHS = 40_000
CLEAN, BAD = 0.4, 1.3
SIGMAS = 5.5  # two-sided 4e-8 for each number looked at
LAW = gaussian(torch.tensor([0.4], dtype=F64), torch.tensor([[0.49]], dtype=F64))
NOISE = 0.3
SPREAD = math.sqrt(0.49 * 0.09 / 0.58)  # of x_0 given what is seen
NEARLY = 1e-9


def at(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=F64)


def resshift_paths(noise: np.random.Generator) -> list[np.ndarray]:
    """x_t = x_{t-1} + alpha_t (y - x_0) + kappa sqrt(alpha_t) n, T=5, at steps 2 and 4."""
    first = 0.04 / 2.0
    grow = (0.99 / first) ** (1 / 4)
    eta = np.array([0.0] + [(first * grow ** (((k - 1) / 4) ** 0.3 * 4)) ** 2 for k in range(1, 6)])
    x, seen = np.full(PATHS, CLEAN), []
    for step in range(1, 5):
        move = eta[step] - eta[step - 1]
        x = x + move * (BAD - CLEAN) + 2.0 * math.sqrt(move) * noise.standard_normal(PATHS)
        seen += [x] if step in (2, 4) else []
    return seen


def resfusion_paths(noise: np.random.Generator) -> list[np.ndarray]:
    """A DDPM of x - residual with rates .1 + 19.9 t, stopped where its signal is one half."""
    total = 2 * math.log(2)
    end = 2 * total / (0.1 + math.sqrt(0.01 + 2 * 19.9 * total))
    residual, x, seen, steps = BAD - CLEAN, np.full(PATHS, CLEAN) - (BAD - CLEAN), [], 500
    for step in range(400):
        low, high = end * step / steps, end * (step + 1) / steps
        beta = -np.expm1(-(0.1 * (high - low) + 19.9 / 2 * (high**2 - low**2)))
        x = math.sqrt(1 - beta) * x + math.sqrt(beta) * noise.standard_normal(PATHS)
        seen += [x + residual] if step + 1 in (200, 400) else []
    return seen


def ouve_paths(noise: np.random.Generator) -> list[np.ndarray]:
    """Euler steps of dx = 1.5 (y - x) dt + .05 10^t sqrt(2 ln 10) dw."""
    x, seen, width = np.full(PATHS, CLEAN), [], 1 / 1000
    for step in range(800):
        swing = 0.05 * 10 ** ((step + 0.5) * width) * math.sqrt(2 * math.log(10))
        x = x + 1.5 * (BAD - x) * width
        x = x + swing * math.sqrt(width) * noise.standard_normal(PATHS)
        seen += [x] if step + 1 in (400, 800) else []
    return seen


def sbve_paths(noise: np.random.Generator) -> list[np.ndarray]:
    """A free walk of variance c (k^2t - 1) / (2 ln k), pulled to its end afterwards."""
    clocks = [0.4 * (2.6 ** (2 * t) - 1) / (2 * math.log(2.6)) for t in (0.0, 0.4, 0.8, 1.0)]
    moves = [math.sqrt(b - a) * noise.standard_normal(PATHS) for a, b in pairwise(clocks)]
    walk = CLEAN + np.cumsum(moves, 0)
    return [walk[i] + clocks[i + 1] / clocks[-1] * (BAD - walk[2]) for i in (0, 1)]


PUBLISHED = {
    "ouve": (OUVE(), ouve_paths),
    "resfusion": (Resfusion(), resfusion_paths),
    "resshift": (ResShift(steps=5), resshift_paths),
    "sbve": (SBVE(), sbve_paths),
}


@pytest.mark.law
@pytest.mark.parametrize("name", RESIDUAL)
def test_means_variances_and_carries_are_those_of_the_published_chain(name: str) -> None:
    process, paths = PUBLISHED[name]
    early, late = paths(np.random.default_rng(3))
    for time, x in ((0.4, early), (0.8, late)):
        mean = process.alpha(at(time)) * CLEAN + process.shift(at(time)) * BAD
        variance = process.variance(at(time)).item()
        assert abs(x.mean() - mean.item()) < SIGMAS * math.sqrt(variance / PATHS) + 1e-3
        assert abs(x.var() / variance - 1) < SIGMAS * math.sqrt(2 / PATHS) + 1e-3
    start_variance, variance = (process.variance(at(time)).item() for time in (0.4, 0.8))
    together = process.carry(at(0.4), at(0.8)).item() * start_variance
    error = math.sqrt((start_variance * variance + together**2) / PATHS)
    assert abs(np.cov(early, late)[0, 1] - together) < SIGMAS * error + 1e-3 * together


@pytest.mark.parametrize("name", RESIDUAL)
def test_a_process_begins_at_the_clean_event_and_its_level_inverts(name: str) -> None:
    process = RESIDUAL[name]()
    assert process.alpha(at(0.0)).item() == pytest.approx(1, abs=1e-12)
    assert process.shift(at(0.0)).item() == pytest.approx(0, abs=1e-12)
    assert process.variance(at(0.0)).item() == pytest.approx(0, abs=1e-12)
    times = torch.linspace(0.01, 0.99, 50, dtype=F64)
    levels = process.level(times)
    assert bool((levels.diff() > 0).all())
    assert torch.allclose(levels, process.variance(times).sqrt() / process.alpha(times))
    assert torch.allclose(process.time_of(levels), times, atol=1e-9)


@pytest.mark.parametrize("name", RESIDUAL)
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_a_step_keeps_the_marginals_at_any_eta(name: str, eta: float) -> None:
    process = RESIDUAL[name]()
    for late, early in ((1.0, 0.7), (0.9, 0.2), (0.3, 1e-6)):
        way = transition(process, late, early, eta)
        held = way.gain**2 * way.late[2] + way.variance
        assert held == pytest.approx(process.variance(at(early)).item(), rel=1e-9)


@pytest.mark.parametrize("name", RESIDUAL)
def test_eta_one_is_the_kalman_step_of_the_chain(name: str) -> None:
    process = RESIDUAL[name]()
    late, early = 0.8, 0.35
    carry = process.carry(at(early), at(late)).item()
    first, last = process.variance(at(early)).item(), process.variance(at(late)).item()
    way = transition(process, late, early, 1.0)
    assert way.gain == pytest.approx(carry * first / last, rel=1e-9)
    assert way.variance == pytest.approx(first * (1 - carry**2 * first / last), rel=1e-9)


def test_published_coefficients_of_resshift_and_of_the_bridge_come_out() -> None:
    shift = ResShift()
    late, early = (shift.eta(at(k / 15)).item() for k in (9, 8))
    way = transition(shift, 9 / 15, 8 / 15, 1.0)
    assert way.gain == pytest.approx(early / late)
    assert way.doubt == pytest.approx((late - early) / late)
    assert way.variance == pytest.approx(4 * early / late * (late - early))
    bridge = SBVE()
    clocks = [(2.6 ** (2 * t) - 1) * 0.4 / (2 * math.log(2.6)) for t in (0.6, 0.5)]
    way = transition(bridge, 0.6, 0.5, 1.0)
    assert way.gain == pytest.approx(clocks[1] / clocks[0])
    assert way.variance == pytest.approx(clocks[1] * (1 - clocks[1] / clocks[0]))


def toy(process: ResidualProcess, rows: int) -> tuple[ExactRestoration, torch.Tensor]:
    seen = torch.full((rows, 1), 1.2, dtype=F64)
    return ExactRestoration(LAW, process, seen, NOISE), seen


def spread_after(solver: PosteriorStep, denoise: ExactRestoration, times: list[float]) -> float:
    """The exact standard deviation of what the solver draws: it is affine in x and in its noise."""
    key = Key(torch.tensor([5, 5, 6]))
    x = torch.tensor([[0.0], [1.0], [0.0]], dtype=F64)
    variance = solver.process.variance(at(times[0])).item()
    for step, _ in enumerate(times[1:]):
        now = key.at(step)
        out = solver.step(tuple(times), denoise, State(x), now).x
        drawn = rng.normal(now, SITE_STEP, 1)
        slope, noise = out[1] - out[0], (out[2] - out[0]) / (drawn[2] - drawn[0])
        variance = (slope.square() * variance + noise.square()).item()
    return math.sqrt(variance)


@pytest.mark.parametrize(("steps", "plain"), [(4, 0.1), (15, 0.1938), (100, 0.249)])
def test_a_mean_in_place_of_the_event_contracts_and_the_correction_undoes_it(
    steps: int, plain: float
) -> None:
    process = ResShift(steps=steps)
    denoise, seen = toy(process, 3)
    times = [k / steps for k in range(steps, 0, -1)] + [NEARLY]
    assert spread_after(PosteriorStep(process, seen), denoise, times) == pytest.approx(
        by_hand(process, times), rel=1e-6
    )
    assert by_hand(process, times) == pytest.approx(plain, abs=5e-4)
    corrected = PosteriorStep(process, seen, corrected=True)
    assert spread_after(corrected, denoise, times) == pytest.approx(SPREAD, abs=1e-3)
    still = PosteriorStep(process, seen, eta=0.0, corrected=True)
    assert spread_after(still, denoise, times) == pytest.approx(SPREAD, abs=1e-3)


def by_hand(process: ResShift, times: list[float]) -> float:
    """The recursion of the plain step's variance, for the scalar Gaussian."""
    eta = [process.eta(at(time)).item() for time in times]
    variance = 4 * eta[0]
    for late, early in pairwise(eta):
        view = 1 / ((1 - late) ** 2 / (4 * late) + 1 / 0.09)
        belief = 0.49 / (0.49 + view) * view * (1 - late) / (4 * late)  # d x_0 / d x_t
        slope = early / late + (1 - early / late) * belief
        variance = slope**2 * variance + 4 * early / late * (late - early)
    return math.sqrt(variance)


@pytest.mark.parametrize("name", RESIDUAL)
@pytest.mark.parametrize("intervals", [2, 5])
def test_the_corrected_step_is_exact_for_gaussians_however_long(name: str, intervals: int) -> None:
    process = RESIDUAL[name]()
    denoise, seen = toy(process, 3)
    times = [k / intervals for k in range(intervals, 0, -1)] + [NEARLY]
    solver = PosteriorStep(process, seen, corrected=True)
    # the start lacks the spread of alpha x_0; what is left of x_1 in x_0 says how much that costs
    alpha, variance = process.alpha(at(1.0)).item(), process.variance(at(1.0)).item()
    told = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + variance) if alpha else 0.0
    lost = (told * alpha * SPREAD) ** 2
    assert spread_after(solver, denoise, times) == pytest.approx(
        math.sqrt(SPREAD**2 - lost), abs=1e-5
    )


@pytest.mark.law
def test_four_steps_through_the_driver_draw_the_exact_posterior() -> None:
    process, rows = ResShift(steps=4), 20_000
    denoise, seen = toy(process, rows)
    key = Key(rng.rows(1, 0, rows))
    solver = PosteriorStep(process, seen, corrected=True)
    out = solve(solver, (1.0, 0.75, 0.5, 0.25, NEARLY), denoise, start(process, seen, key), key)
    exact = LAW.posterior(torch.eye(1, dtype=F64), seen[0], NOISE)
    assert out.nfe == 4 == solver.evaluations(4)
    assert abs(out.x.mean() - exact.means[0, 0]) < SIGMAS * SPREAD / math.sqrt(rows) + 1e-3
    assert abs(out.x.std() / SPREAD - 1) < SIGMAS / math.sqrt(2 * rows) + 1e-3


@pytest.mark.parametrize("base", [Cosine(), Resfusion().base])
def test_ddpm_updates_with_resnoise_are_the_posterior_step_of_resfusion(base: Cosine) -> None:
    process = Resfusion(base)
    times = torch.tensor([0.83, 0.61], dtype=F64)
    late, early = process.kept(times).tolist()
    clean, bad, noise = rng.normal(Key(rng.rows(4, 0, 3)), 9, 12).view(3, 4, 3)
    x = degraded_at(process, clean, bad, noise, times[:1].expand(4))
    ratio = (late / early) ** 2
    target = resnoise(noise, bad - clean, (late, early))
    ddpm = (x - (1 - ratio) / math.sqrt(1 - late**2) * target) / math.sqrt(ratio)
    way = transition(process, 0.83, 0.61, 1.0)
    ours = way.gain * x + way.doubt * clean + (way.early[1] - way.gain * way.late[1]) * bad
    assert (ddpm - ours).abs().max() < 1e-12
    assert (clean_of_resnoise(x, bad, target, (late, early)) - clean).abs().max() < 1e-12
    assert way.variance == pytest.approx((1 - early**2) / (1 - late**2) * (1 - ratio), rel=1e-9)


def test_resfusion_of_nothing_is_a_truncated_ddpm() -> None:
    """With a degraded event of 0 the residual is -x_0: x_t + x_0 is the base's, of 2 x_0."""
    process = Resfusion()
    zero = torch.zeros(4, 2, dtype=F64)
    residual = -torch.ones(4, 2, dtype=F64)  # degraded - x_0
    t = torch.full((4,), 0.5, dtype=F64)
    kept = process.kept(t[:1])
    x = degraded_at(process, -residual, zero, zero, t)
    assert torch.allclose(x - residual, kept * (-residual - residual))
    key = Key(rng.rows(0, 0, 4))
    assert torch.allclose(
        start(process, zero, key), math.sqrt(0.75) * rng.normal(key, SITE_START, 2)
    )


def test_a_discrete_schedule_is_cut_at_half_signal() -> None:
    kept = [(1 - 1e-4 - 0.02 * k / 999) for k in range(1000)]
    alphas = np.cumprod(kept).tolist()
    times = truncated(Resfusion(), alphas)
    assert times[0] == 1.0
    assert times[-1] == 0.0
    signals = Resfusion().kept(torch.tensor(times[1:-1], dtype=F64)).square().tolist()
    above = [a for a in reversed(alphas) if a > 0.25]
    assert signals == pytest.approx(above[1:], rel=1e-9)  # the nearest gives way to the start
    coarse = truncated(Resfusion(), [0.9, 0.7, 0.3, 0.1])
    assert Resfusion().kept(torch.tensor(coarse, dtype=F64)).square().tolist() == pytest.approx(
        [0.25, 0.3, 0.7, 0.9, 1.0]
    )
    with pytest.raises(ValueError, match="falls through one half"):
        truncated(Resfusion(), [0.99, 0.9, 0.8])


def test_the_start_of_ouve_is_off_by_what_is_left_and_the_bridge_starts_exactly() -> None:
    rows, key = 3, Key(rng.rows(2, 0, 3))
    bad, clean = torch.full((rows, 1), BAD, dtype=F64), torch.full((rows, 1), CLEAN, dtype=F64)
    process = OUVE()
    off = start(process, bad, key) - start(process, bad, key, guess=clean)
    assert torch.allclose(off, torch.full_like(off, math.exp(-1.5) * (BAD - CLEAN)))
    assert torch.equal(start(SBVE(), bad, key), bad)
    half = start(Resfusion(), bad, key) - start(Resfusion(), torch.zeros_like(bad), key)
    assert torch.allclose(half, bad / 2)


@pytest.mark.parametrize("process", [OUVE(), ResShift()])
def test_ddim_around_the_moving_centre_is_the_deterministic_step(process: ResidualProcess) -> None:
    denoise, seen = toy(process, 50)
    key = Key(rng.rows(3, 0, 50))
    x, times = start(process, seen, key), (1.0, 0.8, 0.5, 0.3, 0.1, 0.02)
    centred = Centred(denoise, process, seen)
    blend = solve(PosteriorStep(process, seen, eta=0.0), times, denoise, x, key)
    ddim = solve(DDIM(), centred.levels(times), centred, centred.centre(x, 1.0), key)
    back = process.alpha(at(0.02)) * ddim.x + process.shift(at(0.02)) * seen
    assert (back - blend.x).abs().max() < 1e-9
    few = torch.tensor([7, 3])
    assert torch.equal(
        centred.keep(few)(ddim.x[few], torch.full((2,), 0.3, dtype=F64)),
        centred(ddim.x, torch.full((50,), 0.3, dtype=F64))[few],
    )


def test_the_flow_of_ouve_ends_where_the_gaussian_flow_ends() -> None:
    process = OUVE()
    denoise, seen = toy(process, 20)
    key = Key(rng.rows(3, 0, 20))
    x = start(process, seen, key)
    centred = Centred(denoise, process, seen)
    y = centred.centre(x, 1.0)
    levels = centred.levels(tuple(1 - 0.99 * k / 400 for k in range(401)))
    out = solve(DDIM(), levels, centred, y, key).x
    mean = LAW.posterior(torch.eye(1, dtype=F64), seen[0], NOISE).means[0, 0]
    scale = math.sqrt((SPREAD**2 + levels[-1] ** 2) / (SPREAD**2 + levels[0] ** 2))
    assert (out - mean - scale * (y - mean)).abs().max() < 5e-3
    assert centred.span == pytest.approx((0.0, levels[0]))
    with pytest.raises(ValueError, match="nothing is left of the clean event"):
        Centred(denoise, SBVE(), seen).levels((1.0, 0.5))


@pytest.mark.law
def test_the_reverse_sde_of_ouve_nears_the_posterior_and_counts_its_corrections() -> None:
    process, rows = OUVE(), 20_000
    denoise, seen = toy(process, rows)
    key = Key(rng.rows(1, 0, rows))
    exact = LAW.posterior(torch.eye(1, dtype=F64), seen[0], NOISE).means[0, 0]
    x = start(process, seen, key, guess=exact.expand(rows, 1))
    times = [1 - 0.97 * k / 29 for k in range(30)] + [0.0]
    solver = ReverseSDE(process, seen, corrections=0)
    out = solve(solver, times, denoise, x, key)
    assert out.nfe == 30
    assert abs(out.x.mean() - exact) < 0.012
    assert abs(out.x.std() - SPREAD) < 0.012
    few = torch.arange(4)
    corrected = ReverseSDE(process, seen, corrections=2).keep(few)
    drawn = solve(corrected, times[:3], denoise.keep(few), x[few], Key(key.seed[few]))
    assert drawn.nfe == corrected.evaluations(2) == 6


def test_a_biased_first_stage_is_forgotten_by_the_closed_factor() -> None:
    """StoRM: what is left of the predictor's bias is alpha^2 c / (alpha^2 c + v) of it."""
    process, rows, bias = OUVE(), 40, 0.5
    seen = torch.full((rows, 1), 1.2, dtype=F64)
    mean = LAW.posterior(torch.eye(1, dtype=F64), seen[0], NOISE).means[0, 0]

    def bind(beside: torch.Tensor) -> ExactRestoration:
        return ExactRestoration(LAW, process, beside[:, :1], NOISE, centre=beside[:, 1:])

    prepared = regenerated(lambda bad: torch.full_like(bad, mean.item() + bias), bind, seen)
    assert torch.equal(prepared.centre, torch.full_like(seen, mean.item() + bias))
    key = Key(rng.rows(1, 0, rows))
    solver = PosteriorStep(process, prepared.centre, corrected=True)
    times = (1.0, 0.6, 0.3, NEARLY)
    ends = [
        solve(solver, times, prepared.denoise, start(process, prepared.centre, key, guess), key).x
        for guess in (None, mean.expand(rows, 1))
    ]
    alpha, variance = process.alpha(at(1.0)).item(), process.variance(at(1.0)).item()
    left = alpha**2 * SPREAD**2 / (alpha**2 * SPREAD**2 + variance)
    assert torch.allclose(ends[0] - ends[1], torch.full_like(seen, left * bias), atol=1e-6)
    with pytest.raises(ValueError, match="must be an event like the degraded one"):
        regenerated(lambda bad: bad[:, :0], bind, seen)


def test_a_predicted_structure_brings_the_mean_nearer_and_known_elements_stay() -> None:
    """GSDM: the structure is which component a point is from."""
    law, rows = gmm5(), 600
    key = Key(rng.rows(1, 0, rows))
    which = torch.arange(rows) % 5
    parts = [part(law, (k,)) for k in range(5)]
    drawn = torch.stack([one.sample(key) for one in parts])
    clean = drawn[which, torch.arange(rows)]
    bad = clean + 1.5 * rng.normal(key, 3, 2)
    level = torch.full((rows,), 1.5, dtype=F64)

    def bind(beside: torch.Tensor) -> Known:
        index = beside[:, 2].long()

        def told(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
            return torch.stack([one(x, level) for one in parts])[index, torch.arange(len(x))]

        return Known(told, clean, torch.tensor([[True, False]]).expand(rows, 2))

    prepared = structured(lambda _: which[:, None].double(), bind, bad)
    told = prepared.denoise(bad, level)
    assert (told - clean).square()[:, 1].mean() < 0.5 * (law(bad, level) - clean).square()[
        :, 1
    ].mean()
    assert torch.equal(told[:, 0], clean[:, 0])
    with pytest.raises(ValueError, match="must lie on the grid"):
        structured(lambda _: which[:5, None].double(), bind, bad)


def test_rows_never_see_their_batch() -> None:
    process = ResShift()
    denoise, seen = toy(process, 8)
    key, few = Key(rng.rows(1, 0, 8)), torch.tensor([6, 1])
    x, times = start(process, seen, key), (1.0, 0.4, 0.1, NEARLY)
    solver = PosteriorStep(process, seen, corrected=True)
    whole = solve(solver, times, denoise, x, key).x
    some = solve(solver.keep(few), times, denoise.keep(few), x[few], Key(key.seed[few])).x
    assert torch.equal(whole[few], some)


def test_what_cannot_be_is_refused() -> None:
    denoise, seen = toy(ResShift(), 2)
    with pytest.raises(ValueError, match="between 0 and 1"):
        PosteriorStep(ResShift(), seen, eta=1.5)
    with pytest.raises(ValueError, match="has no `moments`"):
        solve(
            PosteriorStep(ResShift(), seen, corrected=True),
            (1.0, 0.5),
            lambda x, level: denoise(x, level),
            seen,
            Key(rng.rows(0, 0, 2)),
        )
    with pytest.raises(ValueError, match="preserve the variance"):
        Resfusion(EDM())
    for make in (lambda: ResShift(steps=1), lambda: ResShift(highest=1.0), lambda: OUVE(low=0.9)):
        with pytest.raises(ValueError, match=r"needed|at least"):
            make()
    with pytest.raises(ValueError, match="above 0"):
        ReverseSDE(OUVE(), seen, snr=0.0)
    with pytest.raises(ValueError, match="base > 1"):
        SBVE(base=1.0)
