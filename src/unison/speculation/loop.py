"""How is a text written several tokens at once? Draft, score, verify, commit, again."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unison.speculation import tree as trees
from unison.speculation.builders.chain import Chain
from unison.speculation.choosing import Chooser, Keyed
from unison.speculation.parts import (
    Builder,
    Drafter,
    Drafting,
    Judging,
    Outcome,
    Plan,
    Policy,
    Reading,
    Scheduler,
    Scores,
    Target,
    Text,
    Verdict,
    Verifier,
)
from unison.speculation.policies.plain import Plain
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.tree import Tree
from unison.speculation.verifiers.match import Match


@dataclass(frozen=True)
class Speculation:
    """A choice of parts.

    Attributes:
        drafter: Guesses; ``None`` for plain decoding, one token a round.
        builder: Makes a tree of guesses.
        verifier: Picks what is written.
        scheduler: Says how much to draft.
        policy: Names the law.
        target: What is asked instead of the model itself, such as one that listens to another;
            read by ``unison.generate``, while ``speculate`` takes its target as an argument.

    Raises:
        ValueError: The parts do not fit each other.
    """

    drafter: Drafter | None = None
    builder: Builder = field(default_factory=Chain)
    verifier: Verifier = field(default_factory=Match)
    scheduler: Scheduler = field(default_factory=Fixed)
    policy: Policy = field(default_factory=Plain)
    target: Target | None = None

    def __post_init__(self) -> None:
        reason = refusal(self)
        if reason is not None:
            raise ValueError(reason)

    @property
    def lossless(self) -> bool:
        """Whether what is written has the law of the policy, whatever the drafter guesses."""
        return self.drafter is None or (self.verifier.lossless and not self.scheduler.foresees)


def refusal(how: Speculation) -> str | None:
    """Return why these parts do not fit each other, or ``None``."""
    if how.drafter is None:
        return None
    names = [type(part).__name__ for part in (how.drafter, how.builder, how.verifier)]
    if how.drafter.copies != how.builder.copies:
        kinds = ("laws of the next token", "whole texts")
        return (
            f"{names[0]} guesses {kinds[how.drafter.copies]} and {names[1]} builds from "
            f"{kinds[how.builder.copies]}; use a builder for {kinds[how.drafter.copies]}."
        )
    if how.builder.branches and not how.verifier.branches:
        return f"{names[2]} verifies chains and {names[1]} builds trees; use Chain, or Match."
    strange = how.builder.draws - how.verifier.takes
    if strange:
        told = ", ".join(sorted(one.name for one in strange))
        kept = ", ".join(sorted(one.name for one in how.verifier.takes))
        return (
            f"{names[1]} chooses drafts {told} and {names[2]} keeps the target's law for {kept} "
            "alone: what it wrote would be biased. Use Match, or another builder."
        )
    return None


class Ask(NamedTuple):
    """What is to be written.

    Attributes:
        text: The prompts, begin tokens first.
        room: Most tokens to write behind each.
        seed: Random stream of each row.
        ends: Tokens that end a text.
    """

    text: Text
    room: Sequence[int]
    seed: Int[Tensor, " B"]
    ends: Sequence[int] = ()


class Spoken(NamedTuple):
    """What was written.

    Attributes:
        tokens: Of each row, an end token included.
        rounds: The number of the round, from 1, that wrote each.
        forwards: Evaluations of the target that each row took part in, that of the prompt
            included where it has more than one input.
        lossless: Whether the texts have the law of the policy.
    """

    tokens: list[list[int]]
    rounds: list[list[int]]
    forwards: list[int]
    lossless: bool


class Round(NamedTuple):
    """What an observer sees after each round.

    Attributes:
        number: From 1.
        rows: Numbers of the rows that took part, in the first batch.
        outcome: What was drafted and written.
        verdict: What the verifier decided.
        seconds: Time of each part: draft, score, verify, commit.
    """

    number: int
    rows: Sequence[int]
    outcome: Outcome
    verdict: Verdict
    seconds: Mapping[str, float]


OnRound = Callable[[Round], None]
Choosing = Callable[[Int[Tensor, " B"], Int[Tensor, " B"], Int[Tensor, " B"]], Chooser]


class _Batch(NamedTuple):
    """The rows still being written; lists are on the host."""

    rows: list[int]
    reading: Reading
    judging: Judging
    drafting: Drafting | None
    memory: Any
    root: Int[Tensor, " B"]
    seed: Int[Tensor, " B"]
    round: Int[Tensor, " B"]
    written: Int[Tensor, " B"]
    left: list[int]
    inputs: list[int]


def speculate(
    how: Speculation,
    target: Target,
    ask: Ask,
    on_round: OnRound | None = None,
    choosing: Choosing = Keyed,
) -> Spoken:
    """Write.

    Args:
        how: The parts.
        target: The model.
        ask: Prompts and room.
        on_round: Observer; must not mutate.
        choosing: Makes the chooser of a round from seeds, rounds and tokens written.

    Raises:
        ValueError: The target cannot read trees and the builder makes them, or the drafter does
            not fit the target.
    """
    if how.drafter is not None and how.builder.branches and not target.branches:
        raise ValueError(
            f"{type(how.builder).__name__} builds trees and this target reads chains alone; use "
            "Chain with a drafter that guesses token by token."
        )
    batch = _opened(how, target, ask)
    prefill = (ask.text.length > 1).long().tolist()
    spoken = Spoken([[] for _ in ask.room], [[] for _ in ask.room], prefill, how.lossless)
    batch = _without_finished(how, batch)
    number = 0
    while batch.rows:
        number += 1
        batch, seen = _round(how, target, ask, batch, choosing, number)
        told = seen.outcome.tokens.tolist()
        for row, tokens, count in zip(seen.rows, told, seen.outcome.count, strict=True):
            spoken.tokens[row] += tokens[:count]
            spoken.rounds[row] += [number] * count
            spoken.forwards[row] += 1
        if on_round is not None:
            on_round(seen)
        batch = _without_finished(how, batch)
    return spoken


def _opened(how: Speculation, target: Target, ask: Ask) -> _Batch:
    """Return the batch after the prompt, all but its last input, has been read."""
    rows = len(ask.room)
    taps = set(how.policy.taps) | (set() if how.drafter is None else set(how.drafter.taps))
    reading = target.open(rows, tuple(sorted(taps)))
    judging = how.policy.open(target, rows)
    drafting = None if how.drafter is None else how.drafter.open(target, rows)
    tokens, length = ask.text
    scores = reading.read(tokens[:, : tokens.shape[1] - 1], length - 1)
    judging.begin(ask.text, scores)
    if drafting is not None:
        drafting.begin(ask.text, scores)
    root = tokens.gather(1, length[:, None] - 1)[:, 0]
    inputs = length.tolist()
    left = [min(room, target.max_length - n) for room, n in zip(ask.room, inputs, strict=True)]
    zero = torch.zeros_like(root)
    return _Batch(
        list(range(rows)),
        reading,
        judging,
        drafting,
        how.scheduler.start(rows),
        root,
        ask.seed.to(root.device),
        zero,
        zero,
        left,
        inputs,
    )


def _round(
    how: Speculation,
    target: Target,
    ask: Ask,
    batch: _Batch,
    choosing: Choosing,
    number: int,
) -> tuple[_Batch, Round]:
    """Return the batch after a round, and what happened in it."""
    choose = choosing(batch.seed, batch.round, batch.written)
    times = [time.perf_counter()]
    tree = _drafted(how, target, batch, choose)
    times.append(time.perf_counter())
    scores = batch.reading.score(tree)
    times.append(time.perf_counter())
    verdict = how.verifier.verify(tree, batch.judging.law(tree, scores), scores, choose)
    outcome = _written(tree, scores, verdict, ask.ends)
    times.append(time.perf_counter())
    batch.reading.commit(outcome.path)
    batch.judging.commit(outcome.path)
    if batch.drafting is not None:
        batch.drafting.observe(outcome)
    times.append(time.perf_counter())
    parts = ("draft", "score", "verify", "commit")
    seconds: dict[str, float] = dict(zip(parts, (b - a for a, b in pairwise(times)), strict=True))
    counted = torch.tensor(outcome.count, device=batch.root.device)
    after = batch._replace(
        memory=how.scheduler.learn(batch.memory, outcome, seconds),
        root=outcome.tokens.gather(1, counted[:, None] - 1)[:, 0],
        round=batch.round + 1,
        written=batch.written + counted,
        left=[
            0 if ended else left - count
            for left, count, ended in zip(
                batch.left, outcome.count, _ended(outcome, ask.ends), strict=True
            )
        ],
        inputs=[have + count for have, count in zip(batch.inputs, outcome.count, strict=True)],
    )
    return after, Round(number, list(batch.rows), outcome, verdict, seconds)


def _drafted(how: Speculation, target: Target, batch: _Batch, choose: Chooser) -> Tree:
    """Return the trees, no deeper than there is room for what follows them."""
    tree = trees.planted(batch.root, target.vocab_size)
    if batch.drafting is None:
        return tree
    depth = tuple(left - 1 for left in batch.left)
    most = Plan(depth, tuple(how.builder.size(one) for one in depth))
    plan = how.scheduler.plan(batch.memory, most)

    def go_on(tree: Tree) -> Bool[Tensor, " B"]:
        return how.scheduler.go_on(batch.memory, tree)

    tree = how.builder.build(tree, batch.drafting, plan, choose, go_on)
    return batch.drafting.finish(tree)


def _written(tree: Tree, scores: Scores, verdict: Verdict, ends: Sequence[int]) -> Outcome:
    """Return what is written: up to the first end, else the path and the token behind it.

    The one place of a round where the host waits for the device.
    """
    path, accepted = verdict.path, verdict.accepted
    drafts = trees.path_tokens(tree, path)
    tokens = torch.cat([drafts[:, 1:], torch.full_like(drafts[:, :1], -1)], dim=1)
    tokens = tokens.scatter(1, accepted[:, None], verdict.token[:, None])
    stops = torch.isin(tokens, torch.tensor(list(ends), dtype=torch.int64, device=tokens.device))
    place = torch.arange(tokens.shape[1], device=tokens.device)
    count = torch.where(stops.any(1), stops.long().argmax(1), accepted) + 1
    tokens = torch.where(place < count[:, None], tokens, -1)
    path = torch.where(place < count[:, None], path, -1)
    host = torch.stack([count, accepted]).tolist()
    return Outcome(tree, scores, path, tokens, tuple(host[0]), tuple(host[1]))


def _ended(outcome: Outcome, ends: Sequence[int]) -> list[bool]:
    last = [row[n - 1] for row, n in zip(outcome.tokens.tolist(), outcome.count, strict=True)]
    return [token in ends for token in last]


def _without_finished(how: Speculation, batch: _Batch) -> _Batch:
    """Return the batch without the rows that have no room left."""
    going = [i for i, left in enumerate(batch.left) if left > 0]
    if len(going) == len(batch.left):
        return batch
    if not going:
        return batch._replace(rows=[])
    rows = torch.tensor(going, device=batch.root.device)
    return _Batch(
        [batch.rows[i] for i in going],
        batch.reading.keep(rows),
        batch.judging.keep(rows),
        None if batch.drafting is None else batch.drafting.keep(rows),
        how.scheduler.keep(batch.memory, going),
        batch.root[rows],
        batch.seed[rows],
        batch.round[rows],
        batch.written[rows],
        [batch.left[i] for i in going],
        [batch.inputs[i] for i in going],
    )
