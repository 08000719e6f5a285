"""How do the patches of an image reach each other? In one process, or between several.

Both ways have two verbs, each with a handle to wait for (``Pending``), so that a network can go
on while the others' parts are under way: rows of the neighbours ``around`` each patch, and small
numbers that ``everyone`` tells everyone. What arrives is counted in bytes, the same by both ways.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, distributed

Reach = tuple[int, int]  # rows above, rows below


class Pending(NamedTuple):
    """Something under way.

    Attributes:
        wait: Returns the parts, each with rows of the batch first; waits if it has to.
        arriving: Bytes that come from other patches.
    """

    wait: Callable[[], tuple[Tensor, ...]]
    arriving: int


@runtime_checkable
class Transport(Protocol):
    """Who holds which patches, and how they reach the others."""

    @property
    def patches(self) -> int:
        """How many there are."""
        ...

    @property
    def own(self) -> tuple[int, ...]:
        """Those held here, from the top."""
        ...

    def around(self, rows: Tensor, reach: Reach) -> Pending:
        """Fetch what lies around each patch held here.

        Args:
            rows: [own patches, batch, ..., rows, columns]; every patch has as many rows.
            reach: How many rows above and below are wanted, as far as there are any.

        Returns:
            For each patch held here what lies above it, and what lies below.
        """
        ...

    def everyone(self, values: Tensor) -> Pending:
        """Fetch what every patch says, all of the same shape.

        Args:
            values: [own patches, batch, ...].

        Returns:
            One part for each patch there is, from the top.
        """
        ...


@dataclass(frozen=True)
class OneProcess:
    """All patches are held here: a simulator, whose answers are those of so many processes.

    Attributes:
        patches: How many there are.
    """

    patches: int = 2

    def __post_init__(self) -> None:
        if self.patches < 1:
            raise ValueError(f"there must be at least 1 patch, got {self.patches}.")

    @property
    def own(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(range(self.patches))

    def around(self, rows: Tensor, reach: Reach) -> Pending:
        """Return what lies around each patch."""
        whole, each = torch.cat(tuple(rows), -2), rows.shape[-2]
        parts = []
        for patch in self.own:
            first, last = patch * each, (patch + 1) * each
            parts.append(whole[..., max(first - reach[0], 0) : first, :])
            parts.append(whole[..., last : last + reach[1], :])
        return Pending(lambda: tuple(parts), sum(map(_size, parts)))

    def everyone(self, values: Tensor) -> Pending:
        """Return what every patch says."""
        return Pending(lambda: tuple(values), (self.patches - 1) * _size(values))


@dataclass
class ManyProcesses:
    """One patch in each process of the default group of ``torch.distributed``, in their order.

    Messages are posted and not waited for until they are read: point to point for rows, so that
    neighbours alone talk where only they are wanted, and all to all for what everyone is told.
    Every process must ask the same network about events of the same shape.
    """

    _posted: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if not (distributed.is_available() and distributed.is_initialized()):
            raise ValueError(
                "patches in several processes need a group; call "
                "torch.distributed.init_process_group in each of them first."
            )

    @property
    def patches(self) -> int:
        """One for each process."""
        return distributed.get_world_size()

    @property
    def own(self) -> tuple[int, ...]:
        """The one of this process."""
        return (distributed.get_rank(),)

    def around(self, rows: Tensor, reach: Reach) -> Pending:
        """Send every process the rows it wants, and post what is wanted from it."""
        each = rows.shape[-2]
        self._posted += 1
        above, first = self._from(rows[0], -1, _wanted(each, reach[0], self.patches))
        below, second = self._from(rows[0], 1, _wanted(each, reach[1], self.patches))
        works = [*first, *second]
        works += self._to(rows[0], 1, _wanted(each, reach[0], self.patches))
        works += self._to(rows[0], -1, _wanted(each, reach[1], self.patches))
        nothing = rows[0, ..., :0, :]
        arriving = sum(map(_size, (*above, *below)))

        def wait() -> tuple[Tensor, ...]:
            while works:  # a message can be waited for only once
                works.pop()[0].wait()
            return torch.cat([nothing, *above[::-1]], -2), torch.cat([nothing, *below], -2)

        return Pending(wait, arriving)

    def everyone(self, values: Tensor) -> Pending:
        """Tell everyone."""
        told = values[0].contiguous()
        heard = [torch.empty_like(told) for _ in range(self.patches)]
        works = [work] if (work := distributed.all_gather(heard, told, async_op=True)) else []

        def wait() -> tuple[Tensor, ...]:
            while works:
                works.pop().wait()
            return tuple(heard)

        return Pending(wait, (self.patches - 1) * _size(told))

    def _from(self, like: Tensor, way: int, wanted: Sequence[int]) -> tuple[list[Tensor], list]:
        """Post what is wanted from processes above (-1) or below (1), the nearest first."""
        heard, works = [], []
        for distance, rows in enumerate(wanted, 1):
            who = self.own[0] + way * distance
            if 0 <= who < self.patches:
                shape = (*like.shape[:-2], rows, like.shape[-1])
                buffer = like.new_empty(shape)
                works.append((distributed.irecv(buffer, who, tag=self._tag(way)), buffer))
                heard.append(buffer)
        return heard, works

    def _to(self, rows: Tensor, way: int, wanted: Sequence[int]) -> list:
        """Send what processes below (1) or above (-1) want from this one."""
        works = []
        for distance, count in enumerate(wanted, 1):
            who = self.own[0] + way * distance
            if 0 <= who < self.patches:
                near = rows[..., -count:, :] if way == 1 else rows[..., :count, :]
                near = near.contiguous()
                works.append((distributed.isend(near, who, tag=self._tag(-way)), near))
        return works

    def _tag(self, way: int) -> int:
        """Return the name of a message; ``way`` is where its receiver looks for it."""
        return 2 * self._posted + (way == 1)


def _wanted(each: int, reach: int, patches: int) -> list[int]:
    """Return how many rows are wanted from patches at distance 1, 2, ... of ``each`` rows."""
    counts = [min(each, reach - each * distance) for distance in range(patches - 1)]
    return [count for count in counts if count > 0]


def _size(part: Tensor) -> int:
    return part.numel() * part.element_size()
