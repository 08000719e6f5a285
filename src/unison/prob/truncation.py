"""Which tokens may be drawn? Temperature and truncations as maps of log-probabilities.

Whoever applies several does so in the order of this file.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

_HEAD = 64  # tokens looked at before all of them are sorted
_OF_NUMPY = (torch.float32, torch.float64)
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
    if logp.device.type != "cpu" or logp.requires_grad or logp.dtype not in _OF_NUMPY:
        return _sorted_top_p(logp, p)
    return _cut_top_p(logp.flatten(0, -2), p).view(logp.shape)


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
    ordered, order = logp.sort(dim=-1, descending=True, stable=True)
    probability = ordered.exp()
    before = probability.cumsum(-1) - probability
    kept = torch.zeros_like(logp, dtype=torch.bool).scatter(-1, order, before < p)
    return logp.where(kept, -torch.inf).log_softmax(-1)


def _cut_top_p(logp: Float[Tensor, "N V"], p: float) -> Float[Tensor, "N V"]:
    """Return the same from sorted values alone: numpy sorts those in a fraction of the time.

    What is as likely as the last one kept stays, and of its equals the first ones.
    """
    least, count = _last_kept(logp, p)
    kept = logp >= least
    spare = kept.sum(-1, keepdim=True) - count
    if bool((spare > 0).any()):
        equal = logp == least
        kept = kept & ~(equal & (equal.cumsum(-1) > equal.sum(-1, keepdim=True) - spare))
    return logp.where(kept, -torch.inf).log_softmax(-1)


def _last_kept(
    logp: Float[Tensor, "N V"], p: float
) -> tuple[Float[Tensor, "N 1"], Int64[Tensor, "N 1"]]:
    """Return the log-probability of the last token kept, and how many are."""
    if logp.shape[-1] <= 4 * _HEAD or bool((logp.amax(-1) < math.log(p / _HEAD)).all()):
        return _in_order(-np.sort(-logp.numpy()), p)
    head = np.partition(-logp.numpy(), _HEAD - 1, axis=-1)[:, :_HEAD]
    least, count = _in_order(-np.sort(head), p)
    beyond = count[:, 0] == _HEAD  # the mass may not be in the head
    if bool(beyond.any()):
        least[beyond], count[beyond] = _in_order(-np.sort(-logp[beyond].numpy()), p)
    return least, count


def _in_order(ordered: np.ndarray, p: float) -> tuple[Float[Tensor, "N 1"], Int64[Tensor, "N 1"]]:
    falling = torch.from_numpy(ordered)
    probability = falling.exp()
    count = (probability.cumsum(-1) - probability < p).sum(-1, keepdim=True)
    return falling.gather(-1, count - 1), count
