"""What is told of a training step's speed? One row for an objective at a size, and its tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from unison.bench.memory import Of
from unison.bench.report.document import Section, Table
from unison.bench.training.machine import Limits, Spread
from unison.bench.training.parts import PARTS


@dataclass(frozen=True)
class Row:
    """What the steps of one objective at one size came to.

    Attributes:
        objective: Its name.
        size: Name of the shape.
        parameters: Weights that move.
        tokens: Tokens of text in a step.
        seconds: Wall seconds of a step.
        cpu_seconds: CPU seconds of a step.
        tokens_per_second: By the median of ``seconds``.
        tokens_per_cpu_second: By the median of ``cpu_seconds``.
        tensors: The most bytes of tensors at once in a step: weights, averages, moments,
            gradients, activations. The same at every run.
        memory: Bytes by which building the run and its first steps raised what was held; the
            allocator's reserve and libraries' buffers included.
        held_by: What ``memory`` was read of; see ``unison.bench.memory``.
        flops: Of the matrix products of a step, the optimiser's left out.
        optimizer_flops: Of the optimiser's own.
        passes: ``flops`` over those of one plain evaluation and gradient of the text.
        bytes: All operands and results of the step's operations: the traffic without a cache.
        utilisation: ``flops`` over what the machine's best square products would do in that time.
        products: Share of a step that its own matrix products take when they run alone.
        shares: Share of each part in the step's time.
    """

    objective: str
    size: str
    parameters: int
    tokens: int
    seconds: Spread
    cpu_seconds: Spread
    tokens_per_second: float
    tokens_per_cpu_second: float
    tensors: int
    memory: int
    held_by: Of
    flops: int
    optimizer_flops: int
    passes: float
    bytes: int
    utilisation: Spread
    products: Spread
    shares: Mapping[str, float]

    @property
    def intensity(self) -> float:
        """FLOPs of matrix products for each byte that the step's operations name."""
        return (self.flops + self.optimizer_flops) / self.bytes


def content(rows: Sequence[Row], limits: Limits) -> dict[str, Any]:
    """Return what was measured as JSON values."""
    return {"rows": [asdict(row) for row in rows], "limits": asdict(limits)}


def read(content: Mapping[str, Any]) -> tuple[list[Row], Limits]:
    """Return what ``content`` wrote down."""
    spread = {f.name for f in fields(Row) if f.type is Spread}
    found: list[Row] = []
    for row in content["rows"]:
        said: dict[str, Any] = {**row}
        said.update({name: Spread(**said[name]) for name in spread})
        found.append(Row(**said))
    limits: dict[str, Any] = dict(content["limits"])
    for name in ("products", "traffic"):
        limits[name] = {key: Spread(**value) for key, value in limits[name].items()}
    return found, Limits(**limits)


def section(rows: Sequence[Row], limits: Limits) -> Section:
    """Return what was measured, for a report."""
    clock = limits.clock
    return Section(
        "Training speed",
        [
            f"Optimiser steps of the training loop on random tokens, {limits.dtype}, "
            f"threads: {limits.facts['threads']}, load at the end: "
            f"{limits.facts['load'][0]:.1f}. All rows took turns, {rows[0].seconds.rounds} rounds; "
            "numbers are medians, with the extremes in brackets.",
            f"The best square products came to {_scaled(limits.flops.median, 1e9)} GFLOP and the "
            f"best loop over memory to {_scaled(limits.bandwidth.median, 1e9)} GB per {clock}: "
            f"an operation below {limits.balance:.1f} FLOP a byte waits for memory, unless a cache "
            "holds what it needs.",
        ],
        [
            Table(_SPEED_COLUMNS, [_speed_cells(row) for row in rows], _SPEED_NOTE),
            Table(_WORK_COLUMNS, [_work_cells(row) for row in rows], _WORK_NOTE),
            Table([f"limit, per {clock}", "median", "lowest", "highest"], _limit_cells(limits)),
        ],
    )


def _speed_cells(row: Row) -> list[str]:
    return [
        row.objective,
        row.size,
        f"{row.parameters:,}",
        f"{row.tokens_per_second:,.0f}",
        f"{row.tokens_per_cpu_second:,.0f}",
        _range(row.seconds, 1e-3),
        _range(row.cpu_seconds, 1e-3),
        _scaled(row.tensors, 1e6),
        _scaled(row.memory, 1e6),
    ]


def _work_cells(row: Row) -> list[str]:
    return [
        row.objective,
        row.size,
        f"{row.flops / row.tokens / 1e6:.2f}",
        f"{row.passes:.2f}",
        f"{row.intensity:.1f}",
        _range(row.utilisation, 0.01),
        _range(row.products, 0.01),
        *(f"{100 * row.shares[part]:.0f}" for part in PARTS),
    ]


def _limit_cells(limits: Limits) -> list[list[str]]:
    named = [
        *((f"product of {name}, GFLOP", rate) for name, rate in limits.products.items()),
        *((f"{name}, GB", rate) for name, rate in limits.traffic.items()),
    ]
    return [
        [name, *(_scaled(value, 1e9) for value in (rate.median, rate.low, rate.high))]
        for name, rate in named
    ]


def _scaled(value: float | int, unit: float) -> str:
    return f"{value / unit:,.1f}"


def _range(value: Spread, unit: float) -> str:
    return f"{value.median / unit:,.0f} [{value.low / unit:,.0f} - {value.high / unit:,.0f}]"


_SPEED_COLUMNS = ("objective", "size", "weights", "tokens/s", "tokens/CPU s", "step, ms",
                  "step, CPU ms", "tensors, MB", "memory, MB")  # fmt: skip
_SPEED_NOTE = (
    "tensors: the most bytes of tensors alive at once in a step, the same at every run. memory: by "
    "how much building the run and its first steps raised what the process (on a GPU: its "
    "allocator) held."
)
_WORK_COLUMNS = ("objective", "size", "MFLOP/token", "passes", "FLOP/byte", "utilisation, %",
                 "own products, %", *(f"{part}, %" for part in PARTS))  # fmt: skip
_WORK_NOTE = (
    "passes: matrix products over those of one plain evaluation and gradient of the text. "
    "FLOP/byte: over all operands and results of the step's operations, as if no cache held any. "
    "utilisation: of what the best square products would do in the same time. own products: the "
    "share of a step that its matrix products take when they run alone. The last four are shares "
    "of the step's time."
)
