"""How does a network that only looked back learn to look ahead? A little more at every step.

Attention annealing of DiffuLLaMA (Gong et al., 2024, arXiv:2410.17891).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import Parameter

from unison.models import TransformerConfig, View
from unison.models.network import Call, by_call
from unison.objectives import Batch, Loss
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Nats, Network, SoftTokens

_SITE = 96  # beyond the sites of objectives, distillations and self-conditioning


@dataclass(frozen=True)
class Annealed:
    """A loss under which the network sees to its right only a random part of what it may.

    At step s every pair (position, later position) is open with probability
    r = min(1, (s + 1) / steps), by one coin per pair that all heads and rows of the step share;
    what stands before is always seen. For training alone: it bounds nothing that the finished
    model, which sees everything, is scored with.

    Differs: where the network's own rule or the loss closes a pair, as between blocks, it stays
    closed.

    Attributes:
        loss: What is minimised.
        steps: Steps until everything is seen.
        seed: Names the coins, with the step.
    """

    loss: Loss
    steps: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"anneal_steps must be at least 1 to anneal, got {self.steps}.")

    def __call__(self, process: Any, network: Network, batch: Batch, key: Key) -> Nats:
        """Return the summed loss under this step's attention."""
        return self.loss(process, self._annealed(network, key), batch, key)

    def losses(
        self, process: Any, network: Network, batch: Batch, key: Key
    ) -> Float[Tensor, "B L"]:
        """Return the loss of every position under this step's attention."""
        return self.loss.losses(process, self._annealed(network, key), batch, key)

    def _annealed(self, network: Network, key: Key) -> Network:
        share = min(1.0, (key.step + 1) / self.steps)
        return network if share == 1 else Narrowed(network, share, self.seed, key.step)


@dataclass(frozen=True)
class Narrowed:
    """A network that sees what stands before each position, and of the rest a share.

    Attributes:
        network: One that takes a ``View``.
        share: Chance that a later position is seen, in [0, 1].
        seed: Names the coins, with the step.
        step: See ``seed``.
    """

    network: Any
    share: float
    seed: int
    step: int

    @property
    def config(self) -> TransformerConfig:
        """The network's."""
        return self.network.config

    def parameters(self) -> Iterator[Parameter]:
        """Return the network's weights."""
        return self.network.parameters()

    def state_dict(self) -> dict[str, Any]:
        """Return the network's weights by name."""
        return self.network.state_dict()

    @by_call
    def __call__(self, call: Call) -> Float[Tensor, "B F V"]:
        """Return the network's logits under the narrowed attention."""
        view = call.view or View()
        rows = call.inputs.weights if isinstance(call.inputs, SoftTokens) else call.inputs
        place = torch.arange(rows.shape[1], device=rows.device)[None]
        if view.positions is not None:
            place = view.positions
        rule = _rule(self.config, place) if view.mask is None else view.mask
        seen = opened(place, self.share, self.seed, self.step) & rule
        return self.network(*call._replace(view=view._replace(mask=seen)))


def opened(place: Tensor, share: float, seed: int, step: int) -> Bool[Tensor, "B N N"]:
    """Return True where an input (row) may see another (column): all before it, some after.

    Args:
        place: Place of every input, [B, N]; two inputs at one place toss the same coins.
        share: Chance of each later place.
        seed: Names the coins, with the step.
        step: See ``seed``.
    """
    length = int(place.shape[1])
    coins = rng.uniform(Key(rng.rows(seed, 0, length).to(place.device), step), _SITE, length)
    pairs = (coins < share)[place[:, :, None], place[:, None, :]]
    return pairs | (place[:, :, None] >= place[:, None, :])


def _rule(config: TransformerConfig, place: Tensor) -> Bool[Tensor, "B N N"]:
    """Return what the configured attention lets see."""
    if config.attention == "bidirectional":
        return torch.ones_like(place[:, :, None] == place[:, None, :])
    rank = place // (config.block_length or 1)
    return rank[:, :, None] >= rank[:, None, :]
