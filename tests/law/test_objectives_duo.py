"""Duo's curriculum: soft tokens follow the Gaussian latent, and end where the bound begins."""

import numpy as np
import pytest
import torch
from laws import assert_law
from scipy import stats

from unison.objectives import Batch, Duo
from unison.objectives.soft_tokens import _largest_normals, dense, top_k
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Uniform
from unison.process.duality import Duality
from unison.types import SoftTokens

FALSE_ALARM = 1e-6
NEVER = (torch.full((20,), -100.0).double(), torch.ones(20).double())  # x_0 is never kept


def signal(vocab, t, rows):
    return Duality(vocab).signal(torch.full((rows,), t, dtype=torch.float64))


def survival(vocab, t):
    alpha = float(Duality(vocab).alpha(torch.tensor([t], dtype=torch.float64))[0])
    return alpha + (1 - alpha) / vocab


def drawn(kind, vocab, t, tau, size=(20, 1000), seed=0, scales=None):
    """Soft tokens of the clean token 1; ``kind`` is "dense" or how many to keep."""
    rows, length = size
    x0 = torch.ones(rows, length, dtype=torch.int64)
    key = Key(rng.rows(seed, 0, rows))
    scales = scales or signal(vocab, t, rows)
    if kind == "dense":
        return dense(x0, scales, tau, vocab, key)
    return top_k(x0, scales, tau, (vocab, kind), key)


@pytest.mark.law
@pytest.mark.parametrize(
    ("vocab", "kind"),
    [(5, "dense"), (5, 1), (5, 2), (5, 4), (256, "dense"), (256, 2), (256, 5), (50257, 2)],
)
@pytest.mark.parametrize("t", [0.02, 0.5, 0.98])
def test_the_hard_token_survives_as_in_the_process(vocab, kind, t):
    """P(hard = x_0) = alpha + (1 - alpha)/K, also where x_0 is kept but not the largest."""
    size = (4, 1000) if (vocab, kind) == (256, "dense") else (20, 1000)
    relaxed = drawn(kind, vocab, t, 1e-3, size, seed=vocab)
    hit = survival(vocab, t)
    assert_law((relaxed.hard == 1).flatten().tolist(), {True: hit, False: 1 - hit})


@pytest.mark.law
@pytest.mark.parametrize("kind", ["dense", 1, 2, 4])
def test_wrong_hard_tokens_are_uniform(kind):
    hard = drawn(kind, 5, 0.6, 1e-3).hard.flatten()
    hit = survival(5, 0.6)
    law = {v: hit if v == 1 else (1 - hit) / 4 for v in range(5)}
    assert_law(hard.tolist(), law)


@pytest.mark.parametrize("tau", [1e-3, 0.05, 1.0])
def test_the_hard_token_is_the_heaviest_soft_one(tau):
    whole = drawn("dense", 9, 0.5, tau)
    weights, ids = whole.soft.weights, whole.soft.ids
    assert ids is None
    chosen = weights.gather(-1, whole.hard[..., None])[..., 0]
    assert torch.equal(chosen, weights.amax(-1))
    for kept in (1, 2, 8):
        part = drawn(kept, 9, 0.5, tau)
        chosen = part.soft.weights.where(part.soft.ids == part.hard[..., None], 0.0).sum(-1)
        assert torch.equal(chosen, part.soft.weights.amax(-1))


@pytest.mark.parametrize("kept", [1, 2, 5, 8])
@pytest.mark.parametrize("tau", [1e-3, 0.1, 1.0, 10.0])
def test_kept_tokens_are_distinct_and_weigh_at_most_one(kept, tau):
    soft = drawn(kept, 9, 0.5, tau, (8, 500)).soft
    ordered = soft.ids.sort(-1).values
    assert (ordered.diff(dim=-1) > 0).all()
    assert ((ordered >= 0) & (ordered < 9)).all()
    assert torch.isfinite(soft.weights).all()
    assert (soft.weights >= 0).all()
    assert (soft.weights.sum(-1) <= 1 + 1e-12).all()


@pytest.mark.law
def test_other_tokens_are_a_uniform_ordered_choice():
    """Every ordered pair out of the three tokens that are not x_0, among 20 000."""
    ids = drawn(2, 4, 0.5, 1.0, scales=NEVER).soft.ids.flatten(0, 1)
    pairs = [(a, b) for a in (0, 2, 3) for b in (0, 2, 3) if a != b]
    assert_law(map(tuple, ids.tolist()), dict.fromkeys(pairs, 1 / 6))


@pytest.mark.law
@pytest.mark.parametrize("count", [1, 4, 255, 50256])
def test_the_largest_normal_has_the_law_of_a_maximum(count):
    """P(max < x) = Phi(x)^n; the next one, given the largest, is a maximum of n - 1 below it."""
    kept = min(2, count)
    values = _largest_normals(1000, count, kept, Key(rng.rows(0, 0, 20))).flatten(0, 1).numpy()
    first = np.exp(count * stats.norm.logcdf(values[:, 0]))
    assert stats.kstest(first, "uniform").pvalue > FALSE_ALARM
    assert (np.diff(values, axis=1) < 0).all()
    if kept == 2:
        below = stats.norm.logcdf(values[:, 1]) - stats.norm.logcdf(values[:, 0])
        assert stats.kstest(np.exp((count - 1) * below), "uniform").pvalue > FALSE_ALARM


