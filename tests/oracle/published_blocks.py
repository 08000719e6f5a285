"""What do the published loops of block-causal models write?

As in ``oracle.published``; blocks are counted from position 0, prompt included.
"""

from collections.abc import Callable

import torch
from oracle.published import LogitsFn, Written, inside, proposal, quota, spans, surest, take
from torch import Tensor


def sdar(
    logits_fn: LogitsFn,
    canvas: Tensor,
    mask: int,
    *,
    block_length: int,
    denoising_steps: int,
    threshold: float | None = None,
) -> Written:
    """SDAR's block diffusion: blocks counted from position 0, prompt included.

    Without a threshold ``low_confidence_static``: every step its share of a whole block. With one
    ``low_confidence_dynamic``: all that are surer, where those are at least that many.
    """
    x, calls = canvas.clone(), 0
    shares = quota(block_length, denoising_steps)
    for block in spans(canvas, mask, block_length, first=0):
        for share in shares:
            open_ = (x == mask) & inside(x, block)
            if not open_.any():
                break
            token, sure = proposal(logits_fn(x))
            calls += 1
            sure = torch.where(open_, sure, -torch.inf)
            due = [min(share, int(n)) for n in open_.sum(1)]
            chosen = take(sure, due)
            if threshold is not None:
                enough = (sure > threshold).sum(1) >= torch.tensor(due)
                chosen = torch.where(enough[:, None], sure > threshold, chosen)
            x = torch.where(chosen, token, x)
    return Written(x, calls)


def llada2(
    logits_fn: LogitsFn,
    canvas: Tensor,
    mask: int,
    *,
    block_length: int = 32,
    threshold: float = 0.95,
    editing_threshold: float | None = 0.9,
    max_post_steps: int = 16,
) -> Written:
    """LLaDA2's threshold decoding with token edits (arXiv:2602.08676), one row.

    In the same step masks are filled and, in the block, written tokens replaced where another
    one is surer than the editing threshold; without masks at most ``max_post_steps`` more.
    """
    x, prompt, calls = canvas.clone(), canvas != mask, 0
    for block in spans(canvas, mask, block_length, first=0):
        here, after = inside(x, block), 0
        while True:
            open_ = (x == mask) & here
            after += not open_.any()
            if after > (max_post_steps if editing_threshold is not None else 0):
                break
            token, sure = proposal(logits_fn(x))
            calls += 1
            chosen = open_ & (sure > threshold)
            if open_.any() and not chosen.any():
                chosen = surest(sure[0], open_[0])[None]
            edited = torch.zeros_like(open_)
            if editing_threshold is not None:
                edited = here & ~prompt & ~open_ & (sure > editing_threshold) & (token != x)
            x = torch.where(chosen | edited, token, x)
            if not open_.any() and not edited.any():
                break
    return Written(x, calls)


def first_hitting_blocks(
    logits_fn: LogitsFn,
    canvas: Tensor,
    mask: int,
    *,
    block_length: int,
    who: Callable[[int], Tensor],
    what: Callable[[int], Tensor] | None,
) -> Written:
    """BD3-LM's first-hitting sampler (arXiv:2503.09573) for a network that ignores time.

    One position at a time, uniformly: the mask with the largest of ``who``; its token at ``what``
    by the inverse of the distribution function, or the likeliest.
    """
    x, calls = canvas.clone(), 0
    for block in spans(canvas, mask, block_length, first=0):
        while ((x == mask) & inside(x, block)).any():
            logits = logits_fn(x)
            place = torch.where((x == mask) & inside(x, block), who(calls), -1.0).argmax(1)
            here = logits[torch.arange(len(x)), place]
            token = here.argmax(-1)
            if what is not None:
                running = here.double().softmax(-1).cumsum(-1)
                at = what(calls)[torch.arange(len(x)), place]
                token = torch.searchsorted(running, at[:, None]).clamp(max=here.shape[-1] - 1)[:, 0]
            x = x.scatter(1, place[:, None], token[:, None])
            calls += 1
    return Written(x, calls)
