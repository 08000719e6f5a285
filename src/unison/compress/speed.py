"""How long does an evaluation take, beside the original's? CPU seconds, in turns."""

import statistics
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from unison.models import Network
from unison.prob import rng
from unison.prob.rng import Key

_SITE = 129


class Speed(NamedTuple):
    """What one row's evaluation takes.

    Attributes:
        milliseconds: CPU time of the median round, or time on the device.
        ratio: The original's time over this one's in the same round, the median: tokens per second
            beside the original.
    """

    milliseconds: float
    ratio: float


def speeds(
    networks: Mapping[str, Network], length: int, rounds: int = 9, seed: int = 0
) -> dict[str, Speed]:
    """Return what an evaluation of one canvas takes of each network; they take turns.

    Args:
        networks: By name; the first is what the others are compared with.
        length: Tokens of the canvas.
        rounds: Evaluations of each, after one that is not counted.
        seed: Names the tokens.
    """
    taken: dict[str, list[float]] = {name: [] for name in networks}
    for number in range(rounds + 1):
        for name, network in networks.items():
            spent = _once(network, length, seed)
            if number:
                taken[name].append(spent)
    first = next(iter(taken.values()))
    return {
        name: Speed(
            1000 * statistics.median(times),
            statistics.median(was / now for was, now in zip(first, times, strict=True)),
        )
        for name, times in taken.items()
    }


@torch.no_grad()
def _once(network: Any, length: int, seed: int) -> float:
    weight = next(network.parameters())
    u = rng.uniform(Key(rng.rows(seed, 0, 1)), _SITE, length)
    tokens = (u * network.config.vocab_size).long().to(weight.device)
    sigma = torch.full((1,), 0.5, device=weight.device)
    if weight.is_cuda:
        torch.cuda.synchronize(weight.device)
    clock = time.perf_counter if weight.is_cuda else time.process_time
    began = clock()
    network(tokens, sigma)
    if weight.is_cuda:
        torch.cuda.synchronize(weight.device)
    return max(clock() - began, 1e-9)
