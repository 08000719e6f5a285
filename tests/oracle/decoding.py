"""What do decoding strategies sample? Exact laws by enumeration, in plain float64.

Written from the papers; imports nothing from unison. A *law* is an array with one axis per
position and one entry per state: V tokens, and the mask (id V) where there is one. A *kernel*
is a list with one vector of next-state probabilities per position, since all strategies here
move positions independently given the current canvas.
"""

from collections.abc import Callable, Iterator
from functools import reduce
from itertools import pairwise, product
from math import acos, cos, exp, pi
from typing import NamedTuple

import numpy as np

Array = np.ndarray
State = tuple[int, ...]
Alpha = Callable[[float], float]
EPS = 1e-3  # survival left at t=1 by the published schedules


def log_linear(t: float) -> float:
    """alpha of MDLM (arXiv:2406.07524), with alpha(0) = 1."""
    return 1 - (1 - EPS) * t


def cosine(t: float) -> float:
    """alpha of Duo's CIFAR-10 runs (arXiv:2506.10892)."""
    return 1 - cos(pi / 2 * (1 - (1 - EPS) * t)) if t > 0 else 1.0


ALPHAS: dict[str, Alpha] = {"log_linear": log_linear, "cosine": cosine}
TIME_OF: dict[str, Callable[[float], float]] = {
    "log_linear": lambda alpha: (1 - alpha) / (1 - EPS),
    "cosine": lambda alpha: (1 - acos(1 - alpha) * 2 / pi) / (1 - EPS),
}


class Tables(NamedTuple):
    """A denoiser with no structure to hide behind: one random law per state and position.

    It moves linearly from ``clean`` at t=0 to ``noisy`` at t=1, so a wrong time is caught. Masks
    in the canvas are states like any other; beliefs about decided positions are random too.
    """

    clean: Array  # [states] * L + [L, V]
    noisy: Array

    def belief(self, x: State, t: float) -> Array:
        """p(x_0 | x_t = x), one row per position."""
        return (1 - t) * self.clean[x] + t * self.noisy[x]


def random_tables(states: int, vocab: int, length: int, seed: int, timed: bool = True) -> Tables:
    """Draw a denoiser; without ``timed`` it ignores the time."""
    rng = np.random.default_rng(seed)
    shape = (*(states,) * length, length)
    clean = rng.dirichlet(np.full(vocab, 0.7), size=shape)
    noisy = rng.dirichlet(np.full(vocab, 0.7), size=shape) if timed else clean
    return Tables(clean, noisy)


class Family(NamedTuple):
    """A corruption process."""

    prior: Array  # over states
    vocab: int

    @property
    def masked(self) -> bool:
        """Is there an absorbing state?"""
        return len(self.prior) > self.vocab

    def posterior(self, x: int, belief: Array, alpha_s: float, alpha_t: float) -> Array:
        """q(x_s | x_t = x) with the belief for x_0.

        Bayes' rule with everything linear in x_0: likelihood of x_t given x_s times the marginal
        of x_s (arXiv:2107.03006, Eq. 3); for the absorbing process its closed form, which keeps
        decided tokens whatever the belief says (arXiv:2406.07524, Eq. 6).
        """
        identity = np.eye(len(self.prior))
        if self.masked:
            if x < self.vocab:
                return identity[x]
            unmask = (alpha_s - alpha_t) / (1 - alpha_t)
            return np.append(unmask * belief, (1 - alpha_s) / (1 - alpha_t))
        keep = alpha_t / alpha_s
        likelihood = keep * identity[x] + (1 - keep) * self.prior[x]
        weights = likelihood * (alpha_s * belief + (1 - alpha_s) * self.prior)
        return weights / weights.sum()


def absorbing(vocab: int) -> Family:
    """Tokens jump to the mask."""
    return Family(np.eye(vocab + 1)[vocab], vocab)


def uniform(vocab: int) -> Family:
    """Tokens jump to a uniform token."""
    return Family(np.full(vocab, 1 / vocab), vocab)


