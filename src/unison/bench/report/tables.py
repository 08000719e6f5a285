"""How do the cells of one task stand in rows? Never a nought for what was not measured."""

import math
import re
from collections.abc import Sequence

from unison.bench.record import Asked, Interval, Result
from unison.bench.report import frontier, naming
from unison.bench.report.document import Table
from unison.evaluate.report import spell
from unison.types import Estimate

NOTHING = "—"


def outcome(result: Result) -> str:
    """Return the accuracy of a cell, or why there is none."""
    if result.status != "done":
        return f"{result.status}: {result.reason}"
    return percent(result.accuracy) if result.accuracy is not None else "measured"


def percent(interval: Interval | None) -> str:
    """Return ``61.5 [51.4, 70.6]``, in per cent."""
    if interval is None or not math.isfinite(interval.value):
        return NOTHING
    value, low, high = (100 * x for x in interval[:3])
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def cells(results: Sequence[Result]) -> Table:
    """Return all cells of one task: how well each did and at which price."""
    names, marks = naming.models(r.asked.model for r in results), frontier.marks(results)
    rows = [
        [
            names[r.asked.model],
            r.asked.strategy,
            percent(r.accuracy),
            _spelt(r.nfe),
            _figures(r.tokens_per_forward),
            _figures(r.tokens_per_second),
            marks[r.asked],
            "" if r.status == "done" else outcome(r),
        ]
        for r in results
    ]
    note = (
        "Brackets hold 95 % intervals over problems; ± is one standard error. NFE: network "
        "evaluations of a text; tokens/forward: tokens per evaluation. Front: the prices (NFE, "
        "tokens per forward, seconds) at which no other cell is at least as accurate and as cheap, "
        "and better in one of the two."
    )
    columns = ["model", "strategy", "accuracy, %", "NFE", "tokens/forward", "tokens/s", "front",
               "remark"]  # fmt: skip
    return without_empty(Table(columns, rows, note))


def resources(results: Sequence[Result]) -> Table | None:
    """Return what the measured cells of one task took; ``None`` where none was measured."""
    names = naming.models(r.asked.model for r in results)
    rows = [
        [names[r.asked.model], r.asked.strategy, *_resources(r)]
        for r in results
        if r.status == "done"
    ]
    columns = ["model", "strategy", "tokens/CPU s", "first token, s", "first block, s",
               "memory, MiB", "overhead, %"]  # fmt: skip
    note = (
        "Seconds until the leftmost token and the first block are final, mean over batches; peak "
        "memory; overhead: share of the time that was not writing."
    )
    return without_empty(Table(columns, rows, note)) if rows else None


def groups(results: Sequence[Result]) -> Table | None:
    """Return the accuracy of every cell in every group; ``None`` for less than two groups."""
    found = sorted({group for result in results for group in result.groups}, key=natural)
    if len(found) < 2:
        return None
    names = naming.models(result.asked.model for result in results)
    rows = [
        [names[r.asked.model], r.asked.strategy, *(percent(r.groups.get(g)) for g in found)]
        for r in results
        if r.groups
    ]
    return Table(["model", "strategy", *found], rows, "Accuracy by group of problems, in %.")


def metrics(results: Sequence[Result]) -> Table | None:
    """Return what was measured of whole sets of texts; ``None`` where nothing was."""
    units = {n: e.unit for result in results for n, e in result.metrics.items()}
    if not units:
        return None
    names = naming.models(result.asked.model for result in results)
    rows = [
        [names[r.asked.model], r.asked.strategy, *(_metric(r, n, units[n]) for n in units)]
        for r in results
        if r.metrics
    ]
    heads = [f"{name.replace('_', ' ')}, {unit}" for name, unit in units.items()]
    return Table(["model", "strategy", *heads], rows, "± is one standard error.")


def glance(results: Sequence[Result]) -> Table | None:
    """Return the accuracy of every model and strategy on every task; ``None`` for one task."""
    tasks = list(dict.fromkeys(result.asked.task for result in results))
    if len(tasks) < 2:
        return None
    names = naming.models(result.asked.model for result in results)
    by_cell = {result.asked: result for result in results}
    ways = dict.fromkeys((result.asked.model, result.asked.strategy) for result in results)
    rows = [
        [names[model], way, *(_short(by_cell.get(Asked(model, task, way))) for task in tasks)]
        for model, way in ways
    ]
    note = "Accuracy in %, with 95 % intervals over problems."
    return Table(["model", "strategy", *tasks], rows, note)


def unfinished(results: Sequence[Result]) -> Table | None:
    """Return the cells that were skipped or failed, with the reason; ``None`` if there are none."""
    rows = [[*r.asked, r.status, r.reason] for r in results if r.status != "done"]
    return Table(["model", "task", "strategy", "what", "why"], rows) if rows else None


def without_empty(table: Table) -> Table:
    """Return a table without the columns that say nothing."""
    kept = [
        i
        for i in range(len(table.columns))
        if any(row[i] not in ("", NOTHING) for row in table.rows)
    ]
    rows = [[row[i] for i in kept] for row in table.rows]
    return Table([table.columns[i] for i in kept], rows, table.note)


def natural(text: str) -> list[tuple[int, float, str]]:
    """Return a key that sorts ``n=5`` before ``n=10``."""
    parts = re.findall(r"\d+(?:\.\d+)?|\D+", text)
    return [(0, float(p), "") if p[0].isdigit() else (1, 0.0, p) for p in parts]


def _resources(result: Result) -> list[str]:
    memory = None if result.peak_memory is None else result.peak_memory / 2**20
    overhead = None if result.overhead is None else 100 * result.overhead
    on_cpu = str(result.model.get("device", "")).startswith("cpu")
    return [
        _figures(result.tokens_per_cpu_second) if on_cpu else NOTHING,
        NOTHING if result.first_token is None else _figures(result.first_token.value),
        NOTHING if result.first_block is None else _figures(result.first_block.value),
        NOTHING if memory is None else f"{memory:,.0f}",
        NOTHING if overhead is None else f"{overhead:.1f}",
    ]


def _short(result: Result | None) -> str:
    if result is None:
        return NOTHING
    return percent(result.accuracy) if result.status == "done" else result.status


def _metric(result: Result, name: str, unit: str) -> str:
    estimate = result.metrics.get(name)
    if estimate is None:
        return NOTHING
    return spell(estimate) if estimate.unit == unit else f"{spell(estimate)} {estimate.unit}"


def _spelt(estimate: Estimate | None) -> str:
    return NOTHING if estimate is None or not math.isfinite(estimate.value) else spell(estimate)


def _figures(value: float | None) -> str:
    """Return a number with three digits that mean something, never in powers of ten."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"
