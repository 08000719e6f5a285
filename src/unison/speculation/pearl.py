"""What if the drafter went on while the target reads? Both at once, as PEARL does."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unison.speculation import tree as trees
from unison.speculation.choosing import Chooser, Keyed
from unison.speculation.loop import Ask, Choosing, Spoken
from unison.speculation.parts import (
    Drafter,
    Drafting,
    Judging,
    Outcome,
    Policy,
    Reading,
    Scores,
    Target,
    Text,
)
from unison.speculation.policies.plain import Plain
from unison.speculation.rejection import chance, left_over
from unison.speculation.tree import How, Level, Tree, planted


@dataclass(frozen=True)
class Pearl:
    """Draft and verify concurrently (Liu et al., 2025, arXiv:2408.11850).

    After a rejection the target reads the last written token while the drafter writes a block,
    and the first draft alone is tested (pre-verify). While all passes, the target reads the block
    before while the drafter writes the next one, and what is tested is the rest of the block
    before and the first draft of the next (post-verify).

    Law: the target's. Each draft is tested once, with the law it was drawn from and the target's
    own, by the rule of ``token``. What is written does not depend on the blocks: whatever the
    length, and whoever is faster, a seed gives one text.

    Attributes:
        drafter: Guesses token by token, with a memory of its own.
        length: Drafts of a block; ``None`` for as many as are made while the target reads.
        most: Drafts of a block at most.
        sampled: Draw drafts; else take the likeliest.
        policy: Names the law.
        concurrent: Read in another thread; else one after the other, to the same text.

    Raises:
        ValueError: The drafter copies, a number is below 1, or a length is needed.
    """

    drafter: Drafter
    length: int | None = None
    most: int = 16
    sampled: bool = True
    policy: Policy = field(default_factory=Plain)
    concurrent: bool = True

    def __post_init__(self) -> None:
        if self.drafter.copies:
            raise ValueError(
                f"{type(self.drafter).__name__} copies whole texts, which takes no time to hide; "
                "use speculate with it."
            )
        if self.most < 1 or (self.length is not None and self.length < 1):
            raise ValueError(
                f"length and most must be at least 1, got {self.length} and {self.most}."
            )
        if self.length is None and not self.concurrent:
            raise ValueError(
                "where target and drafter take turns, nothing says how long to draft: give length."
            )


class Step(NamedTuple):
    """What an observer sees after each evaluation of the target.

    Attributes:
        row: The text.
        fresh: Whether it was a pre-verify step.
        tested: Drafts tested.
        passed: Drafts that passed.
    """

    row: int
    fresh: bool
    tested: int
    passed: int


OnStep = Callable[[Step], None]


@dataclass
class _Epoch:
    """One row from one rejection to the next.

    Attributes:
        tree: The chain drafted since.
        laws: What each draft was drawn from.
        verified: Drafts that passed: the last is written, and not yet remembered by the target.
        scores: Of the nodes that the target has read.
    """

    tree: Tree
    laws: list[Float[Tensor, "1 V"]]
    verified: int
    scores: list[Scores]


class _Row(NamedTuple):
    """What a text is written with."""

    reading: Reading
    judging: Judging
    drafting: Drafting


def pearl(
    how: Pearl,
    target: Target,
    ask: Ask,
    on_step: OnStep | None = None,
    choosing: Choosing = Keyed,
) -> Spoken:
    """Write, one row after the other: what runs at the same time is the target and the drafter.

    Args:
        how: The parts.
        target: The model; it must share no memory with the drafter.
        ask: Prompts and room.
        on_step: Observer; must not mutate.
        choosing: Makes the chooser of an epoch from seed, number and tokens written.
    """
    rows = len(ask.room)
    prefill = (ask.text.length > 1).long().tolist()
    spoken = Spoken([[] for _ in range(rows)], [[] for _ in range(rows)], prefill, True)
    backend = ThreadPoolExecutor(1) if how.concurrent else nullcontext()
    with backend as executor:
        for row in range(rows):
            writer = _Writer(how, target, ask, row, spoken, executor)
            writer.write(choosing, on_step)
    return spoken


class _Writer:
    """Writes one text."""

    def __init__(
        self,
        how: Pearl,
        target: Target,
        ask: Ask,
        row: int,
        spoken: Spoken,
        executor: Executor | None,
    ) -> None:
        self.how, self.target, self.row, self.executor = how, target, row, executor
        self.ends, self.seed = ask.ends, ask.seed[row : row + 1]
        count = int(ask.text.length[row])
        self.inputs: list[int] = ask.text.tokens[row, :count].tolist()
        self.tokens, self.rounds = spoken.tokens[row], spoken.rounds[row]
        self.forwards = spoken.forwards
        self.room = min(ask.room[row], target.max_length - count)
        self.device = ask.text.tokens.device
        self.steps = 0

    @property
    def left(self) -> int:
        """Tokens still to write."""
        return self.room - len(self.tokens)

    def write(self, choosing: Choosing, on_step: OnStep | None) -> None:
        """Write until an end or no room is left."""
        parts, epoch = self._opened(), 0
        while self.left > 0:
            one = torch.ones(1, dtype=torch.int64, device=self.device)
            choose = choosing(self.seed.to(self.device), one * epoch, one * len(self.tokens))
            self._epoch(parts, choose, on_step)
            epoch += 1

    def _opened(self) -> _Row:
        taps = sorted({*self.how.policy.taps, *self.how.drafter.taps})
        parts = _Row(
            self.target.open(1, tuple(taps)),
            self.how.policy.open(self.target, 1),
            self.how.drafter.open(self.target, 1),
        )
        tokens = torch.tensor([self.inputs], device=self.device)
        text = Text(tokens, torch.tensor([len(self.inputs)], device=self.device))
        scores = parts.reading.read(tokens[:, :-1], text.length - 1)
        parts.judging.begin(text, scores)
        parts.drafting.begin(text, scores)
        return parts

    def _epoch(self, parts: _Row, choose: Chooser, on_step: OnStep | None) -> None:
        """Write up to the next rejection, the correction included, or to the end of the text."""
        root = torch.tensor(self.inputs[-1:], device=self.device)
        epoch = _Epoch(planted(root, self.target.vocab_size), [], 0, [])
        room, start = self.left, len(self.tokens)
        correction: int | None = None
        while correction is None and self.left > 0:
            verified, drafted = epoch.verified, len(epoch.laws)
            segment = _segment(epoch.tree, verified)
            ready, said = self._scored(parts.reading, segment)
            most = min(self.how.length or self.how.most, self.how.most, room - drafted)
            for number in range(most):
                if number and self.how.length is None and ready():
                    break
                self._draft(epoch, parts.drafting, choose)
            scores = said()
            self.forwards[self.row] += 1
            self.steps += 1
            passed, correction = self._tested(epoch, parts.judging, segment, scores, choose)
            self._commit(parts, epoch, segment, passed)
            epoch.scores.append(scores)
            self._say(epoch, passed, correction)
            if on_step is not None:
                tested = passed + (correction is not None)
                on_step(Step(self.row, verified == 0, tested, passed))
        if self.left > 0:
            parts.drafting.observe(_outcome(epoch, self.tokens[start:]))

    def _scored(
        self, reading: Reading, segment: Tree
    ) -> tuple[Callable[[], bool], Callable[[], Scores]]:
        """Return whether the target has read, and what it says; it may be under way."""
        if self.executor is None:
            return (lambda: True), (lambda: reading.score(segment))
        future: Future[Scores] = self.executor.submit(reading.score, segment)
        return future.done, future.result

    def _draft(self, epoch: _Epoch, drafting: Drafting, choose: Chooser) -> None:
        """Add a draft to the chain."""
        live = torch.ones(1, dtype=torch.bool, device=self.device)
        tree = epoch.tree
        last = torch.full((1,), tree.tokens.shape[1] - 1, device=self.device)
        guess = drafting.guess(tree, last[:, None])
        law = guess.logq[:, 0]
        if self.how.sampled:
            token, how = choose.guess(law, last, 0, live), How.IID
        else:
            token, how = law.argmax(1), How.FIXED
            law = torch.full_like(law, -torch.inf).scatter(1, token[:, None], 0.0)
        epoch.laws.append(law)
        epoch.tree = _longer(tree, token, last, how)

    def _tested(
        self, epoch: _Epoch, judging: Judging, segment: Tree, scores: Scores, choose: Chooser
    ) -> tuple[int, int | None]:
        """Return how many drafts passed, and the token that is written in place of the next.

        All whose parents the target has just read are tested, if there are as many.
        """
        law = judging.law(segment, scores)
        live = torch.ones(1, dtype=torch.bool, device=self.device)
        count = min(segment.tokens.shape[1], len(epoch.laws) - epoch.verified)
        for number in range(count):
            node = torch.full((1,), epoch.verified + number + 1, device=self.device)
            p = law.at(torch.full_like(node, number)).double().exp()
            q = epoch.laws[int(node) - 1].double().exp()
            draft = epoch.tree.tokens[:, int(node)]
            if not bool(choose.accept(chance(p, q, draft), node, live)):
                written = choose.write(left_over(p, q).log(), node - 1, live)
                return number, int(written)
            if int(draft) in self.ends:
                return number + 1, None
        return count, None

    def _commit(self, parts: _Row, epoch: _Epoch, segment: Tree, passed: int) -> None:
        """Let the target remember what was read and written: all but the last written token."""
        kept = min(passed + 1, segment.tokens.shape[1])
        path = torch.arange(segment.tokens.shape[1], device=self.device)
        path = torch.where(path < kept, path, -1)[None]
        parts.reading.commit(path)
        parts.judging.commit(path)
        epoch.verified += passed

    def _say(self, epoch: _Epoch, passed: int, correction: int | None) -> None:
        """Write what passed, and the correction, up to the first end."""
        first = epoch.verified - passed + 1
        said = epoch.tree.tokens[0, first : epoch.verified + 1].tolist()
        said += [] if correction is None else [correction]
        self.tokens.extend(said)
        self.rounds.extend([self.steps] * len(said))
        self.inputs.extend(said)
        if said and said[-1] in self.ends:
            self.room = len(self.tokens)


def _segment(tree: Tree, verified: int) -> Tree:
    """Return the chain from a node on as a tree of its own."""
    tokens = tree.tokens[:, verified:]
    segment = planted(tokens[:, 0], tree.laws.shape[-1], tree.laws.dtype)
    for number in range(1, tokens.shape[1]):
        last = torch.full_like(tokens[:, 0], number - 1)
        segment = _longer(segment, tokens[:, number], last, How.FIXED)
    return segment


def _longer(tree: Tree, token: Tensor, last: Tensor, how: How) -> Tree:
    """Return a chain with one token more."""
    token, last = token[:, None], last[:, None]
    zero, real = torch.zeros_like(token), torch.zeros(token.shape, device=token.device)
    level = Level(token, last, zero, zero + int(how), real, real + 1, zero == 0)
    return trees.sized(trees.grown(tree, level), 1, tree.tokens.shape[1])


def _outcome(epoch: _Epoch, written: Sequence[int]) -> Outcome:
    """Return what the drafter hears: one round from rejection to rejection."""
    parts = epoch.scores
    logits = [one.logits for one in parts if one.logits is not None]
    scores = Scores(
        torch.cat(logits, dim=1),
        torch.cat([one.hidden for one in parts], dim=1),
        {tap: torch.cat([one.taps[tap] for one in parts], dim=1) for tap in parts[0].taps},
    )
    read = scores.hidden.shape[1]
    keep = torch.arange(epoch.tree.tokens.shape[1], device=epoch.tree.tokens.device) < read
    tree = trees.pruned(epoch.tree, keep[None], read)._replace(height=read - 1)
    path = torch.arange(epoch.verified + 1, device=keep.device)[None]
    tokens = torch.tensor([list(written)], device=keep.device)
    return Outcome(tree, scores, path, tokens, (len(written),), (epoch.verified,))
