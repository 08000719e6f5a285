"""Sights put together by hand, for tests of single parts."""

import math

import torch
from torch import Tensor

from unison.decode.sight import Chosen, Score, Select, Sight, certainty
from unison.prob import rng
from unison.prob.rng import Key


def seen(
    belief: Tensor,
    *,
    live: Tensor | None = None,
    open_: Tensor | None = None,
    positions: Tensor | None = None,
    candidate: Tensor | None = None,
    left: Tensor | int | None = None,
    block_step: Tensor | int = 0,
    size: Tensor | int | None = None,
    key: Key | None = None,
) -> Sight:
    """What a step sees of one block, all of it open unless said otherwise.

    ``live`` and ``open_`` are [B, F]; the numbers are for every row or one for each. The block
    holds what is live, and as many steps are left as positions are open.
    """
    rows, places = belief.shape[:2]
    live = torch.ones(rows, places, dtype=torch.bool) if live is None else live
    open_ = live if open_ is None else open_ & live
    likeliest = belief.argmax(-1)
    candidate = likeliest if candidate is None else candidate
    steps = per_row(open_.sum(1).clamp(min=1) if left is None else left, rows)
    return Sight(
        torch.arange(places).expand(rows, -1) if positions is None else positions,
        live,
        open_,
        live,
        candidate,
        belief,
        candidate,
        certainty(belief, candidate),
        likeliest,
        (-(-open_.sum(1) // steps)).clamp(min=1),
        steps,
        torch.zeros(rows, dtype=torch.float64),
        per_row(block_step, rows),
        per_row(live.sum(1) if size is None else size, rows),
        Key(rng.rows(0, 0, rows)) if key is None else key,
    )


def per_row(value: Tensor | int, rows: int) -> Tensor:
    return torch.as_tensor(value).expand(rows)


def sure(*confidence: float, **changes) -> Sight:
    """One row whose candidates are this probable."""
    p = torch.tensor([confidence], dtype=torch.float64)
    others = ((1 - p) / 3)[..., None].expand(-1, -1, 3)
    belief = torch.cat([p[..., None], others], -1).log().float()
    return seen(belief, candidate=torch.zeros(1, len(confidence), dtype=torch.long), **changes)


def uncertain(*entropy: float, **changes) -> Sight:
    """One row of beliefs over two tokens with these entropies, in nats."""
    p = torch.tensor([[_likelier(h) for h in entropy]], dtype=torch.float64)
    return seen(torch.stack([p, 1 - p], -1).log().float(), **changes)


def _likelier(entropy: float) -> float:
    low, high = 0.5, 1.0
    for _ in range(60):
        p = (low + high) / 2
        value = -p * math.log(p) - (1 - p) * math.log1p(-p) if p < 1 else 0.0
        low, high = (p, high) if value > entropy else (low, p)
    return high


def ragged(seed: int, rows: int = 64, places: int = 12, vocab: int = 5) -> Sight:
    """Rows of every kind: short and full, with written positions, some with nothing open."""
    draw = torch.Generator().manual_seed(seed)

    def number(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=draw)

    heat = torch.rand(rows, places, 1, generator=draw) * 12
    logits = torch.randn(rows, places, vocab, generator=draw) * heat
    logits[..., -1] = -torch.inf
    length = number(1, places + 1, rows)
    live = torch.arange(places) < length[:, None]
    open_ = torch.rand(rows, places, generator=draw) < torch.rand(rows, 1, generator=draw) + 0.1
    open_[0] = False
    where = torch.rand(rows, 40, generator=draw).argsort(1)[:, :places].sort(1).values
    where = torch.where(live, where, where[:, :1])
    first = live.long().argmax(1)[:, None, None]
    logits = torch.where(live[..., None], logits, logits.gather(1, first.expand_as(logits)))
    return seen(
        logits.log_softmax(-1),
        live=live,
        open_=open_,
        positions=where,
        candidate=number(0, vocab - 1, rows, places),
        left=number(1, 2 * places, rows),
        block_step=number(0, places, rows),
    )


def rows_of(sight: Sight, rows: Tensor) -> Sight:
    """Some of the rows."""
    key = sight.key._replace(seed=sight.key.seed[rows])
    return _each(sight, lambda part: part[rows])._replace(key=key)


def narrowed(sight: Sight, places: int) -> Sight:
    """The first positions only."""
    return _each(sight, lambda part: part[:, :places] if part.dim() > 1 else part)


def _each(sight: Sight, change) -> Sight:
    return Sight(*(change(part) for part in sight[:-1]), sight.key)


def tensors(sight: Sight) -> list[Tensor]:
    """All that parts see, but the key."""
    return list(sight[:-1])


def chosen(select: Select, sight: Sight, score: Score | None = None) -> list[int]:
    """Which positions of the first row a part chooses, by confidence unless said otherwise."""
    picked: Chosen = select.choose(sight, sight.confidence if score is None else score)
    return picked[0].nonzero()[:, 0].tolist()
