"""At which noise does a network meet text? Rows of text at levels that cover the objective's own.

A diffusion model's activations change with the noise level, so whatever is measured of them is
measured over all levels, each as often as the objective draws it (the observation, for images:
Li et al., 2023, "Q-Diffusion", arXiv:2302.04304; Shang et al., 2022, arXiv:2211.15736).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unison.objectives import Batch, Loss, bound_of
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Process, Sequential
from unison.types import Tokens

_SITE_ROWS = 128  # beyond the sites of objectives: which rows of the text are taken


class CompressError(ValueError):
    """A model that cannot be compressed as asked; the message says why and what can be done."""


@dataclass(frozen=True)
class Levels:
    """Which rows of text are looked at, and at which noise.

    Row r of n stands at the stratum (r + u) / n of the objective's times, u uniform: every level
    as often as the objective draws it, with none left out.

    Attributes:
        rows: Rows of text; where the text has fewer, each is taken several times, with other noise.
        count: Levels that are told apart in reports: equal parts of the strata.
        only: The one stratum, in (0, 1), that all rows stand at instead; ``None`` for all.
        batch_size: Rows of a forward pass; does not change the noise.
        seed: Names rows, times and noise.
    """

    rows: int = 128
    count: int = 8
    only: float | None = None
    batch_size: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rows", "count", "batch_size"):
            if getattr(self, name) < 1:
                raise CompressError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.rows < self.count:
            raise CompressError(
                f"{self.rows} rows cannot stand at {self.count} levels; take at least as many rows."
            )
        if self.only is not None and not 0 < self.only < 1:
            raise CompressError(f"only must be a stratum in (0, 1), got {self.only}.")


class Noisy(NamedTuple):
    """Some rows of one level.

    Attributes:
        level: Its number, from 0 for the least noise.
        batch: Clean text and its strata.
        key: Names the noise.
    """

    level: int
    batch: Batch
    key: Key


def noisy(levels: Levels, process: Process, text: Tokens) -> Iterator[Noisy]:
    """Return rows of text at every level, level by level; left-to-right models have one level.

    Args:
        levels: Which.
        process: What the network undoes.
        text: Whole rows, without padding.

    Raises:
        CompressError: There is no row.
    """
    if not len(text):
        raise CompressError("the text fills not a single row of the model; give a longer one.")
    tokens = text[_chosen(levels, len(text)).to(text.device)]
    strata = rng.stratified(levels.seed, 0, levels.rows).sort().values
    if levels.only is not None:
        strata = torch.full_like(strata, levels.only)
    count = 1 if isinstance(process, Sequential) or levels.only is not None else levels.count
    seeds = rng.rows(levels.seed, 0, levels.rows)
    number = (torch.arange(levels.rows) * count).div(levels.rows, rounding_mode="floor")
    for level in range(count):
        for some in (number == level).nonzero()[:, 0].split(levels.batch_size):
            batch = Batch(tokens[some.to(text.device)], strata[some].to(text.device))
            yield Noisy(level, batch, Key(seeds[some].to(text.device)))


def losses(process: Process, network: Any, one: Noisy) -> Float[Tensor, "B L"]:
    """Return the bound's integrand at every position of some rows, nats."""
    bound: Loss = bound_of(process, network)
    return bound.losses(process, network, one.batch, one.key)


@torch.no_grad()
def mean_losses(
    levels: Levels, process: Process, network: Any, text: Tokens
) -> Float[Tensor, " T"]:
    """Return the bound's part of each level, nats per token, whose mean is the bound."""
    sums: dict[int, list[Tensor]] = {}
    for one in noisy(levels, process, text):
        sums.setdefault(one.level, []).append(losses(process, network, one).double().flatten())
    return torch.stack([torch.cat(sums[level]).mean() for level in sorted(sums)]).cpu()


def _chosen(levels: Levels, available: int) -> Tensor:
    """Return rows of the text, none twice before all were taken once, in random order."""
    key = Key(rng.rows(levels.seed, 0, 1))
    order = rng.uniform(key, _SITE_ROWS, available)[0].argsort()
    return order.repeat(-(-levels.rows // available))[: levels.rows]
