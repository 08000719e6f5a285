"""How much of the work was done?"""

from dataclasses import dataclass, field


@dataclass
class Tally:
    """What was computed, by row of the first batch.

    Attributes:
        computed: Positions that passed through the network.
        whole: Positions that would have without a cache.
        calls: Evaluations.
    """

    computed: dict[int, int] = field(default_factory=dict)
    whole: dict[int, int] = field(default_factory=dict)
    calls: dict[int, int] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Positions computed over those without a cache, of all rows together."""
        return sum(self.computed.values()) / max(sum(self.whole.values()), 1)

    def add(self, row: int, computed: int, whole: int) -> None:
        """Count one evaluation of one row."""
        for counts, number in ((self.computed, computed), (self.whole, whole), (self.calls, 1)):
            counts[row] = counts.get(row, 0) + number
