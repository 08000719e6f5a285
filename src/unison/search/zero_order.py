"""Zero-order search (Ma et al., 2025, arXiv:2501.09732): better noise is looked for nearby."""

from dataclasses import dataclass

from unison.prob.rng import Key
from unison.search.api import Found, Reward, Run
from unison.search.hunt import begun, blended, check_at_least


@dataclass(frozen=True)
class ZeroOrder:
    """Start from a pivot; in each round finish K neighbours of it and go to the best so far.

    Costs 1 + rounds K whole runs. With ``spread=1`` neighbours are independent of the pivot: the
    best of 1 + rounds K samples.

    Attributes:
        rounds: How often the pivot may move.
        neighbours: K.
        spread: How far neighbours are: 0 the same, 1 independent.
    """

    rounds: int = 4
    neighbours: int = 4
    spread: float = 0.3

    def __post_init__(self) -> None:
        check_at_least(1, rounds=self.rounds, neighbours=self.neighbours)
        if not 0 < self.spread <= 1:
            raise ValueError(f"spread must be in (0, 1], got {self.spread}.")

    def search(self, run: Run, reward: Reward, key: Key) -> Found:
        """Move one pivot a row."""
        hunt = begun(run, reward, key)
        streams = hunt.streams(1)
        pivot = hunt.start(streams)
        run.near(pivot, self.spread, streams)  # refuses before anything was paid for
        ended = hunt.advance(pivot, streams)
        best = hunt.judge(run.finish(ended))
        for number in range(1, self.rounds + 1):
            streams = hunt.streams(self.neighbours, number)
            starts = run.near(hunt.copies(pivot, self.neighbours), self.spread, streams)
            ends = hunt.advance(starts, streams)
            group = hunt.judge(run.finish(ends)).view(-1, self.neighbours)
            value, chosen = group.max(1)
            better = value > best
            starts, ends = (hunt.kept(s, chosen[:, None], self.neighbours) for s in (starts, ends))
            pivot, ended = blended(better, starts, pivot), blended(better, ends, ended)
            best = best.where(~better, value)
        return hunt.found(ended, best, best.long() * 0)
