"""How do thousands of steps fit into a page? As columns of differences, compressed.

A row of a trace is ten columns of whole numbers, one after the other: the first canvas; of each
step that the row took part in its number, how many candidates and how many actions there were; of
each candidate its position, token and confidence; of each action its kind, position and token.
Steps are differences to the step before (from 0), positions to the one before in the same step
(from -1, less one), tokens and confidences of candidates to those last seen at the position (from
0), so that most numbers are zero. Every number takes four bytes, the lowest bytes of a column
first, then the next: long runs of zeros, which gzip removes. A confidence is a number of
ten-thousandths, and -1 where none is known.
"""

import base64
import gzip
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unison.trace import TraceError

KINDS = ("commit", "edit", "remask", "renoise")
FINE = 10_000  # steps of a confidence
UNKNOWN = -1

Column = NDArray[np.int32]


class Packed(NamedTuple):
    """A row as columns.

    Attributes:
        length: Positions.
        moments: Steps it took part in.
        columns: Ten, as the module says.
    """

    length: int
    moments: int
    columns: tuple[Column, ...]


class _Moment(NamedTuple):
    """What a step saw and did in a row, positions rising."""

    step: int
    candidates: NDArray[np.float64]  # position, token, confidence
    actions: NDArray[np.int64]  # kind, position, before, after


def packed(document: dict[str, Any]) -> list[Packed]:
    """Return the rows of a trace as columns.

    Raises:
        TraceError: Something in it is not what a trace holds, a step changes a token that does not
            stand there, or the steps do not lead to the result.
    """
    try:
        rows, result = document["rows"], document["result"]
        moments = _by_row(document["steps"], len(rows))
        if len(result) != len(rows):
            raise TraceError(f"it has {len(rows)} rows and {len(result)} results.")
        return [_packed(*each) for each in zip(rows, moments, result, strict=True)]
    except TraceError as error:
        raise TraceError(f"{error} The trace is damaged.") from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise TraceError(
            f"it does not hold what a trace holds ({type(error).__name__}: {error}). The trace is "
            "damaged."
        ) from None


def text_of(columns: Iterable[Column]) -> str:
    """Return columns as one line of base64."""
    raw = b"".join(_planes(column) for column in columns)
    return base64.b64encode(gzip.compress(raw, 6, mtime=0)).decode()


def _planes(column: Column) -> bytes:
    """Return the lowest bytes of all numbers, then the next."""
    return np.ascontiguousarray(column.astype("<i4")).view(np.uint8).reshape(-1, 4).T.tobytes()


def _by_row(steps: Sequence[dict[str, Any]], count: int) -> list[list[_Moment]]:
    rows: list[list[_Moment]] = [[] for _ in range(count)]
    last = 0
    for entry in steps:
        step = entry["step"]
        if not isinstance(step, int) or step <= last:
            raise TraceError(f"step {step!r} comes after step {last}.")
        last = step
        for made in entry["rows"]:
            row = rows[_within(made["row"], count, "row")]
            if row and row[-1].step == step:
                raise TraceError(f"step {step} names row {made['row']} twice.")
            row.append(_moment(step, made))
    return rows


def _moment(step: int, made: dict[str, Any]) -> _Moment:
    candidates = np.array(made["candidates"], float).reshape(-1, 3)
    kinds = [[KINDS.index(kind), *rest] for kind, *rest in made["actions"]]
    actions = np.array(kinds, np.int64).reshape(-1, 4)
    return _Moment(step, _sorted(candidates, 0, step), _sorted(actions, 1, step))


def _sorted(found: Any, place: int, step: int) -> Any:
    found = found[np.argsort(found[:, place], kind="stable")]
    if (np.diff(found[:, place]) <= 0).any():
        raise TraceError(f"step {step} names a position twice.")
    return found


def _packed(row: dict[str, Any], moments: Sequence[_Moment], result: Sequence[int]) -> Packed:
    canvas = np.array(row["tokens"], np.int32).reshape(-1)
    length = len(canvas)
    _check_given(row["given"], length)
    _replay(canvas.copy(), moments, result)
    seen, actions = _differences(moments, length), [m.actions for m in moments]
    done = np.concatenate(actions) if actions else np.zeros((0, 4))
    columns = (
        canvas,
        np.diff([m.step for m in moments], prepend=0),
        [len(m.candidates) for m in moments],
        [len(m.actions) for m in moments],
        *seen.T,
        done[:, 0],
        _gaps([a[:, 1] for a in actions]),
        done[:, 3],
    )
    whole = tuple(np.asarray(column, np.float64).astype(np.int32) for column in columns)
    return Packed(length, len(moments), whole)


def _check_given(ranges: Sequence[Sequence[int]], length: int) -> None:
    last = 0
    for first, past in ranges:
        if not last <= first <= past <= length:
            raise TraceError(f"positions {first} to {past} of {length} are given, after {last}.")
        last = past


def _replay(canvas: Column, moments: Sequence[_Moment], result: Sequence[int]) -> None:
    """Raise TraceError unless the steps fit each other and lead to the result."""
    for step, candidates, actions in moments:
        for places in (candidates[:, 0], actions[:, 1]):
            if len(places) and not (places[0] >= 0 and places[-1] < len(canvas)):
                raise TraceError(f"step {step} names a position outside [0, {len(canvas)}).")
        places = actions[:, 1]
        wrong = places[canvas[places] != actions[:, 2]]
        if len(wrong):
            raise TraceError(
                f"step {step} changes a token at position {wrong[0]} that does not stand there."
            )
        canvas[places] = actions[:, 3]
    if canvas.tolist() != list(result):
        raise TraceError("its steps do not lead to its result.")


def _differences(moments: Sequence[_Moment], length: int) -> NDArray[np.int64]:
    """Return the candidates' positions, tokens and confidences as differences."""
    last = np.zeros((length, 2), np.int64)
    parts = [np.zeros((0, 3), np.int64)]
    for _, candidates, _ in moments:
        places = candidates[:, 0].astype(np.int64)
        values = np.stack([candidates[:, 1].astype(np.int64), _fine(candidates[:, 2])], 1)
        parts.append(np.column_stack([_gaps([places]), values - last[places]]))
        last[places] = values
    return np.concatenate(parts)


def _fine(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    known = (confidence >= 0) & (confidence <= 1)
    return np.where(known, np.rint(np.where(known, confidence, 0) * FINE), UNKNOWN).astype(np.int64)


def _gaps(lists: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """Return how many positions are left out before each of the rising ones of each list."""
    empty = np.zeros(0, np.int64)
    return np.concatenate(
        [empty, *(np.diff(each, prepend=-1).astype(np.int64) - 1 for each in lists)]
    )


def _within(value: Any, count: int, what: str) -> int:
    if not isinstance(value, int) or not 0 <= value < count:
        raise TraceError(f"there is no {what} {value!r} among {count}.")
    return value
