"""When is a token sure to stay? Learning the commit filter of Learn2PD from a model's own runs.

Bao et al., 2025, arXiv:2509.25188. The model first writes each answer one token per step; that
text is the target. The answer is then written again as greedily as hindsight allows: in every step
exactly the positions whose likeliest token is already the target's. What the filter sees at each of
those steps, and which positions were right, is its training set.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from unison.data import Tokenizer
from unison.decode import Canvas, blocks, decode
from unison.decode.diffusion.composed import Composed
from unison.decode.select.learned import Filter
from unison.generation import canvases, process_name
from unison.generation.canvases import Size
from unison.language_model import LanguageModel
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing
from unison.types import Denoiser, Focus

SITE_WEIGHTS = 0
OnEpoch = Callable[[int, float], None]


class Replay(NamedTuple):
    """What a filter would have seen, and what it should have said.

    Attributes:
        confidence: Probability of the likeliest token at every position of a block.
        correct: Whether that token is the target's.
        row: The canvas each observation comes from.
    """

    confidence: Float[Tensor, "N B"]
    correct: Bool[Tensor, "N B"]
    row: Int[Tensor, " N"]


def replay(
    process: Absorbing, denoise: Denoiser, canvas: Canvas, block_length: int
) -> tuple[Replay, Int[Tensor, " B"]]:
    """Write every row one token per step, then again with hindsight.

    Args:
        process: Knows the mask.
        denoise: The model.
        canvas: Rows whose open positions are masked.
        block_length: B; a shorter last block is written but not learnt from.

    Returns:
        The observations, and the steps that hindsight took for each row.
    """
    key = Key(torch.zeros_like(canvas.tokens[:, 0]))
    slow = Composed(block_length=block_length)
    target = decode(slow, process, denoise, canvas, key).tokens
    number = blocks.numbered(canvas, block_length, "answer")
    seen: list[Replay] = []
    steps = torch.zeros_like(canvas.tokens[:, 0])
    tokens = canvas.tokens
    for block in range(int(number.max()) + 1):
        inside = ~canvas.given & (number == block)
        while bool((working := (inside & (tokens == process.mask_id)).any(1)).any()):
            found, sees = _look(process, denoise, tokens, inside)
            right = found == target
            seen += _observed(sees, right, inside & working[:, None], block_length)
            gained = right & inside & (tokens == process.mask_id)
            stuck = working & ~gained.any(1)
            tokens = torch.where(gained | (inside & stuck[:, None]), target, tokens)
            steps = steps + working.long()
    return Replay(*(torch.cat(parts) for parts in zip(*seen, strict=True))), steps


def _look(
    process: Absorbing, denoise: Denoiser, tokens: Tensor, inside: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the likeliest token and its probability over the canvas, as far as ``inside``."""
    first = inside.long().argmax(1)
    bounds = torch.stack([first, first + inside.sum(1)], dim=1)
    at = blocks.gathered(inside, bounds, tokens.shape[1])
    belief = denoise(tokens, torch.ones(len(tokens), dtype=torch.float64), Focus(*at.focus))
    best = belief.max(-1)
    nothing = torch.zeros(tokens.shape)
    return at.put(tokens * 0 - 1, best.indices), at.put(nothing, best.values.exp())


def _observed(sees: Tensor, right: Tensor, inside: Tensor, length: int) -> Iterator[Replay]:
    """Yield what was seen of the rows whose block has its full length."""
    whole = (inside.sum(1) == length).nonzero()[:, 0]
    if len(whole):
        at = inside[whole]
        yield Replay(sees[whole][at].view(-1, length), right[whole][at].view(-1, length), whole)


@dataclass(frozen=True)
class Fitting:
    """How the filter is fitted: full-batch AdamW on the binary cross-entropy.

    Attributes:
        epochs: Steps over the whole training set.
        lr: Learning rate.
        held_out: Share of the canvases kept for the reported rates.
        seed: Of the first weights and the division.
    """

    epochs: int = 2000
    lr: float = 3e-3
    held_out: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}.")
        if not self.lr > 0:
            raise ValueError(f"lr must be above 0, got {self.lr}.")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be in (0, 1), got {self.held_out}.")


class Fitted(NamedTuple):
    """A filter and how it does on canvases it was not fitted to.

    Attributes:
        filter: The filter.
        loss: Held-out binary cross-entropy, in nats per position.
        wrong: Share of the positions it would write that are wrong.
        caught: Share of the right positions it would write.
        observations: Blocks it was fitted to.
    """

    filter: Filter
    loss: float
    wrong: float
    caught: float
    observations: int


