"""Does compiling pay here? Both ways take turns, and the compiled one must win every turn.

Without a difference a turn favours either with probability one half, so all seven favour the
compiled one by luck in fewer than 1 of 100 trials.
"""

import statistics
from collections.abc import Callable
from typing import NamedTuple

ROUNDS = 7
LEAST = 1.03  # a smaller gain is not worth waiting for a compiler

Clock = Callable[[], float]


class Trial(NamedTuple):
    """How much faster the compiled one was.

    Attributes:
        ratios: Seconds as written over seconds compiled, round by round.
    """

    ratios: tuple[float, ...]

    @property
    def gain(self) -> float:
        """The median ratio."""
        return statistics.median(self.ratios)

    @property
    def pays(self) -> bool:
        """Whether it was faster in every round, and by enough in the middle one."""
        return min(self.ratios) > 1 and self.gain >= LEAST

    def __str__(self) -> str:
        low, high = min(self.ratios), max(self.ratios)
        return (
            f"{self.gain:.2f} times as fast ({low:.2f} to {high:.2f} in {len(self.ratios)} turns)"
        )


def tried(
    plain: Callable[[], object],
    made: Callable[[], object],
    clock: Clock,
    rounds: int = ROUNDS,
) -> Trial:
    """Return how two ways to do the same compare.

    Args:
        plain: The first.
        made: The second, already warm.
        clock: Seconds; of a device, after waiting for it.
        rounds: Turns of each.
    """
    plain()
    made()
    return Trial(tuple(_seconds(plain, clock) / _seconds(made, clock) for _ in range(rounds)))


def _seconds(work: Callable[[], object], clock: Clock) -> float:
    began = clock()
    work()
    return max(clock() - began, 1e-9)
