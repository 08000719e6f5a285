"""Ψ-samplers follow their chain, keep the marginals and contain what they generalise."""

import numpy as np
import pytest
import torch
from laws import assert_law
from oracle import decoding as oracle
from torch.nn import functional as F

from unison.decode import Canvas
from unison.decode.diffusion.ancestral import Ancestral
from unison.decode.diffusion.psi import Psi
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import PROCESSES, make_schedule

VOCAB, LENGTH = 3, 3
KAPPAS = {
    "posterior": lambda alpha_s, alpha_t: 1.0,
    "renoise": lambda alpha_s, alpha_t: 0.0,
    "constant": lambda alpha_s, alpha_t: 0.6,
    "cap": oracle.kappa_of(oracle.cap(0.4)),
    "rescale": oracle.kappa_of(oracle.rescale(0.4)),
    "remdm": oracle.kappa_of(lambda alpha_s, alpha_t: 0.4),
}

both = pytest.mark.parametrize("kind", ["absorbing", "uniform"])
schedules = pytest.mark.parametrize("schedule", ["log_linear", "cosine"])
modes = pytest.mark.parametrize("mode", KAPPAS)


def toy(kind, schedule, seed):
    family = oracle.FAMILIES[kind](VOCAB)
    process = PROCESSES[kind](VOCAB, make_schedule(schedule))
    return process, family, oracle.random_tables(len(family.prior), VOCAB, LENGTH, seed)


def check(decoded, law):
    assert_law(map(tuple, decoded.tokens.tolist()), oracle.as_dict(law))


@both
@modes
@pytest.mark.parametrize(
    ("schedule", "steps", "given"),
    [("log_linear", 1, {}), ("log_linear", 3, {}), ("cosine", 4, {1: 2})],
    ids=str,
)
def test_psi_follows_its_chain(kind, schedule, mode, steps, given, seed, as_denoiser, write):
    process, family, tables = toy(kind, schedule, seed)
    strategy = Psi(steps, mode, kappa=0.6, eta=0.4)
    path = [(t, KAPPAS[mode]) for t in oracle.even(steps)[:-1]]
    decoded = write(strategy, process, as_denoiser(tables), given, LENGTH)
    check(decoded, oracle.psi_law(family, tables, oracle.ALPHAS[schedule], path, given))


@both
@schedules
@modes
@pytest.mark.parametrize(("step", "start"), [(1, (0, 1, -1)), (3, (2, -1, 0))], ids=str)
def test_a_psi_step_follows_its_kernel(kind, schedule, mode, step, start, seed, as_denoiser, move):
    """Steps 2 and 4 of 5; sigma meets its bound in one of them and not in the other."""
    process, family, tables = toy(kind, schedule, seed)
    x = tuple(v % len(family.prior) for v in start)  # -1 is the mask, or the last token
    strategy = Psi(5, mode, kappa=0.6, eta=0.4)
    after = move(strategy, process, as_denoiser(tables), ([x], [[False] * LENGTH]), step)
    t, s = oracle.even(5)[step : step + 2]
    alphas = oracle.ALPHAS[schedule](s), oracle.ALPHAS[schedule](t)
    belief, kappa = tables.belief(x, t), KAPPAS[mode](*alphas)
    rows = [oracle.psi_kernel(family, v, belief[i], alphas, kappa) for i, v in enumerate(x)]
    check(after, oracle.outer(rows))


@both
@pytest.mark.parametrize("mode", ["renoise", "constant", "rescale"])
def test_psi_follows_its_chain_in_segments(kind, mode, seed, as_denoiser, write):
    """Outside the middle segment the chain is ancestral."""
    process, family, tables = toy(kind, "log_linear", seed)
    strategy = Psi(5, mode, kappa=0.6, eta=0.4, high=0.2, middle=0.4)
    kappas = [KAPPAS["posterior"], KAPPAS[mode], KAPPAS[mode], *[KAPPAS["posterior"]] * 2]
    path = list(zip(oracle.even(5)[:-1], kappas, strict=True))
    decoded = write(strategy, process, as_denoiser(tables), {2: 0}, LENGTH)
    check(decoded, oracle.psi_law(family, tables, oracle.log_linear, path, {2: 0}))


@both
@schedules
@pytest.mark.parametrize("mode", ["constant", "remdm"])
def test_psi_follows_its_chain_through_the_loop(kind, schedule, mode, seed, as_denoiser, write):
    process, family, tables = toy(kind, schedule, seed)
    strategy = Psi(
        7, mode, kappa=0.6, eta=0.4, high=0.28, middle=0.43, profile="loop", alpha_on=0.6
    )
    times = oracle.rest_and_fall(2, 3, 2, oracle.TIME_OF[schedule](0.6))
    kappas = [KAPPAS[m] for m in ["posterior"] * 2 + [mode] * 3 + ["posterior"] * 2]
    path = list(zip(times[:-1], kappas, strict=True))
    decoded = write(strategy, process, as_denoiser(tables), {}, LENGTH)
    check(decoded, oracle.psi_law(family, tables, oracle.ALPHAS[schedule], path, {}))


