"""The fused uniform-state NELBO against the materialised generalised KL divergence."""

import math

import pytest
import torch
from oracle.nelbo import generalised_kl

from unison.objectives import uniform_nelbo as module
from unison.objectives.uniform_nelbo import uniform_nelbo

TIMES = [1e-3, 1e-2, 0.1, 0.5, 0.9, 0.99, 1.0]
SIZES = [2, 27, 256, 50257]
EPS = 1e-3  # of the log-linear schedule


def case(size, rows=None, seed=0, spread=3.0, times=TIMES):
    """Rows at every time, kept and changed tokens alternating; logits favour the clean token."""
    g = torch.Generator().manual_seed(seed)
    rows = rows or 2 * len(times)
    t = torch.tensor(times, dtype=torch.float64).repeat(-(-rows // len(times)))[:rows]
    clean = torch.randint(size, (rows,), generator=g)
    noisy = torch.randint(size, (rows,), generator=g)
    noisy[: rows // 2] = clean[: rows // 2]
    logits = spread * torch.randn(rows, size, generator=g, dtype=torch.float64)
    logits[torch.arange(rows), clean] += 3 * torch.rand(rows, generator=g).double()
    return logits, clean, noisy, 1 - (1 - EPS) * t, torch.full_like(t, -(1 - EPS))


@pytest.mark.parametrize("size", SIZES)
def test_it_is_the_generalised_kl_divergence(size):
    arguments = case(size)
    torch.testing.assert_close(
        uniform_nelbo(*arguments), generalised_kl(*arguments), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("size", SIZES)
def test_its_gradient_is_that_of_the_definition(size):
    """To 1e-9 of the row's largest entry, or 1e-13; weighted so no row can stand for another."""
    logits, *rest = case(size, seed=1)
    weights = torch.linspace(0.5, 2, len(logits), dtype=torch.float64)
    grads = []
    for loss in (uniform_nelbo, generalised_kl):
        x = logits.clone().requires_grad_()
        (loss(x, *rest) * weights).sum().backward()
        grads.append(x.grad)
    scale = grads[1].abs().amax(-1, keepdim=True)
    assert ((grads[0] - grads[1]).abs() < 1e-9 * scale + 1e-13).all()


def test_its_gradient_is_a_finite_difference():
    logits, *rest = case(5, seed=2, times=[0.05, 0.3, 0.8])
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: uniform_nelbo(x, *rest), (logits,), rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_single_precision_is_close(size):
    """Relative 1e-4 to t = 0.5 and 1e-3 to t = 0.9; absolute 1e-5 where losses are tiny."""
    logits, *rest = case(size, rows=28, seed=3)
    logits, alpha = logits.float(), rest[2]
    got, want = uniform_nelbo(logits, *rest), generalised_kl(logits, *rest)
    assert got.dtype == torch.float32
    bound = torch.where(alpha > 0.45, 1e-4, 1e-3) * want + 1e-5
    assert ((got - want).abs() < bound).all()


@pytest.mark.parametrize("size", SIZES)
def test_single_precision_gradients_are_close(size):
    """To 1e-5 of the row's largest entry, or 3e-7 / (1 - alpha): rounding of its terms."""
    logits, *rest = case(size, rows=28, seed=4)
    x, y = logits.float().requires_grad_(), logits.float().double().requires_grad_()
    uniform_nelbo(x, *rest).sum().backward()
    generalised_kl(y, *rest).sum().backward()
    scale = y.grad.abs().amax(-1, keepdim=True)
    floor = 3e-7 / (1 - rest[2][:, None])
    assert ((x.grad - y.grad).abs() < 1e-5 * scale + floor).all()


def test_bfloat16_logits_are_read_exactly_and_their_gradient_rounded_once():
    logits, *rest = case(256, seed=5)
    x = logits.bfloat16().requires_grad_()
    y = logits.bfloat16().float().requires_grad_()
    half, full = uniform_nelbo(x, *rest), uniform_nelbo(y, *rest)
    assert half.dtype == torch.float32
    assert torch.equal(half, full)
    half.sum().backward()
    full.sum().backward()
    assert x.grad.dtype == torch.bfloat16
    torch.testing.assert_close(x.grad.float(), y.grad, rtol=2**-8, atol=1e-30)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_it_is_never_negative(size, spread):
    """Not in float64 beyond rounding; in float32 not below 1e-5 nats."""
    arguments = case(size, seed=6, spread=spread)
    assert (uniform_nelbo(*arguments) > -1e-9).all()
    assert (uniform_nelbo(arguments[0].float(), *arguments[1:]) > -1e-5).all()


@pytest.mark.parametrize("size", SIZES)
def test_it_vanishes_only_for_certainty_of_the_clean_token(size):
    logits, clean, noisy, alpha, dalpha = case(size, seed=7)
    certain = torch.full_like(logits, -torch.inf).scatter(1, clean[:, None], 2.0)
    assert uniform_nelbo(certain, clean, noisy, alpha, dalpha).abs().max() < 1e-7
    sure = 2 + math.log(size)
    doubting = torch.full_like(logits, -4.0).scatter(1, clean[:, None], sure)
    assert (uniform_nelbo(doubting, clean, noisy, alpha, dalpha) > 1e-12).all()


def test_certainty_leaves_nothing_to_learn():
    logits, clean, *rest = case(27, seed=8)
    certain = torch.full_like(logits, -torch.inf).scatter(1, clean[:, None], 0.0).requires_grad_()
    uniform_nelbo(certain, clean, *rest).sum().backward()
    assert certain.grad.abs().max() < 1e-9


def test_a_uniform_belief_costs_what_the_formula_says():
    """Belief 1/K: xbar is 1 everywhere; a changed token leaves one closed form."""
    size, alpha = 50, torch.tensor([0.4]).double()
    loss = uniform_nelbo(
        torch.zeros(1, size).double(), torch.tensor([3]), torch.tensor([7]), alpha, -alpha / alpha
    )
    low, high = 0.6, 0.6 + size * 0.4
    r_clean = high / low
    want = (size - r_clean - (size - 1) + r_clean * torch.tensor(r_clean).log()) / (size * 0.4)
    assert float(loss) == pytest.approx(float(want), rel=1e-6)


@pytest.mark.parametrize("budget", [1, 27 * 5, 1 << 30])
def test_the_cut_into_slabs_changes_nothing(budget, monkeypatch):
    logits, *rest = case(27, rows=13, seed=9)
    answers = []
    for slab in (module._SLAB, budget):
        monkeypatch.setattr(module, "_SLAB", slab)
        x = logits.clone().requires_grad_()
        loss = uniform_nelbo(x, *rest)
        loss.sum().backward()
        answers.append((loss, x.grad))
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-13, atol=1e-13)


def test_many_slabs_are_all_visited():
    """More rows than a slab holds, at the default size."""
    logits, *rest = case(50257, rows=5, seed=10)
    assert len(logits) > max(1, module._SLAB // 50257)
    torch.testing.assert_close(
        uniform_nelbo(logits.float(), *rest).double(),
        generalised_kl(logits.float(), *rest),
        rtol=1e-3,
        atol=1e-5,
    )


def test_rows_do_not_see_each_other():
    arguments = case(27, rows=14, seed=11)
    together = uniform_nelbo(*arguments)
    alone = [uniform_nelbo(*(a[i : i + 1] for a in arguments)) for i in range(14)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-14, atol=0)


def test_shifting_the_logits_changes_nothing():
    logits, *rest = case(27, seed=12)
    torch.testing.assert_close(
        uniform_nelbo(logits, *rest), uniform_nelbo(logits + 300, *rest), rtol=1e-9, atol=1e-9
    )
