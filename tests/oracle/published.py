"""What do the published decoding loops write? The papers and their public code, in our own words.

Pure torch, nothing from unison. Every loop looks at the whole canvas in every step, asks for
logits everywhere, keeps no cache, and takes

    logits_fn  tokens [B, L] -> logits [B, L, V] over the V tokens that are text
    canvas     [B, L], the mask id where nothing is written yet
    mask       the mask id

Settings are named as in the publications. Where public code has a mistake, the loop does what
its paper says; the docstring tells. Loops over more than one row need the same open positions in
all of them, as the public code does.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LogitsFn = Callable[[Tensor], Tensor]


class Written(NamedTuple):
    """The text, and how often the logits were asked for."""

    tokens: Tensor
    calls: int


def spans(canvas: Tensor, mask: int, length: int, first: int | None = None) -> list[range]:
    """Blocks that hold masks, counted from the first mask, or from ``first``."""
    places = (canvas == mask).any(0).nonzero()[:, 0]
    begin, end = int(places[0]) if first is None else first, int(places[-1]) + 1
    cut = [range(i, min(i + length, end)) for i in range(begin, end, length)]
    return [block for block in cut if (canvas[:, block] == mask).any()]


def inside(canvas: Tensor, block: range) -> Tensor:
    """True in the block."""
    place = torch.arange(canvas.shape[1])
    return ((place >= block.start) & (place < block.stop)).expand_as(canvas)


def proposal(
    logits: Tensor, temperature: float = 0.0, u: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A token everywhere, by Gumbel noise in float64, and its probability without the noise."""
    wide = logits.double()
    token = logits.argmax(-1)
    if temperature > 0 and u is not None:
        token = (wide.exp() / (-u.log()) ** temperature).argmax(-1)
    return token, wide.softmax(-1).gather(-1, token[..., None])[..., 0]


