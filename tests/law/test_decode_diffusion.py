"""Ancestral, greedy-tail and first-hitting sampling follow the laws they name."""

import numpy as np
import pytest
import torch
from laws import ALPHA, assert_count, assert_law
from oracle import decoding as oracle
from scipy import stats

from unison.decode import Canvas, decode, grid
from unison.decode.diffusion.ancestral import Ancestral
from unison.decode.diffusion.first_hitting import FirstHitting
from unison.decode.diffusion.greedy_tail import GreedyTail
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import PROCESSES, SCHEDULES, make_schedule

VOCAB, LENGTH = 3, 3
PROMPTS = [{}, {1: 2}, {0: 1, 2: 0}]  # blank; a token in the middle; a hole in the middle

both = pytest.mark.parametrize("kind", ["absorbing", "uniform"])
schedules = pytest.mark.parametrize("schedule", ["log_linear", "cosine"])
prompts = pytest.mark.parametrize("given", PROMPTS, ids=str)


def toy(kind, schedule, seed, length=LENGTH, timed=True):
    """A process, its oracle twin and a random denoiser."""
    family = oracle.FAMILIES[kind](VOCAB)
    process = PROCESSES[kind](VOCAB, make_schedule(schedule))
    return process, family, oracle.random_tables(len(family.prior), VOCAB, length, seed, timed)


def check(decoded, law):
    assert_law(map(tuple, decoded.tokens.tolist()), oracle.as_dict(law))


@both
@schedules
@prompts
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_ancestral_follows_the_reverse_chain(
    kind, schedule, given, steps, seed, as_denoiser, write
):
    process, family, tables = toy(kind, schedule, seed)
    decoded = write(Ancestral(steps), process, as_denoiser(tables), given, LENGTH)
    times = oracle.even(steps)
    check(decoded, oracle.chain_law(family, tables, oracle.ALPHAS[schedule], times, given))


@both
@schedules
@pytest.mark.parametrize("given", PROMPTS[:2], ids=str)
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_ancestral_with_a_last_mode_follows_the_chain_and_its_posterior_argmax(
    kind, schedule, given, steps, seed, as_denoiser, write
):
    process, family, tables = toy(kind, schedule, seed)
    decoded = write(Ancestral(steps, "mode"), process, as_denoiser(tables), given, LENGTH)
    times = oracle.even(steps)
    law = oracle.ancestral_mode_law(family, tables, oracle.ALPHAS[schedule], times, given)
    check(decoded, law)


@both
@schedules
@pytest.mark.parametrize("given", PROMPTS[:2], ids=str)
@pytest.mark.parametrize(("steps", "last"), [(1, 1e-5), (2, 1e-5), (4, 1e-5), (3, 0.4)])
def test_greedy_tail_follows_the_chain_and_its_argmax(
    kind, schedule, given, steps, last, seed, as_denoiser, write
):
    process, family, tables = toy(kind, schedule, seed)
    decoded = write(GreedyTail(steps, last), process, as_denoiser(tables), given, LENGTH)
    times = oracle.even(steps - 1, last) if steps > 1 else [1.0]
    check(decoded, oracle.greedy_tail_law(family, tables, oracle.ALPHAS[schedule], times, given))


@prompts
def test_first_hitting_follows_continuous_time(given, seed, as_denoiser, write):
    process, _, tables = toy("absorbing", "log_linear", seed)
    decoded = write(FirstHitting(), process, as_denoiser(tables), given, LENGTH)
    check(decoded, oracle.first_hitting_law(tables, "log_linear", given, nodes=4))
    assert (decoded.nfe == LENGTH - len(given)).all()


@pytest.mark.parametrize("given", [{}, {0: 2}], ids=str)
def test_first_hitting_follows_a_curved_schedule(given, seed, as_denoiser, write):
    process, _, tables = toy("absorbing", "cosine", seed, length=2)
    decoded = write(FirstHitting(), process, as_denoiser(tables), given, 2)
    check(decoded, oracle.first_hitting_law(tables, "cosine", given, nodes=24))


@schedules
@prompts
def test_first_hitting_without_time_is_any_order(schedule, given, seed, as_denoiser, write):
    """If the network ignores the time, the schedule does not matter."""
    process, _, tables = toy("absorbing", schedule, seed, timed=False)
    decoded = write(FirstHitting(), process, as_denoiser(tables), given, LENGTH)
    check(decoded, oracle.any_order_law(tables, given))


