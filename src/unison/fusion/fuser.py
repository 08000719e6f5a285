"""How does a model's memory take in another's? Layer by layer, keys and values apart.

Cache-to-Cache (Fu et al., 2025, arXiv:2510.03215).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unison.models import KeyValues, TransformerConfig
from unison.models.mlp import SwiGluMlp

Gates = Float[Tensor, "R 2"]  # of keys and values of each of the receiver's layers
Cache = Float[Tensor, "B H N E"]


@dataclass(frozen=True)
class Fusing:
    """The shape of what fuses two memories.

    Attributes:
        width: Of the stream between the two.
        inner: Width inside each SwiGLU.
        branch: SwiGLU layers of each branch, after the one both share.
        dropout: On what each of them adds, while training.

    Raises:
        ValueError: A setting is out of range.
    """

    width: int = 1024
    inner: int = 1024
    branch: int = 1
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("inner", 1), ("branch", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}.")


@dataclass(frozen=True)
class Annealing:
    """How gates harden while they are learnt: sigmoid((logit + noise) / temperature).

    Attributes:
        first: Temperature at first.
        last: Temperature in the end.
        steps: Steps from one to the other, exponentially.

    Raises:
        ValueError: A setting is out of range.
    """

    first: float = 1.0
    last: float = 0.001
    steps: int = 1929

    def __post_init__(self) -> None:
        if not 0 < self.last <= self.first:
            raise ValueError(
                f"last must be above 0 and at most first={self.first}, got {self.last}."
            )
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}.")

    def temperature(self, step: int) -> float:
        """Return the temperature of a step, from 0."""
        return self.first * (self.last / self.first) ** min(step / self.steps, 1.0)


def paired(layer: int, receiver: int, sharer: int) -> int:
    """Return the sharer's layer that a receiver's layer listens to: the last ones go together.

    Args:
        layer: Of the receiver.
        receiver: Its layers.
        sharer: The sharer's layers.
    """
    return min(max(layer + sharer - receiver, 0), sharer - 1)


class Layer(nn.Module):
    """A normalised SwiGLU beside the stream."""

    def __init__(self, fusing: Fusing) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(fusing.width)
        self.mlp = SwiGluMlp(fusing.width, fusing.inner)
        self.dropout = nn.Dropout(fusing.dropout)

    def forward(self, x: Float[Tensor, "B N W"]) -> Float[Tensor, "B N W"]:
        """Return the stream and what is added to it."""
        return x + self.dropout(self.mlp(self.norm(x)))


class Projector(nn.Module):
    """What the sharer's keys, or values, of one layer add to the receiver's.

    Differs: what it adds starts at zero, as the last layer does.
    """

    def __init__(self, fusing: Fusing, receiver: TransformerConfig, source: int) -> None:
        super().__init__()
        self.heads = receiver.num_kv_heads
        own = self.heads * receiver.head_dim
        self.into = nn.Linear(source + own, fusing.width)
        self.shared = Layer(fusing)
        self.branch = nn.Sequential(*(Layer(fusing) for _ in range(fusing.branch)))
        self.scalar = nn.Sequential(*(Layer(fusing) for _ in range(fusing.branch)))
        self.out = nn.Linear(fusing.width, own)
        self.weigh = nn.Linear(fusing.width, self.heads)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, source: Float[Tensor, "B H N E"], own: Float[Tensor, "B R N F"]
    ) -> Float[Tensor, "B R N F"]:
        """Return what is added to the receiver's own, before the gate."""
        flat = [part.transpose(1, 2).flatten(2) for part in (source, own)]
        x = self.shared(self.into(torch.cat(flat, -1).to(self.into.weight.dtype)))
        weight = self.weigh(self.scalar(x)).sigmoid()
        projected = self.out(self.branch(x)).unflatten(-1, (self.heads, -1))
        return (weight[..., None] * projected).transpose(1, 2)


class Fuser(nn.Module):
    """Rewrites a receiver's memory with a sharer's.

    Attributes:
        gates: Logits; a layer's keys, or values, are rewritten where theirs is above 0.

    Args:
        fusing: Settings.
        receiver: Shape of the network that listens.
        sharer: Shape of the network that tells.
    """

    def __init__(
        self, fusing: Fusing, receiver: TransformerConfig, sharer: TransformerConfig
    ) -> None:
        super().__init__()
        self.fusing = fusing
        self.depth = sharer.depth
        source = sharer.num_kv_heads * sharer.head_dim
        sizes = range(receiver.depth)
        self.keys = nn.ModuleList(Projector(fusing, receiver, source) for _ in sizes)
        self.values = nn.ModuleList(Projector(fusing, receiver, source) for _ in sizes)
        self.gates = nn.Parameter(torch.zeros(receiver.depth, 2))

    def fused(
        self, own: KeyValues, told: KeyValues, where: Bool[Tensor, "B N"], chances: Gates | None
    ) -> KeyValues:
        """Return the receiver's memory of N slots, rewritten.

        Args:
            own: The receiver's.
            told: The sharer's, of the same slots.
            where: Slots that are rewritten.
            chances: How far each gate is open, while they are learnt; ``None`` for all the way
                or, where its logit is at most 0, not at all.
        """
        opened = (self.gates > 0).tolist() if chances is None else [[True, True]] * len(self.gates)
        parts: list[list[Tensor]] = [[], []]
        for layer, kinds in enumerate(opened):
            at = paired(layer, len(opened), self.depth)
            for kind, open_ in enumerate(kinds):
                mine = own[kind][layer]
                if open_:
                    projector = (self.keys, self.values)[kind][layer]
                    more = projector(told[kind][at], mine)
                    more = more if chances is None else chances[layer, kind] * more
                    fresh = (mine + more).to(mine.dtype)
                    mine = torch.where(where[:, None, :, None], fresh, mine)
                parts[kind].append(mine)
        return KeyValues(tuple(parts[0]), tuple(parts[1]))

    def chances(self, u: Float[Tensor, "R 2"], temperature: float) -> Gates:
        """Return how far gates are open at a temperature, with logistic noise from uniforms."""
        noise = u.log() - (-u).log1p()
        return ((self.gates + noise.to(self.gates)) / temperature).sigmoid()
