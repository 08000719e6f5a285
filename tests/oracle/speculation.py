"""Rules of speculation, one level, restated from the papers: exact sums over all drafts.

``p`` and ``q`` are lists of probabilities. A rule returns the law of what is written and the
chance that it is a draft.
"""

import itertools

import numpy as np
from scipy.optimize import brentq, linprog


def draws(q, k: int, replacement: bool):
    """Return the chance of every sequence of k drafts."""
    law, some = {}, [x for x in range(len(q)) if q[x] > 0]
    if replacement:
        return {t: float(np.prod([q[x] for x in t])) for t in itertools.product(some, repeat=k)}
    for drawn in itertools.permutations(some, k):
        chance, left = 1.0, list(q)
        for x in drawn:
            chance *= left[x] / sum(left)
            left[x] = 0.0
        law[drawn] = chance
    return law


def greedy_draws(q, k: int):
    """Return the chance of the k - 1 likeliest and one more."""
    order = sorted(range(len(q)), key=lambda x: (-q[x], x))
    fixed, rest = order[: k - 1], order[k - 1 :]
    mass = sum(q[x] for x in rest)
    return {(*fixed, x): q[x] / mass for x in rest if q[x] > 0}


def recursive(p, q, k: int, replacement: bool, believed: bool | None = None):
    """Recursive rejection; ``believed`` is what the rule thinks of the drafts, if not the truth."""
    believed = replacement if believed is None else believed
    written, passed = np.zeros(len(p)), 0.0
    for drafts, chance in draws(q, k, replacement).items():
        r, d, weight = np.array(p, float), np.array(q, float), chance
        for x in drafts:
            accept = min(1.0, r[x] / d[x])
            written[x] += weight * accept
            passed += weight * accept
            weight *= 1 - accept
            left = np.maximum(r - d, 0)
            r = left / left.sum() if left.sum() > 0 else r
            if not believed:
                d = d.copy()
                d[x] = 0
                d = d / d.sum() if d.sum() > 0 else d
        written += weight * r
    return written, passed


def k_seq(p, q, k: int, rho: float):
    """SpecTr's rule at some rho, not necessarily the best."""
    p, q = np.array(p), np.array(q)
    shared = np.minimum(q, p / rho)
    beta = shared.sum()
    some = 1 - (1 - beta) ** k
    left = p - shared * some / beta
    assert left.min() > -1e-12
    written, passed = np.zeros(len(p)), 0.0
    for drafts, chance in draws(q, k, True).items():
        weight = chance
        for x in drafts:
            accept = min(1.0, p[x] / (rho * q[x]))
            written[x] += weight * accept
            passed += weight * accept
            weight *= 1 - accept
        written += weight * (left / left.sum() if left.sum() > 1e-14 else p)
    return written, passed


def best_rho(p, q, k: int) -> float:
    """Return the smallest valid rho, the root of its condition."""

    def excess(rho):
        beta = np.minimum(q, np.divide(p, rho)).sum()
        return 1 - (1 - beta) ** k - rho * beta

    return 1.0 if k == 1 or excess(1.0) <= 0 else brentq(excess, 1.0, float(k), xtol=1e-14)


def greedy_rule(p, q, k: int):
    """The drawn draft first, then the target's draw from what is left against the fixed ones."""
    order = sorted(range(len(q)), key=lambda x: (-q[x], x))
    fixed = order[: k - 1]
    d = np.array([0.0 if x in fixed else q[x] for x in range(len(q))])
    d = d / d.sum()
    left = np.maximum(np.array(p) - d, 0)
    left = left / left.sum() if left.sum() > 0 else np.array(p)
    written, passed = np.zeros(len(p)), 0.0
    for drafts, chance in greedy_draws(q, k).items():
        x = drafts[-1]
        accept = min(1.0, p[x] / d[x])
        written[x] += chance * accept
        written += chance * (1 - accept) * left
        passed += chance * (accept + (1 - accept) * left[fixed].sum())
    return written, passed


def transport(p, drafts) -> float:
    """Return the best possible acceptance of drafts of some law, by the linear program."""
    pairs = [(t, x) for t in drafts for x in sorted(set(t))]
    number = {t: i for i, t in enumerate(drafts)}
    table = np.zeros((len(drafts) + len(p), len(pairs)))
    for column, (t, x) in enumerate(pairs):
        table[number[t], column] = table[len(drafts) + x, column] = 1
    limits = np.array([*drafts.values(), *p])
    return -linprog(-np.ones(len(pairs)), A_ub=table, b_ub=limits, method="highs").fun


def cut(p, drafts) -> float:
    """Return the same by the dual: over all sets of tokens."""
    best, size = 0.0, len(p)
    for members in itertools.product((False, True), repeat=size):
        held = {x for x in range(size) if members[x]}
        inside = sum(chance for t, chance in drafts.items() if set(t) <= held)
        best = min(best, sum(p[x] for x in held) - inside)
    return 1 + best


def cut_of_prefixes(p, q, k: int, step: float = 1 / 8) -> float:
    """Return the same of drafts without replacement, every prefix by rising p / q looked at.

    The count of arrivals of an exponential race is a sum of independent bits, whose law is built
    token by token; times by the trapezoidal rule in their logarithm.
    """
    order = np.argsort(np.asarray(p) / np.asarray(q))
    p, q = np.asarray(p)[order], np.asarray(q)[order]
    outside = np.append(np.cumsum(q[::-1])[::-1][1:], 0.0)
    t = np.exp(np.arange(np.log(1e-5), np.log(45 / outside[outside > 0].min()), step))
    count, least = np.zeros((k, len(t))), 0.0
    count[0] = 1
    for rate, left, below in zip(q, outside, np.cumsum(p), strict=True):
        come = -np.expm1(-rate * t)
        count[1:] = count[1:] * (1 - come) + count[:-1] * come
        count[0] *= 1 - come
        inside = step * (left * t * np.exp(-left * t) * (1 - count.sum(0))).sum()
        least = min(least, below - (inside if left > 0 else 1.0))
    return 1 + least


def random_pair(seed: int, size: int, sharp: float = 1.0, zeros: bool = False):
    """Return two laws."""
    random, laws = np.random.default_rng(seed), []
    for _ in range(2):
        weights = np.exp(random.normal(size=size) * sharp)
        if zeros:
            weights[random.permutation(size)[: size // 3]] = 0
        laws.append((weights / weights.sum()).tolist())
    return laws