@schedules
def test_first_hitting_shows_the_network_the_time_of_the_event(schedule, move):
    """((1 - alpha(t')) / (1 - alpha(t)))^n is uniform: Kolmogorov-Smirnov, 20 000 rows."""
    process = PROCESSES["absorbing"](VOCAB, make_schedule(schedule))
    alpha, seen = oracle.ALPHAS[schedule], []

    def denoise(xt, t):
        seen.append(t)
        return torch.full((*xt.shape, VOCAB), 1 / VOCAB).log()

    masks, given = [[process.mask_id] * 4], [[False, False, True, False]]
    move(FirstHitting(), process, denoise, (masks, given), 0)
    move(FirstHitting(), process, denoise, (masks, given, [0.3]), 1)
    for t, start in zip(seen, [1 - alpha(1.0), 0.3], strict=True):
        fraction = np.array([(1 - alpha(v)) / start for v in t.tolist()]) ** 3
        assert stats.kstest(fraction, "uniform").pvalue > ALPHA


def test_first_hitting_counts_the_holes_of_its_own_row(seed, as_denoiser):
    """Rows with one, two and three holes in one batch: each keeps the law it has alone."""
    process, _, tables = toy("absorbing", "log_linear", seed)
    rows = 20_000
    prompts = [{}, {1: 2}, {0: 1, 2: 0}]
    tokens = torch.full((3, LENGTH), process.mask_id)
    for i, given in enumerate(prompts):
        for position, token in given.items():
            tokens[i, position] = token
    tokens = tokens.repeat(rows, 1)
    canvas = Canvas(tokens, tokens != process.mask_id)
    key = Key(rng.rows(seed, 0, 3 * rows))
    drawn = decode(FirstHitting(), process, as_denoiser(tables), canvas, key).tokens
    for i, given in enumerate(prompts):
        law = oracle.first_hitting_law(tables, "log_linear", given, nodes=4)
        assert_law(map(tuple, drawn[i::3].tolist()), oracle.as_dict(law))


def test_the_oracles_agree_where_theory_says_so(seed):
    """Many small ancestral steps approach continuous time; two derivations of it coincide."""
    _, family, timed = toy("absorbing", "log_linear", seed, length=2)
    hitting = oracle.first_hitting_law(timed, "log_linear", {}, nodes=4)
    gaps = []
    for steps in (100, 200):
        chain = oracle.chain_law(family, timed, oracle.log_linear, oracle.even(steps), {})
        gaps.append(np.abs(chain - hitting).sum() / 2)
    assert gaps[1] < 2e-3
    assert 1.8 < gaps[0] / gaps[1] < 2.2  # first order in the step
    _, _, still = toy("absorbing", "log_linear", seed, timed=False)
    for given in PROMPTS:
        np.testing.assert_allclose(
            oracle.first_hitting_law(still, "log_linear", given, nodes=4),
            oracle.any_order_law(still, given),
            atol=1e-12,
        )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_time_of_inverts_the_schedule(schedule):
    process = PROCESSES["absorbing"](VOCAB, make_schedule(schedule))
    t = torch.linspace(0.001, 0.999, 97, dtype=torch.float64)
    found = grid.time_of(process, process.schedule.alpha(t))
    torch.testing.assert_close(found, t, atol=1e-9, rtol=0)
    ends = grid.time_of(process, torch.tensor([2.0, -1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([0.0, 1.0]).double(), atol=1e-12, rtol=0)


def test_no_token_is_too_rare_to_be_unmasked(seed):
    """20 000 tokens of 2e-6, one step of a thousand: 2e-9 each in the posterior.

    A float32 Gumbel race over that posterior never draws one of them (rate below 1e-12). Here
    a million positions expect 40; a loss of 4 in 5 would be caught 999 times in 1000.
    """
    rare, rows = 20_000, 1_000_000
    belief = torch.full((rare + 1,), 2e-6)
    belief[0] = 1 - rare * 2e-6
    process = PROCESSES["absorbing"](rare + 1)
    xt = torch.full((rows, 1), process.mask_id)
    key = Key(rng.rows(seed, 0, rows))
    alphas = tuple(process.schedule.alpha(torch.full((rows,), t).double()) for t in (0.499, 0.5))
    u_jump, u_target = (rng.uniform(key, site, 1) for site in (0, 1))
    log_x0 = belief.log().expand(rows, 1, -1)
    xs = process.sample_posterior(xt, log_x0, alphas, u_jump, u_target)
    jump = float((alphas[0][0] - alphas[1][0]) / (1 - alphas[1][0]))
    drawn = int(((xs > 0) & (xs != process.mask_id)).sum())
    assert_count(drawn, rows, jump * rare * 2e-6)
