"""How often could a draft pass at best, and how often does it under each rule? One level of a tree.

Of k drafts of one token with probabilities q, some are accepted as the token of a target with
probabilities p. No rule can do better than 1 + min over sets H of tokens of
p(H) - Q(all drafts in H), and some rule does as well (Hu et al., 2025, arXiv:2502.18779, by the
dual of optimal transport). For independent drafts, and for drafts without replacement, the set is
among those that hold the tokens of smallest p / q, so that one sort finds it.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.prob import categorical, rng
from unison.prob.rng import Key
from unison.speculation import distinct
from unison.speculation.verifiers.kseq import smallest_rho

Chances = Float[Tensor, "*N V"]
Others = Float[Tensor, "*M W"]
Rates = Float[Tensor, "*N"]

_MOST = 12  # drafts without replacement: beyond, products of weights may overflow
_EXACTLY = 4096  # ways of drawing that are summed over
_DRAWN = 256  # of more ways than that
_AT_ONCE = 64


def optimal_acceptance(
    p: Chances, q: Others, k: int, *, replacement: bool = True, greedy: bool = False
) -> Rates:
    """Return the largest chance that one of k drafts is accepted by a rule that keeps the law p.

    By a sort and prefix sums for independent drafts, O(V log V); by quadrature over the arrival
    times of an exponential race for drafts without replacement, to about 1e-10; in closed form
    for greedy drafts.

    Args:
        p: Probabilities of the target, [*batch, vocab].
        q: Probabilities of the drafter, likewise.
        k: Number of drafts. A law of fewer tokens has fewer drafts without replacement.
        replacement: Drafts are independent; else drawn one after another without replacement.
        greedy: The k - 1 likeliest tokens of q, and one drawn from the others.

    Raises:
        ValueError: p and q differ in shape or are no laws, or k is out of range.
    """
    p, q = _checked(p, q, k)
    if greedy:
        return _greedy(p, q, k)
    if not replacement and k > _MOST:
        raise ValueError(f"k must be at most {_MOST} without replacement, got {k}.")
    if not replacement and k > 1:
        size = q.shape[-1]
        cut = distinct.least_cut(p.reshape(-1, size), q.reshape(-1, size), k).view(q.shape[:-1])
        return (1 + cut).clamp(0, 1)
    ratio = torch.where(q > 0, p / q.clamp(min=torch.finfo(q.dtype).tiny), torch.inf)
    order = ratio.argsort(-1)
    inside, drafts = p.gather(-1, order).cumsum(-1), q.gather(-1, order).cumsum(-1).clamp(max=1)
    return (1 + (inside - drafts**k).amin(-1).clamp(max=0)).clamp(0, 1)


def acceptance(rule: str, p: Chances, q: Others, k: int) -> Rates:
    """Return the chance that one of k drafts is accepted.

    Exact, but for ``rsd`` where V^(k - 1) is large: then a mean over random drafts.

    Args:
        rule: Of ``RULES``: ``token`` for one draft whatever k is; ``match`` for the k likeliest
            tokens of q; ``rrs`` and ``kseq`` for independent drafts; ``rsd`` for recursive
            rejection of drafts without replacement; ``greedy`` for greedy drafts.
        p: Probabilities of the target, [*batch, vocab].
        q: Probabilities of the drafter, likewise.
        k: Number of drafts.

    Raises:
        ValueError: There is no such rule, or p, q, k as for ``optimal_acceptance``.
    """
    if rule not in RULES:
        raise ValueError(f"no rule is called {rule!r}; use one of {', '.join(RULES)}.")
    return RULES[rule](*_checked(p, q, k), k).clamp(0, 1)


def _checked(p: Chances, q: Others, k: int) -> tuple[Chances, Chances]:
    """Return the laws in float64, normalised."""
    if p.shape != q.shape:
        raise ValueError(
            f"p and q must have one shape, got {list(p.shape)} and {list(q.shape)}; a drafter with "
            "another vocabulary is to be mapped to the target's first."
        )
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}.")
    for name, law in (("p", p), ("q", q)):
        total = law.double().sum(-1)
        if not bool(((law >= 0).all(-1) & ((total - 1).abs() < 1e-3)).all()):
            raise ValueError(
                f"{name} must hold probabilities that add up to 1, got sums from "
                f"{float(total.min()):.4g} to {float(total.max()):.4g}; use logits.softmax(-1)."
            )
    return _normalised(p.double()), _normalised(q.double())


def _normalised(law: Chances) -> Chances:
    return law / law.sum(-1, keepdim=True).clamp(min=torch.finfo(law.dtype).tiny)


def _token(p: Chances, q: Chances, k: int) -> Rates:
    del k
    return torch.minimum(p, q).sum(-1)


def _match(p: Chances, q: Chances, k: int) -> Rates:
    return p.gather(-1, q.topk(min(k, q.shape[-1]), dim=-1).indices).sum(-1)


def _greedy(p: Chances, q: Chances, k: int) -> Rates:
    fixed = q.topk(min(k - 1, q.shape[-1]), dim=-1).indices
    rest = _normalised(q.scatter(-1, fixed, 0.0))
    return p.gather(-1, fixed).sum(-1) + torch.minimum(p.scatter(-1, fixed, 0.0), rest).sum(-1)


def _kseq(p: Chances, q: Chances, k: int) -> Rates:
    count = torch.full_like(p[..., 0], k).long()
    beta = torch.minimum(q, p / smallest_rho(p, q, count)[..., None]).sum(-1)
    return 1 - (1 - beta.clamp(max=1)) ** k


def _with_replacement(p: Chances, q: Chances, k: int) -> Rates:
    """What is left after j rejections depends on j alone."""
    left, failed = p, torch.ones_like(p[..., 0])
    for _ in range(k):
        failed = failed * (1 - torch.minimum(left, q).sum(-1)).clamp(min=0)
        left = _normalised((left - q).clamp(min=0))
    return 1 - failed


def _without_replacement(p: Chances, q: Chances, k: int) -> Rates:
    size = p.shape[-1]
    rows = zip(p.reshape(-1, size), q.reshape(-1, size), strict=True)
    return torch.stack([1 - _all_fail(a, b, k) for a, b in rows]).reshape(p.shape[:-1])


def _all_fail(p: Float[Tensor, " V"], q: Float[Tensor, " V"], k: int) -> Float[Tensor, ""]:
    """Return the chance that recursive rejection rejects k drafts without replacement."""
    k = min(k, int((q > 0).sum()))
    first = torch.arange(len(q)).expand(k - 1, -1)
    if len(q) ** (k - 1) <= _EXACTLY:
        hands = (
            torch.cartesian_prod(*first).reshape(-1, k - 1) if k > 1 else first.new_zeros((1, 0))
        )
        return torch.stack([_fail(p, q, one, None).sum() for one in hands.split(_AT_ONCE)]).sum()
    u = rng.uniform(Key(torch.arange(_DRAWN)), 0, k - 1)
    hands = torch.zeros(u.shape, dtype=torch.int64)
    some = zip(hands.split(_AT_ONCE), u.split(_AT_ONCE), strict=True)
    return torch.cat([_fail(p, q, one, chosen) for one, chosen in some]).mean()


def _fail(
    p: Float[Tensor, " V"],
    q: Float[Tensor, " V"],
    hands: Int[Tensor, "M J"],
    u: Float[Tensor, "M J"] | None,
) -> Float[Tensor, " M"]:
    """Return the chance that drafts come and fail, the last of them whichever it is.

    Args:
        p: Of the target.
        q: Of the drafter.
        hands: The drafts but for the last.
        u: If given, the drafts are drawn at these uniforms as they come when they fail, and each
            row says how often any drafts fail; those of ``hands`` do not matter.
    """
    left, drawn = p.expand(len(hands), -1), q.expand(len(hands), -1)
    failed = torch.ones(len(hands), dtype=p.dtype)
    for number in range(hands.shape[1]):
        bad = drawn - torch.minimum(left, drawn)
        token, share = hands[:, number], bad.sum(1)
        if u is not None:
            safe = torch.where((share > 0)[:, None], bad, drawn)
            token = categorical.sample(safe.log(), u[:, number])
        else:
            share = bad.gather(1, token[:, None])[:, 0]
        failed = failed * share
        left = _normalised((left - drawn).clamp(min=0))
        drawn = _normalised(drawn.scatter(1, token[:, None], 0.0))
    return failed * (1 - torch.minimum(left, drawn).sum(1)).clamp(min=0)


RULES: Mapping[str, Callable[[Chances, Chances, int], Rates]] = {
    "token": _token,
    "match": _match,
    "rrs": _with_replacement,
    "kseq": _kseq,
    "rsd": _without_replacement,
    "greedy": _greedy,
}
