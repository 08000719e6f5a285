"""How is a model trained to live with 4 bits? With a helping branch that is slowly taken away.

QVGen (2025, arXiv:2505.11497). Beside the rounded weights Q(W) each layer gets a branch L R in full
precision that starts as the best approximation of rank r of what rounding loses, W - Q(W). Over a
cycle the lower half of its singular directions fades by a cosine from 1 to 0; then the branch is
decomposed anew at half the rank, down to none. Scales of weights are learned (LSQ,
arXiv:1902.08153); each token's inputs are rounded on a grid of their own. Differs: the branch sees
the rounded input too, so that both products are one, with weights Q(W) + L R. On networks of a few
thousand weights it is no sure gain over training without a branch (``rank=0``): compare both.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unison.engine.continuous.geometry import Dense, geometry_of, layers_of
from unison.engine.continuous.layer import RoundedLayer, Weights
from unison.engine.continuous.rounding import (
    check_bits,
    learned_steps,
    of_tokens,
    weight_levels,
    weight_scale,
)

Loss = Callable[[nn.Module, int], Float[Tensor, ""]]


@dataclass(frozen=True)
class RankDecay:
    """A quantisation-aware training run.

    Attributes:
        bits: Of a weight.
        seen_bits: Of an input.
        rank: Of each branch at first; 0 is plain quantisation-aware training.
        settle: Steps before the first cycle.
        cycle: Steps in which a branch loses half of its rank.
        after: Steps once no branch is left.
        learning_rate: Of weights and branches (Adam), falling to 0 by a cosine over the run.
        scale_rate: Of the scales, as a share of it.
        leave: Parts of the network that stay in full precision.
    """

    bits: int = 4
    seen_bits: int = 4
    rank: int = 32
    settle: int = 0
    cycle: int = 200
    after: int = 200
    learning_rate: float = 1e-4
    scale_rate: float = 0.1
    leave: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_bits(self.bits)
        check_bits(self.seen_bits)
        if min(self.rank, self.settle, self.after) < 0 or self.cycle < 1:
            raise ValueError(
                "rank, settle and after must be at least 0 and cycle at least 1, got "
                f"{self.rank}, {self.settle}, {self.after} and {self.cycle}."
            )
        if not self.learning_rate > 0 or not self.scale_rate > 0:
            raise ValueError(
                "learning_rate and scale_rate must be above 0, got "
                f"{self.learning_rate} and {self.scale_rate}."
            )

    @property
    def cycles(self) -> int:
        """Halvings until no rank is left: 4 is 2, 1 and 0."""
        return self.rank.bit_length()

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.settle + self.cycles * self.cycle + self.after

    def standing(self, step: int) -> tuple[int, float]:
        """Return which cycle a step is in, and what is left of its lower half.

        Before the first cycle and in its first step all is left, after the last cycle there is no
        branch: ``cycles`` and 1.
        """
        done = max(step - self.settle, 0)
        if done >= self.cycles * self.cycle:
            return self.cycles, 1.0
        cycle, within = divmod(done, self.cycle)
        return cycle, 0.5 * (1 + math.cos(math.pi * within / self.cycle))


class HelpedLayer(nn.Module):
    """A layer whose weights are rounded while they are trained, with a branch beside them."""

    share: Float[Tensor, " r"]

    def __init__(self, layer: Dense, config: RankDecay) -> None:
        super().__init__()
        self.geometry, self.bits, self.seen_bits = (
            geometry_of(layer),
            config.bits,
            config.seen_bits,
        )
        self.source = copy.deepcopy(layer)
        self.scale = nn.Parameter(weight_scale(layer.weight, config.bits))
        with torch.no_grad():
            lost = (layer.weight - self.rounded()).flatten(1)
        rank = min(config.rank, *lost.shape)
        self._decompose(lost, rank)

    @property
    def weight(self) -> Tensor:
        """Rounded weights and branch together."""
        rounded = self.rounded()
        if self.rank == 0:
            return rounded
        return rounded + ((self.left * self.share) @ self.right).view_as(rounded)

    @property
    def rank(self) -> int:
        """Of the branch."""
        return self.left.shape[1]

    def rounded(self) -> Tensor:
        """Return the weights on their grid, with gradients to weights and scales."""
        return learned_steps(self.source.weight, self.scale, self.bits)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product and the bias."""
        seen = of_tokens(x, self.geometry.dense, self.seen_bits).through(x)
        return self.geometry.product(seen, self.weight, self.source.bias)

    def fade(self, left: float) -> None:
        """Leave a share of the lower half of the singular directions."""
        self.share[self.rank // 2 :] = left

    def halve(self) -> None:
        """Drop the lower half, and order what is left of the branch by its singular values."""
        kept = self.rank // 2
        self._decompose((self.left[:, :kept] @ self.right[:kept]).detach(), kept)

    def _decompose(self, branch: Float[Tensor, "N K"], rank: int) -> None:
        """Take over the leading singular directions of a matrix."""
        u, values, v = torch.linalg.svd(branch.double(), full_matrices=False)
        root = values[:rank].sqrt()
        self.left = nn.Parameter((u[:, :rank] * root).to(branch.dtype))
        self.right = nn.Parameter((root[:, None] * v[:rank]).to(branch.dtype))
        self.register_buffer("share", torch.ones(rank, dtype=branch.dtype), persistent=False)


class Passed(NamedTuple):
    """What one step showed.

    Attributes:
        step: Counted from 0.
        rank: Of the widest branch.
        left: Of the lower half of the branches.
        loss: Before the step's update.
    """

    step: int
    rank: int
    left: float
    loss: float


def helped(network: nn.Module, config: RankDecay) -> nn.Module:
    """Return a copy of a network to be trained with rounded weights and branches.

    Raises:
        ValueError: A layer is of a kind that cannot be rounded.
    """
    made = copy.deepcopy(network).requires_grad_(True)
    for name, layer in list(layers_of(made, config.leave)):
        made.set_submodule(name, HelpedLayer(layer, config))
    return made


def train(
    network: nn.Module,
    config: RankDecay,
    loss: Loss,
    observe: Callable[[Passed], None] = lambda passed: None,
) -> None:
    """Train a helped network in place until no branch is left.

    Args:
        network: From ``helped``, with the same configuration.
        config: The run.
        loss: Of a network at a step; the same step, the same examples (``matching``).
        observe: Called after every step; cannot change the run.

    Raises:
        ValueError: The loss is not finite.
    """
    layers = [part for part in network.modules() if isinstance(part, HelpedLayer)]
    optimizer, cycle = _optimizer(network, layers, config), 0
    for step in range(config.steps):
        now, left = config.standing(step)
        if now > cycle:
            cycle = now
            _halve(layers, optimizer)
        for layer in layers:
            layer.fade(left)
        for group in optimizer.param_groups:
            group["lr"] = group["full"] * 0.5 * (1 + math.cos(math.pi * step / config.steps))
        value = loss(network, step)
        if not bool(value.isfinite()):
            raise ValueError(
                f"the loss of step {step} is {value.item()}; lower learning_rate, which is "
                f"{config.learning_rate}."
            )
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        observe(Passed(step, max((layer.rank for layer in layers), default=0), left, value.item()))
    for layer in layers:
        while layer.rank:
            layer.halve()


def _optimizer(
    network: nn.Module, layers: list[HelpedLayer], config: RankDecay
) -> torch.optim.Adam:
    """Return Adam over weights, scales and, last, branches."""
    scales = [layer.scale for layer in layers]
    branches = _branches(layers)
    apart = {id(parameter) for parameter in (*scales, *branches)}
    others = [p for p in network.parameters() if id(p) not in apart and p.requires_grad]
    rate = config.learning_rate
    groups = [(others, rate), (scales, rate * config.scale_rate), (branches, rate)]
    return torch.optim.Adam([{"params": some, "lr": full, "full": full} for some, full in groups])


def _halve(layers: list[HelpedLayer], optimizer: torch.optim.Adam) -> None:
    """Halve all branches; they are other numbers now, so what Adam knows of them is forgotten."""
    last = optimizer.param_groups[-1]
    for old in last["params"]:
        optimizer.state.pop(old, None)
    for layer in layers:
        layer.halve()
    last["params"] = _branches(layers)


def _branches(layers: list[HelpedLayer]) -> list[nn.Parameter]:
    return [part for layer in layers for part in (layer.left, layer.right)]


def matching(teacher: nn.Module, shown: Callable[[int], tuple[Tensor, ...]]) -> Loss:
    """Return the mean squared difference from a network's answers: distillation.

    Args:
        teacher: In full precision, in evaluation mode.
        shown: What both are shown at a step.
    """

    def loss(network: nn.Module, step: int) -> Tensor:
        given = shown(step)
        with torch.no_grad():
            wanted = teacher(*given)
        return (network(*given) - wanted).square().mean()

    return loss


def exported(network: nn.Module) -> nn.Module:
    """Return a copy whose helped layers are rounded ones: the same answers to the last bit.

    Raises:
        ValueError: A branch is left; rounding would drop it and change the model.
    """
    made = copy.deepcopy(network)
    for name, layer in list(made.named_modules()):
        if not isinstance(layer, HelpedLayer):
            continue
        if layer.rank:
            raise ValueError(
                f"{name} still has a branch of rank {layer.rank}; train to the end of the last "
                "cycle first."
            )
        scale = layer.scale.detach()
        levels = weight_levels(layer.source.weight, scale, layer.bits)
        weights = Weights(levels, scale, layer.bits)
        made.set_submodule(name, RoundedLayer(layer.source, weights, layer.seen_bits))
    return made.eval()
