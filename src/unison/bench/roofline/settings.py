"""What is measured? One frozen configuration, checked before any work."""

from dataclasses import dataclass
from typing import Literal

from unison.bench.record import BenchError
from unison.bench.training.steps import shape_of
from unison.train.config import Device

_LEAST_VOCABULARY = 258  # bytes, the end of a document, and one more
_LEAST_LENGTH = 16  # a prompt, and steps behind it


@dataclass(frozen=True)
class Roofline:
    """Which work is held against the machine's limits.

    Attributes:
        sizes: Names in ``PRESETS``, or width x depth x heads: ``512x8x8``.
        only: Rows, or groups of them; empty for all.
        dtype: Of the weights that are read; a training step keeps its weights in float32 and
            multiplies in this.
        vocab_size: Tokens of the vocabulary.
        length: Tokens of a row and of a canvas.
        batch_size: Rows of a training step and of a plain evaluation.
        rows: Canvases of a decoding step.
        rounds: How often everything is timed, in turns.
        threads: Of a CPU; ``None`` leaves them as they are.
        device: Where.
        seed: Names weights, tokens and noise.
    """

    sizes: tuple[str, ...] = ("tiny",)
    only: tuple[str, ...] = ()
    dtype: Literal["float32", "bfloat16"] = "float32"
    vocab_size: int = 2048
    length: int = 256
    batch_size: int = 8
    rows: int = 1
    rounds: int = 5
    threads: int | None = None
    device: Device = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"vocab_size": _LEAST_VOCABULARY, "length": _LEAST_LENGTH}
        for name in ("vocab_size", "length", "batch_size", "rows", "rounds"):
            value, at_least = getattr(self, name), least.get(name, 1)
            if value < at_least:
                raise BenchError(f"{name} must be at least {at_least}, got {value}.")
        if self.threads is not None and self.threads < 1:
            raise BenchError(f"threads must be at least 1, got {self.threads}.")
        if self.dtype not in ("float32", "bfloat16"):
            raise BenchError(f"dtype must be float32 or bfloat16, got {self.dtype!r}.")
        if not self.sizes or len(set(self.sizes)) < len(self.sizes):
            raise BenchError(f"sizes must name at least one, each once, got {self.sizes}.")
        for size in self.sizes:
            shape_of(size)
