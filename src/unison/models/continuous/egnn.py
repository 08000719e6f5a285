"""Which network suits molecules? One that turns as its input turns, wherever it stands.

Satorras, Hoogeboom and Welling, 2021 (arXiv:2102.09844), as the denoiser of a zero-centre-of-mass
diffusion (Hoogeboom et al., 2022, arXiv:2203.17003): atoms exchange messages that depend on their
distances alone, and move along the lines between them. Every atom has a vector of its own, so one
network knows one molecule.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unison.models.continuous.parts import Condition, Labels, check_counts, zeroed
from unison.types import Level

Atoms = Float[Tensor, "B 3 A"]
Features = Float[Tensor, "B A W"]


@dataclass(frozen=True)
class EGNNConfig:
    """The shape of an equivariant network.

    Attributes:
        atoms: Of the molecule.
        width: Of each atom's features.
        layers: Rounds of messages.
    """

    atoms: int
    width: int = 48
    layers: int = 3

    def __post_init__(self) -> None:
        check_counts("egnn", {"atoms": self.atoms, "width": self.width, "layers": self.layers})


class EGNN(nn.Module):
    """Positions in, displacements out, of centre of mass 0; those of a fresh network are 0."""

    def __init__(self, config: EGNNConfig) -> None:
        super().__init__()
        self.config = config
        self.condition = Condition(config.width, 0)
        self.names = nn.Embedding(config.atoms, config.width)
        self.rounds = nn.ModuleList(Messages(config.width) for _ in range(config.layers))

    def forward(
        self,
        x: Atoms,
        noise: Level,
        label: Labels | None = None,
        beside: Float[Tensor, "B ..."] | None = None,
    ) -> Atoms:
        """Return displacements (``types.EventNetwork``).

        Raises:
            ValueError: The positions are of another molecule, or something is said of them that
                the network does not take.
        """
        if tuple(x.shape[1:]) != (3, self.config.atoms):
            raise ValueError(
                f"positions must be [batch, 3, {self.config.atoms}], got {tuple(x.shape)}."
            )
        if beside is not None:
            raise ValueError("this network takes nothing beside the positions; leave it out.")
        h = self.names.weight + self.condition(noise, label)[:, None]
        moved = x
        for messages in self.rounds:
            moved, h = messages(moved, h)
        off = moved - x
        return off - off.mean(-1, keepdim=True)


class Messages(nn.Module):
    """One round: messages along all pairs move atoms and change their features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.own, self.other = nn.Linear(width, width), nn.Linear(width, width)
        self.distance = nn.Linear(2, width, bias=False)
        self.second = nn.Linear(width, width)
        self.along = zeroed(nn.Linear(width, 1))
        self.change = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, x: Atoms, h: Features) -> tuple[Atoms, Features]:
        """Return positions and features after the round."""
        apart = x[..., :, None] - x[..., None, :]  # B 3 A A
        square = apart.square().sum(1)
        length = (square + 1e-8).sqrt()  # the root has no slope at 0, where an atom meets itself
        seen = torch.stack([length, (-square).exp()], -1)
        message = self.own(h)[:, :, None] + self.other(h)[:, None] + self.distance(seen)
        message = F.silu(self.second(F.silu(message)))
        # Over 1 + length, so that far atoms do not move each other without bound.
        pull = self.along(message)[..., 0] / (1 + length)
        moved = x + (apart * pull[:, None]).mean(-1)
        heard = message.mean(2)
        return moved, h + self.change(torch.cat([h, heard], -1))
