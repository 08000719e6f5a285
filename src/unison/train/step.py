"""What happens in one optimiser step? The only place where weights move."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unison.models import Transformer
from unison.objectives import Batch, Loss
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Process
from unison.scale.peers import Peers
from unison.scale.placing import Placed, alone
from unison.scale.spikes import Guard
from unison.train import optim
from unison.train.config import Optimizer, Train
from unison.train.self_conditioning import self_conditioned
from unison.types import Mask, Nats, Tokens


class Outcome(NamedTuple):
    """What a step did.

    Attributes:
        loss: Mean loss, nats per token or squares per number.
        grad_norm: Norm of the gradient of the mean loss, before clipping.
        skipped: True when the weights were left alone: the gradient was not finite, or it leapt.
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
        placed: Where the network lies; ``None`` for on this process alone.
        peers: What copies on slow links exchange; ``None`` where there are none.
    """

    network: Transformer
    process: Process
    objective: Loss
    optimizers: list[torch.optim.Optimizer]
    placed: Placed | None = None
    peers: Peers | None = None


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
    guard: Guard | None = None,
) -> Outcome:
    """Accumulate the gradient over micro-batches and ranks, and move the weights once.

    The loss is a sum over all tokens divided once by their number, and noise is named by (step, row
    of the global batch), so neither the cut into micro-batches nor the number of ranks changes it.
    Dropout is seeded from (seed, step, first row of the micro-batch): a resumed run repeats it.

    Args:
        learner: Network, process, objective and optimisers.
        config: The run.
        tokens: The global batch; of several ranks, this one's rows of it.
        step: Number of this step, from 0.
        valid: False at padding; ``None`` if there is none.
        given: True where the text is a condition; ``None`` if nothing is.
        guard: Says whether the weights may move; ``None`` if they always may.
    """
    placed = alone(learner.network) if learner.placed is None else learner.placed
    rows = tokens.shape[0] if placed.alone else config.batch_size
    mine = placed.spread.rows(rows)
    here = slice(mine.start, mine.stop)
    strata = rng.stratified(config.seed, step, rows)[here].to(tokens.device)
    seeds = batch_key(config.seed, step, rows).seed[here]
    batch = Batch(tokens, strata, valid, given)
    sums = placed.summed(*_accumulated(learner, config, batch, Key(seeds, step), placed))
    share = optim.rate(config.optimizer, step, config.steps)
    peers = learner.peers
    mean = (sums[0] / sums[1], sums[1])
    if peers is not None:
        mean = peers.gradients(placed.own, sums, step)
    admit = None if guard is None else guard.admit
    norm = None if placed.alone else placed.norm()
    done = move(placed.own, learner.optimizers, config.optimizer, share, mean, norm, admit)
    if peers is not None:
        peers.settle(step, last=step + 1 == config.steps)
    return done


def _accumulated(
    learner: Learner, config: Train, batch: Batch, key: Key, placed: Placed
) -> tuple[Tensor, Tensor]:
    """Add up the gradient of this rank's rows; return the sum of the loss and its count."""
    rows = len(batch.tokens) if placed.alone else config.batch_size
    if placed.spread.plan.pp > 1:
        return placed.made["pp"].accumulated(
            rows,
            config.micro_batch,
            lambda network, some: nats(
                learner._replace(network=network),
                config,
                _rows(batch, some),
                Key(key.seed[some], key.step),
            ),
            bfloat16=uses_bfloat16(config, batch.tokens.device),
        )
    first = placed.spread.rows(rows).start
    shares = placed.spread.shares(rows, config.micro_batch)
    sums = placed.accumulator(batch.tokens.device)
    for micro, counts in shares:
        torch.manual_seed(dropout_seed(config.seed, key.step, first + micro.start))
        streams = Key(key.seed[micro], key.step)
        with placed.part(_rows(batch, micro), streams) as (mine, own):
            loss = nats(learner, config, mine, own)
            (loss.total if counts else 0 * loss.total).backward()
        sums.add(loss if counts else Nats(0 * loss.total, 0 * loss.count))
    return sums.total()


def nats(learner: Learner, config: Train, batch: Batch, key: Key) -> Nats:
    """Return the loss of some rows, in the precision of the run."""
    device = batch.tokens.device
    network, streams = learner.network, key._replace(seed=key.seed.to(device))
    if config.model.self_conditioning and not config.model.scalar:  # told by the objective
        network = self_conditioned(network, streams._replace(first=0))  # a draw for a whole row
    with torch.autocast(device.type, torch.bfloat16, enabled=uses_bfloat16(config, device)):
        return learner.objective(learner.process, network, batch, streams)


def _rows(batch: Batch, micro: slice) -> Batch:
    return Batch(*(None if part is None else part[micro] for part in batch))  # pyright: ignore


def dropout_seed(seed: int, step: int, row: int) -> int:
    """Return what dropout is seeded with for the micro-batch that begins with a row."""
    return (seed * 1_000_003 + step + row * 0x9E3779B97F4A7C15) % (1 << 63)


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
    norm: Tensor | None = None,
    admit: Callable[[float, float], bool] | None = None,
) -> Outcome:
    """Move the weights by the gradients they hold, and clear those.

    Args:
        network: Whose weights hold the gradients of a summed loss.
        optimizers: Their state is changed.
        settings: Where the gradient is clipped.
        share: Of the peak learning rate.
        sums: The mean loss, and the number its sum is over.
        norm: Of all the gradients, where others hold some too.
        admit: Says, of the loss and the norm, whether the weights may move.
    """
    loss, count = sums
    grads = [w.grad for w in network.parameters() if w.grad is not None]
    norm = (torch.nn.utils.get_total_norm(grads) if norm is None else norm) / count
    measured, size = torch.stack([loss, norm]).tolist()
    moves = math.isfinite(measured) and math.isfinite(size)
    if admit is not None:
        moves = admit(measured, size) and moves
    if moves:
        scale = (settings.clip / norm).clamp(max=1) / count
        torch._foreach_mul_(grads, scale)  # pyright: ignore[reportPrivateImportUsage]
        optim.set_rate(optimizers, share)
        for optimizer in optimizers:
            optimizer.step()
        torch.clear_autocast_cache()  # inside somebody's autocast it would keep the old weights
    for optimizer in optimizers:
        optimizer.zero_grad()
    return Outcome(measured, size, not moves)
