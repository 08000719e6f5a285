"""Which tokens may be drawn? Temperature and truncations as maps of log-probabilities.

Whoever applies several does so in the order of this file.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

_HEAD = 64  # tokens looked at before all of them are sorted
COLDEST = 1e-30  # by less float32 cannot divide; the likeliest is alone long before

LogP = Float[Tensor, "*N V"]


def temper(logp: LogP, temperature: float) -> LogP:
    """Return the law proportional to p^(1/temperature); 0 puts all mass on the first argmax."""
    if temperature == 0:
        best = logp.argmax(-1, keepdim=True)
        return torch.full_like(logp, -torch.inf).scatter(-1, best, 0.0)
    if temperature == 1:
        return logp
    return (logp / max(temperature, COLDEST)).log_softmax(-1)


def top_k(logp: LogP, k: int) -> LogP:
    """Keep the ``k`` most probable tokens (ties with the k-th are kept) and renormalise."""
    if k >= logp.shape[-1]:
        return logp
    kth = logp.topk(k, dim=-1).values[..., -1:]
    return logp.where(logp >= kth, -torch.inf).log_softmax(-1)


def top_p(logp: LogP, p: float) -> LogP:
    """Keep the smallest set of most probable tokens whose mass reaches ``p``; renormalise.

    The first token is always kept (Holtzman et al., 2020, arXiv:1904.09751).
    """
    if p >= 1:
        return logp
    p = _some(logp, p)
    if logp.device.type != "cpu" or logp.shape[-1] <= 4 * _HEAD:
        return _sorted_top_p(logp, p)
    flat = logp.flatten(0, -2)
    if bool((flat.amax(-1) < math.log(p / _HEAD)).all()):  # no head holds that mass
        return _sorted_top_p(logp, p)
    kept, found = _head_top_p(flat, p)
    if not bool(found.all()):
        kept[~found] = _sorted_top_p(flat[~found], p)
    return kept.view(logp.shape)


def min_p(logp: LogP, p: float) -> LogP:
    """Keep tokens at least ``p`` times as probable as the most probable one; renormalise.

    Nguyen et al., 2024, arXiv:2407.01082.
    """
    if p <= 0:
        return logp
    least = logp.amax(-1, keepdim=True) + math.log(p)
    return logp.where(logp >= least, -torch.inf).log_softmax(-1)


def typical(logp: LogP, p: float) -> LogP:
    """Keep the smallest set of most typical tokens whose mass reaches ``p``; renormalise.

    The more typical of two tokens is the one whose surprise, -log p, is nearer to the entropy of
    the law (locally typical sampling: Meister et al., 2022, arXiv:2202.00666).
    """
    if p >= 1:
        return logp
    p = _some(logp, p)
    probability = logp.exp()
    entropy = torch.special.entr(probability).sum(-1, keepdim=True)
    order = (-logp - entropy).abs().argsort(dim=-1, stable=True)
    ordered = probability.gather(-1, order)
    before = ordered.cumsum(-1) - ordered
    kept = torch.zeros_like(logp, dtype=torch.bool).scatter(-1, order, before < p)
    return logp.where(kept, -torch.inf).log_softmax(-1)


def _some(logp: LogP, p: float) -> float:
    """Return a mass that is above 0 in the precision of ``logp``, too."""
    return max(p, torch.finfo(logp.dtype).tiny)


def _sorted_top_p(logp: LogP, p: float) -> LogP:
    if logp.device.type == "cpu" and logp.dtype == torch.float32 and not logp.requires_grad:
        return _cut_top_p(logp, p)
    ordered, order = logp.sort(dim=-1, descending=True, stable=True)
    probability = ordered.exp()
    before = probability.cumsum(-1) - probability
    kept = torch.zeros_like(logp, dtype=torch.bool).scatter(-1, order, before < p)
    return logp.where(kept, -torch.inf).log_softmax(-1)


def _cut_top_p(logp: LogP, p: float) -> LogP:
    """Return the same from sorted values alone: numpy sorts those in a fraction of the time.

    What is likelier than the last one kept stays, and of its equals the first ones.
    """
    ordered = torch.from_numpy(-np.sort(-logp.numpy()))
    probability = ordered.exp()
    count = (probability.cumsum(-1) - probability < p).sum(-1, keepdim=True)
    least = ordered.gather(-1, count - 1)
    above, equal = logp > least, logp == least
    room = count - above.sum(-1, keepdim=True)
    if bool((equal.sum(-1, keepdim=True) > room).any()):
        equal = equal & (equal.cumsum(-1) <= room)
    return logp.where(above | equal, -torch.inf).log_softmax(-1)


def _head_top_p(logp: LogP, p: float) -> tuple[LogP, Bool[Tensor, "*N"]]:
    """Return the same from the most probable tokens alone, and where they were enough.

    They are where the last one kept is likelier than the last one looked at: one as likely may
    have been left out, and of equals the first ones are kept.
    """
    order = logp.topk(_HEAD, dim=-1).indices.sort(dim=-1).values
    head, place = logp.gather(-1, order).sort(dim=-1, descending=True, stable=True)
    probability = head.exp()
    inside = probability.cumsum(-1) - probability < p
    found = head.where(inside, torch.inf).amin(-1) > head[..., -1]
    kept = torch.full_like(logp, -torch.inf).scatter(
        -1, order.gather(-1, place), head.where(inside, -torch.inf).log_softmax(-1)
    )
    return kept, found
