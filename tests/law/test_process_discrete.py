"""Absorbing and uniform corruption against Bayes' rule on enumerated transition matrices."""

import numpy as np
import pytest
import torch
from laws import assert_law
from oracle import processes as oracle

from unison.prob import rng
from unison.prob.rng import Key, uniform
from unison.process import Absorbing, Sequential, Uniform

VOCAB = 4
MAKE = {"absorbing": Absorbing, "uniform": Uniform}
PAIRS = [(1.0, 0.6), (1.0, 1e-3), (0.9, 0.4), (0.5, 0.49), (0.2, 1e-3), (0.7, 0.7)]

both = pytest.mark.parametrize("kind", MAKE)
pairs = pytest.mark.parametrize("alphas", PAIRS)


def rows(value, count=1):
    return torch.full((count,), value, dtype=torch.float64)


def random_belief(vocab=VOCAB, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(vocab, 0.6))


def model_posterior(kind, x0, alphas, xt):
    """p(x_s | x_t) of the process under test, with belief ``x0``."""
    process = MAKE[kind](len(x0))
    log_x0 = torch.from_numpy(x0).log()
    current = torch.tensor([[xt]])
    if kind == "absorbing" and xt < len(x0):  # carry-over: the belief of a clean token
        log_x0 = torch.full_like(log_x0, -torch.inf)
        log_x0[xt] = 0.0
    logp = process.log_posterior(current, log_x0[None, None], *(rows(a) for a in alphas))
    return logp.exp()[0, 0].numpy()


def possible(kind, x0, alpha_t):
    """States that corruption at alpha_t can reach from the support of x0."""
    kernel = oracle.KERNELS[kind](len(x0), alpha_t)
    return np.flatnonzero(x0 @ kernel[: len(x0)] > 0)


@pytest.mark.law
@both
@pytest.mark.parametrize("alpha", [0.999, 0.6, 0.05, 1e-3])
def test_corrupt_follows_the_kernel(kind, alpha):
    """20 000 rows from every clean token."""
    process = MAKE[kind](VOCAB)
    x0 = torch.arange(VOCAB).expand(20_000, VOCAB)
    xt = process.corrupt(x0, rows(alpha, 20_000), uniform(Key(rng.rows(1, 0, 20_000)), 0, VOCAB))
    kernel = oracle.KERNELS[kind](VOCAB, alpha)
    for v in range(VOCAB):
        assert_law(xt[:, v].tolist(), dict(enumerate(kernel[v])))


@both
@pytest.mark.parametrize("alpha", [1.0, 0.999, 0.6, 0.05, 1e-3])
def test_corrupt_maps_the_unit_interval_onto_the_kernel(kind, alpha):
    """Without chance: over an even grid of u each state takes its share, to one grid cell."""
    n = 100_000
    u = (torch.arange(n, dtype=torch.float64)[None] + 0.5) / n
    for v in range(VOCAB):
        xt = MAKE[kind](VOCAB).corrupt(torch.full((1, n), v), rows(alpha), u)
        kernel = oracle.KERNELS[kind](VOCAB, alpha)[v]
        share = np.bincount(xt[0].numpy(), minlength=len(kernel)) / n
        assert np.abs(share - kernel).max() <= 2 / n


def test_priors_are_the_corruption_with_nothing_left():
    u = uniform(Key(torch.arange(50)), 0, 40)
    x0 = torch.zeros(50, 40, dtype=torch.int64)
    for process in (Absorbing(VOCAB), Uniform(VOCAB)):
        assert torch.equal(process.prior(u), process.corrupt(x0, rows(0.0, 50), u))
    assert (Absorbing(VOCAB).prior(u) == VOCAB).all()
    assert_law(Uniform(VOCAB).prior(u).flatten().tolist(), dict.fromkeys(range(VOCAB), 1 / VOCAB))


def test_the_last_uniform_is_still_a_token():
    u = torch.tensor([[1 - 2.0**-53, 2.0**-54]])
    for size in (2, 3, 50257):
        assert Uniform(size).prior(u).tolist() == [[size - 1, 0]]


@both
@pairs
def test_posterior_is_bayes_rule_for_known_text(kind, alphas):
    for v in range(VOCAB):
        x0 = np.eye(VOCAB)[v]
        for xt in possible(kind, x0, alphas[1]):
            want = oracle.posterior(kind, x0, *alphas, xt)
            assert model_posterior(kind, x0, alphas, int(xt)) == pytest.approx(want, abs=1e-12)


@both
@pairs
def test_posterior_is_bayes_rule_for_a_belief(kind, alphas):
    """The belief enters as the law of x_0 before x_t was seen, at that position alone."""
    x0 = random_belief()
    for xt in possible(kind, x0, alphas[1]):
        want = oracle.posterior(kind, x0, *alphas, xt)
        assert model_posterior(kind, x0, alphas, int(xt)) == pytest.approx(want, abs=1e-12)


