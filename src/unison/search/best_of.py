"""The best of N samples: random search, which every other search must beat at equal cost."""

from dataclasses import dataclass

from unison.prob.rng import Key
from unison.search.api import Found, Reward, Run
from unison.search.hunt import begun, check_at_least


@dataclass(frozen=True)
class BestOf:
    """Draw N samples and keep the one of highest reward.

    With distinct rewards its law is N F(r)^(N-1) times the sampler's, F the distribution function
    of the reward, and its divergence from the sampler's at most log N - (N - 1) / N, with equality
    where the reward has a density (Beirami et al., 2024, arXiv:2401.01879).

    Attributes:
        n: N.
    """

    n: int = 8

    def __post_init__(self) -> None:
        check_at_least(1, n=self.n)

    def search(self, run: Run, reward: Reward, key: Key) -> Found:
        """Run N candidates a row to their end."""
        hunt = begun(run, reward, key)
        streams = hunt.streams(self.n)
        state = hunt.advance(hunt.start(streams), streams)
        judged = hunt.judge(run.finish(state))
        return hunt.found(state, judged, judged.view(-1, self.n).argmax(1))
