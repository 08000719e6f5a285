"""For which set of tokens are k drafts without replacement in it most above what p gives it?

With A(H) the chance that all k drafts are in H, the optimum is 1 + min over sets of p(H) - A(H)
(Hu et al., 2025, arXiv:2502.18779), and the set is one of the prefixes of the tokens by rising
p / q. In a race where token y arrives at rate q_y the drafts are in H when k tokens of H arrive
before the first other: with o = q(outside), the integral of o exp(-o t) P(at least k by t) dt.
Fewer than k by t have the chance exp(-q(H) t) (e_0 + ... + e_{k-1}), where e_m is the elementary
symmetric polynomial of the exp(q_y t) - 1.

Differs: a prefix is looked at singly only where it may be the least. Along the prefixes both p and
A are convex in q(H), p by the order and A because it is q-convex (which is also why the set is a
prefix), so that the values at the ends of a block of tokens bound those inside it; few blocks are
opened. And A <= q(H)^k says how late arrivals matter.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

Prefixes = Float[Tensor, "N V"]
Polynomial = Sequence[Tensor]  # e_1, e_2, ...; e_0 is 1

# Quadrature in s = log t by the trapezoidal rule. The integrand is analytic where |Im s| < pi / 2
# and grows towards the sides as a power of k, so that more drafts need a smaller step. Against a
# step of 1/16 over 32,000 tokens: 1e-14 for k = 4, 1e-15 for k = 8.
_STEP, _SMALL_STEP = 1 / 4, 1 / 5
_FEW = 4
_CUT = 1e-14  # what the times before the first node may add
_FURTHER = 0.5  # share of what the likeliest prefix leaves out that is followed at once
_SURE = 40.0  # what happens but for exp(-40) is taken to happen; exp of so much does not overflow
_SMALLEST = 1e-17  # share of q left out of a set; less than the rounding of its sum
_ROUNDING = 1e-13
_AT_ONCE = 1 << 17  # numbers in a tensor that stays near the processor


class _Line(NamedTuple):
    """The tokens by rising p / q, in blocks.

    Attributes:
        q: Of each token.
        ratio: p / q of each token; huge where q is 0.
        p_to: p of the prefix that ends with each token.
        q_to: q of it.
        outside: What of q it leaves out.
    """

    q: Float[Tensor, "N C H"]
    ratio: Float[Tensor, "N C H"]
    p_to: Float[Tensor, "N C H"]
    q_to: Float[Tensor, "N C H"]
    outside: Float[Tensor, "N C H"]


class _Arrived(NamedTuple):
    """How many tokens of each prefix of whole blocks have arrived at some times.

    Attributes:
        times: The times.
        sums: e_1 to e_{k-1}, each [times, N, C].
        rate: Sum of q t, [times, N, C].
    """

    times: Float[Tensor, " T"]
    sums: Polynomial
    rate: Float[Tensor, "T N C"]


def least_cut(p: Prefixes, q: Prefixes, k: int) -> Float[Tensor, " N"]:
    """Return the least p(H) - A(H) over all sets H of tokens, to about 1e-13.

    Args:
        p: Probabilities of the target, float64, normalised.
        q: Probabilities of the drafter, likewise.
        k: Number of drafts, at least 2.
    """
    line = _ordered(p, q)
    above = line.p_to - line.q_to**k  # no higher than the cut
    likely = above.flatten(1).argmin(1)[:, None]
    leaves = line.outside.flatten(1).gather(1, likely)
    reach = max(_FURTHER * float(torch.where(leaves > 0, leaves, 1.0).min()), _SMALLEST)
    least, opened, arrived = _from_ends(line, k, reach)
    matters = line.outside[(above < least[:, None, None]) & (line.outside > 0)]
    further = max(float(matters.min()), _SMALLEST) if len(matters) else reach
    if further < reach:
        least, opened, arrived = _from_ends(line, k, further)
    if not opened.shape[1]:
        return least
    return torch.minimum(least, _inside_blocks(line, opened, arrived))


def _ordered(p: Prefixes, q: Prefixes) -> _Line:
    """Return the tokens in blocks of about as many tokens as there are blocks."""
    largest = torch.finfo(q.dtype).max
    tiny = torch.finfo(q.dtype).tiny
    ratio, order = torch.where(q > 0, (p / q.clamp(min=tiny)).clamp(max=largest), largest).sort(-1)
    p, q = p.gather(-1, order), q.gather(-1, order)
    outside = pad(q.flip(-1).cumsum(-1).flip(-1)[..., 1:], (0, 1))
    size = q.shape[-1]
    length = 1 << round(math.log2(size) / 2)
    more = -size % length
    p_to, q_to = p.cumsum(-1), q.cumsum(-1).clamp(max=1)
    parts = [(q, 0.0), (ratio, largest), (p_to, 1.0), (q_to, 1.0), (outside, 0.0)]
    return _Line(*(pad(one, (0, more), value=v).unflatten(-1, (-1, length)) for one, v in parts))


def _from_ends(
    line: _Line, k: int, reach: float
) -> tuple[Float[Tensor, " N"], Int[Tensor, "N M"], _Arrived]:
    """Return the least cut at the ends of blocks, and the blocks inside which a lesser may be.

    Args:
        line: The tokens.
        k: Number of drafts.
        reach: Arrivals are followed until one outside is sure of a prefix that leaves out as much.
    """
    arrived = _arrivals(line.q, k, _times(k, reach))
    p_to, q_to, outside = (one[..., -1] for one in (line.p_to, line.q_to, line.outside))
    chance = _all_in(arrived.times, arrived.sums, arrived.rate, outside)
    least = (p_to - chance).amin(-1).clamp(max=0)
    followed = (outside == 0) | (outside >= reach)
    chance = torch.where(followed, chance, q_to**k)  # not below A
    before = [pad(one[..., :-1], (1, 0)) for one in (p_to, q_to, chance)]
    lower = _bound(line, (p_to, q_to, chance), (before[0], before[1], before[2]))
    count = int((lower < least[:, None] - _ROUNDING).sum(-1).max())
    return least, lower.topk(count, dim=-1, largest=False).indices, arrived


def _bound(
    line: _Line, end: tuple[Tensor, Tensor, Tensor], start: tuple[Tensor, Tensor, Tensor]
) -> Float[Tensor, "N C"]:
    """Return what no cut inside a block is below.

    p lies above its tangents at both ends and A below its chord, so that the cut lies above two
    straight lines.

    Args:
        line: The tokens.
        end: p, q and A of the prefixes that end with each block.
        start: Of those that end before it.
    """
    (p_end, q_end, a_end), (p_start, q_start, a_start) = end, start
    wide = (q_end - q_start).clamp(min=0)
    from_start = torch.minimum(p_start - a_start, p_start + line.ratio[..., 0] * wide - a_end)
    from_end = torch.minimum(p_end - a_end, p_end - line.ratio[..., -1] * wide - a_start)
    return torch.maximum(from_start, from_end)


def _inside_blocks(
    line: _Line, opened: Int[Tensor, "N M"], arrived: _Arrived
) -> Float[Tensor, " N"]:
    """Return the least cut at any token of some blocks."""

    def of(one: Tensor) -> Tensor:
        return one.gather(1, opened[..., None].expand(-1, -1, one.shape[-1]))

    q, p_to, outside = of(line.q), of(line.p_to), of(line.outside)
    index = opened.expand(len(arrived.times), -1, -1)
    known = [pad(one[..., :-1], (1, 0)).gather(2, index) for one in (*arrived.sums, arrived.rate)]
    chance = torch.zeros_like(q)
    for some in torch.arange(len(arrived.times)).split(max(1, _AT_ONCE // q.numel())):
        times, before = arrived.times[some], [one[some][..., None] for one in known]
        x = (q * times[:, None, None, None]).clamp(max=_SURE)
        weight = x.expm1()
        sums = [before[0] + weight.cumsum(-1)]
        for first, second in pairwise(before[:-1]):
            fewer = torch.cat([first, sums[-1][..., :-1]], -1)
            sums.append(second + (weight * fewer).cumsum(-1))
        chance += _all_in(times, sums, before[-1] + x.cumsum(-1), outside, whole=0.0)
    chance = torch.where(outside > 0, chance, 1.0)
    return (p_to - chance).flatten(1).amin(1)


def _step(k: int) -> float:
    return _STEP if k <= _FEW else _SMALL_STEP


def _times(k: int, reach: float) -> Float[Tensor, " T"]:
    """Return the nodes, for prefixes that leave out at least some share of q."""
    early = math.log(_CUT * (k + 1) * math.factorial(k)) / (k + 1)
    late = math.log(_SURE / reach)
    step = _step(k)
    count = math.ceil((late - early) / step) + 1
    return (early + step * torch.arange(count, dtype=torch.float64)).exp()


def _arrivals(q: Float[Tensor, "N C H"], k: int, times: Float[Tensor, " T"]) -> _Arrived:
    """Return what has arrived of the prefixes that end with each block."""
    first = q.movedim(-1, 0).contiguous()[:, None]  # halves of a block are each in one piece
    blocks, rates = [], []
    for some in times.to(q.device).split(max(1, _AT_ONCE // q.numel())):
        x = (first * some[:, None, None]).clamp_(max=_SURE)
        rates.append(x.sum(0))
        sums: Polynomial = [x.expm1_()]
        while len(sums[0]) > 1:
            half = len(sums[0]) // 2
            sums = _times_each([e[:half] for e in sums], [e[half:] for e in sums], k - 1)
        blocks.append([e[0] for e in sums])
    whole: Polynomial = [torch.cat(parts) for parts in zip(*blocks, strict=True)]
    reached = 1
    while reached < q.shape[1]:  # prefix products by doubling
        before = [pad(e[..., :-reached], (reached, 0)) for e in whole]
        whole, reached = _times_each(before, whole, k - 1), 2 * reached
    whole = [*whole, *[torch.zeros_like(whole[0])] * (k - 1 - len(whole))]
    return _Arrived(times.to(q.device), whole, torch.cat(rates).cumsum(-1))


def _times_each(first: Polynomial, second: Polynomial, most: int) -> Polynomial:
    """Return the symmetric sums of two sets of tokens together, up to some degree."""
    product = []
    for degree in range(1, min(len(first) + len(second), most) + 1):
        alone = [one[degree - 1] for one in (first, second) if degree <= len(one)]
        pairs = [
            (first[i - 1], second[degree - i - 1])
            for i in range(1, degree)
            if i <= len(first) and degree - i <= len(second)
        ]
        if alone:
            total = alone[0] + alone[1] if len(alone) > 1 else alone[0]
        else:
            total = pairs[0][0] * pairs[0][1]
            pairs = pairs[1:]
        for one, other in pairs:
            total = torch.addcmul(total, one, other)
        product.append(total)
    return product


def _all_in(
    times: Float[Tensor, " T"],
    sums: Polynomial,
    rate: Tensor,
    outside: Tensor,
    whole: float = 1.0,
) -> Tensor:
    """Return what some times add to the chance that k tokens arrive before the first outside.

    Args:
        times: The nodes.
        sums: e_1 to e_{k-1} of the prefixes.
        rate: What has arrived of q of them.
        outside: What they leave out.
        whole: What is returned of a prefix that leaves out nothing.
    """
    few = 1 + sums[0]
    for one in sums[1:]:
        few = few + one
    enough = 1 - (few * torch.exp(-rate)).clamp(max=1)
    lost = outside * times.reshape(-1, *[1] * outside.dim())
    chance = _step(len(sums) + 1) * (lost * torch.exp(-lost) * enough).sum(0)
    return torch.where(outside > 0, chance, whole)
