"""Which slots of a row are written, which are read, and what may stand in each?"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from unison.constrain.language import ConstraintError

OPEN = -1


@dataclass(frozen=True, eq=False)
class Stretch:
    """The constrained slots of one row, all N of them.

    Attributes:
        token: The token that stands in a slot, given or committed earlier; -1 where it is open.
        column: The row of the belief that speaks of this open slot; -1 where none does. Such a
            slot is *free*: any token may come there.
        hole: The hole the slot belongs to, numbered from 0; -1 where the user gave the token.
    """

    token: Int64[ndarray, " N"]
    column: Int64[ndarray, " N"]
    hole: Int64[ndarray, " N"]

    def __post_init__(self) -> None:
        if ((self.token >= 0) & (self.column >= 0)).any():
            raise ValueError("a slot that holds a token cannot also be read from the belief.")
        if ((self.token < 0) & (self.hole < 0)).any():
            raise ValueError("a slot that the user gave must hold a token; this one is open.")
        if len(np.unique(self.read_columns)) < len(self.read_columns):
            raise ValueError("a row of the belief speaks of one slot; here two slots read one row.")

    def behind(self, count: int) -> "Stretch":
        """Return all but the first slots."""
        return Stretch(self.token[count:], self.column[count:], self.hole[count:])

    def __len__(self) -> int:
        return len(self.token)

    @cached_property
    def reads(self) -> Int64[ndarray, " R"]:
        """The slots that a row of the belief speaks of."""
        return np.flatnonzero(self.column >= 0)

    @property
    def read_columns(self) -> Int64[ndarray, " R"]:
        """Their rows."""
        return self.column[self.column >= 0]

    @cached_property
    def stop(self) -> int:
        """One past the last slot that is read: behind it, all that counts is whether it ends."""
        return int(self.reads[-1]) + 1 if len(self.reads) else 0

    @cached_property
    def blurred(self) -> int:
        """The first free slot before one that is read; ``stop`` if there is none."""
        free = np.flatnonzero((self.token[: self.stop] < 0) & (self.column[: self.stop] < 0))
        return int(free[0]) if len(free) else self.stop

    @cached_property
    def settled(self) -> int:
        """One past the last slot that holds a token."""
        fixed = np.flatnonzero(self.token >= 0)
        return int(fixed[-1]) + 1 if len(fixed) else 0

    @cached_property
    def open_end(self) -> bool:
        """Whether all behind the last slot that is read is free, in one hole."""
        behind = self.hole[self.stop :]
        return self.settled <= self.stop and len(np.unique(behind)) <= 1


class Slot(NamedTuple):
    """What may stand in a slot, and what is forgotten behind it.

    Attributes:
        token: The token that stands there; -1 where the slot is open.
        null: Whether that token ends a text.
        forgets: Whether the hole ends here, and with it the fact that its text did.
        final: Whether the hole reaches the end, so that where its text ends, all does.
    """

    token: int
    null: bool
    forgets: bool
    final: bool


def slots(stretch: Stretch, nulls: tuple[int, ...]) -> list[Slot]:
    """Return what may stand in each slot.

    Raises:
        ConstraintError: If the user gave a token that ends a text.
    """
    null = np.isin(stretch.token, nulls)
    if (null & (stretch.hole < 0)).any():
        place = int(np.flatnonzero(null & (stretch.hole < 0))[0])
        raise ConstraintError(
            f"the token given in slot {place} of a constrained stretch is {stretch.token[place]}, "
            "which ends a text; leave it out, or leave the slot open."
        )
    after = np.append(stretch.hole[1:], -2)
    forgets = after != stretch.hole
    last = stretch.hole[-1] if len(stretch) else -1
    behind = np.flatnonzero(stretch.hole != last)
    final = np.arange(len(stretch)) > (behind[-1] if len(behind) else -1)
    final &= last >= 0
    return [
        Slot(*fields)
        for fields in zip(
            stretch.token.tolist(), null.tolist(), forgets.tolist(), final.tolist(), strict=True
        )
    ]
