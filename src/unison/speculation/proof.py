"""Is what is written really the target's law? Every random choice, gone through one by one."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from unison.speculation import tree as trees
from unison.speculation.choosing import Live, Row, Weights
from unison.speculation.loop import Ask, Speculation, speculate
from unison.speculation.parts import Policy, Target, Text

Exactly = dict[tuple[int, ...], float]


class Scripted:
    """A chooser of one row that follows a script, then the first way that is possible.

    Args:
        script: Which of the possible ways to go, choice by choice.
    """

    def __init__(self, script: Sequence[int]) -> None:
        self.script = list(script)
        self.taken: list[tuple[int, int]] = []  # way and number of ways of each choice
        self.weight = 1.0

    def __call__(self, seed: Row, round: Row, written: Row) -> "Scripted":
        """Return itself, for every round of a run."""
        del round, written
        if len(seed) != 1:
            raise ValueError(f"a script is for one row, got {len(seed)}.")
        return self

    def _pick(self, chances: Sequence[float]) -> int:
        ways = [i for i, chance in enumerate(chances) if chance > 0]
        number = len(self.taken)
        way = self.script[number] if number < len(self.script) else 0
        self.taken.append((way, len(ways)))
        self.weight *= chances[ways[way]]
        return ways[way]

    def accept(self, chance: Tensor, node: Row, live: Live) -> Live:
        """See ``Chooser``."""
        del node
        if not bool(live[0]):
            return torch.zeros_like(live)
        one = float(chance[0])
        return torch.tensor([self._pick([1 - one, one]) == 1])

    def write(self, logp: Weights, depth: Row, live: Live) -> Row:
        """See ``Chooser``."""
        del depth
        return torch.tensor([self._drawn(logp[0]) if bool(live[0]) else 0])

    def guess(self, logq: Weights, node: Row, rank: int, live: Live) -> Row:
        """See ``Chooser``."""
        del node, rank
        return torch.tensor([self._drawn(logq[0]) if bool(live[0]) else 0])

    def deal(self, logq: Weights, count: int, node: Row, live: Live) -> Int[Tensor, "B K"]:
        """See ``Chooser``."""
        del node
        if not bool(live[0]):
            return torch.zeros((1, count), dtype=torch.int64)
        left, drawn = logq[0].clone(), []
        for _ in range(count):
            drawn.append(self._drawn(left))
            left[drawn[-1]] = -torch.inf
        return torch.tensor([drawn])

    def _drawn(self, logp: Tensor) -> int:
        return self._pick(logp.double().softmax(0).tolist())


def all_ways(run: Callable[[Scripted], tuple[int, ...]]) -> Iterator[tuple[tuple[int, ...], float]]:
    """Yield every result a random procedure can have, with its probability; results may repeat.

    Args:
        run: The procedure, given its choices.
    """
    script: list[int] = []
    while True:
        chooser = Scripted(script)
        result = run(chooser)
        yield result, chooser.weight
        trail = chooser.taken
        while trail and trail[-1][0] + 1 == trail[-1][1]:
            trail.pop()
        if not trail:
            return
        script = [way for way, _ in trail[:-1]] + [trail[-1][0] + 1]


class Proof(NamedTuple):
    """How far what is written is from the law it should have.

    Attributes:
        error: Largest difference of a text's probability.
        distance: Total variation distance.
        ways: Ways the random choices can fall.
        forwards: Mean evaluations of the target behind a text.
    """

    error: float
    distance: float
    ways: int
    forwards: float


def prove(how: Speculation, target: Target, prompt: Sequence[int], horizon: int) -> Proof:
    """Compare the exact law of the first ``horizon`` tokens with the policy's own.

    For small vocabularies: the number of ways grows exponentially. Stochastic beams cannot be
    gone through, as they draw real numbers.

    Args:
        how: The parts.
        target: A model of a few tokens.
        prompt: Tokens before.
        horizon: Tokens to write.
    """
    law, ways, forwards = written_law(how, target, prompt, horizon)
    truth = own_law(how.policy, target, prompt, horizon)
    texts = {*law, *truth}
    gaps = [abs(law.get(text, 0.0) - truth.get(text, 0.0)) for text in texts]
    return Proof(max(gaps), sum(gaps) / 2, ways, forwards)


def written_law(
    how: Speculation, target: Target, prompt: Sequence[int], horizon: int
) -> tuple[Exactly, int, float]:
    """Return the law of what is written, the number of ways, and the mean number of forwards."""
    law: Exactly = {}
    forwards: list[int] = []
    mean, ways = 0.0, 0

    def run(chooser: Scripted) -> tuple[int, ...]:
        spoken = speculate(how, target, asked(target, prompt, horizon), choosing=chooser)
        forwards.append(spoken.forwards[0])
        return tuple(spoken.tokens[0])

    for text, weight in all_ways(run):
        law[text] = law.get(text, 0.0) + weight
        mean += weight * forwards.pop()
        ways += 1
    return law, ways, mean


def own_law(policy: Policy, target: Target, prompt: Sequence[int], horizon: int) -> Exactly:
    """Return the law of the first tokens under a policy, token by token."""
    laws: list[Exactly] = [{(): 1.0}]
    for _ in range(horizon):
        longer: Exactly = {}
        for text, weight in laws[-1].items():
            chances = _next(policy, target, [*prompt, *text])
            for token, chance in enumerate(chances):
                if chance > 0:
                    longer[(*text, token)] = weight * chance
        laws.append(longer)
    return laws[-1]


def asked(target: Target, prompt: Sequence[int], horizon: int) -> Ask:
    """Return what to write behind one prompt."""
    tokens = torch.tensor([[target.begin, *prompt]])
    length = torch.tensor([tokens.shape[1]])
    return Ask(Text(tokens, length), [horizon], torch.zeros(1, dtype=torch.int64))


def _next(policy: Policy, target: Target, text: list[int]) -> list[float]:
    ask = asked(target, text, 1).text
    reading, judging = target.open(1, policy.taps), policy.open(target, 1)
    judging.begin(ask, reading.read(ask.tokens[:, :-1], ask.length - 1))
    tree = trees.planted(ask.tokens[:, -1], target.vocab_size)
    logp = judging.law(tree, reading.score(tree)).at(torch.zeros_like(ask.length))
    return logp[0].double().exp().tolist()
