"""Likelihood bounds from their definitions: everything materialised, float64, no shortcuts."""

from itertools import product

import numpy as np
import torch
from oracle.processes import KERNELS
from torch import Tensor
from torch.nn import functional as F

Array = np.ndarray


def generalised_kl(
    logits: Tensor, clean: Tensor, noisy: Tensor, alpha: Tensor, dalpha: Tensor
) -> Tensor:
    """The uniform-state NELBO integrand of every row (Schiff et al., 2024, arXiv:2412.10193).

    -a'/(K a) sum_j [ rhat_j - r_j + r_j log(r_j / rhat_j) ] with r_j = xbar_j / xbar_i,
    xbar = K a x + (1 - a) 1, and the same with hats for the belief.
    """
    size = logits.shape[-1]
    belief = logits.double().softmax(-1)
    alpha, dalpha = alpha.double()[:, None], dalpha.double()[:, None]
    xbar = size * alpha * F.one_hot(clean, size) + 1 - alpha
    xbar_hat = size * alpha * belief + 1 - alpha
    r = xbar / xbar.gather(1, noisy[:, None])
    r_hat = xbar_hat / xbar_hat.gather(1, noisy[:, None])
    inside = r_hat - r + r * (r / r_hat).log()
    return -(dalpha / (size * alpha))[:, 0] * inside.sum(-1)


def masked_cross_entropy(
    logits: Tensor, clean: Tensor, masked: Tensor, alpha: Tensor, dalpha: Tensor
) -> Tensor:
    """The masked NELBO integrand of every row (Sahoo et al., 2024, arXiv:2406.07524)."""
    log_p = logits.double().log_softmax(-1)[torch.arange(len(clean)), clean]
    return dalpha / (1 - alpha) * log_p * masked


def toy_text(vocab: int, length: int, seed: int) -> Array:
    """A random joint law of a short text: an array with one axis per position."""
    return (
        np.random.default_rng(seed)
        .dirichlet(np.full(vocab**length, 0.5))
        .reshape((vocab,) * length)
    )


def noisy_joint(kind: str, text: Array, alpha: float) -> dict[tuple, Array]:
    """For every noisy text z: the array over clean texts x of p(x) q(z | x)."""
    vocab, length = text.shape[0], text.ndim
    kernel = KERNELS[kind](vocab, alpha)[:vocab]
    joint = {}
    for z in product(range(kernel.shape[1]), repeat=length):
        mass = text
        for axis, state in enumerate(z):
            column = kernel[:, state].reshape([-1 if a == axis else 1 for a in range(length)])
            mass = mass * column
        joint[z] = mass
    return joint


def beliefs(kind: str, text: Array, alpha: float) -> dict[tuple, Array]:
    """The best belief of a network at every noisy text z: p(x_i = v | z without z_i), [L, V].

    z_i itself is left out because the reverse step adds what z_i says: it is Bayes' rule with
    the belief as the law of x_i before z_i was seen. At a masked position z_i says nothing and
    this is the full posterior.
    """
    vocab, length = text.shape[0], text.ndim
    kernel = KERNELS[kind](vocab, alpha)[:vocab]
    table = {}
    for z in product(range(kernel.shape[1]), repeat=length):
        rows = []
        for i in range(length):
            others = [a for a in range(length) if a != i]
            mass = np.moveaxis(text, i, 0)
            for axis, a in enumerate(others, start=1):
                shape = [-1 if b == axis else 1 for b in range(length)]
                mass = mass * kernel[:, z[a]].reshape(shape)
            row = mass.reshape(vocab, -1).sum(-1)
            rows.append(row / row.sum())
        table[z] = np.stack(rows)
    return table


def full_posteriors(kind: str, text: Array, alpha: float) -> dict[tuple, Array]:
    """p(x_i = v | z) for every noisy text z that can occur: what a network should *not* say."""
    axes = range(text.ndim)
    return {
        z: np.stack([mass.sum(tuple(a for a in axes if a != i)) for i in axes]) / mass.sum()
        for z, mass in noisy_joint(kind, text, alpha).items()
        if mass.sum() > 0
    }


def information(kind: str, text: Array, alpha: float) -> float:
    """I(x_0; x_t) in nats, by enumeration.

    With the best possible belief the NELBO between two times integrates to the
    difference of this at the two: both are the divergence between path laws with and without
    knowledge of x_0, which by the chain rule, read forwards, sits in the first state alone.
    """
    total = 0.0
    for mass in noisy_joint(kind, text, alpha).values():
        known = mass > 0
        ratio = mass[known] / (text[known] * mass.sum())
        total += float((mass[known] * np.log(ratio)).sum())
    return total


def entropy(text: Array) -> float:
    """H(p) in nats."""
    return float(-(text * np.log(text)).sum())


def log_nodes(low: float, high: float, count: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights for an integral over [low, high], placed in log t."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    a, b = np.log(low), np.log(high)
    t = np.exp((b - a) / 2 * nodes + (a + b) / 2)
    return t, weights * t * (b - a) / 2
