"""Which experts does a token visit, and what do they answer?"""

import copy
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unison.models.config import MixtureConfig
from unison.models.mlp import SwiGluMlp

Features = Float[Tensor, "*P D"]


class Routing(NamedTuple):
    """Which of the experts a router names are visited.

    Attributes:
        first: Rank of the first of them, 0 for the best.
        count: How many, in the order of rank.
    """

    first: int
    count: int


class Mixture(nn.Module):
    """Gated experts of which each token visits a few (Shazeer et al., 2017, arXiv:1701.06538).

    Nothing limits how many tokens an expert takes, so a token's answer depends on no other token.
    Experts are stacked: ``gate_up`` [E, 2I, D], gate before up, and ``down`` [E, D, I].

    Attributes:
        routing: The experts visited: the best ``config.chosen``, unless ``rerouted``.
    """

    def __init__(self, hidden: int, config: MixtureConfig) -> None:
        super().__init__()
        self.config = config
        self.routing = Routing(0, config.chosen)
        self.router = nn.Linear(hidden, config.experts, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.experts)) if config.bias else None
        self.gate_up = nn.Parameter(torch.empty(config.experts, 2 * config.hidden, hidden))
        self.down = nn.Parameter(torch.empty(config.experts, hidden, config.hidden))
        nn.init.uniform_(self.gate_up, -(hidden**-0.5), hidden**-0.5)
        nn.init.uniform_(self.down, -(config.hidden**-0.5), config.hidden**-0.5)
        self.shared = SwiGluMlp(hidden, config.shared) if config.shared else None

    def forward(self, x: Features) -> Features:
        """Return the weighted answers of each token's experts, and of the shared one."""
        flat = x.reshape(-1, x.shape[-1])
        weights, chosen = self.route(flat)
        answer = self._experts(flat, weights, chosen).view(x.shape)
        return answer if self.shared is None else answer + self.shared(x)

    def route(self, x: Float[Tensor, "N D"]) -> tuple[Float[Tensor, "N K"], Int[Tensor, "N K"]]:
        """Return each token's experts and their weights, decided in float32.

        The choice within the best groups and the bias on the choice alone are those of DeepSeek-V3
        (Liu et al., 2024, arXiv:2412.19437).
        """
        config = self.config
        with torch.autocast(x.device.type, enabled=False):
            logits = F.linear(x.float(), self.router.weight.float())
        scores = logits.softmax(-1) if config.score == "softmax" else logits.sigmoid()
        wanted = scores if self.bias is None else scores + self.bias.float()
        first, count = self.routing
        chosen = self._in_groups(wanted).topk(first + count, dim=-1).indices[..., first:]
        weights = scores.gather(-1, chosen)
        if config.normalised:
            weights = weights / weights.sum(-1, keepdim=True)
        return weights * config.scale, chosen

    def _in_groups(self, wanted: Float[Tensor, "N E"]) -> Float[Tensor, "N E"]:
        """Return the scores with those outside the best groups at minus infinity."""
        config = self.config
        if config.groups == config.chosen_groups:
            return wanted
        grouped = wanted.unflatten(-1, (config.groups, -1))
        best = grouped.topk(min(2, grouped.shape[-1]), dim=-1).values.sum(-1)
        taken = best.topk(config.chosen_groups, dim=-1).indices
        out = torch.ones_like(best, dtype=torch.bool).scatter(-1, taken, False)
        return grouped.masked_fill(out[..., None], -torch.inf).flatten(-2)

    def _experts(
        self, x: Float[Tensor, "N D"], weights: Float[Tensor, "N K"], chosen: Int[Tensor, "N K"]
    ) -> Float[Tensor, "N D"]:
        """Return the weighted sum over each token's experts, one group of tokens an expert."""
        order = chosen.flatten().argsort(stable=True)
        token = order // chosen.shape[-1]
        sizes = chosen.flatten().bincount(minlength=self.config.experts).tolist()
        answers = [
            F.linear(_gated(F.linear(part, self.gate_up[expert])), self.down[expert])
            for expert, part in enumerate(x[token].split(sizes))
            if len(part)
        ]
        answer = torch.cat(answers) * weights.flatten()[order, None]
        placed = torch.empty_like(answer).index_copy(0, order, answer)
        return placed.unflatten(0, chosen.shape).sum(1).to(x.dtype)


Net = TypeVar("Net", bound=nn.Module)


def rerouted(network: Net, routing: Routing) -> Net:
    """Return a network of the same weights, shared, whose tokens visit other experts.

    Raises:
        ValueError: It has no experts, or not so many that a token may visit.
    """
    if routing.first < 0 or routing.count < 1:
        raise ValueError(
            f"a routing begins at rank 0 or later and visits an expert at least, got {routing}."
        )
    shared = {id(part): part for part in (*network.parameters(), *network.buffers())}
    other = copy.deepcopy(network, shared)  # what is in the memo is not copied
    mixtures = [part for part in other.modules() if isinstance(part, Mixture)]
    if not mixtures:
        raise ValueError("the network has no experts, so its tokens cannot be routed otherwise.")
    for mixture in mixtures:
        config = mixture.config
        most = config.chosen_groups * (config.experts // config.groups)
        if routing.first + routing.count > most:
            raise ValueError(
                f"a token may visit {most} experts of the network, and {routing} names those of "
                f"ranks up to {routing.first + routing.count - 1}; the best has rank 0."
            )
        mixture.routing = routing
    return other


def _gated(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up