@both
@pytest.mark.parametrize(
    "strategy",
    [Psi(4, "posterior"), Psi(4, "constant", kappa=1.0), Psi(4, "renoise", high=0.5, middle=0.0)],
    ids=["mode", "kappa=1", "no middle"],
)
def test_psi_with_kappa_one_is_ancestral_draw_for_draw(kind, strategy, seed, as_denoiser, write):
    process, _, tables = toy(kind, "log_linear", seed)
    ours = write(strategy, process, as_denoiser(tables), {1: 0}, LENGTH, rows=2_000)
    ancestral = write(Ancestral(4), process, as_denoiser(tables), {1: 0}, LENGTH, rows=2_000)
    assert torch.equal(ours.tokens, ancestral.tokens)
    if strategy.mode != "constant":
        assert torch.equal(ours.nfe, ancestral.nfe)


def noised(process, clean, alpha):
    """q(x_t | x_0) over states, float64."""
    identity = torch.eye(process.num_states, dtype=torch.float64)
    if process.num_states == process.vocab_size:
        prior = torch.full_like(identity[0], 1 / process.vocab_size)
    else:
        prior = identity[process.mask_id]
    return alpha * identity[clean] + (1 - alpha) * prior, prior


@both
@pytest.mark.parametrize("kappa", [0.0, 0.3, 0.95, 1.0])
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.7), (0.7, 0.2), (0.4, 0.0), (0.5, 0.5)])
def test_psi_keeps_the_marginals_when_the_belief_is_true(kind, kappa, t, s):
    """sum over x_t of q(x_t | x_0) Ψ(x_s | x_t, x_0) = q(x_s | x_0), in float64 (Eq. 11)."""
    process, clean = PROCESSES[kind](VOCAB), 1
    a_t, a_s = (torch.tensor([1 - (1 - 1e-3) * v], dtype=torch.float64) for v in (t, s))
    states = torch.arange(process.num_states)[:, None]
    ones = torch.ones(process.num_states, dtype=torch.float64)
    truth = F.one_hot(torch.tensor(clean), VOCAB).double().log().expand(len(states), 1, -1)
    before, prior = noised(process, clean, a_t)

    def back(alpha):
        logp = process.log_posterior(states, truth, alpha * ones, a_t * ones)
        q = torch.zeros(len(states), process.num_states, dtype=torch.float64)
        q[:, : logp.shape[-1]] = logp[:, 0].exp()
        return q.nan_to_num(0.0)  # impossible x_t: q(x_t | x_0) = 0

    psi = kappa * back(a_s) + (1 - kappa) * (a_s * back(torch.ones(1).double()) + (1 - a_s) * prior)
    torch.testing.assert_close(before @ psi, noised(process, clean, a_s)[0], rtol=0, atol=1e-12)


@both
@pytest.mark.parametrize("mode", ["renoise", "constant", "rescale"])
def test_a_psi_step_keeps_the_marginals_when_the_belief_is_true(kind, mode, seed):
    process, rows = PROCESSES[kind](VOCAB), 20_000
    key = Key(rng.rows(seed, 0, rows), step=2)
    x0 = torch.arange(VOCAB).expand(rows, -1)
    truth = F.one_hot(x0, VOCAB).float().log()
    alpha_t, alpha_s = (float(1 - (1 - 1e-3) * v) for v in (0.5, 0.25))
    u = rng.uniform(key, 99, VOCAB)
    xt = process.corrupt(x0, torch.full((rows,), alpha_t).double(), u)
    canvas = Canvas(xt, torch.zeros_like(xt, dtype=torch.bool))
    strategy = Psi(4, mode, kappa=0.6, eta=0.4)
    after, _ = strategy.step(process, lambda x, t: truth, canvas, key)
    for clean in range(VOCAB):
        law = noised(process, clean, alpha_s)[0].tolist()
        assert_law(after.tokens[:, clean].tolist(), dict(enumerate(law)))


@pytest.mark.parametrize("mode", ["cap", "rescale"])
def test_psi_on_masks_is_remdm(mode, seed, as_denoiser, write):
    """The Ψ chain with the mask as prior has ReMDM's law while sigma <= 1 - alpha_s."""
    process, family, tables = toy("absorbing", "log_linear", seed)
    sigma = {"cap": oracle.cap, "rescale": oracle.rescale}[mode](0.2)
    times = oracle.even(4)[:-1]
    remdm = oracle.remdm_law(tables, oracle.log_linear, [(t, sigma) for t in times], {})
    kappa = oracle.kappa_of(sigma)
    psi = oracle.psi_law(family, tables, oracle.log_linear, [(t, kappa) for t in times], {})
    np.testing.assert_allclose(psi, remdm, atol=1e-12)
    check(write(Psi(4, mode, eta=0.2), process, as_denoiser(tables), {}, LENGTH), remdm)
