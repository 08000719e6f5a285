"""ReMDM follows its chain for every way to choose sigma."""

import pytest
import torch
from laws import assert_law
from oracle import decoding as oracle

from unison.decode import Canvas
from unison.decode.diffusion.remdm import ReMDM
from unison.prob import rng
from unison.prob.rng import Key
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
    """Two steps down, three at rest (eta = 0.9 meets the bound there), one to the end."""
    process, tables = toy(schedule, seed)
    strategy = ReMDM(6, "loop", eta=eta, t_on=0.67, t_off=0.17, alpha_on=0.7)
    times = oracle.rest_and_fall(2, 3, 1, oracle.TIME_OF[schedule](0.7))
    sigmas = [oracle.cap(0.0)] * 2 + [oracle.cap(eta)] * 3 + [oracle.cap(0.0)]
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


def one_step(strategy, process, memory, given):
    """Step 3 of 4 from the canvas (0, 1, mask), 20 000 rows."""
    rows = 20_000
    tokens = torch.tensor([[0, 1, process.mask_id]]).expand(rows, -1)
    held = torch.tensor([given]).expand(rows, -1)
    memory = None if memory is None else torch.tensor([memory]).double().expand(rows, -1)
    belief = torch.full((rows, 3, 2), 0.5).log()
    canvas = Canvas(tokens, held, memory)
    key = Key(rng.rows(0, 0, rows), step=2)
    return strategy.step(process, lambda x, t: belief, canvas, key)[0]


def rate(hit):
    return hit.float().mean().item()


def test_the_doubtful_token_is_remasked_more_often():
    """Confidences 0.1 and 0.9: shares e^-0.1 and e^-0.9 of their sum, times the bound of 1/2."""
    process, _ = toy("log_linear", 0, vocab=2)
    after = one_step(ReMDM(4, "conf"), process, [0.1, 0.9, 0.0], [False] * 3).tokens
    bound = min(1.0, (1 - oracle.log_linear(0.25)) / oracle.log_linear(0.5))
    shares = torch.softmax(torch.tensor([-0.1, -0.9]), 0).tolist()
    for position, share in enumerate(shares):
        gone = after[:, position] == process.mask_id
        assert_law(gone.tolist(), {True: bound * share, False: 1 - bound * share})


def test_given_tokens_neither_compete_nor_lose():
    process, _ = toy("log_linear", 0, vocab=2)
    after = one_step(ReMDM(4, "conf"), process, [0.1, 0.9, 0.0], [True, False, False]).tokens
    assert (after[:, 0] == 0).all()
    bound = min(1.0, (1 - oracle.log_linear(0.25)) / oracle.log_linear(0.5))
    assert_law((after[:, 1] == process.mask_id).tolist(), {True: bound, False: 1 - bound})


def test_without_memory_all_written_tokens_compete_alike():
    process, _ = toy("log_linear", 0, vocab=2)
    after = one_step(ReMDM(4, "conf"), process, None, [False] * 3)
    blank, same = (rate(after.tokens[:, i] == process.mask_id) for i in (0, 1))
    assert abs(blank - same) < 0.03  # six standard errors of the difference
    wrote = after.tokens[:, 2] != process.mask_id
    assert torch.allclose(after.memory[wrote, 2], torch.tensor(0.5).double())
