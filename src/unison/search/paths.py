"""Search over paths (Ma et al., 2025, arXiv:2501.09732): branch by noising again, keep the best."""

from dataclasses import dataclass, field

from unison.prob.rng import Key
from unison.search.api import Found, Reward, Run
from unison.search.hunt import begun, check_at_least
from unison.search.value import Guessed, Value, ahead


@dataclass(frozen=True)
class Paths:
    """Take N paths some steps; again and again noise each M times, go on, and keep the best N.

    ``back=0`` with steps that hold noise is beam search: N beams of M children each. Text and
    events go back by the law of their process, so branches are fair draws of noise; what comes of
    the choice is not the sampler's law.

    Attributes:
        n: N.
        branches: M.
        first: Steps before the first branching.
        back: Steps a branch is noised back.
        ahead: Steps it then gets further than where it branched.
        value: What paths are chosen by; after the last step it is the reward.
    """

    n: int = 2
    branches: int = 4
    first: int = 1
    back: int = 1
    ahead: int = 2
    value: Value = field(default_factory=Guessed)

    def __post_init__(self) -> None:
        check_at_least(1, n=self.n, branches=self.branches, ahead=self.ahead)
        check_at_least(0, first=self.first, back=self.back)

    def search(self, run: Run, reward: Reward, key: Key) -> Found:
        """Keep N paths a row until they end."""
        hunt = begun(run, reward, key)
        streams, number = hunt.streams(self.n), 0
        state = hunt.advance(hunt.start(streams), streams, min(self.first, run.steps))
        value, group = None, self.n
        while state.step < run.steps:
            number, group = number + 1, self.n * self.branches
            streams = hunt.streams(group, number)
            state, step = hunt.copies(state, self.branches), state.step
            to = max(step - self.back, 0)
            state = run.back(state, to, streams) if to < step else state
            state = hunt.advance(state, streams, min(step + self.ahead, run.steps) - to)
            value, state = ahead(hunt, self.value, state, streams, 0.0)
            order = value.view(-1, group).sort(dim=1, descending=True, stable=True).indices
            if state.step < run.steps:
                state = hunt.kept(state, order[:, : self.n], group)
        value = hunt.judge(run.finish(state)) if value is None else value
        return hunt.found(state, value, value.view(-1, group).argmax(1))