@pytest.mark.law
@pytest.mark.parametrize("tau", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("place", [0, 1, 2, 3, 4])
def test_keeping_all_but_one_is_the_dense_law(tau, place):
    """Every weight for K = 5, the fifth being what the four leave: two-sample KS, 20 000 each."""
    whole, part = drawn("dense", 5, 0.5, tau).soft, drawn(4, 5, 0.5, tau, seed=1).soft
    left = 1 - part.weights.sum(-1, keepdim=True)
    ours = torch.cat([part.weights.sort(-1, descending=True).values, left], -1)[..., place]
    full = whole.weights.sort(-1, descending=True).values[..., place]
    # The dense path is single precision: compare what it can resolve.
    ours, full = (x.flatten().double().numpy().round(5) for x in (ours, full))
    assert stats.ks_2samp(ours, full).pvalue > FALSE_ALARM


@pytest.mark.law
@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_the_kept_mass_is_right_in_the_mean(tau):
    """Keeping 3 of 40: the share of the three largest, against the dense law, within 2 %."""
    whole = drawn("dense", 40, 0.5, tau, (10, 1000)).soft.weights.topk(3).values.sum(-1)
    part = drawn(3, 40, 0.5, tau, (10, 1000), seed=1).soft.weights.sum(-1)
    assert float(part.mean()) == pytest.approx(float(whole.mean()), rel=0.02)


def test_a_row_does_not_see_its_batch():
    x0 = torch.arange(12).reshape(4, 3)
    seeds, scales = rng.rows(0, 0, 4), signal(50, 0.5, 4)
    together = top_k(x0, scales, 0.1, (50, 2), Key(seeds)).soft
    for i in range(4):
        one = slice(i, i + 1)
        alone = top_k(x0[one], tuple(s[one] for s in scales), 0.1, (50, 2), Key(seeds[one])).soft
        assert torch.equal(alone.ids, together.ids[one])
        assert torch.equal(alone.weights, together.weights[one])


class Recorder:
    """A network that remembers what it was shown."""

    def __init__(self, vocab):
        self.vocab, self.seen = vocab, []

    def __call__(self, inputs, sigma, valid=None):
        self.seen.append((inputs, sigma))
        shape = (inputs.weights if isinstance(inputs, SoftTokens) else inputs).shape[:2]
        return torch.zeros(*shape, self.vocab)


def batch(vocab, rows=4):
    g = torch.Generator().manual_seed(0)
    return Batch(torch.randint(vocab, (rows, 5), generator=g), rng.stratified(0, 0, rows))


def test_the_curriculum_ends_when_it_says():
    objective, network = Duo(curriculum_steps=10), Recorder(30)
    for step in (0, 9, 10, 11):
        objective(Uniform(30), network, batch(30), Key(rng.rows(0, 0, 4), step))
    assert [isinstance(x, SoftTokens) for x, _ in network.seen] == [True, True, False, False]


def test_after_the_curriculum_the_loss_is_the_plain_bound():
    for step in (10, 25):
        key = Key(rng.rows(0, 0, 4), step)
        after = Duo(curriculum_steps=10)(Uniform(30), Recorder(30), batch(30), key)
        plain = Duo()(Uniform(30), Recorder(30), batch(30), key)
        assert torch.equal(after.total, plain.total)


@pytest.mark.parametrize("objective", [Duo(5), Duo(5, soft="dense")])
def test_the_network_is_told_the_level_of_the_discrete_process(objective):
    """sigma = -log T(signal), inside the window, never the Gaussian's own time."""
    network, some = Recorder(30), batch(30, 64)
    objective(Uniform(30), network, some, Key(rng.rows(0, 0, 64), 0))
    t = 1e-3 + (1 - 1e-3) * some.strata
    alpha, _ = Duality(30).alpha(t)
    torch.testing.assert_close(network.seen[0][1], -alpha.log().float())
    assert alpha.min() > 0.05
    assert alpha.max() < 0.95


def test_keeping_the_whole_vocabulary_is_dense():
    network = Recorder(4)
    Duo(5, top=4)(Uniform(4), network, batch(4), Key(rng.rows(0, 0, 4), 0))
    Duo(5, top=3)(Uniform(4), network, batch(4), Key(rng.rows(0, 0, 4), 0))
    assert [soft.ids is None for soft, _ in network.seen] == [True, False]


def test_tau_is_constant_unless_it_is_told_where_to_end():
    assert {Duo(100, tau=0.02).temperature(step) for step in (0, 50, 100)} == {0.02}


def test_tau_falls_evenly_in_its_logarithm():
    objective = Duo(100, tau=0.1, tau_end=0.001)
    taus = [objective.temperature(step) for step in (0, 50, 100, 1000)]
    assert taus == pytest.approx([0.1, 0.01, 0.001, 0.001], rel=1e-12)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("curriculum_steps", -1, "curriculum_steps must be at least 0, got -1"),
        ("tau", 0.0, "tau must be above 0, got 0.0"),
        ("tau_end", 0.0, "tau_end must be above 0, got 0.0"),
        ("tau_end", -1.0, "tau_end must be above 0, got -1.0"),
        ("tau", float("nan"), "tau must be above 0, got nan"),
        ("top", 0, "top must be at least 1, got 0"),
    ],
)
def test_an_impossible_curriculum_is_refused(field, value, words):
    with pytest.raises(ValueError, match=words):
        Duo(**{field: value})
