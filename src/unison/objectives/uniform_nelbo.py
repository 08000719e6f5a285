r"""The uniform-state NELBO of every token, fused: one pass over the logits each way.

With xbar_j = K a x_j + 1 - a for the belief x at noise level a, current token i, clean token m:

    loss = c { K/xbar_i* - K/xbar_i - A [K log xbar_i - sum_j log xbar_j]
               - B log(xbar_i / xbar_m) - C },          c = a' / (K a)

(Sahoo et al., 2025, arXiv:2506.10892, Eq. 17, with the sign that makes it a positive loss), where
A, B, C and xbar_i* depend on the noise level and on whether i = m. Only the sums over j need the
logits; they run over slabs of rows that stay in cache, so nothing of size [rows, K] exists but
the logits and their gradient. On a GPU they are one Triton program each way (``kernels``).
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.objectives.batch import Batch, noised, time_of
from unison.prob import kernels
from unison.prob.rng import Key
from unison.process import Uniform
from unison.types import Network, SoftTokens, Time, Tokens

_SLAB = 1 << 16  # logits handled at a time on a CPU: two float32 buffers of it fit in L2 cache
_SLAB_DEVICE = 1 << 26

Rows = Float[Tensor, " N"]


class _Level(NamedTuple):
    """Everything in the loss that does not depend on the logits, float64, one per row."""

    ratio: Rows  # K a / (1 - a)
    scale: Rows  # c
    spread: Rows  # A
    towards: Rows  # B
    constant: Rows  # K / xbar_i* - C


class _Sums(NamedTuple):
    """What one pass over the logits yields, float64."""

    log_total: Rows  # log sum_j exp(logit_j)
    log_xbar: Rows  # sum_j log(xbar_j / (1 - a))
    pull: Rows | None = None  # sum_j (1 - a) p_j / xbar_j, where the pass had it at hand


class _Slope(NamedTuple):
    """What the gradient of a row is made of beside its logits, float64."""

    log_total: Rows
    ratio: Rows
    spread: Rows  # A / (1 - a)
    at_noisy: Rows  # what the logit of the noisy token gets
    at_clean: Rows  # what that of the clean token gets
    outer: Rows  # what all is multiplied by


def uniform_nelbo(
    logits: Float[Tensor, "N K"],
    clean: Int[Tensor, " N"],
    noisy: Int[Tensor, " N"],
    alpha: Rows,
    dalpha: Rows,
) -> Rows:
    """Return the NELBO integrand of each row in nats; differentiable in the logits.

    Zero exactly when the belief is certain of the clean token, positive otherwise.

    Args:
        logits: Unnormalised, any float dtype; the answer is float32, or float64 for float64.
        clean: x_0.
        noisy: x_t.
        alpha: Survival probability, in (0, 1).
        dalpha: Its time derivative, negative.
    """
    return _UniformNelbo.apply(logits, clean, noisy, alpha, dalpha)  # pyright: ignore[reportReturnType]


def nelbo_at_random_times(
    process: Uniform, network: Network, batch: Batch, key: Key, t_min: float
) -> Float[Tensor, "B L"]:
    """Return the NELBO integrand of every position at the batch's times, noised by the process."""
    t = time_of(batch.strata, t_min)
    alpha, dalpha = process.schedule.alpha(t), process.schedule.dalpha(t)
    xt = noised(process, batch, alpha, key)
    return nelbo_where_read(network, batch, (xt, xt), (alpha, dalpha))


def nelbo_where_read(
    network: Network,
    batch: Batch,
    inputs: tuple[Tokens | SoftTokens, Tokens],
    level: tuple[Time, Time],
) -> Float[Tensor, "B L"]:
    """Return the NELBO integrand where the network reads ``inputs[0]`` for x_t = ``inputs[1]``."""
    read, xt = inputs
    alpha, dalpha = level
    logits = network(read, -alpha.log().float(), batch.valid)
    length = batch.tokens.shape[1]
    loss = uniform_nelbo(
        logits.flatten(0, 1),
        batch.tokens.flatten(),
        xt.flatten(),
        alpha.repeat_interleave(length),
        dalpha.repeat_interleave(length),
    )
    return loss.unflatten(0, (-1, length))


def _level(clean: Tensor, noisy: Tensor, alpha: Tensor, dalpha: Tensor, size: int) -> _Level:
    alpha, dalpha = alpha.double(), dalpha.double()
    kept = clean == noisy
    ratio = size * alpha / (1 - alpha)
    kappa = 1 / (1 + ratio)
    log_kappa = -torch.log1p(ratio)
    zero = torch.zeros_like(kappa)
    spread = torch.where(kept, kappa, torch.ones_like(kappa))
    correction = torch.where(kept, (size - 1) * kappa, -1 / kappa) * log_kappa
    xbar = 1 - alpha + torch.where(kept, size * alpha, zero)
    return _Level(
        ratio,
        dalpha / (size * alpha),
        spread,
        torch.where(kept, zero, ratio),
        size / xbar - correction,
    )


