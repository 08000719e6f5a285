"""The uniform-state NELBO as one program each way: against the definition and the torch path."""

import pytest
import torch
from oracle.nelbo import generalised_kl

from unison.objectives import uniform_nelbo as module
from unison.prob import kernels

SIZES = [2, 27, 300, 5000]  # one tile, and two
EPS = 1e-3


def case(size, seed=0, device="cpu"):
    """Rows from almost clean to noise, kept and changed tokens; some logits are -inf."""
    g = torch.Generator().manual_seed(seed)
    t = torch.tensor([1e-3, 0.1, 0.5, 0.9, 1.0, 0.3], dtype=torch.float64)
    clean, noisy = (torch.randint(size, (6,), generator=g) for _ in range(2))
    noisy[:3] = clean[:3]
    logits = 3 * torch.randn(6, size, generator=g)
    logits[4, : size // 2] = -torch.inf
    logits[4, [int(clean[4]), int(noisy[4])]] = 1.0
    alpha = 1 - (1 - EPS) * t
    return tuple(x.to(device) for x in (logits, clean, noisy, alpha, torch.full_like(t, EPS - 1)))


@pytest.fixture
def by_program(monkeypatch, device):
    """Send every float32 row and below to the programs, wherever it lies."""
    monkeypatch.setattr(kernels, "fits", lambda logits: logits.dtype is not torch.float64)
    return device


def loss_and_gradient(logits, *rest):
    x = logits.clone().requires_grad_()
    loss = module.uniform_nelbo(x, *rest)
    (loss * torch.linspace(0.5, 2, len(loss), device=loss.device)).sum().backward()
    return loss.detach().cpu(), x.grad.cpu()


@pytest.mark.parametrize("size", SIZES)
def test_the_loss_is_the_generalised_kl_divergence(size, by_program):
    """As near as the torch path promises: 1e-4 to t = 0.5, 1e-3 to t = 0.9, 1e-5 of the least."""
    arguments = case(size, device=by_program)
    got, want = module.uniform_nelbo(*arguments), generalised_kl(*arguments)
    assert got.dtype == torch.float32
    bound = torch.where(arguments[3] > 0.45, 1e-4, 1e-3) * want + 1e-5
    assert ((got - want).abs() < bound).all()


@pytest.mark.parametrize("size", SIZES)
def test_the_gradient_is_that_of_the_definition(size, by_program):
    logits, *rest = case(size, seed=1, device=by_program)
    _, got = loss_and_gradient(logits, *rest)
    _, want = loss_and_gradient(logits.double(), *rest)
    scale = want.abs().amax(-1, keepdim=True)
    floor = 6e-7 / (1 - rest[2].cpu()[:, None])
    assert ((got - want).abs() < 1e-5 * scale + floor).all()


def test_sums_are_as_near_to_float64_as_those_of_torch(device):
    """Both err by the rounding of their float32 terms: at most 2e-7 of a sum."""
    from unison.objectives.kernels import uniform_nelbo as program

    logits, *_, alpha, _ = case(5000, seed=2, device=device)
    ratio = 5000 * alpha / (1 - alpha)
    exact = module._sums(logits.double(), ratio)
    got = program.sums(logits, ratio)
    assert ((got.log_total - exact.log_total).abs() < 2e-7).all()
    assert ((got.log_xbar / exact.log_xbar - 1).abs() < 2e-7).all()


def test_bfloat16_logits_are_read_exactly_and_their_gradient_rounded_once(by_program):
    logits, *rest = case(300, seed=3, device=by_program)
    half, half_grad = loss_and_gradient(logits.bfloat16(), *rest)
    full, full_grad = loss_and_gradient(logits.bfloat16().float(), *rest)
    assert half_grad.dtype == torch.bfloat16
    assert torch.equal(half, full)
    # The interpreter cuts off what a GPU rounds.
    torch.testing.assert_close(half_grad.float(), full_grad, rtol=2**-7, atol=1e-30)


def test_a_row_does_not_see_the_others(by_program):
    arguments = case(300, seed=4, device=by_program)
    together, gradient = loss_and_gradient(*arguments)
    alone, own = loss_and_gradient(*(part[2:3] for part in arguments))
    assert torch.equal(together[2:3], alone)
    torch.testing.assert_close(gradient[2:3] / torch.linspace(0.5, 2, 6)[2], own / 0.5)


def test_rows_may_lie_apart_and_there_may_be_none(by_program):
    logits, *rest = case(27, seed=5, device=by_program)
    apart = torch.stack([logits, logits], dim=-1)[..., 0]
    assert apart.stride(-1) != 1
    assert torch.equal(module.uniform_nelbo(apart, *rest), module.uniform_nelbo(logits, *rest))
    assert module.uniform_nelbo(logits[:0], *(part[:0] for part in rest)).shape == (0,)
