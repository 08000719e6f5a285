"""What are rows that take their steps together, and how do batches become one?"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from unison.decode import Canvas, Strategy
from unison.decode.api import Apart, Rowwise, selected
from unison.decode.jointly import Jointly
from unison.engine.joining import joined
from unison.process import Process
from unison.serve.batching.unit import Unit
from unison.types import Denoiser, Tokens


class Batch(NamedTuple):
    """Rows that take their steps together; each may stand at another.

    Attributes:
        units: Whose they are.
        canvas: As in ``unison.decode``.
        denoise: What they read.
        seed: Their random streams.
        steps: Steps each has taken.
        written: The step that wrote each token.
        confidence: As in ``unison.decode.Decoded``.
    """

    units: tuple[Unit, ...]
    canvas: Canvas
    denoise: Denoiser
    seed: Int[Tensor, " B"]
    steps: Int[Tensor, " B"]
    written: Tokens
    confidence: Float[Tensor, "B L"]

    def keep(self, rows: Sequence[int]) -> "Batch":
        """Return some of the rows, by number."""
        if len(rows) == len(self.units):
            return self
        some = torch.tensor(rows, device=self.seed.device)
        return Batch(
            tuple(self.units[row] for row in rows),
            selected(self.canvas, some),
            cast(Rowwise, self.denoise).keep(some),
            *(part[some] for part in self[3:]),  # pyright: ignore[reportArgumentType]
        )


def joined_batches(strategy: Strategy, process: Process, parts: Sequence[Batch]) -> Batch:
    """Return batches as one, those of short canvases padded at the right.

    Args:
        strategy: Writes them all.
        process: What it undoes.
        parts: Made alike; if the strategy's rows cannot stand apart, none has taken a step.
    """
    if len(parts) == 1:
        return parts[0]
    length = max(part.canvas.tokens.shape[1] for part in parts)
    canvases = [_stretched(part.canvas, length) for part in parts]
    tokens = [part.canvas.tokens for part in parts]
    memory = _apart(strategy).joined(process, canvases) if stands_apart(strategy) else None
    masks = [canvas.valid for canvas in canvases if canvas.valid is not None]
    levels = _levels(canvases)
    canvas = Canvas(
        torch.cat([canvas.tokens for canvas in canvases]),
        torch.cat([canvas.given for canvas in canvases]),
        memory,
        torch.cat(masks) if masks else None,
        level=levels,
    )
    return Batch(
        tuple(unit for part in parts for unit in part.units),
        canvas,
        joined([part.denoise for part in parts], tokens, length),
        torch.cat([part.seed for part in parts]),
        torch.cat([part.steps for part in parts]),
        torch.cat([_padded(part.written, length, 0) for part in parts]),
        torch.cat([_padded(part.confidence, length, 1.0) for part in parts]),
    )


def _stretched(canvas: Canvas, length: int) -> Canvas:
    """Return canvases with padding at the right, which is always told apart from text."""
    tokens = canvas.tokens
    valid = torch.ones_like(canvas.given) if canvas.valid is None else canvas.valid
    memory = _stretched_memory(canvas.memory, tokens.shape[1], length)
    return Canvas(
        _padded(tokens, length, 0),
        _padded(canvas.given, length, True),
        memory,
        _padded(valid, length, False),
        level=None if canvas.level is None else _padded(canvas.level, length, 0.0),
    )


def _stretched_memory(memory: Any, own: int, length: int) -> Any:
    """Return a strategy's memory for a longer canvas: what stands at padding is never read."""
    if isinstance(memory, tuple):
        parts = [_stretched_memory(part, own, length) for part in memory]
        return type(memory)(*parts) if hasattr(memory, "_fields") else tuple(parts)
    if isinstance(memory, Tensor) and memory.ndim == 2 and memory.shape[1] == own:
        return _padded(memory, length, 0)
    return memory


def _levels(canvases: Sequence[Canvas]) -> Tensor | None:
    """Return the noise levels; rows that have none yet know nothing where nothing was given."""
    if all(canvas.level is None for canvas in canvases):
        return None
    return torch.cat(
        [(~canvas.given).double() if canvas.level is None else canvas.level for canvas in canvases]
    )


def _padded(part: Tensor, length: int, value: float | int) -> Tensor:
    return F.pad(part, (0, length - part.shape[1]), value=value)


def _apart(strategy: Strategy) -> Apart:
    inner = strategy.strategy if isinstance(strategy, Jointly) else strategy
    return cast(Apart, inner)


def stands_apart(strategy: Strategy) -> bool:
    """Return whether rows of a strategy may stand at different steps."""
    inner = strategy.strategy if isinstance(strategy, Jointly) else strategy
    return isinstance(inner, Apart) and inner.apart