FAMILIES: dict[str, Callable[[int], Family]] = {"absorbing": absorbing, "uniform": uniform}


def outer(kernels: list[Array]) -> Array:
    """Joint law of independent positions."""
    return reduce(np.multiply.outer, kernels)


def start(family: Family, given: dict[int, int], length: int) -> Array:
    """The law of the first canvas: given tokens, and the prior elsewhere."""
    identity = np.eye(len(family.prior))
    return outer([identity[given[i]] if i in given else family.prior for i in range(length)])


def support(law: Array) -> Iterator[tuple[State, float]]:
    """The possible canvases and their probabilities."""
    return ((x, float(p)) for x, p in np.ndenumerate(law) if p > 0)


def move(law: Array, kernel: Callable[[State], list[Array]], given: dict[int, int]) -> Array:
    """One step of a chain; given positions do not move."""
    identity, after = np.eye(law.shape[0]), np.zeros_like(law)
    for x, mass in support(law):
        rows = kernel(x)
        after += mass * outer([identity[x[i]] if i in given else r for i, r in enumerate(rows)])
    return after


def even(steps: int, last: float = 0.0) -> list[float]:
    """``steps + 1`` equally spaced times from 1 to ``last``."""
    return [1 + (last - 1) * n / steps for n in range(steps)] + [last]


def rest_and_fall(high: int, middle: int, low: int, rest: float) -> list[float]:
    """Times that fall to ``rest``, stay there for ``middle`` steps and fall to 0."""
    down = [1 + (rest - 1) * n / high for n in range(high)]
    return down + [rest] * (middle + 1) + [rest * (low - n) / low for n in range(1, low + 1)]


def chain_law(
    family: Family, tables: Tables, alpha: Alpha, times: list[float], given: dict[int, int]
) -> Array:
    """The reverse chain along ``times``."""
    law = start(family, given, tables.clean.ndim - 2)
    for t, s in pairwise(times):

        def kernel(x: State, t: float = t, s: float = s) -> list[Array]:
            belief = tables.belief(x, t)
            return [family.posterior(v, belief[i], alpha(s), alpha(t)) for i, v in enumerate(x)]

        law = move(law, kernel, given)
    return law


def ancestral_mode_law(
    family: Family, tables: Tables, alpha: Alpha, times: list[float], given: dict[int, int]
) -> Array:
    """The reverse chain along all ``times`` but the last, then the mode of the last posterior."""
    identity = np.eye(len(family.prior))
    t, s = times[-2:]

    def kernel(x: State) -> list[Array]:
        belief = tables.belief(x, t)
        laws = [family.posterior(v, belief[i], alpha(s), alpha(t)) for i, v in enumerate(x)]
        return [identity[law.argmax()] for law in laws]

    return move(chain_law(family, tables, alpha, times[:-1], given), kernel, given)


def greedy_tail_law(
    family: Family, tables: Tables, alpha: Alpha, times: list[float], given: dict[int, int]
) -> Array:
    """The reverse chain along ``times``, then the likeliest token of the belief at the last."""
    identity = np.eye(len(family.prior))

    def kernel(x: State) -> list[Array]:
        best = tables.belief(x, times[-1]).argmax(-1)
        return [
            identity[v if family.masked and v < family.vocab else best[i]] for i, v in enumerate(x)
        ]

    return move(chain_law(family, tables, alpha, times, given), kernel, given)


Rate = Callable[[float, float], float]  # of (alpha_s, alpha_t)


def kappa_of(sigma: Rate) -> Rate:
    """The weight of the posterior that remasks at rate sigma (arXiv:2602.21185)."""

    def kappa(alpha_s: float, alpha_t: float) -> float:
        if alpha_s == 1:
            return 1.0
        return min(max(1 - sigma(alpha_s, alpha_t) / (1 - alpha_s), 0.0), 1.0)

    return kappa