def quota(masked: int, steps: int) -> list[int]:
    """Equal shares of the masks, what is left over one each in the first steps."""
    return [masked // steps + (step < masked % steps) for step in range(steps)]


def take(score: Tensor, count: Sequence[int]) -> Tensor:
    """The ``count`` best of each row; scores of -inf are never taken."""
    chosen = torch.zeros_like(score, dtype=torch.bool)
    for row, number in enumerate(count):
        chosen[row, score[row].topk(number).indices] = True
    return chosen & (score > -torch.inf)


def llada(  # every argument of the published function
    logits_fn: LogitsFn,
    canvas: Tensor,
    mask: int,
    *,
    steps: int,
    block_length: int,
    temperature: float = 0.0,
    cfg_scale: float = 0.0,
    remasking: str = "low_confidence",
    noise: Callable[[int, Tensor], Tensor] | None = None,
    finished: Callable[[Tensor, float], bool] | None = None,
    worth: Callable[[Tensor, float], Tensor] | None = None,
) -> Written:
    """LLaDA (arXiv:2502.09992), ``generate``.

    ``noise(call, logits)`` gives the uniforms of the Gumbel noise, and of ``random`` remasking.
    ``finished(logits, share)`` lets Prophet (arXiv:2508.19982) write all that is left;
    ``worth(tokens, share)`` is EOSER's factor (arXiv:2509.23924).
    """
    x, prompt, calls = canvas.clone(), canvas != mask, 0
    blocks = spans(canvas, mask, block_length)
    for number, block in enumerate(blocks):
        allowance = quota(steps, len(blocks))[number]
        shares = [quota(n, allowance) for n in (canvas[:, block] == mask).sum(1).tolist()]
        for step in range(allowance):
            masked = x == mask
            logits = logits_fn(x)
            if cfg_scale > 0:
                bare = logits_fn(torch.where(prompt, mask, x))
                logits = bare + (cfg_scale + 1) * (logits - bare)
            u = noise(calls, logits) if noise is not None else None
            token, sure = proposal(logits, temperature, u)
            if finished is not None and finished(logits, calls / steps):
                return Written(torch.where(masked, logits.argmax(-1), x), calls + 1)
            calls += 1
            if remasking == "random":
                assert u is not None
                sure = u[..., 0].double()
            if worth is not None:
                sure = sure * worth(token, step / max(allowance - 1, 1))
            sure = torch.where(masked & inside(x, block), sure, -torch.inf)
            x = torch.where(take(sure, [share[step] for share in shares]), token, x)
    return Written(x, calls)


def prophet(
    logits_fn: LogitsFn, canvas: Tensor, mask: int, *, answer: slice, stairs=(7.5, 5.0, 2.5), **how
) -> Written:
    """Prophet (arXiv:2508.19982): LLaDA until the mean logit gap in the answer is wide enough."""

    def finished(logits: Tensor, share: float) -> bool:
        two = logits[:, answer].topk(2).values
        gap = (two[..., 0] - two[..., 1]).mean()
        return bool(gap >= stairs[(share >= 0.33) + (share >= 0.67)])

    return llada(logits_fn, canvas, mask, finished=finished, **how)


def eoser_ass(
    logits_fn: LogitsFn, canvas: Tensor, mask: int, *, eos: int, low: float = 0.01
) -> Written:
    """EOSER with ascending steps (arXiv:2509.23924): 1, 2, 4 ... tokens, the rest at the end.

    The end of the text counts ``low + (1 - low) (2^(i+1) - 1) / 2^T`` times its probability.
    """
    x = canvas.clone()
    total = int((canvas == mask).sum(1).max())
    steps = max(total.bit_length() - 1, 1)
    for i in range(steps):
        token, sure = proposal(logits_fn(x))
        share = (2 ** (i + 1) - 1) / 2**steps
        sure = torch.where(token == eos, sure * (low + (1 - low) * share), sure)
        left = int((x == mask).sum(1).max())
        sure = torch.where(x == mask, sure, -torch.inf)
        x = torch.where(take(sure, [2**i if i < steps - 1 else left] * len(x)), token, x)
    return Written(x, steps)


def dream_score(logits: Tensor, alg: str) -> Tensor:
    """How sure Dream is of a position."""
    p = logits.softmax(-1)
    if alg == "maskgit_plus":
        return p.amax(-1)
    if alg == "topk_margin":
        two = p.topk(2).values
        return two[..., 0] - two[..., 1]
    return (p * (p + 1e-10).log()).sum(-1)


def dream(
    logits_fn: LogitsFn,
    canvas: Tensor,
    mask: int,
    *,
    steps: int,
    alg: str = "entropy",
    eps: float = 1e-3,
    shifted: bool = False,
    uniforms: Callable[[int], Tensor] | None = None,
) -> Written:
    """Dream (arXiv:2508.15487), ``diffusion_generate`` at temperature 0 and ``alg_temp`` 0.

    A step may write nothing: the count is rounded down. ``shifted`` where output i speaks of
    position i + 1. ``uniforms(step)`` decide who is written where ``alg`` is ``origin``.
    """
    x = canvas.clone()
    times = torch.linspace(1, eps, steps + 1, dtype=torch.float64)
    for i in range(steps):
        masked = x == mask
        logits = logits_fn(x)
        if shifted:
            logits = torch.cat([logits[:, :1], logits[:, :-1]], dim=1)
        share = float(1 - times[i + 1] / times[i]) if i < steps - 1 else 1.0
        token = torch.full_like(x, mask).masked_scatter(masked, logits[masked].argmax(-1))
        if alg == "origin":
            assert uniforms is not None
            chosen = masked & (uniforms(i) < share)
        else:
            # Public code takes the mean of all rows' masks: rows of one length are meant.
            count = int(masked.sum() / len(x) * share)
            score = torch.full(x.shape, -torch.inf)
            score[masked] = dream_score(logits[masked], alg)
            chosen = take(score, [count] * len(x))
        x = torch.where(chosen, token, x)
    return Written(x, steps)


Choose = Callable[[Tensor, Tensor, Tensor], Tensor]  # confidence, logits, open -> chosen; one row


def by_block(
    logits_fn: LogitsFn, canvas: Tensor, mask: int, block_length: int, choose: Choose
) -> Written:
    """Write what is chosen until the block is full, then the next; each row as long as it takes."""
    x, calls = canvas.clone(), 0
    for block in spans(canvas, mask, block_length):
        while (x[:, block] == mask).any():
            logits = logits_fn(x)
            calls += 1
            token, sure = proposal(logits)
            for row in range(len(x)):
                open_ = (x[row] == mask) & inside(x, block)[row]
                if open_.any():
                    chosen = choose(sure[row], logits[row], open_) & open_
                    x[row] = torch.where(chosen, token[row], x[row])
    return Written(x, calls)


def surest(sure: Tensor, open_: Tensor) -> Tensor:
    """True at the surest open position."""
    return torch.arange(len(sure)) == torch.where(open_, sure, -torch.inf).argmax()


def above(threshold: float) -> Choose:
    """Fast-dLLM's threshold (arXiv:2505.22618): the sure ones and the surest."""
    return lambda sure, _, open_: (sure >= threshold) | surest(sure, open_)


def by_factor(factor: float) -> Choose:
    """Fast-dLLM's factor: the r-th surest while its confidence is at least 1 - f / (r + 1).

    As the paper has it. Public code counts one too many where the last candidate fails.
    """

    def choose(sure: Tensor, _: Tensor, open_: Tensor) -> Tensor:
        order = torch.where(open_, sure, -torch.inf).argsort(descending=True)
        chosen = torch.zeros_like(open_)
        for rank, place in enumerate(order.tolist(), start=1):
            if not open_[place] or (rank > 1 and sure[place] < 1 - factor / (rank + 1)):
                break
            chosen[place] = True
        return chosen

    return choose


def leaping(anchor: float = 0.9, relaxed: float = 0.75, width: int = 4) -> Choose:
    """LocalLeap (arXiv:2510.07081): a lower threshold close to a very sure position."""

    def choose(sure: Tensor, _: Tensor, open_: Tensor) -> Tensor:
        place = torch.arange(len(sure))
        anchors = place[open_ & (sure >= anchor)]
        near = ((place[:, None] - anchors).abs() <= width).any(1)
        return torch.where(near, sure >= relaxed, sure >= anchor) | surest(sure, open_)

    return choose


def within_entropy(bound: float) -> Choose:
    """Entropy-bounded (arXiv:2505.24857): the least uncertain whose earlier ones sum up to it."""

    def choose(_: Tensor, logits: Tensor, open_: Tensor) -> Tensor:
        p = logits.double().softmax(-1)
        entropy = -(p * p.log()).nan_to_num(0.0).sum(-1)
        order = torch.where(open_, entropy, torch.inf).argsort()
        before = entropy[order].cumsum(0) - entropy[order]
        chosen = torch.zeros_like(open_)
        chosen[order] = before <= bound
        return chosen

    return choose


def filtered(network: Callable[[Tensor], Tensor], threshold: float, size: int) -> Choose:
    """Learn2PD (arXiv:2509.25188): what a filter of the block's confidences lets pass.

    ``network`` takes the ``size`` confidences of the block; the surest goes along.
    """

    def choose(sure: Tensor, _: Tensor, open_: Tensor) -> Tensor:
        start = int(open_.nonzero()[0]) // size * size
        passed = torch.zeros_like(open_)
        passed[start : start + size] = network(sure[start : start + size].float()) > threshold
        return passed | surest(sure, open_)

    return choose


def dus(
    logits_fn: LogitsFn, canvas: Tensor, mask: int, *, block_length: int, base: int = 2
) -> Written:
    """Dilated unmasking (arXiv:2506.19037): positions a stride apart, the stride ever shorter."""
    x, calls = canvas.clone(), 0
    for block in spans(canvas, mask, block_length):
        stride = block_length
        while (x[:, block] == mask).any():
            stride = max(stride // base, 1)
            place = torch.arange(x.shape[1]) - block.start
            chosen = (x == mask) & inside(x, block) & (place % stride == 0)
            if chosen.any():
                x = torch.where(chosen, logits_fn(x).argmax(-1), x)
                calls += 1
    return Written(x, calls)
