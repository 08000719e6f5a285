"""Marginals learnt from an unnormalised law: gradients, chains and log Z against enumeration."""

import math
from itertools import pairwise

import pytest
import torch
from laws import assert_law
from oracle.marginals import Ising, Table, random_law
from torch import nn

from unison.models import Transformer, TransformerConfig
from unison.objectives import Batch
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing
from unison.train import Optimizer, energy_based
from unison.train.energy_based import EnergyBased, log_normaliser, rewrite, train_marginals

LAW = random_law(3, 4, seed=3)
PROCESS = Absorbing(3)


class Consistent(nn.Module):
    """Marginals and conditionals of a softmax over all texts, by definition consistent."""

    def __init__(self, law, weights):
        super().__init__()
        self.law, self.weights = law, nn.Parameter(weights)
        shown = law.canvases[:, None] == law.texts
        self.agrees = (shown | (law.canvases == law.vocab)[:, None]).all(-1)

    def log_p(self):
        return self.weights.log_softmax(0)

    def table(self):
        law, marginals = self.law, []
        for agrees in self.agrees:
            marginals.append(self.log_p()[agrees].logsumexp(0))
        marginal = torch.stack(marginals)
        before, position, token, after = law.steps
        logits = torch.zeros(len(law.canvases), law.length, law.vocab, dtype=torch.float64)
        logits = logits.index_put((before, position, token), marginal[after])
        visible = (law.canvases != law.vocab).sum(1)
        return Table(logits, (marginal + visible * math.log(law.vocab)) / law.length)


@pytest.fixture(scope="module")
def tiny():
    """Two positions, two tokens; the law holds 1, 3, 5 and 7 sixteenths."""
    law = random_law(2, 2, seed=0)
    shares = torch.tensor([1.0, 3.0, 5.0, 7.0]).double()
    return Consistent(law, (shares / 16).log()), shares.long()


def parts_of(network, shares, log_f, log_z=None):
    """The losses of texts in exactly the law's proportions: means over them are expectations."""
    texts = network.law.texts.repeat_interleave(shares, 0)
    batch = Batch(texts, rng.stratified(0, 0, len(texts)))
    key = Key(rng.rows(0, 0, len(texts)))
    told = log_f.repeat_interleave(shares)
    return energy_based.losses(Absorbing(2), network.table(), batch, key, told, log_z)


def test_the_gradient_is_that_of_the_divergence_from_the_target(tiny):
    """REINFORCE over the law itself against automatic differentiation of the enumerated KL."""
    network, shares = tiny
    log_f = torch.tensor([0.3, -1.0, 2.0, 0.5]).double()
    log_p = network.log_p()
    divergence = (log_p.exp() * (log_p - log_f)).sum()
    (want,) = torch.autograd.grad(divergence, network.weights)
    parts = parts_of(network, shares, log_f)
    (got,) = torch.autograd.grad(parts.fit, network.weights)
    assert want.abs().min() > 0.01
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-9)
    assert parts.residual.detach().abs().max() < 1e-6
    assert parts.start.detach() < 1e-12


def test_at_the_target_the_gradient_and_its_noise_vanish(tiny):
    """For texts in any proportions, not on average over the law alone, and whatever log Z is."""
    network, _ = tiny
    once = torch.ones(4, dtype=torch.long)
    log_f = network.log_p().detach() + 4.2
    parts = parts_of(network, once, log_f)
    torch.testing.assert_close(parts.score, torch.full((4,), 4.2).double())
    (got,) = torch.autograd.grad(parts.fit, network.weights)
    assert got.abs().max() < 1e-9


def test_squared_error_with_the_right_log_z_is_zero_at_the_target_and_moves_a_wrong_one(tiny):
    network, shares = tiny
    log_f = network.log_p().detach() + 4.2
    log_z = torch.tensor(4.0).double().requires_grad_()
    parts = parts_of(network, shares, log_f, log_z)
    assert parts.fit.item() == pytest.approx(0.2**2)
    (got,) = torch.autograd.grad(parts.fit, log_z)
    assert float(got) == pytest.approx(-2 * 0.2)


def test_inconsistency_is_charged_alpha_times_the_length_and_a_wrong_start_alpha():
    """Marginals off by 0.5 for each visible token; then by 0.7 everywhere."""
    visible = (LAW.canvases != 3).sum(1)
    batch, key = Batch(LAW.texts, rng.stratified(0, 0, 81)), Key(rng.rows(0, 0, 81))
    for shift, want in ((0.5 * visible, 6.0 * 4 * 0.5**2), (0.7, 6.0 * 0.7**2)):
        parts = energy_based.losses(PROCESS, LAW.network(shift), batch, key, torch.zeros(81))
        charged = parts.total(alpha=6.0, length=4) - parts.fit
        assert float(charged) == pytest.approx(want, rel=1e-5)


def test_texts_drawn_afresh_come_with_their_probability():
    """In whatever order they were written, if the conditionals are those of one law."""
    network, key = LAW.network(), Key(rng.rows(0, 0, 64))
    blank = torch.zeros(64, 4, dtype=torch.long)
    texts, log_q = rewrite(PROCESS, network, blank, 4, key)
    want = [LAW.log_p(text) for text in texts.tolist()]
    torch.testing.assert_close(log_q, torch.tensor(want).double(), rtol=0, atol=1e-6)
    assert len(set(map(tuple, texts.tolist()))) > 20