def fit(seen: Replay, config: Fitting, threshold: float, on_epoch: OnEpoch | None = None) -> Fitted:
    """Fit a filter.

    Args:
        seen: Observations.
        config: How.
        threshold: The probability above which the filter writes, for the reported rates.
        on_epoch: Called with the epoch and its training loss.

    Raises:
        ValueError: There are too few canvases to hold one out.
    """
    apart = _held_out(seen.row, config)
    weights = _first_weights(seen.confidence.shape[1], config.seed)
    optimizer = torch.optim.AdamW(weights, lr=config.lr)
    inputs, wanted = seen.confidence[~apart], seen.correct[~apart].float()
    for epoch in range(config.epochs):
        loss = F.binary_cross_entropy_with_logits(Filter(*weights)(inputs), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if on_epoch is not None:
            on_epoch(epoch + 1, loss.item())
    made = Filter(*(weight.detach() for weight in weights))
    said, right = made(seen.confidence[apart]), seen.correct[apart]
    writes = said.sigmoid() > threshold
    return Fitted(
        made,
        F.binary_cross_entropy_with_logits(said, right.float()).item(),
        ((writes & ~right).sum() / writes.sum().clamp(min=1)).item(),
        ((writes & right).sum() / right.sum().clamp(min=1)).item(),
        len(inputs),
    )


def _held_out(row: Int[Tensor, " N"], config: Fitting) -> Bool[Tensor, " N"]:
    """Return which observations are kept apart: all of some canvases."""
    rows = int(row.max()) + 1
    order = rng.uniform(Key(torch.tensor([config.seed])), SITE_WEIGHTS + 1, rows)[0].argsort()
    kept = max(1, round(config.held_out * rows))
    if rows - kept < 1:
        raise ValueError(f"a filter needs at least 2 prompts, got {rows}; give more text.")
    return torch.isin(row, order[:kept])


def _first_weights(length: int, seed: int) -> list[Tensor]:
    """Return two matrices and two biases, normal with the variance that keeps signals level."""
    key = Key(torch.tensor([seed]))
    count = 2 * length * length
    normal = rng.normal(key, SITE_WEIGHTS, count)[0].float() * length**-0.5
    first, second = normal.view(2, length, length)
    zero = torch.zeros(length)
    parts = (first, zero, second, zero)
    return [part.clone().requires_grad_() for part in parts]


def prompts_of(texts: Sequence[str], tokenizer: Tokenizer, length: int) -> list[str]:
    """Return the beginning of each text, of at most ``length`` tokens; the rest is left to write.

    Raises:
        ValueError: No text has as many tokens as the prompt and one more.
    """
    ids = [tokenizer.encode(text) for text in texts]
    prompts = [tokenizer.decode(row[:length]) for row in ids if len(row) > length]
    if not prompts:
        raise ValueError(
            f"none of the {len(texts)} texts has more than prompt_tokens={length} tokens; shorten "
            "the prompt or give longer texts."
        )
    return prompts


def replays(
    model: LanguageModel,
    prompts: Sequence[str],
    new_tokens: int,
    block_length: int,
    batch_size: int = 16,
) -> Iterator[tuple[Replay, Int[Tensor, " B"]]]:
    """Yield what hindsight sees on each batch of prompts, and the steps it took for each.

    Args:
        model: An absorbing model.
        prompts: What it goes on from.
        new_tokens: Tokens it writes for each.
        block_length: Positions of a block.
        batch_size: Prompts written together.

    Raises:
        ValueError: The model is not an absorbing one, or a prompt does not fit its canvas.
    """
    process = model.process
    if not isinstance(process, Absorbing):
        raise ValueError(
            "a filter says which masked tokens may be written, so it needs an absorbing model; "
            f"this one undoes the {process_name(process)} process."
        )
    if new_tokens < block_length:
        raise ValueError(
            f"new_tokens must hold at least one block of {block_length}, got {new_tokens}."
        )
    rows = canvases.rows(model, list(prompts), "", None, Size(new_tokens=new_tokens))
    for first in range(0, len(rows), batch_size):
        part = rows[first : first + batch_size]
        canvas = canvases.batch(model, part, Key(rng.rows(0, 0, len(part)).to(model.device)))
        seen, steps = replay(process, model.denoiser(canvas.valid), canvas, block_length)
        yield seen._replace(row=seen.row + first), steps