def cap(eta: float) -> Rate:
    """ReMDM-cap (arXiv:2503.00307, section 4.1)."""
    return lambda alpha_s, alpha_t: min(eta, (1 - alpha_s) / alpha_t)


def rescale(eta: float) -> Rate:
    """ReMDM-rescale."""
    return lambda alpha_s, alpha_t: eta * min(1.0, (1 - alpha_s) / alpha_t)


def psi_kernel(
    family: Family, x: int, belief: Array, alphas: tuple[float, float], kappa: float
) -> Array:
    """kappa q(x_s | x_t) + (1 - kappa) [alpha_s q(x_0 | x_t) + (1 - alpha_s) prior]."""
    alpha_s, alpha_t = alphas
    back = family.posterior(x, belief, alpha_s, alpha_t)
    clean = family.posterior(x, belief, 1.0, alpha_t)
    return kappa * back + (1 - kappa) * (alpha_s * clean + (1 - alpha_s) * family.prior)


def psi_law(
    family: Family,
    tables: Tables,
    alpha: Alpha,
    path: list[tuple[float, Rate]],
    given: dict[int, int],
) -> Array:
    """The chain of Psi; ``path`` has (time before the step, its kappa); the last goes to 0."""
    law = start(family, given, tables.clean.ndim - 2)
    ends = [t for t, _ in path[1:]] + [0.0]
    for (t, kappa), s in zip(path, ends, strict=True):
        alphas = alpha(s), alpha(t)

        def kernel(x: State, t: float = t, alphas=alphas, k: float = kappa(*alphas)) -> list[Array]:
            belief = tables.belief(x, t)
            return [psi_kernel(family, v, belief[i], alphas, k) for i, v in enumerate(x)]

        law = move(law, kernel, given)
    return law


def remdm_kernel(x: int, belief: Array, alphas: tuple[float, float], sigma: float) -> Array:
    """Remask a token at rate sigma, unmask at the rate that makes up for it (Eq. 4)."""
    (alpha_s, alpha_t), vocab = alphas, len(belief)
    if x < vocab:
        return (1 - sigma) * np.eye(vocab + 1)[x] + sigma * np.eye(vocab + 1)[vocab]
    unmask = (alpha_s - (1 - sigma) * alpha_t) / (1 - alpha_t)
    return np.append(unmask * belief, 1 - unmask)


def remdm_law(
    tables: Tables, alpha: Alpha, path: list[tuple[float, Rate]], given: dict[int, int]
) -> Array:
    """The chain of ReMDM; ``path`` has (time before the step, its sigma); the last goes to 0."""
    law = start(absorbing(tables.clean.shape[-1]), given, tables.clean.ndim - 2)
    ends = [t for t, _ in path[1:]] + [0.0]
    for (t, sigma), s in zip(path, ends, strict=True):
        alphas = alpha(s), alpha(t)

        def kernel(x: State, t: float = t, alphas=alphas, r: float = sigma(*alphas)) -> list[Array]:
            belief = tables.belief(x, t)
            return [remdm_kernel(v, belief[i], alphas, r) for i, v in enumerate(x)]

        law = move(law, kernel, given)
    return law


Written = tuple[tuple[int, float], ...]  # per position: token, and its confidence when written


def confidences(x: Written, given: dict[int, int], mask: int) -> list[float]:
    """ReMDM-conf's shares: a softmax of minus the confidence over written tokens, 0 elsewhere."""
    weights = [0.0 if i in given or v == mask else exp(-c) for i, (v, c) in enumerate(x)]
    total = sum(weights)
    return [w / total if total else 0.0 for w in weights]


