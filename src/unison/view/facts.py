"""What does a trace say about its run? Settings by name, counts by row, and a label."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unison.trace import TraceError
from unison.view.packing import Packed

_DAMAGED = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


def facts(document: Mapping[str, Any], rows: Sequence[Packed]) -> dict[str, Any]:
    """Return what a page shows of a trace beside its steps, as plain data.

    ``rows`` holds of each its prompt, positions, given ranges, steps taken, evaluations and tokens
    per evaluation; ``facts`` pairs of a name and a value, in the trace's order.

    Raises:
        TraceError: The header is not what a trace's is.
    """
    try:
        return _facts(document, rows)
    except TraceError:
        raise
    except _DAMAGED as error:
        raise TraceError(
            f"its header is not that of a trace ({type(error).__name__}: {error}). The trace is "
            "damaged."
        ) from None


def _facts(document: Mapping[str, Any], rows: Sequence[Packed]) -> dict[str, Any]:
    model, cost = document["model"], document.get("evaluations_per_step", 1)
    mask = model.get("mask_id")
    if mask is not None and not isinstance(mask, int):
        raise TraceError(f"its mask is {mask!r}.")
    if not isinstance(cost, int):
        raise TraceError(f"its evaluations of a step are {cost!r:.40}.")
    told = [_row(*each, cost) for each in zip(document["rows"], rows, strict=True)]
    header = {name: document[name] for name in _SHOWN if name in document}
    return {
        "label": label(document),
        "process": str(model.get("process", "")),
        "mask": mask,
        "eos": [int(token) for token in model.get("eos_ids", ())],
        "texts": {str(int(token)): str(text) for token, text in document["texts"].items()},
        "rows": told,
        "facts": [*_counts(told), *_flat(header)],
    }


_SHOWN = ("model", "strategy", "cfg", "evaluations_per_step", "seed", "versions")


def label(document: Mapping[str, Any]) -> str:
    """Return the process and the strategy in a few words."""
    kind, *parts = _kinds(document.get("strategy"))
    named = f"{kind} of {', '.join(parts)}" if parts else kind
    return ", ".join(part for part in (str(document["model"].get("process", "")), named) if part)


def _kinds(strategy: Any) -> list[str]:
    if not isinstance(strategy, Mapping):
        return ["" if strategy is None else str(strategy)]
    inner = (part for part in strategy.values() if isinstance(part, Mapping))
    return [str(strategy.get("kind", "")), *(kind for part in inner for kind in _kinds(part))]


def _row(row: Mapping[str, Any], columns: Packed, cost: int) -> dict[str, Any]:
    given = [[int(first), int(past)] for first, past in row["given"]]
    written = columns.length - sum(past - first for first, past in given)
    evaluations = columns.moments * cost
    return {
        "prompt": int(row.get("prompt", 0)),
        "length": columns.length,
        "moments": columns.moments,
        "given": given,
        "nfe": evaluations,
        "rate": round(written / evaluations, 3) if evaluations else None,
    }


def _counts(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the counts of a whole trace: of its dearest row, and the mean over rows."""
    most = max((row["nfe"] for row in rows), default=0)
    rates = [row["rate"] for row in rows if row["rate"] is not None]
    mean = f"{sum(rates) / len(rates):.2f}" if rates else "none"
    return [
        ["rows", str(len(rows))],
        ["network evaluations (NFE), most of a row", str(most)],
        ["tokens per forward, mean of rows", mean],
    ]


def _flat(value: Any, name: str = "") -> Iterator[list[str]]:
    """Yield pairs of dotted names and values; a part's kind stands under the part's own name."""
    if not isinstance(value, Mapping):
        yield [name, _said(value)]
        return
    for key, inner in value.items():
        own = name if key == "kind" and name else f"{name}.{key}" if name else str(key)
        yield from _flat(inner, own)


def _said(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(_said(one) for one in value) or "none"
    return str(value)
