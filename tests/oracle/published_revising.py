"""What do published loops write that take tokens back, or ask a second model?

As in ``oracle.published``: pure torch, full canvas, every step.
"""

from collections.abc import Callable

import torch
from oracle.published import LogitsFn, Written, inside, proposal, spans, take
from torch import Tensor

Accept = Callable[[Tensor, Tensor], bool]  # the judge's logits there, the draft


def p2(logits_fn: LogitsFn, canvas: Tensor, mask: int, *, steps: int, eta: float = 1.0) -> Written:
    """Path planning (arXiv:2502.03540) with the denoiser's own confidence as the planner.

    After step i the floor(N (1 - (i + 1) / T)) least sure of all positions are masks: of a mask
    the proposed token's probability counts, of a written position the standing token's. A mask
    that is not among them takes the proposed token, a written token stays as it is.
    """
    x, fixed = canvas.clone(), canvas != mask
    total = (~fixed).sum(1)
    for i in range(steps):
        masked = x == mask
        logits = logits_fn(x)
        token, sure = proposal(logits)
        place = x.clamp(max=logits.shape[-1] - 1)[..., None]
        standing = logits.double().log_softmax(-1).gather(-1, place)[..., 0]
        score = torch.where(masked, sure.log(), eta * standing)
        count = total * (steps - i - 1) // steps
        lowest = take(torch.where(fixed, -torch.inf, -score), count.tolist())
        x = torch.where(masked & ~lowest, token, torch.where(lowest, mask, x))
    return Written(x, steps)


def wino(
    logits_fn: LogitsFn,
    shadow_fn: LogitsFn,
    canvas: Tensor,
    mask: int,
    *,
    block_length: int,
    threshold: float = 0.6,
    threshold_back: float = 0.9,
) -> Written:
    """WINO (arXiv:2507.18578), one row; ``shadow_fn`` judges each token without seeing it.

    Draft: everything surer than ``threshold``, at most min(max(0.7 masks, 5), 20) and at least
    one. Verify: of what stood before, mask again what its shadow doubts, the most doubted first,
    fewer than the step before drafted.
    """
    x, prompt, calls = canvas.clone(), canvas != mask, 0
    for block in spans(canvas, mask, block_length):
        here, last = inside(x, block), 1
        while ((x == mask) & here).any():
            open_ = (x == mask) & here
            token, sure = proposal(logits_fn(x))
            shadow = shadow_fn(x)
            calls += 1
            sure = torch.where(open_, sure, -torch.inf)
            most = min(max(int(0.7 * int(open_.sum())), 5), 20)
            count = max(min(int((sure > threshold).sum()), most), 1)
            place = x.clamp(max=shadow.shape[-1] - 1)[..., None]
            trust = shadow.double().softmax(-1).gather(-1, place)[..., 0]
            doubted = here & ~prompt & ~open_ & (trust < threshold_back)
            back = min(int(doubted.sum()), last - 1)
            revoked = take(torch.where(doubted, -trust, -torch.inf), [back])
            x = torch.where(take(sure, [count]), token, torch.where(revoked, mask, x))
            last = count
    return Written(x, calls)


def guided(
    logits_fn: LogitsFn,
    judge_fn: LogitsFn,
    canvas: Tensor,
    mask: int,
    *,
    accept: Accept,
    eos: int | None = None,
) -> Written:
    """Guided diffusion of FlashDLM (arXiv:2505.21467), one row.

    ``judge_fn(tokens)`` gives at position i the causal model's logits for i, from what stands
    before it. The model drafts every mask; the longest accepted prefix of the drafts is written,
    at least one. The judge never writes.
    """
    x, calls = canvas.clone(), 0
    while (x == mask).any():
        open_ = x[0] == mask
        draft = torch.where(open_, logits_fn(x).argmax(-1), x)
        calls += 1
        said = judge_fn(draft)[0]
        for number, place in enumerate(open_.nonzero()[:, 0].tolist()):
            agreed = accept(said[place], draft[0, place])
            if agreed or number == 0:
                x[0, place] = draft[0, place]
                if int(x[0, place]) == eos:
                    return Written(torch.where(x == mask, eos, x), calls)
            if not agreed:
                break
    return Written(x, calls)


def probability(logits: Tensor, draft: Tensor) -> Tensor:
    """What the judge thinks of a draft."""
    return logits.double().softmax(-1)[draft]


def _rank(logits: Tensor, draft: Tensor) -> int:
    return int((logits > logits[draft]).sum())


def _nucleus(logits: Tensor, draft: Tensor, mass: float) -> bool:
    p = logits.double().softmax(-1)
    return bool(p[logits > logits[draft]].sum() < mass)


RULES: dict[str, Accept] = {
    "deterministic": lambda logits, draft: bool(logits.argmax() == draft),
    "topk": lambda logits, draft: _rank(logits, draft) < 5,
    "topk_relative": lambda logits, draft: bool(
        _rank(logits, draft) < 2
        and probability(logits, draft) >= 0.5 * logits.double().softmax(-1).max()
    ),
    "dynamic_threshold": lambda logits, draft: bool(probability(logits, draft) > 0.1),
    "aggressive": lambda logits, draft: bool(
        _rank(logits, draft) < 5
        or probability(logits, draft) > 0.05
        or _nucleus(logits, draft, 0.95)
    ),
    "always": lambda logits, draft: True,
    "never": lambda logits, draft: False,
}
