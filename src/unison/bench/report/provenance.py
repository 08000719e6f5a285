"""What decides the numbers? Every setting of every cell, said once where all cells agree."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unison.bench.record import Asked, Result
from unison.bench.report.document import Section, Table

_MOST = 4  # different values that are listed


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one level: ``machine.threads``."""
    rows: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            rows |= flat(value, f"{prefix}{name}.")
        else:
            rows[f"{prefix}{name}"] = value
    return rows


def settings(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Return what holds for the whole bench: seed, batches, versions, machine, git, load."""
    return [(name, _values(values)) for name, values in _columns(map(of_bench, results)).items()]


def of_bench(result: Result) -> dict[str, Any]:
    """Return what a cell shares with its neighbours, as a rule."""
    own = {name: getattr(result, name) for name in ("seed", "batch_size", "samples")}
    own |= {name: result.model[name] for name in ("dtype", "device") if name in result.model}
    return own | flat(result.environment)


def section(results: Sequence[Result]) -> Section:
    """Return tables of the models, the strategies as they ran, and the tasks as they were asked."""
    done = [result for result in results if result.status == "done"]
    models = {r.asked.model: flat(r.model) for r in results if r.model}
    return Section(
        "What decides the numbers",
        ["A cell is repeated exactly by the same weights, prompts, strategy and seed."],
        [table for table in (_models(models), _strategies(done), _tasks(done)) if table.rows],
    )


def told(value: Any) -> str:
    """Return a setting as people write it."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={told(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(told, value)) or "none"
    return str(value)


def _models(models: Mapping[str, Mapping[str, Any]]) -> Table:
    columns = list(dict.fromkeys(name for facts in models.values() for name in facts))
    columns = [name for name in columns if name != "name"]  # the model itself
    rows = [[model, *_cells(facts, columns)] for model, facts in models.items()]
    return Table(["model", *columns], rows)


def _strategies(done: Sequence[Result]) -> Table:
    """Return every strategy with what it came to, which may differ between models."""
    ways: dict[tuple[str, str], list[Asked]] = {}
    for result in done:
        ways.setdefault((result.asked.strategy, _told_settings(result)), []).append(result.asked)
    rows = [
        [strategy, came_to, ", ".join(dict.fromkeys(asked.model for asked in cells))]
        for (strategy, came_to), cells in ways.items()
    ]
    return Table(["strategy", "as it ran", "models"], rows)


def _told_settings(result: Result) -> str:
    return ", ".join(f"{name}={told(value)}" for name, value in flat(result.settings).items())


def _tasks(done: Sequence[Result]) -> Table:
    columns = ("problems", "new_tokens", "prompts_sha256")
    tasks: dict[str, list[dict[str, Any]]] = {}
    for result in done:
        facts = {name: getattr(result, name) for name in columns}
        tasks.setdefault(result.asked.task, []).append(facts)
    rows = [[task, *map(_values, _columns(facts).values())] for task, facts in tasks.items()]
    note = "0 new tokens: their number differs between problems."
    return Table(["task", "problems", "new tokens", "prompts, SHA-256"], rows, note)


def _columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns


def _cells(facts: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    return [told(facts[name]) if name in facts else "—" for name in columns]


def _values(values: Sequence[Any]) -> str:
    """Return the values of all cells: one where they agree, else the few, or the extremes."""
    different = list(dict.fromkeys(map(told, values)))
    if len(different) <= _MOST:
        return different[0] if len(different) == 1 else "; ".join(different) + " (between cells)"
    loads = [value for value in values if isinstance(value, list) and value]
    if len(loads) == len(values) and all(isinstance(v[0], int | float) for v in loads):
        return f"from {told(min(loads))} to {told(max(loads))} (between cells)"
    return "; ".join(different[:_MOST]) + f" and {len(different) - _MOST} more (between cells)"
