"""What did each stage of a compression cost and gain? Quality, size and speed, side by side."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from unison.compress.scoring import Quality
from unison.compress.speed import Speed
from unison.evaluate.likelihood import interval

_HEAD = (
    "stage", "bits/byte", "95 % interval", "change", "KL, nats/token", "parameters",
    "bytes on disk", "forward, CPU ms", "tokens/s, ratio",
)  # fmt: skip


class Row(NamedTuple):
    """One stage.

    Attributes:
        stage: Its name.
        quality: On held-out text.
        divergence: KL(original || stage) of the beliefs there, nats per token, mean over levels.
        parameters: Weights of the network.
        disk: Bytes of the folder's weights.
        speed: Of one evaluation.
    """

    stage: str
    quality: Quality
    divergence: float
    parameters: int
    disk: int
    speed: Speed


def document(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows as JSON has them."""
    return [
        {
            "stage": row.stage,
            "bits_per_byte": row.quality.bound._asdict(),
            "change": row.quality.change._asdict(),
            "relative_change": row.quality.relative,
            "divergence": row.divergence,
            "parameters": row.parameters,
            "bytes": row.disk,
            "forward_ms": row.speed.milliseconds,
            "tokens_per_second_ratio": row.speed.ratio,
        }
        for row in rows
    ]


def markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a table; a change is given with the 95 % reach of its error."""
    lines = [_line(_HEAD), _line(["---", *["---:"] * (len(_HEAD) - 1)])]
    lines += [_line(_cells(row)) for row in rows]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> list[str]:
    low, high = interval(row.quality.bound)
    change = row.quality.change
    return [
        row.stage,
        f"{row.quality.bound.value:.4f}",
        f"[{low:.4f}, {high:.4f}]",
        "" if not change.value and not change.stderr else _change(row.quality),
        f"{row.divergence:.5f}",
        f"{row.parameters:,}",
        f"{row.disk:,}",
        f"{row.speed.milliseconds:.1f}",
        f"{row.speed.ratio:.2f}",
    ]


def _change(quality: Quality) -> str:
    low, high = interval(quality.change)
    return f"{quality.change.value:+.4f} ± {(high - low) / 2:.4f} ({quality.relative:+.2%})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