@both
@pairs
def test_posterior_and_marginal_agree(kind, alphas):
    """Chapman-Kolmogorov: averaging q(x_s | x_t, x_0) over q(x_t | x_0) gives q(x_s | x_0)."""
    for v in range(VOCAB):
        x0 = np.eye(VOCAB)[v]
        to_t, to_s = (oracle.KERNELS[kind](VOCAB, a)[v] for a in reversed(alphas))
        mixed = sum(
            to_t[xt] * model_posterior(kind, x0, alphas, int(xt))
            for xt in possible(kind, x0, alphas[1])
        )
        assert mixed == pytest.approx(to_s, abs=1e-12)


@both
def test_no_time_no_change(kind):
    for xt in possible(kind, random_belief(), 0.3):
        got = model_posterior(kind, random_belief(), (0.3, 0.3), int(xt))
        assert got == pytest.approx(np.eye(len(got))[xt], abs=1e-12)


def test_the_last_uniform_step_is_the_belief_tilted_by_the_current_token():
    """alpha_s = 1: q(x_0 | x_t) is proportional to x_0 (K alpha_t 1[x_t] + 1 - alpha_t)."""
    x0, alpha = random_belief(), 0.37
    for xt in range(VOCAB):
        want = x0 * (VOCAB * alpha * np.eye(VOCAB)[xt] + 1 - alpha)
        got = model_posterior("uniform", x0, (1.0, alpha), xt)
        assert got == pytest.approx(want / want.sum(), abs=1e-12)


def test_the_last_absorbing_step_is_the_belief_and_never_a_mask():
    got = model_posterior("absorbing", random_belief(), (1.0, 0.37), VOCAB)
    assert got == pytest.approx([*random_belief(), 0.0], abs=1e-15)


@pytest.mark.law
@both
@pairs
def test_drawing_a_step_follows_the_posterior(kind, alphas):
    """20 000 rows at every current token."""
    process, n = MAKE[kind](VOCAB), 20_000
    x0, states = random_belief(seed=3), oracle.KERNELS[kind](VOCAB, 1.0).shape[1]
    xt = torch.arange(states).expand(n, states)
    log_x0 = torch.from_numpy(x0).log().expand(n, states, VOCAB)
    key = Key(rng.rows(2, 0, n))
    levels = tuple(rows(a, n) for a in alphas)
    xs = process.sample_posterior(
        xt, log_x0, levels, uniform(key, 0, states), uniform(key, 1, states)
    )
    for state in range(states):
        law = model_posterior(kind, x0, alphas, state)
        assert_law(xs[:, state].tolist(), dict(enumerate(law.tolist())))


def test_only_masks_are_unsettled():
    xt = torch.tensor([[0, VOCAB, 2]])
    assert Absorbing(VOCAB).settled(xt).tolist() == [[True, False, True]]
    assert Sequential(VOCAB).settled(xt).tolist() == [[True, False, True]]
    assert not Uniform(VOCAB).settled(torch.tensor([[0, 1, 2]])).any()


def test_a_clean_token_is_believed():
    logits = torch.randn(1, 2, VOCAB, generator=torch.Generator().manual_seed(0))
    belief = Absorbing(VOCAB).log_x0(logits, torch.tensor([[2, VOCAB]])).exp()
    assert belief[0, 0].tolist() == [0.0, 0.0, 1.0, 0.0]
    torch.testing.assert_close(belief[0, 1], logits[0, 1].softmax(-1))


@pytest.mark.parametrize("process", [Absorbing(VOCAB), Uniform(VOCAB), Sequential(VOCAB)])
def test_beliefs_are_normalised_in_float32_whatever_the_logits(process):
    logits = torch.randn(2, 3, VOCAB, generator=torch.Generator().manual_seed(0)).bfloat16()
    belief = process.log_x0(logits, torch.full((2, 3), process.num_states - 1))
    assert belief.dtype == torch.float32
    torch.testing.assert_close(belief.exp().sum(-1), torch.ones(2, 3))


def test_left_to_right_reads_the_text_shifted_behind_a_start():
    xt = torch.tensor([[1, 2, 3], [0, VOCAB, VOCAB]])
    assert Sequential(VOCAB).shifted(xt).tolist() == [[VOCAB, 1, 2], [VOCAB, 0, VOCAB]]


@pytest.mark.parametrize(("make", "least"), [(Absorbing, 1), (Uniform, 2), (Sequential, 1)])
def test_a_vocabulary_too_small_is_refused(make, least):
    with pytest.raises(ValueError, match=f"at least {least}, got {least - 1}"):
        make(least - 1)
