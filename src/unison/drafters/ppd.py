"""Trained embeddings behind each node at which the target says what comes later."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unison.drafters import futures as comparing
from unison.drafters import probing
from unison.drafters.ahead import Ahead
from unison.drafters.futures import Futures
from unison.drafters.kind import Lesson
from unison.engine.reading import NetworkTarget
from unison.models import remember, stepping
from unison.models.transformer import Transformer
from unison.prob.rng import Key
from unison.speculation.parts import Drafting, Target


class Prompts(nn.Module):
    """The embeddings: about the mean of the target's, and as far from it as they are."""

    def __init__(self, network: Transformer, count: int) -> None:
        super().__init__()
        table = network.embed.weight.detach().float()
        self.embeddings = nn.Parameter(table.new_empty(count, table.shape[1]))
        nn.init.normal_(self.embeddings)
        with torch.no_grad():
            self.embeddings.mul_(table.std(0)).add_(table.mean(0))


@dataclass(frozen=True)
class Ppd:
    """Parallel prompt decoding (Chen et al., 2024, arXiv:2405.18628).

    The state of the j-th prompt token behind a node guesses the token j + 1 after it, so that the
    target verifies and drafts in one evaluation. Nothing but a few embeddings is trained, by the
    divergence from what the target says itself once it has read that far.

    Differs: the target's own answers are taken along the text as it is; give it texts that the
    target wrote. A text has several cuts at once.

    Attributes:
        tokens: Prompt tokens behind a node, m.
        members: Chains of them, which do not see each other and whose answers are averaged.
        decay: Weight of each depth in the loss, relative to the one before.
        places: Places of a text that a lesson cuts it at.
    """

    name: ClassVar[str] = "ppd"
    tokens: int = 3
    members: int = 1
    decay: float = 0.8
    places: int = 32

    def __post_init__(self) -> None:
        for name in ("tokens", "members", "places"):
            if getattr(self, name) < 1:
                raise ValueError(f"ppd.{name} must be at least 1, got {getattr(self, name)}.")
        comparing.check_decay(self.name, self.decay)

    def module(self, network: Transformer) -> nn.Module:
        """Return fresh embeddings."""
        return Prompts(network, self.tokens * self.members)

    def futures(
        self, module: nn.Module, network: Transformer, inputs: Int[Tensor, "B L"], key: Key
    ) -> Futures:
        """See ``Foreseeing``."""
        places = comparing.cuts(inputs, self.places, self.tokens, key)
        step, _ = probing.probe_step(places, inputs.shape[1], self.members, self.tokens)
        memory = remember(network.config, len(inputs), step.sees.shape[-1], _like(network))
        hidden = probing.remembered(network, inputs, memory).hidden
        with comparing.still(network):
            own = stepping.read(network, step, memory, probes=module.embeddings)  # pyright: ignore
            said = stepping.logits(network, own)
        shape = (places.shape[1], self.members, self.tokens)
        guesses = said.unflatten(1, shape).mean(2)
        return comparing.compared(network, hidden, guesses, inputs, places)

    def lesson(
        self, module: nn.Module, network: Transformer, inputs: Int[Tensor, "B L"], key: Key
    ) -> Lesson:
        """See ``Kind``."""
        return comparing.taught(self.futures(module, network, inputs, key), "law", self.decay)

    def drafter(self, module: nn.Module, network: Transformer) -> "PpdDrafter":
        """Return the drafter."""
        del network
        embeddings = module.embeddings.detach()  # pyright: ignore
        return PpdDrafter(embeddings, self.tokens, self.members)


@dataclass(frozen=True)
class PpdDrafter:
    """Guesses by trained prompt tokens inside the target, which ``fitted`` puts there.

    Attributes:
        embeddings: Of prompt token j of chain e at ``j * members + e``.
        tokens: Prompt tokens of a chain.
        members: Chains.
    """

    copies: ClassVar[bool] = False
    embeddings: Float[Tensor, "P D"]
    tokens: int
    members: int

    @property
    def taps(self) -> tuple[int, ...]:
        """None."""
        return ()

    def fitted(self, target: NetworkTarget) -> NetworkTarget:
        """Return the target with the prompt tokens in it.

        Raises:
            ValueError: It has another width.
        """
        width = target.network.config.hidden
        if self.embeddings.shape[1] != width:
            raise ValueError(
                f"these prompt tokens have {self.embeddings.shape[1]} entries and the target's "
                f"have {width}; use prompt tokens trained for this target."
            )
        return replace(target, probes=self.embeddings)

    def open(self, target: Target, rows: int) -> Drafting:
        """Return the drafting of empty texts.

        Raises:
            ValueError: The target was not prepared for it.
        """
        if not isinstance(target, NetworkTarget) or target.probes is not self.embeddings:
            raise ValueError(
                "this target has none of the drafter's prompt tokens in it; give prepared(target, "
                "drafter)."
            )
        device = self.embeddings.device
        ahead = Ahead.unknown(rows, self.tokens, target.vocab_size, device)
        return probing.opened(self.members, self.tokens, target.max_length, ahead)


def _like(network: Transformer) -> Tensor:
    return next(network.parameters())
