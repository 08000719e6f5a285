"""How unlike are a student's law q and its teacher's p? f-divergences, by how they weigh mistakes.

D_f(q || p) = E_q f(p / q) with f convex and f(1) = 0. Along a generator x(theta) of q

    d D_f / d theta = E_q[h(r) (score of q - score of p) d x / d theta],  h(r) = f''(r) r^2

with r = p / q (Xu, Nie and Vahdat, 2025, arXiv:2502.15681): every divergence moves samples along
the same difference of scores, and differs only in h. A large h at large r pulls samples to where
the student is missing, which covers modes and makes the weights vary.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

Ratio = Float[Tensor, "*N"]


class Divergence(NamedTuple):
    """One f-divergence.

    Attributes:
        f: The convex function of r = p / q.
        weight: h(r) = f''(r) r^2.
    """

    f: Callable[[Ratio], Ratio]
    weight: Callable[[Ratio], Ratio]


def _middle(r: Ratio) -> Ratio:
    return (1 + r) / 2


DIVERGENCES: Mapping[str, Divergence] = {
    # KL(q || p): seeks modes
    "rkl": Divergence(lambda r: -r.log(), lambda r: r**0),
    # KL(p || q): covers modes
    "kl": Divergence(lambda r: r * r.log(), lambda r: r),
    # KL(q || m) / 2 + KL(p || m) / 2 with m the middle of both
    "js": Divergence(
        lambda r: (r * r.log() - (1 + r) * _middle(r).log()) / 2, lambda r: r / (1 + r) / 2
    ),
    # 2 KL(m || p): as rkl, blind to where q has nothing
    "softened_rkl": Divergence(
        lambda r: (1 + r) * (_middle(r).log() - r.log()), lambda r: 1 / (1 + r)
    ),
    # the integral of (sqrt p - sqrt q)^2
    "hellinger": Divergence(lambda r: 2 * (1 - r.sqrt()), lambda r: r.sqrt() / 2),
    # KL(p || q) + KL(q || p)
    "jeffreys": Divergence(lambda r: (r - 1) * r.log(), lambda r: 1 + r),
    # the integral of (p - q)^2 / p
    "neyman": Divergence(lambda r: (1 - r) ** 2 / r, lambda r: 2 / r),
}


def divergence(name: str) -> Divergence:
    """Return the divergence of that name.

    Raises:
        ValueError: There is none.
    """
    if name not in DIVERGENCES:
        raise ValueError(f"unknown divergence {name!r}; known: {', '.join(DIVERGENCES)}.")
    return DIVERGENCES[name]
