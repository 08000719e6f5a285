"""How are rows of different lengths kept in one array that grows?"""

from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped
from numpy import ndarray
from numpy.typing import DTypeLike

_FIRST = 64  # elements reserved before anything is known


def spans(begin: Int64[ndarray, " n"], count: Int64[ndarray, " n"]) -> Int64[ndarray, " total"]:
    """Return ``begin[i], begin[i] + 1, ..`` (``count[i]`` of them), one row after the other."""
    end = count.cumsum()
    return np.arange(end[-1] if len(end) else 0) + np.repeat(begin - end + count, count)


def runs(keys: Int64[ndarray, " n"]) -> Int64[ndarray, " m"]:
    """Return where runs of equal keys begin."""
    if not len(keys):
        return np.empty(0, np.int64)
    return np.concatenate(([0], np.flatnonzero(keys[1:] != keys[:-1]) + 1))


def sizes(begin: Int64[ndarray, " n"], end: int) -> Int64[ndarray, " n"]:
    """Return the lengths of neighbouring rows from where they begin and the last one ends."""
    size = np.empty_like(begin)
    np.subtract(begin[1:], begin[:-1], out=size[:-1])
    size[-1:] = end - begin[-1:]
    return size


def bounds(count: Shaped[ndarray, " n"]) -> Int64[ndarray, " n_and_one"]:
    """Return where rows of so many values begin, and where the last one ends."""
    offset = np.zeros(len(count) + 1, np.int64)
    np.cumsum(count, out=offset[1:])
    return offset


class Growing:
    """An array that is added to at its end; what was there keeps its place."""

    def __init__(self, dtype: DTypeLike, *tail: int) -> None:
        self._room = np.empty((_FIRST, *tail), dtype)
        self.size = 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the room behind the end, which holds anything."""
        return {"_room": self.data.copy(), "size": self.size}

    @property
    def data(self) -> Shaped[ndarray, "size ..."]:
        """Everything so far: a view, which later growth does not change."""
        return self._room[: self.size]

    def extend(self, values: Any) -> None:
        """Add values at the end."""
        size = self.size + len(values)
        if size > len(self._room):
            wider = np.empty(
                (max(size, 2 * len(self._room)), *self._room.shape[1:]), self._room.dtype
            )
            wider[: self.size] = self.data
            self._room = wider
        self._room[self.size : size] = values
        self.size = size


class Ragged:
    """Rows of different lengths, added at the end."""

    def __init__(self, dtype: DTypeLike, *tail: int) -> None:
        self._values = Growing(dtype, *tail)
        self._offset = Growing(np.int64)
        self._offset.extend([0])

    def __len__(self) -> int:
        return self._offset.size - 1

    @property
    def values(self) -> Shaped[ndarray, "total ..."]:
        """All rows, one after the other."""
        return self._values.data

    @property
    def offset(self) -> Int64[ndarray, " rows_and_one"]:
        """Where each row begins; the last one ends where the values do."""
        return self._offset.data

    def extend(self, values: Shaped[ndarray, "total ..."], count: Int64[ndarray, " n"]) -> None:
        """Add rows of so many values each."""
        self._offset.extend(self._values.size + count.cumsum())
        self._values.extend(values)

    def places(
        self, rows: Shaped[ndarray, " n"]
    ) -> tuple[Int64[ndarray, " n"], Int64[ndarray, " total"]]:
        """Return the lengths of some rows, and where among all values theirs stand."""
        offset = self._offset.data
        begin = offset[rows]
        count = offset[rows + 1] - begin
        return count, spans(begin, count)

    def take(
        self, rows: Shaped[ndarray, " n"]
    ) -> tuple[Int64[ndarray, " n"], Shaped[ndarray, "total ..."]]:
        """Return the lengths of some rows, and their values one row after the other."""
        count, places = self.places(rows)
        return count, self._values.data[places]
