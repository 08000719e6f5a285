"""Which tokens may be drawn? Temperature, top-k and nucleus as maps of log-probabilities."""

import torch
from jaxtyping import Float
from torch import Tensor

LogP = Float[Tensor, "*N V"]


def temper(logp: LogP, temperature: float) -> LogP:
    """Return the law proportional to p^(1/temperature); 0 puts all mass on the first argmax."""
    if temperature == 0:
        best = logp.argmax(-1, keepdim=True)
        return torch.full_like(logp, -torch.inf).scatter(-1, best, 0.0)
    if temperature == 1:
        return logp
    return (logp / temperature).log_softmax(-1)


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
    ordered, order = logp.sort(dim=-1, descending=True, stable=True)
    probability = ordered.exp()
    before = probability.cumsum(-1) - probability
    kept = torch.zeros_like(logp, dtype=torch.bool).scatter(-1, order, before < p)
    return logp.where(kept, -torch.inf).log_softmax(-1)
