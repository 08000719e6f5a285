"""What is a compression? Which parts go, how many bits the rest has, what is measured."""

from dataclasses import dataclass, field
from typing import Literal

from unison.compress.calibration import Weighting
from unison.compress.levels import CompressError, Levels
from unison.compress.pruning import Importance
from unison.compress.recovery import Recover


@dataclass(frozen=True)
class Compress:
    """One compression; its stages run in this order: layers, heads and MLP, recovery, rounding.

    Attributes:
        drop_layers: Layers that go, each time that one without which the bound is lowest.
        prune_heads: Share of the heads of every layer that go, in [0, 1).
        prune_mlp: Share of the MLP units of every layer that go, in [0, 1).
        importance: What says which: surgeon (least change of a layer's output), gradient (of the
            bound), energy (of the output), removal (the bound without each unit: exact, and dear).
        refit: Whether the layers that read pruned units are fitted to those that stay.
        recover: A short training run after pruning.
        quantise: Bits of the weights, 4 or 8; 0 leaves them as they are.
        weighting: Which positions count in rounding: time for all alike, gradient for those where
            the bound looks.
        levels: Rows of calibration text and their noise.
        length: Tokens of a row; ``None`` for the model's longest.
        score_rows: Held-out rows that every stage is scored on.
        passes: Noise draws per row.
        rounds: Evaluations that are timed of each stage, in turns.
    """

    drop_layers: int = 0
    prune_heads: float = 0.0
    prune_mlp: float = 0.0
    importance: Importance = "surgeon"
    refit: bool = True
    recover: Recover = field(default_factory=Recover)
    quantise: Literal[0, 4, 8] = 0
    weighting: Weighting = "time"
    levels: Levels = field(default_factory=Levels)
    length: int | None = None
    score_rows: int = 256
    passes: int = 2
    rounds: int = 9

    def __post_init__(self) -> None:
        for name in ("score_rows", "passes", "rounds", "length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise CompressError(f"{name} must be at least 1, got {value}.")
        for name in ("prune_heads", "prune_mlp"):
            if not 0 <= getattr(self, name) < 1:
                raise CompressError(f"{name} must be in [0, 1), got {getattr(self, name)}.")
        if self.drop_layers < 0:
            raise CompressError(f"drop_layers must be at least 0, got {self.drop_layers}.")
        if self.quantise not in (0, 4, 8):
            raise CompressError(f"quantise must be 4 or 8 bits, got {self.quantise}.")
        if self.recover.steps and not self.prunes:
            raise CompressError(
                "recover.steps goes with pruning: rounded weights cannot be trained here."
            )

    @property
    def prunes(self) -> bool:
        """Whether anything is taken out."""
        return bool(self.drop_layers or self.prune_heads or self.prune_mlp)
