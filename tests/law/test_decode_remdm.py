"""ReMDM follows its chain for every way to choose sigma."""

import pytest
import torch
from laws import assert_law
from oracle import decoding as oracle

from unison.decode.diffusion.remdm import ReMDM
from unison.process import PROCESSES, make_schedule

VOCAB, LENGTH = 3, 3
SIGMAS = {"cap": oracle.cap(0.4), "rescale": oracle.rescale(0.4)}

schedules = pytest.mark.parametrize("schedule", ["log_linear", "cosine"])


def toy(schedule, seed, vocab=VOCAB, length=LENGTH):
    process = PROCESSES["absorbing"](vocab, make_schedule(schedule))
    return process, oracle.random_tables(vocab + 1, vocab, length, seed)


def check(decoded, law):
    assert_law(map(tuple, decoded.tokens.tolist()), oracle.as_dict(law))


@schedules
@pytest.mark.parametrize("mode", SIGMAS)
@pytest.mark.parametrize(("steps", "given"), [(1, {}), (2, {}), (5, {1: 2})], ids=str)
def test_remdm_follows_its_chain(schedule, mode, steps, given, seed, as_denoiser, write):
    process, tables = toy(schedule, seed)
    path = [(t, SIGMAS[mode]) for t in oracle.even(steps)[:-1]]
    law = oracle.remdm_law(tables, oracle.ALPHAS[schedule], path, given)
    strategy = ReMDM(steps, mode, eta=0.4)
    check(write(strategy, process, as_denoiser(tables), given, LENGTH), law)


@schedules
@pytest.mark.parametrize("given", [{}, {0: 1, 2: 0}], ids=str)
@pytest.mark.parametrize("eta", [0.3, 0.9])
def test_remdm_follows_its_chain_through_the_loop(schedule, given, eta, seed, as_denoiser, write):
    """Two steps down, three at rest (eta = 0.9 meets the bound there), two to the end."""
    process, tables = toy(schedule, seed)
    strategy = ReMDM(7, "loop", eta=eta, t_on=0.72, t_off=0.29, alpha_on=0.7)
    times = oracle.rest_and_fall(2, 3, 2, oracle.TIME_OF[schedule](0.7))
    sigmas = [oracle.cap(0.0)] * 2 + [oracle.cap(eta)] * 3 + [oracle.cap(0.0)] * 2
    path = list(zip(times[:-1], sigmas, strict=True))
    law = oracle.remdm_law(tables, oracle.ALPHAS[schedule], path, given)
    check(write(strategy, process, as_denoiser(tables), given, LENGTH), law)


@schedules
@pytest.mark.parametrize(("steps", "given"), [(1, {}), (3, {}), (4, {}), (4, {1: 1})], ids=str)
def test_remdm_follows_its_chain_by_confidence(schedule, steps, given, seed, as_denoiser, write):
    """Enumerated over histories: the confidence with which each token was written is state."""
    process, tables = toy(schedule, seed, vocab=2)
    law = oracle.remdm_conf_law(tables, oracle.ALPHAS[schedule], oracle.even(steps), given)
    check(write(ReMDM(steps, "conf"), process, as_denoiser(tables), given, LENGTH), law)


@schedules
@pytest.mark.parametrize("mode", SIGMAS)
@pytest.mark.parametrize(("step", "x"), [(1, (0, 1, 3)), (3, (2, 3, 0))], ids=str)
def test_a_remdm_step_follows_its_kernel(schedule, mode, step, x, seed, as_denoiser, move):
    """Steps 2 and 4 of 5; sigma meets its bound in one of them and not in the other."""
    process, tables = toy(schedule, seed)
    strategy = ReMDM(5, mode, eta=0.4)
    after = move(strategy, process, as_denoiser(tables), ([x], [[False] * LENGTH]), step)
    t, s = oracle.even(5)[step : step + 2]
    alphas = oracle.ALPHAS[schedule](s), oracle.ALPHAS[schedule](t)
    belief, sigma = tables.belief(x, t), SIGMAS[mode](*alphas)
    rows = [oracle.remdm_kernel(v, belief[i], alphas, sigma) for i, v in enumerate(x)]
    check(after, oracle.outer(rows))


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("given", [{}, {0: 0}], ids=str)
@pytest.mark.parametrize("memory", [[0.1, 0.9, 0.0], None], ids=str)
def test_a_step_by_confidence_follows_its_kernel(step, given, memory, seed, as_denoiser, move):
    """The doubtful token goes more often; given ones neither compete nor are remasked.

    At step 2 of 4 the bound is 1, at step 3 it is 1/2. Without a memory all compete alike.
    """
    process, tables = toy("log_linear", seed, vocab=2)
    x, mask = (0, 1, 2), 2
    held = [[i in given for i in range(LENGTH)]]
    canvas = ([x], held) if memory is None else ([x], held, [memory])
    after = move(ReMDM(4, "conf"), process, as_denoiser(tables), canvas, step)
    t, s = oracle.even(4)[step : step + 2]
    alphas = oracle.log_linear(s), oracle.log_linear(t)
    bound = min(1.0, (1 - alphas[0]) / alphas[1])
    before = memory or [1.0, 1.0, 0.0]
    shares = oracle.confidences(tuple(zip(x, before, strict=True)), given, mask)
    belief = tables.belief(x, t)
    rows = [oracle.remdm_kernel(x[i], belief[i], alphas, bound * shares[i]) for i in range(LENGTH)]
    check(after, oracle.outer(rows))
    remembers(after, x, before, belief)


def remembers(after, x, before, belief):
    """A token keeps the confidence it was written with; a new one brings its own."""
    mask = belief.shape[-1]
    for i, now in enumerate(after.tokens.unbind(1)):
        there, memory = now != mask, after.memory[:, i]
        own = torch.from_numpy(belief[i])[now.clamp(max=mask - 1)]
        expected = own if x[i] == mask else torch.full_like(own, before[i])
        torch.testing.assert_close(memory[there], expected[there], rtol=1e-5, atol=0)
