"""Which experts does a token visit, and what do they answer?"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unison.models.config import MixtureConfig
from unison.models.mlp import SwiGluMlp

Features = Float[Tensor, "*P D"]


class Mixture(nn.Module):
    """Gated experts of which each token visits a few (Shazeer et al., 2017, arXiv:1701.06538).

    Nothing limits how many tokens an expert takes, so a token's answer depends on no other token.
    Experts are stacked: ``gate_up`` [E, 2I, D], gate before up, and ``down`` [E, D, I].
    """

    def __init__(self, hidden: int, config: MixtureConfig) -> None:
        super().__init__()
        self.config = config
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
        chosen = self._in_groups(wanted).topk(config.chosen, dim=-1).indices
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


def _gated(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up
