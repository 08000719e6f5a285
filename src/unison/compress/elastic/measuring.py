"""How good is each network of a large one, and for which price? A table with its Pareto front."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from unison.compress.elastic import curve
from unison.compress.elastic.inside import cut, own
from unison.compress.elastic.space import Choice, Space
from unison.data import Rows
from unison.evaluate import likelihood
from unison.language_model import LanguageModel
from unison.types import Estimate, Mask, Tokens


class Row(NamedTuple):
    """One network.

    Attributes:
        choice: Its sizes.
        parameters: Its weights.
        flops: Operations of matrix products for one token of a full canvas.
        loss: Nats per token of held-out text, on noise common to all.
        above: What that is above the largest network's, row by row: its error is much smaller.
        front: Whether no network of at most these operations is better.
    """

    choice: Choice
    parameters: int
    flops: float
    loss: Estimate
    above: Estimate
    front: bool


def table(
    model: LanguageModel,
    space: Space,
    text: tuple[Tokens, Mask] | Rows,
    *,
    seed: int = 0,
    passes: int = 1,
    batch_size: int = 32,
) -> list[Row]:
    """Measure all networks of a large one, on the same text and noise.

    Args:
        model: The large one.
        space: Its networks.
        text: Held-out blocks.
        seed: Names the noise.
        passes: Noise draws per block.
        batch_size: Blocks per forward pass.

    Raises:
        ValueError: The model does not hold these networks.
    """
    own(model).eval()
    length, cuts = space.config.max_length, [cut(model, choice) for choice in space.choices]
    scores = [
        likelihood.score(
            one.process, one.network, text, seed=seed, passes=passes, batch_size=batch_size
        )
        for one in cuts
    ]
    losses = [likelihood.per_token(scored) for scored in scores]
    best = curve.front(np.array(space.complexity), np.array([loss.value for loss in losses]))
    return [
        Row(
            choice,
            sum(w.numel() for w in one.network.parameters()),
            cost / length,
            loss,
            likelihood.per_token(scored._replace(nats=scored.nats - scores[-1].nats)),
            bool(on),
        )
        for choice, cost, one, scored, loss, on in zip(
            space.choices, space.complexity, cuts, scores, losses, best, strict=True
        )
    ]


def plain(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return a table as JSON values."""
    return [
        {
            **row.choice._asdict(),
            "parameters": row.parameters,
            "flops_per_token": row.flops,
            "nats_per_token": row.loss.value,
            "stderr": row.loss.stderr,
            "above": row.above.value,
            "above_stderr": row.above.stderr,
            "front": row.front,
        }
        for row in rows
    ]


def markdown(rows: Sequence[Row]) -> str:
    """Return a table as Markdown, by operations; networks on the front carry a star."""
    most = max(row.flops for row in rows)
    lines = [
        "| layers | heads | MLP | parameters | MFLOP a token | share | nats a token | above the "
        "whole | front |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|:-:|",
    ]
    for row in rows:
        sizes = " | ".join(map(str, row.choice))
        lines.append(
            f"| {sizes} | {row.parameters:,} | {row.flops / 1e6:.3f} | {row.flops / most:.2f} | "
            f"{row.loss.value:.4f} | {row.above.value:.4f} ± {row.above.stderr:.4f} | "
            f"{'*' if row.front else ''} |"
        )
    return "\n".join(lines) + "\n"


def best_within(rows: Sequence[Row], flops: float) -> Row:
    """Return the best network of at most so many operations a token.

    Raises:
        ValueError: None is that small.
    """
    fitting = [row for row in rows if row.flops <= flops]
    if not fitting:
        least = min(row.flops for row in rows)
        raise ValueError(f"no network takes {flops:g} operations a token; the least is {least:g}.")
    return min(fitting, key=lambda row: row.loss.value)
