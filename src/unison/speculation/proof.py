"""Is what is written really the target's law? Every random choice, gone through one by one."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from unison.speculation import tree as trees
from unison.speculation.choosing import Live, Row, Weights
from unison.speculation.loop import Ask, Speculation, speculate
from unison.speculation.parts import Policy, Target, Text

Exactly = dict[tuple[int, ...], float]
Script = tuple[int, ...]
Result = TypeVar("Result")

_AT_ONCE = 256  # ways gone through as the rows of one batch


class Scripted:
    """A chooser whose rows follow a script each, then the first outcome that is possible.

    Rows are known by their seeds: row s has seed s.

    Args:
        scripts: Outcomes of the choices, one after another.
    """

    def __init__(self, scripts: Sequence[Script]) -> None:
        self.scripts = scripts
        self.taken: list[list[int]] = [[] for _ in scripts]
        self.others: list[list[list[int]]] = [
            [] for _ in scripts
        ]  # possible, beside what was taken
        self.weights = [1.0] * len(scripts)
        self.rows: list[int] = []

    def __call__(self, seed: Row, round: Row, written: Row) -> "Scripted":
        """Return itself, for every round of a run."""
        del round, written
        self.rows = seed.tolist()
        return self

    def accept(self, chance: Tensor, node: Row, live: Live) -> Live:
        """See ``Chooser``."""
        del node
        return self._each(torch.stack([1 - chance, chance], dim=1), live) == 1

    def write(self, logp: Weights, depth: Row, live: Live) -> Row:
        """See ``Chooser``."""
        del depth
        return self._each(logp.double().softmax(1), live)

    def guess(self, logq: Weights, node: Row, rank: int, live: Live) -> Row:
        """See ``Chooser``."""
        del node, rank
        return self._each(logq.double().softmax(1), live)

    def deal(self, logq: Weights, count: int, node: Row, live: Live) -> Int[Tensor, "B K"]:
        """See ``Chooser``."""
        del node
        left, drawn = logq.double(), []
        for _ in range(count):
            some = live & (left > -torch.inf).any(1)
            drawn.append(self._each(left.softmax(1), some))
            left = left.scatter(1, drawn[-1][:, None], -torch.inf)
        return torch.stack(drawn, dim=1) if drawn else left[:, :0].long()

    def noise(self, count: int, node: Row, live: Live) -> Tensor:
        """Refuse: real numbers cannot be gone through.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "the builder draws real numbers, as a stochastic beam does, and a proof goes through "
            "every random choice: there is no end of them. Compare samples with the law instead."
        )

    def _each(self, chances: Tensor, live: Live) -> Row:
        """Return the outcome of each row that needs one, 0 elsewhere."""
        rows = zip(self.rows, chances.tolist(), live.tolist(), strict=True)
        return torch.tensor([self._pick(row, one) if asks else 0 for row, one, asks in rows])

    def _pick(self, row: int, chances: list[float]) -> int:
        number, script = len(self.taken[row]), self.scripts[row]
        possible = [way for way, chance in enumerate(chances) if chance > 0]
        told = number < len(script)
        way = script[number] if told else possible[0]
        self.taken[row].append(way)
        self.others[row].append([] if told else possible[1:])
        self.weights[row] *= chances[way]
        return way


def all_ways(run: Callable[[Scripted], Sequence[Result]]) -> Iterator[tuple[Result, float]]:
    """Yield every result a random procedure can have, with its probability; results may repeat.

    Args:
        run: The procedure in as many rows as there are scripts, given its choices.
    """
    waiting: list[Script] = [()]
    while waiting:
        chooser = Scripted(waiting[-_AT_ONCE:])
        del waiting[-_AT_ONCE:]
        results = run(chooser)
        yield from zip(results, chooser.weights, strict=True)
        for taken, others in zip(chooser.taken, chooser.others, strict=True):
            waiting += [
                (*taken[:number], way) for number, ways in enumerate(others) for way in ways
            ]


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
    mean, ways = 0.0, 0

    def run(chooser: Scripted) -> list[tuple[tuple[int, ...], int]]:
        ask = asked(target, prompt, horizon, len(chooser.scripts))
        spoken = speculate(how, target, ask, choosing=chooser)
        return [(tuple(text), n) for text, n in zip(spoken.tokens, spoken.forwards, strict=True)]

    for (text, forwards), weight in all_ways(run):
        law[text] = law.get(text, 0.0) + weight
        mean += weight * forwards
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


def asked(target: Target, prompt: Sequence[int], horizon: int, rows: int = 1) -> Ask:
    """Return what to write behind a prompt, so many times; the seed of a row is its number."""
    tokens = torch.tensor([[target.begin, *prompt]]).repeat(rows, 1)
    length = torch.full((rows,), tokens.shape[1])
    return Ask(Text(tokens, length), [horizon] * rows, torch.arange(rows))


def _next(policy: Policy, target: Target, text: list[int]) -> list[float]:
    ask = asked(target, text, 1).text
    reading, judging = target.open(1, policy.taps), policy.open(target, 1)
    judging.begin(ask, reading.read(ask.tokens[:, :-1], ask.length - 1))
    tree = trees.planted(ask.tokens[:, -1], target.vocab_size)
    logp = judging.law(tree, reading.score(tree)).at(torch.zeros_like(ask.length))
    return logp[0].double().exp().tolist()