@pytest.mark.law
@pytest.mark.parametrize("count", [1, 3, 4])
def test_rewriting_leaves_the_law_as_it_is(count, seed):
    """Of texts that follow it; with as many positions as there are, also of any others."""
    rows = 20_000
    key = Key(rng.rows(seed, 0, rows))
    network, texts = LAW.network(), torch.zeros(rows, 4, dtype=torch.long)
    if count < 4:
        texts, _ = rewrite(PROCESS, network, texts, 4, key)
    after, _ = rewrite(PROCESS, network, texts, count, key.at(1))
    moved = (after != texts).sum(1)
    assert int(moved.max()) == count
    law = {tuple(t): math.exp(LAW.log_p(t)) for t in LAW.texts.tolist()}
    assert_law(map(tuple, after.tolist()), law)


def test_log_z_is_exact_with_exact_conditionals_and_right_within_its_error_with_others():
    target = LAW.truth[[LAW.number[tuple(t)] for t in LAW.texts.tolist()]] + 2.5

    def log_f(texts):
        return target[texts @ torch.tensor([27, 9, 3, 1])]

    key = Key(rng.rows(0, 0, 4000))
    sure = log_normaliser(PROCESS, LAW.network(), log_f, 4, key)
    assert sure.value == pytest.approx(2.5, abs=1e-6)
    assert sure.stderr < 1e-6
    other = random_law(3, 4, seed=8).network(0.3)
    found = log_normaliser(PROCESS, other, log_f, 4, key)
    assert abs(found.value - 2.5) < 6 * found.stderr
    assert 0.005 < found.stderr < 0.05
    assert (found.n, found.unit) == (4000, "nats")


def small(length, hidden=16):
    torch.manual_seed(0)
    shape = TransformerConfig(
        vocab_size=2,
        num_states=3,
        hidden=hidden,
        depth=1,
        heads=4,
        max_length=length,
        time="none",
        scalar=True,
        positions="learned",
    )
    return Transformer(shape)


@pytest.mark.parametrize("match", ["kl", pytest.param("squared", marks=pytest.mark.slow)])
def test_a_chain_of_spins_is_learnt_without_data(match):
    """log Z by both readings, half a nat above free spins; steps that are nearly consistent."""
    spins = Ising(1, 4, seed=1)
    optimizer = Optimizer(lr=1e-2, beta2=0.99, warmup=20, schedule="cosine", final=0.0)
    config = EnergyBased(
        steps=200, chains=64, rewritten=2, alpha=1.0, match=match, optimizer=optimizer
    )
    made = train_marginals(small(4, 32), Absorbing(2), spins.log_f, 4, config)
    last = made.records[-1]
    assert [record.step for record in made.records] == [100, 200]
    assert made.log_z.stderr < 0.03
    assert abs(made.log_z.value - spins.log_z()) < 5 * made.log_z.stderr
    assert abs(last.log_z.value - spins.log_z()) < 0.05
    assert last.residual < 0.06
    assert spins.log_z() - 4 * math.log(2) > 0.5


@pytest.mark.slow
def test_a_grid_of_nine_spins_is_learnt_without_data():
    spins = Ising(3, 3, seed=0)
    made = train_marginals(small(9, 32), Absorbing(2), spins.log_f, 9, EnergyBased(steps=1500))
    assert abs(made.log_z.value - spins.log_z()) < 4 * made.log_z.stderr
    assert made.log_z.stderr < 0.05
    assert made.records[-1].residual < 0.05
    assert abs(made.records[-1].log_z.value - spins.log_z()) < 0.05


def test_it_is_a_function_of_its_arguments_and_leaves_the_network_alone():
    spins, network, seen = Ising(1, 4, seed=1), small(4), []
    before = [w.detach().clone() for w in network.parameters()]
    config = EnergyBased(steps=4, chains=8, rewritten=2, log_every=2)
    first = train_marginals(network, Absorbing(2), spins.log_f, 4, config, seen.append)
    second = train_marginals(network, Absorbing(2), spins.log_f, 4, config)
    assert first.records == second.records == tuple(seen)
    assert first.log_z == second.log_z
    for old, kept, made, again in zip(
        before,
        network.parameters(),
        first.network.parameters(),
        second.network.parameters(),
        strict=True,
    ):
        assert torch.equal(old, kept)
        assert torch.equal(made, again)
    other = EnergyBased(steps=4, chains=8, rewritten=2, log_every=2, seed=1)
    assert train_marginals(network, Absorbing(2), spins.log_f, 4, other).log_z != first.log_z


def test_every_step_rewrites_other_positions():
    """Of each chain one a step: over twelve steps all four are rewritten somewhere."""
    seen = []

    def log_f(texts):
        seen.append(texts)
        return Ising(1, 4, seed=1).log_f(texts)

    config = EnergyBased(steps=12, chains=16, rewritten=1)
    train_marginals(small(4), Absorbing(2), log_f, 4, config)
    moved = [after != before for before, after in pairwise(seen[:12])]
    assert all(int(step.sum(1).max()) == 1 for step in moved)
    ever = torch.stack(moved).any(0).sum(1)
    assert int((ever > 1).sum()) > 8


def test_a_target_that_is_not_finite_is_refused():
    def log_f(texts):
        return torch.full((len(texts),), -torch.inf)

    with pytest.raises(ValueError, match=r"one finite number for each of 128 texts.*128 that are"):
        train_marginals(small(4), Absorbing(2), log_f, 4)


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="rewritten must be at most length=4, got 5"):
        train_marginals(small(4), Absorbing(2), Ising(1, 4, 0).log_f, 4, EnergyBased(rewritten=5))
    with pytest.raises(ValueError, match="chains must be at least 2, got 1"):
        EnergyBased(chains=1)
    with pytest.raises(ValueError, match=r"alpha must be above 0, got 0\.0"):
        EnergyBased(alpha=0.0)
