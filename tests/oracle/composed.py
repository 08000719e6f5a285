"""What does a decoder sample that writes groups of tokens at once? Enumeration over a joint law.

Imports nothing from unison. A *joint* is an array with one axis per position. A canvas is a tuple
with a token per position, or the mask id V. Beliefs are the joint's own conditionals: a denoiser
without error, so that everything that goes wrong is the decoder's doing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, permutations, product
from math import comb, exp, factorial, prod
from typing import NamedTuple

import numpy as np

Array = np.ndarray
State = tuple[int, ...]
Group = tuple[int, ...]


def random_joint(vocab: int, length: int, seed: int, concentration: float = 0.6) -> Array:
    """A joint law without structure for a bug to hide behind."""
    rng = np.random.default_rng(seed)
    flat = rng.dirichlet(np.full(vocab**length, concentration)) + 1e-5
    return (flat / flat.sum()).reshape((vocab,) * length)


def chain(length: int, transition: Array) -> Array:
    """A stationary Markov chain."""
    values, vectors = np.linalg.eig(transition.T)
    start = np.real(vectors[:, np.argmax(np.real(values))])
    joint = start / start.sum()
    for _ in range(length - 1):
        joint = joint[..., None] * transition
    return joint


def beliefs(joint: Array, state: State) -> Array:
    """p(x_i | the decided tokens), one row per position; certain where decided."""
    vocab = joint.shape[0]
    sliced = joint[tuple(slice(None) if x == vocab else slice(x, x + 1) for x in state)]
    sliced = sliced / sliced.sum()
    rows = []
    for i, x in enumerate(state):
        others = tuple(j for j in range(len(state)) if j != i)
        rows.append(sliced.sum(others) if x == vocab else np.eye(vocab)[x])
    return np.stack(rows)


def tables(joint: Array) -> Array:
    """The beliefs about every partly written canvas, [V + 1] * L + [L, V]."""
    vocab, length = joint.shape[0], joint.ndim
    whole = np.zeros(((vocab + 1,) * length) + (length, vocab))
    for state in product(range(vocab + 1), repeat=length):
        whole[state] = beliefs(joint, state)
    return whole


class Step(NamedTuple):
    """What a step looks at."""

    belief: Array
    candidate: State  # a token for each position, as proposed
    open: Group
    number: int  # steps done

    def confidence(self, i: int) -> float:
        return float(self.belief[i, self.candidate[i]])


Choose = Callable[[Step], Iterable[tuple[Group, float]]]  # groups to write, with probabilities
Score = Callable[[Step, int], float]


def law(joint: Array, choose: Choose, start: State, heat: float = 1.0) -> dict[State, float]:
    """The law of the text when every position proposes a token and a group is written each step.

    Tokens are drawn from the beliefs at temperature ``heat``.
    """
    vocab = joint.shape[0]
    now: dict[State, float] = {start: 1.0}
    number, done = 0, defaultdict(float)
    while now:
        after: dict[State, float] = defaultdict(float)
        for state, mass in now.items():
            open_ = tuple(i for i, x in enumerate(state) if x == vocab)
            if not open_:
                done[state] += mass
                continue
            belief = beliefs(joint, state)
            drawn = belief ** (1 / heat)
            drawn = drawn / drawn.sum(1, keepdims=True)
            for tokens in product(range(vocab), repeat=len(open_)):
                weight = prod(drawn[i, x] for i, x in zip(open_, tokens, strict=True))
                candidate = list(state)
                for i, x in zip(open_, tokens, strict=True):
                    candidate[i] = x
                for group, chance in choose(Step(belief, tuple(candidate), open_, number)):
                    written = tuple(candidate[i] if i in group else x for i, x in enumerate(state))
                    after[written] += mass * weight * chance
        now, number = after, number + 1
    return dict(done)


def as_law(joint: Array, start: State) -> dict[State, float]:
    """The joint itself, given the decided tokens."""
    vocab = joint.shape[0]
    kept = {
        x: float(p)
        for x, p in np.ndenumerate(joint)
        if all(s in (vocab, v) for s, v in zip(start, x, strict=True))
    }
    total = sum(kept.values())
    return {x: p / total for x, p in kept.items()}


def falling(step: Step, score: Score) -> list[int]:
    """Open positions by falling score."""
    return sorted(step.open, key=lambda i: -score(step, i))


def best(score: Score, count: Callable[[Step], int]) -> Choose:
    """The highest-ranked."""
    return lambda step: [(tuple(falling(step, score)[: count(step)]), 1.0)]


def any_of(count: Callable[[Step], int]) -> Choose:
    """All groups of one size, equally likely."""

    def choose(step: Step) -> Iterable[tuple[Group, float]]:
        size = min(count(step), len(step.open))
        return [(g, 1 / comb(len(step.open), size)) for g in combinations(step.open, size)]

    return choose


def drawn(weight: Score, count: Callable[[Step], int]) -> Choose:
    """Positions drawn one after another without replacement, in proportion to their weights."""

    def choose(step: Step) -> Iterable[tuple[Group, float]]:
        size = min(count(step), len(step.open))
        for order in permutations(step.open, size):
            left, chance = sum(weight(step, i) for i in step.open), 1.0
            for i in order:
                chance *= weight(step, i) / left
                left -= weight(step, i)
            yield order, chance

    return choose


def one(step: Step) -> int:
    """One token per step."""
    return 1


def by_confidence(step: Step, i: int) -> float:
    """Of the proposed token."""
    return step.confidence(i)


def by_best(step: Step, i: int) -> float:
    """Of the likeliest token."""
    return float(step.belief[i].max())


def by_margin(step: Step, i: int) -> float:
    """p1 - p2."""
    low, high = np.sort(step.belief[i])[-2:]
    return float(high - low)


def by_entropy(step: Step, i: int) -> float:
    """The negative entropy."""
    return -float(entropy(step.belief[i]))


def by_position(step: Step, i: int) -> float:
    """Left to right."""
    return -float(i)


def above(threshold: float, score: Score) -> Choose:
    """All that are sure, and the highest-ranked."""

    def choose(step: Step) -> Iterable[tuple[Group, float]]:
        sure = [i for i in step.open if step.confidence(i) >= threshold]
        return [(tuple({*sure, falling(step, score)[0]}), 1.0)]

    return choose


def by_factor(factor: float, score: Score) -> Choose:
    """The r-th while its confidence is at least 1 - f / (r + 1)."""

    def choose(step: Step) -> Iterable[tuple[Group, float]]:
        order = falling(step, score)
        size = 1
        while size < len(order) and step.confidence(order[size]) >= 1 - factor / (size + 2):
            size += 1
        return [(tuple(order[:size]), 1.0)]

    return choose


def within(bound: float, score: Score) -> Choose:
    """The longest run of ranked positions with sum minus maximum of the entropies in a bound."""

    def choose(step: Step) -> Iterable[tuple[Group, float]]:
        order = falling(step, score)
        nats = [float(entropy(step.belief[i])) for i in order]
        size = max(k for k in range(1, len(order) + 1) if sum(nats[:k]) - max(nats[:k]) <= bound)
        return [(tuple(order[:size]), 1.0)]

    return choose


def entropy(p: Array) -> float:
    """In nats, over all axes."""
    kept = p[p > 0]
    return -float((kept * np.log(kept)).sum())


def marginal(joint: Array, group: Iterable[int]) -> Array:
    """The law of some positions."""
    kept = set(group)
    return joint.sum(tuple(i for i in range(joint.ndim) if i not in kept))


def total_correlation(joint: Array, group: Sequence[int], known: Sequence[int] = ()) -> float:
    """What drawing a group independently costs, in nats, on average over what is known."""
    base = entropy(marginal(joint, known)) if known else 0.0
    together = entropy(marginal(joint, (*known, *group))) - base
    return sum(entropy(marginal(joint, (*known, i))) - base for i in group) - together


def divergence(p: dict[State, float], q: dict[State, float]) -> float:
    """KL(p || q) in nats."""
    return sum(w * float(np.log(w / q[x])) for x, w in p.items() if w > 0)


def groups_of(length: int, sizes: Sequence[int]) -> list[tuple[Group, ...]]:
    """All ways to write the positions in groups of these sizes, one after another."""
    if not sizes:
        return [()]
    ways = []
    for order in permutations(range(length)):
        cut, groups = 0, []
        for size in sizes:
            groups.append(tuple(sorted(order[cut : cut + size])))
            cut += size
        ways.append(tuple(groups))
    return sorted(set(ways))


def grouped_law(joint: Array, groups: Sequence[Group]) -> dict[State, float]:
    """The law of the text written in these groups."""
    vocab = joint.shape[0]
    start = (vocab,) * joint.ndim
    return law(joint, lambda step: [(groups[step.number], 1.0)], start)


def schedule_cost(joint: Array, sizes: Sequence[int]) -> float:
    """Expected divergence over random orders: the left Riemann sum of the entropy curve.

    The sum over groups of h(i) - h(j) for j in the group, where i tokens were written before the
    group and h(j) is the mean entropy of a token given j others.
    """
    length = joint.ndim
    curve = []
    for j in range(length):
        values = [
            entropy(marginal(joint, (*known, i))) - (entropy(marginal(joint, known)) if j else 0.0)
            for known in combinations(range(length), j)
            for i in range(length)
            if i not in known
        ]
        curve.append(sum(values) / len(values))
    before, cost = 0, 0.0
    for size in sizes:
        cost += sum(curve[before] - curve[j] for j in range(before, before + size))
        before += size
    return cost


def picked_token(p: Array, places: int, heat: float) -> Array:
    """MaskGIT's first token among equal independent positions.

    Each proposes a token from p; the position with the largest log p + heat * Gumbel is written,
    which draws it in proportion to p^(1 / heat).
    """
    vocab = len(p)
    found = np.zeros(vocab)
    for counts in product(range(places + 1), repeat=vocab):
        if sum(counts) != places:
            continue
        ways = factorial(places) / prod(factorial(n) for n in counts)
        chance = ways * prod(float(q) ** n for q, n in zip(p, counts, strict=True))
        weight = np.array([n * q ** (1 / heat) for q, n in zip(p, counts, strict=True)])
        found += chance * weight / weight.sum()
    return found


def softened(score: Score, heat: float) -> Score:
    """exp(score / heat)."""
    return lambda step, i: exp(score(step, i) / heat)
