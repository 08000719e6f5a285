"""Which parts of speculation need a model beside the target? How are they made?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from unison.drafters.block_diffusion import BlockDiffusion
from unison.drafters.smaller import Smaller
from unison.engine.contrast import WeaklyRouted
from unison.engine.reading import target_of
from unison.generation.settings import strategy_named
from unison.language_model import LanguageModel
from unison.speculation.policies.contrastive import Contrastive


@runtime_checkable
class Companion(Protocol):
    """Settings of a part that is made for a target."""

    def of(self, target: LanguageModel) -> Any:
        """Return the part."""
        ...


@dataclass(frozen=True)
class SmallerModel:
    """Another left-to-right model drafts.

    Attributes:
        model: Its path.
        temperature: Of its law; 0 is sure of its likeliest token.
    """

    model: LanguageModel
    temperature: float = 1.0

    def of(self, target: LanguageModel) -> Smaller:
        """Return the drafter."""
        return Smaller.of(self.model, target, self.temperature)


@dataclass(frozen=True)
class DiffusionModel:
    """A diffusion model drafts a block at a time.

    Attributes:
        model: Its path.
        block: Places to fill.
        strategy: How they are filled, by name; ``None`` for the laws of one evaluation.
        temperature: Of those laws.
    """

    model: LanguageModel
    block: int = 8
    strategy: str | None = None
    temperature: float = 1.0

    def of(self, target: LanguageModel) -> BlockDiffusion:
        """Return the drafter."""
        way = None if self.strategy is None else strategy_named(self.strategy)
        return BlockDiffusion.of(self.model, target, self.block, way, self.temperature)


@dataclass(frozen=True)
class WeakExperts:
    """A mixture of experts is contrasted with itself, routed to weaker ones (SCMoE).

    Attributes:
        first: Rank of the first expert visited, 0 for the best.
        count: Experts visited.
        beta: Weight of the contrast.
        plausible: Share of the largest probability below which a token is left out.
    """

    first: int = 2
    count: int = 1
    beta: float = 0.5
    plausible: float = 0.1

    def of(self, target: LanguageModel) -> Contrastive:
        """Return the policy."""
        weak = WeaklyRouted(target_of(target), self.first, self.count)
        return Contrastive(weak, 1 + self.beta, self.beta, self.plausible)


DRAFTERS: Mapping[str, type[SmallerModel] | type[DiffusionModel]] = {
    "smaller": SmallerModel,
    "block_diffusion": DiffusionModel,
}
POLICIES: Mapping[str, type[WeakExperts]] = {"scmoe": WeakExperts}
