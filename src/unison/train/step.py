"""What happens in one optimiser step? The only place where weights move."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unison.models import Transformer
from unison.objectives import Batch, Loss
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Process
from unison.train import optim
from unison.train.config import Optimizer, Train
from unison.train.self_conditioning import self_conditioned
from unison.types import Mask, Tokens


class Outcome(NamedTuple):
    """What a step did.

    Attributes:
        loss: Mean loss, nats per token or squares per number.
        grad_norm: Norm of the gradient of the mean loss, before clipping.
        skipped: True when the gradient was not finite and the weights were left alone.
    """

    loss: float
    grad_norm: float
    skipped: bool


class Learner(NamedTuple):
    """What a step works on.

    Attributes:
        network: Its weights and gradients are changed.
        process: The corruption.
        objective: The loss.
        optimizers: Their state is changed.
    """

    network: Transformer
    process: Process
    objective: Loss
    optimizers: list[torch.optim.Optimizer]


def batch_key(seed: int, step: int, rows: int) -> Key:
    """Return the streams of the rows of the global batch at one step."""
    return Key(rng.rows(seed, 0, rows), step)


def take(
    learner: Learner,
    config: Train,
    tokens: Tokens,
    step: int,
    valid: Mask | None = None,
    given: Mask | None = None,
) -> Outcome:
    """Accumulate the gradient over micro-batches and move the weights once.

    The loss is a sum over all tokens divided once by their number, so the cut into micro-batches
    does not change it. Dropout is seeded from (seed, step): a resumed run repeats it.

    Args:
        learner: Network, process, objective and optimisers.
        config: The run.
        tokens: The global batch.
        step: Number of this step, from 0.
        valid: False at padding; ``None`` if there is none.
        given: True where the text is a condition; ``None`` if nothing is.
    """
    device = tokens.device
    rows = tokens.shape[0]
    key = batch_key(config.seed, step, rows)
    strata = rng.stratified(config.seed, step, rows).to(device)
    total, count = torch.zeros((), device=device), torch.zeros((), device=device)
    torch.manual_seed((config.seed * 1_000_003 + step) % (1 << 63))
    for part in torch.arange(rows).split(config.micro_batch or rows):
        micro = slice(int(part[0]), int(part[-1]) + 1)
        batch = Batch(tokens[micro], strata[micro], _part(valid, micro), _part(given, micro))
        streams = Key(key.seed[micro].to(device), step)
        network = learner.network
        if config.model.self_conditioning and not config.model.scalar:  # told by the objective
            network = self_conditioned(network, streams)
        with torch.autocast(device.type, torch.bfloat16, enabled=uses_bfloat16(config, device)):
            nats = learner.objective(learner.process, network, batch, streams)
        nats.total.backward()
        total, count = total + nats.total.detach(), count + nats.count
    share = optim.rate(config.optimizer, step, config.steps)
    sums = (total / count, count)
    return move(learner.network, learner.optimizers, config.optimizer, share, sums)


def _part(mask: Tensor | None, micro: slice) -> Tensor | None:
    return None if mask is None else mask[micro]


def uses_bfloat16(config: Train, device: torch.device) -> bool:
    """Return whether the network runs under bfloat16 autocast."""
    if config.precision == "auto":
        return device.type == "cuda"
    return config.precision == "bfloat16"


def move(
    network: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    settings: Optimizer,
    share: float,
    sums: tuple[Tensor, Tensor],
) -> Outcome:
    """Move the weights by the gradients they hold, and clear those.

    Args:
        network: Whose weights hold the gradients of a summed loss.
        optimizers: Their state is changed.
        settings: Where the gradient is clipped.
        share: Of the peak learning rate.
        sums: The mean loss, and the number its sum is over.
    """
    loss, count = sums
    grads = [w.grad for w in network.parameters() if w.grad is not None]
    norm = torch.nn.utils.get_total_norm(grads) / count
    measured, size = torch.stack([loss, norm]).tolist()
    finite = math.isfinite(measured) and math.isfinite(size)
    if finite:
        scale = (settings.clip / norm).clamp(max=1) / count
        torch._foreach_mul_(grads, scale)  # pyright: ignore[reportPrivateImportUsage]
        optim.set_rate(optimizers, share)
        for optimizer in optimizers:
            optimizer.step()
    for optimizer in optimizers:
        optimizer.zero_grad()
    return Outcome(measured, size, not finite)
