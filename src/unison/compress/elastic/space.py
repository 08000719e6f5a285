"""Which networks lie in one? Fewer layers, fewer heads, narrower MLPs of the same stream.

Weights are shared by position, as in slimmable networks (Yu et al., 2018, arXiv:1812.08928) and
Once-for-All (Cai et al., 2019, arXiv:1908.09791): the first heads, the first units of every MLP,
and layers spread evenly over the depth.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from unison.models import TransformerConfig
from unison.scale.planner import work


class Choice(NamedTuple):
    """One network of those that lie in a large one.

    Attributes:
        depth: Layers.
        heads: Query heads of every layer.
        mlp: Width of every MLP.
    """

    depth: int
    heads: int
    mlp: int


@dataclass(frozen=True)
class Space:
    """All networks that lie in one.

    Attributes:
        config: The large one.
        choices: The networks, by complexity; the last is the large one itself.
        complexity: Operations of matrix products of each on one canvas of full length.
    """

    config: TransformerConfig
    choices: tuple[Choice, ...]
    complexity: tuple[float, ...]

    @property
    def between(self) -> range:
        """Numbers of the networks that are neither the smallest nor the largest."""
        return range(1, len(self.choices) - 1)


def space(
    config: TransformerConfig,
    depths: Sequence[float],
    heads: Sequence[float],
    mlps: Sequence[float],
) -> Space:
    """Return the networks whose sizes are shares of a large one's.

    Args:
        config: The large one, with its vocabulary.
        depths: Shares of the layers, rounded to whole ones.
        heads: Shares of the heads, rounded to whole groups of heads that share keys and values.
        mlps: Shares of the MLPs' width.

    Raises:
        ValueError: A share is not in (0, 1], 1 is missing, or the network has experts.
    """
    if config.mixture is not None:
        raise ValueError("a mixture of experts cannot be made elastic; leave model.mixture out.")
    for name, shares in (("depths", depths), ("heads", heads), ("mlps", mlps)):
        if not all(0 < share <= 1 for share in shares) or 1 not in shares:
            raise ValueError(
                f"elastic.{name} must be shares in (0, 1] and 1 among them, got {tuple(shares)}."
            )
    group = config.heads // config.num_kv_heads
    sizes = itertools.product(
        _sizes(config.depth, depths, 1),
        _sizes(config.heads, heads, group),
        _sizes(config.mlp_width, mlps, 1),
    )
    measured = sorted(
        (flops(shape_of(config, one)), one) for one in itertools.starmap(Choice, sizes)
    )
    return Space(config, tuple(one for _, one in measured), tuple(cost for cost, _ in measured))


def _sizes(whole: int, shares: Sequence[float], unit: int) -> list[int]:
    return sorted({max(unit, round(share * whole / unit) * unit) for share in shares})


def flops(config: TransformerConfig) -> float:
    """Return the operations of the matrix products of one canvas of full length."""
    return work.forward(config, 1, config.max_length).total


def shape_of(config: TransformerConfig, choice: Choice) -> TransformerConfig:
    """Return the shape of one of the networks, an ordinary one.

    Raises:
        ValueError: The large network does not hold it.
    """
    whole = Choice(config.depth, config.heads, config.mlp_width)
    group = config.heads // config.num_kv_heads
    fits = all(0 < one <= most for one, most in zip(choice, whole, strict=True))
    if not fits or choice.heads % group:
        raise ValueError(
            f"{choice} does not lie in {whole}: sizes must be at most those, and heads a multiple "
            f"of {group}."
        )
    if choice == whole:
        return config
    return dataclasses.replace(
        config,
        depth=choice.depth,
        heads=choice.heads,
        kv_heads=choice.heads // group,
        head_width=config.head_dim,
        mlp_hidden=choice.mlp,
    )


def layers_of(depth: int, kept: int) -> list[int]:
    """Return the layers that a network of fewer layers keeps: the middle of equal stretches."""
    return [(2 * number + 1) * depth // (2 * kept) for number in range(kept)]
