"""Corruption processes as plain transition matrices, and Bayes' rule on them (numpy, float64)."""

import numpy as np

Array = np.ndarray


def absorbing_kernel(vocab: int, keep: float) -> Array:
    """P(y | x) on V + 1 states: keep with probability ``keep``, else fall into the mask (last)."""
    kernel = keep * np.eye(vocab + 1)
    kernel[:, vocab] += 1 - keep
    return kernel


def uniform_kernel(vocab: int, keep: float) -> Array:
    """P(y | x) on V states: keep with probability ``keep``, else redraw uniformly over all V."""
    return keep * np.eye(vocab) + (1 - keep) / vocab


KERNELS = {"absorbing": absorbing_kernel, "uniform": uniform_kernel}


def posterior(kind: str, x0: Array, alpha_s: float, alpha_t: float, xt: int) -> Array:
    """p(x_s | x_t) by Bayes' rule over every state; ``x0`` is the law of the clean token."""
    vocab, kernel = len(x0), KERNELS[kind]
    to_s, to_t = kernel(vocab, alpha_s), kernel(vocab, alpha_t / alpha_s)
    clean = np.zeros(len(to_s))
    clean[:vocab] = x0
    joint = (clean @ to_s) * to_t[:, xt]
    return joint / joint.sum()


def argmax_survival(mu: float, vocab: int) -> float:
    """P(the coordinate of mean mu is the largest of K unit normals), by adaptive quadrature."""
    from scipy import integrate, stats

    def density(z: float) -> float:
        return stats.norm.pdf(z - mu) * np.exp((vocab - 1) * stats.norm.logcdf(z))

    value, _ = integrate.quad(
        density, mu - 12, mu + 12, points=[mu], epsabs=1e-14, epsrel=1e-13, limit=500
    )
    return value
