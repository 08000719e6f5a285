"""What does a cache cost in fidelity? Tokens that differ, and how far beliefs move."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unison.decode import Canvas, Strategy, decode
from unison.decode.api import Rowwise
from unison.prob.rng import Key
from unison.process import Process
from unison.types import Belief, Denoiser, Focus, Time, Tokens


class Drift(NamedTuple):
    """What decoding with a cache changes.

    Attributes:
        tokens: Share of the positions written whose final token differs.
        nats: KL(belief without the cache || belief with it), on the canvases that decoding with
            the cache visits: the mean over the undecided positions read, and evaluations.
    """

    tokens: float
    nats: float


def drift(
    plain: Denoiser,
    approximate: Denoiser,
    strategy: Strategy,
    process: Process,
    start: tuple[Canvas, Key],
    without: Tokens | None = None,
) -> Drift:
    """Decode the same rows without and with a cache, from the same random numbers.

    Args:
        plain: Computes everything.
        approximate: Remembers; fresh, for it decodes the batch.
        strategy: How to decode.
        process: What the model undoes.
        start: The first canvas and its random streams.
        without: What decoding without the cache wrote, if that is known already.
    """
    canvas, key = start
    both = _Both(plain, approximate, process, [])
    with_cache = decode(strategy, process, both, canvas, key).tokens
    if without is None:
        without = decode(strategy, process, plain, canvas, key).tokens
    written = ~canvas.given
    differ = ((with_cache != without) & written).sum() / written.sum().clamp(min=1)
    total, count = torch.stack(both.apart).sum(0).tolist()
    return Drift(float(differ), total / max(count, 1.0))


class _Both:
    """Answers with the cache and notes how far the answer without it is."""

    def __init__(
        self, plain: Denoiser, approximate: Denoiser, process: Process, apart: list[Tensor]
    ) -> None:
        self.plain, self.approximate, self.process = plain, approximate, process
        self.apart = apart  # sum of nats and number of positions, for each evaluation

    def keep(self, rows: Int[Tensor, " R"]) -> "_Both":
        return _Both(
            _kept(self.plain, rows), _kept(self.approximate, rows), self.process, self.apart
        )

    def __call__(
        self, xt: Tokens, t: Time, focus: Focus | None = None, earlier: Belief | None = None
    ) -> Belief:
        said = self.approximate(xt, t, focus, earlier)
        without = self.plain(xt, t, focus, earlier)
        apart = torch.where(without > -torch.inf, without.exp() * (without - said), 0.0).sum(-1)
        counts = ~self.process.settled(xt)
        if focus is not None:
            counts = counts.gather(1, focus.positions) & _fresh(focus.positions)
        nats = torch.where(counts, apart, 0.0).sum(dtype=torch.float64)
        self.apart.append(torch.stack([nats, counts.sum().double()]))
        return said


def _kept(denoise: Denoiser, rows: Tensor) -> Denoiser:
    return denoise.keep(rows) if isinstance(denoise, Rowwise) else denoise


def _fresh(positions: Int[Tensor, "B F"]) -> Bool[Tensor, "B F"]:
    """Return False where a short row repeats its first position."""
    first = torch.arange(positions.shape[1], device=positions.device) == 0
    return first | (positions != positions[:, :1])