def remdm_conf_law(
    tables: Tables, alpha: Alpha, times: list[float], given: dict[int, int]
) -> Array:
    """ReMDM-conf by enumerating histories: the state is the tokens and their confidences."""
    length, mask = tables.clean.ndim - 2, tables.clean.shape[-1]
    states: dict[Written, float] = {tuple((given.get(i, mask), 0.0) for i in range(length)): 1.0}
    for t, s in pairwise(times):
        alphas, after = (alpha(s), alpha(t)), {}
        bound = min(1.0, (1 - alphas[0]) / alphas[1])
        for x, mass in states.items():
            belief = tables.belief(tuple(v for v, _ in x), t)
            shares = confidences(x, given, mask)
            choices = [
                [((v, c), 1.0)]
                if i in given
                else conf_moves(v, c, belief[i], alphas, bound * share)
                for i, ((v, c), share) in enumerate(zip(x, shares, strict=True))
            ]
            for combination in product(*choices):
                y = tuple(state for state, _ in combination)
                after[y] = after.get(y, 0.0) + mass * float(np.prod([p for _, p in combination]))
        states = after
    law = np.zeros((mask + 1,) * length)
    for x, mass in states.items():
        law[tuple(v for v, _ in x)] += mass
    return law


def conf_moves(
    v: int, c: float, belief: Array, alphas: tuple[float, float], sigma: float
) -> list[tuple[tuple[int, float], float]]:
    """Next (token, confidence) of one position, with its probability."""
    mask = len(belief)
    row = remdm_kernel(v, belief, alphas, sigma)
    ends = [(w, c if w == v else 0.0 if w == mask else float(belief[w])) for w in range(mask + 1)]
    return [(end, float(p)) for end, p in zip(ends, row, strict=True) if p > 0]


def first_hitting_law(tables: Tables, alpha_name: str, given: dict[int, int], nodes: int) -> Array:
    """The masked reverse process in continuous time (arXiv:2409.02908, section 4).

    With n masks left, w = (1 - alpha(t')) / (1 - alpha(t)) at the next event is the largest of
    n uniforms: density n w^(n-1), integrated by Gauss-Legendre (exact for the log-linear
    schedule, where the belief is a polynomial in w).
    """
    alpha, time_of = ALPHAS[alpha_name], TIME_OF[alpha_name]
    length, mask = tables.clean.ndim - 2, tables.clean.shape[-1]
    points, weights = np.polynomial.legendre.leggauss(nodes)
    points, weights = (points + 1) / 2, weights / 2
    law = np.zeros((mask + 1,) * length)

    def visit(x: State, noise: float, mass: float) -> None:
        holes = [i for i, v in enumerate(x) if v == mask and i not in given]
        if not holes:
            law[x] += mass
            return
        n = len(holes)
        for w, weight in zip(points, weights, strict=True):
            belief = tables.belief(x, time_of(1 - noise * w))
            share = mass * weight * n * w ** (n - 1) / n
            for i in holes:
                for v in range(mask):
                    visit((*x[:i], v, *x[i + 1 :]), noise * w, share * belief[i, v])

    visit(tuple(given.get(i, mask) for i in range(length)), 1 - alpha(1.0), 1.0)
    return law


def any_order_law(tables: Tables, given: dict[int, int]) -> Array:
    """The same law for a denoiser without time: orders are uniform, each token from its table."""
    length, mask = tables.clean.ndim - 2, tables.clean.shape[-1]
    law = start(absorbing(mask), given, length)
    for _ in range(length - len(given)):
        after = np.zeros_like(law)
        for x, mass in support(law):
            holes = [i for i, v in enumerate(x) if v == mask]
            for i, v in product(holes, range(mask)):
                y = (*x[:i], v, *x[i + 1 :])
                after[y] += mass / len(holes) * tables.clean[x][i, v]
        law = after
    return law


def left_to_right_law(prefixes: dict[State, Array], given: dict[int, int], length: int) -> Array:
    """The chain rule: each open token from p(x_i | x_<i)."""
    vocab = len(prefixes[()])
    law = np.zeros((vocab,) * length)
    for x in product(range(vocab), repeat=length):
        if all(x[i] == v for i, v in given.items()):
            law[x] = np.prod([prefixes[x[:i]][x[i]] for i in range(length) if i not in given])
    return law


def as_dict(law: Array) -> dict[State, float]:
    """A law as a mapping from canvases."""
    return dict(np.ndenumerate(law))