def _working(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _slabs(logits: Tensor) -> range:
    budget = _SLAB if logits.device.type == "cpu" else _SLAB_DEVICE
    return range(0, logits.shape[0], max(1, budget // logits.shape[1]))


def _sums(logits: Tensor, ratio: Tensor) -> _Sums:
    if kernels.fits(logits):
        from unison.objectives.kernels import uniform_nelbo as program  # needs Triton

        return _Sums(*program.sums(logits, ratio))
    log_total = torch.empty_like(ratio)
    log_xbar = torch.empty_like(ratio)
    working = _working(logits)
    slabs = _slabs(logits)
    for first in slabs:
        rows = slice(first, first + slabs.step)
        x = logits[rows].to(working)
        peak = x.amax(-1, keepdim=True)
        weights = (x - peak).exp_()
        total = weights.sum(-1, keepdim=True, dtype=torch.float64)
        log_total[rows] = (peak.double() + total.log())[:, 0]
        weights.mul_((ratio[rows, None] / total).to(working))
        log_xbar[rows] = weights.log1p_().sum(-1, dtype=torch.float64)
    return _Sums(log_total, log_xbar)


class _UniformNelbo(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, clean: Tensor, noisy: Tensor, alpha: Tensor, dalpha: Tensor
    ) -> Tensor:
        size = logits.shape[-1]
        level = _level(clean, noisy, alpha, dalpha, size)
        sums = _sums(logits, level.ratio)
        ctx.save_for_backward(logits, clean, noisy, alpha, dalpha, sums.log_total, sums.pull)
        log_i, log_m = (
            torch.log1p(level.ratio * (_picked(logits, ids) - sums.log_total).exp())
            for ids in (noisy, clean)
        )
        inside = (
            level.constant
            - size / ((1 - alpha.double()) * log_i.exp())
            - level.spread * (size * log_i - sums.log_xbar)
            - level.towards * (log_i - log_m)
        )
        return (level.scale * inside).to(_working(logits))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        logits, clean, noisy, alpha, dalpha, log_total, pull = ctx.saved_tensors
        size = logits.shape[-1]
        level = _level(clean, noisy, alpha, dalpha, size)
        rest = 1 - alpha.double()
        p_i, p_m = ((_picked(logits, ids) - log_total).exp() for ids in (noisy, clean))
        xbar_i, xbar_m = rest * (1 + level.ratio * p_i), rest * (1 + level.ratio * p_m)
        slope = _Slope(
            log_total,
            level.ratio,
            level.spread / rest,
            p_i * (size / xbar_i - level.spread * size - level.towards) / xbar_i,
            p_m * level.towards / xbar_m,
            grads[0].double() * dalpha.double(),
        )
        if pull is None:
            return _gradient(logits, noisy, clean, slope), None, None, None, None
        from unison.objectives.kernels import uniform_nelbo as program  # needs Triton

        inner = slope.spread * pull + slope.at_noisy + slope.at_clean
        grad = program.gradient(logits, noisy, clean, program.Slope(*slope, inner))
        return grad, None, None, None, None


def _gradient(logits: Tensor, noisy: Tensor, clean: Tensor, slope: _Slope) -> Tensor:
    grad = torch.empty_like(logits)
    working = _working(logits)
    slabs = _slabs(logits)
    for first in slabs:
        rows = slice(first, first + slabs.step)
        log_total, ratio, spread, at_i, at_m, outer = (part[rows] for part in slope)
        p = (logits[rows].to(working) - log_total[:, None].to(working)).exp_()
        pull = p / (ratio[:, None].to(working) * p).add_(1)  # (1 - a) p_j / xbar_j
        pull *= spread[:, None].to(working)
        inner = pull.sum(-1, dtype=torch.float64) + at_i + at_m
        pull.addcmul_(p, inner[:, None].to(working), value=-1)
        pull.scatter_add_(1, noisy[rows, None], at_i[:, None].to(working))
        pull.scatter_add_(1, clean[rows, None], at_m[:, None].to(working))
        grad[rows] = pull.mul_(outer[:, None].to(working))  # rounded once, if at all
    return grad


def _picked(logits: Tensor, ids: Tensor) -> Tensor:
    return logits.gather(1, ids[:, None])[:, 0].double()
