"""What would the first blocks of the target say by themselves?"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import ClassVar

from unison.drafters.stepwise import Stepwise
from unison.drafters.vocabulary import Vocabulary
from unison.engine.reading import NetworkTarget
from unison.speculation.parts import Target


@dataclass(frozen=True)
class EarlyExit:
    """Draft with some of the target's own blocks, its last norm and its output layer.

    LayerSkip (Elhoushi et al., 2024, arXiv:2404.16710) stops early; Draft & Verify (Zhang et al.,
    2023, arXiv:2309.08168) leaves out chosen blocks. Without weights trained for it few drafts
    pass.

    Differs: the drafting pass has a memory of its own, and the target reads accepted drafts
    through its first blocks again.

    Attributes:
        depth: First blocks that are run; ``None`` for half of them.
        skipped: Blocks among those that are left out.
        temperature: Of the drafting law.
    """

    copies: ClassVar[bool] = False
    depth: int | None = None
    skipped: tuple[int, ...] = ()
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.depth is not None and self.depth < 0:
            raise ValueError(f"depth must be at least 0, got {self.depth}.")
        if self.temperature < 0:
            raise ValueError(f"temperature must be at least 0, got {self.temperature}.")

    @property
    def taps(self) -> tuple[int, ...]:
        """No streams."""
        return ()

    def open(self, target: Target, rows: int) -> Stepwise:
        """Return the drafting of empty texts.

        Raises:
            ValueError: The target has no blocks to leave out, or not these.
        """
        if not isinstance(target, NetworkTarget):
            raise ValueError(
                f"a {type(target).__name__} has no blocks to leave out; draft with a smaller model "
                "or by lookup."
            )
        part = replace(target, blocks=self._blocks(target), insert=None, probes=None)
        words = Vocabulary.same(target.vocab_size)
        return Stepwise.of(part, target, words, self.temperature, rows)

    def _blocks(self, target: NetworkTarget) -> Collection[int]:
        whole = target.network.config.depth
        depth = max(whole // 2, 1) if self.depth is None else self.depth
        strange = [block for block in self.skipped if not 0 <= block < depth]
        if depth > whole or strange:
            raise ValueError(
                f"the target has {whole} blocks; depth={depth} must be at most that, and skipped="
                f"{self.skipped} among the first {depth}."
            )
        return frozenset(range(depth)) - set(self.skipped)
