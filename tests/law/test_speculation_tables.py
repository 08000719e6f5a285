"""Verifiers x builders x schedulers: refused with a reason, or proved, or not called lossless."""

import functools
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from laws import assert_law
from speculating import TableDrafter, TableDrafting, joint, random_law

from unison.prob import rng
from unison.speculation import Ask, Speculation, Table, Text, prove, speculate
from unison.speculation.builders import BUILDERS
from unison.speculation.builders.beam import Beam
from unison.speculation.builders.chain import Chain
from unison.speculation.builders.greedy import Greedy
from unison.speculation.builders.gumbel import Gumbel
from unison.speculation.builders.multi import Multi
from unison.speculation.loop import refusal
from unison.speculation.parts import Builder
from unison.speculation.proof import written_law
from unison.speculation.schedulers import SCHEDULERS
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.verifiers import VERIFIERS
from unison.speculation.verifiers.greedy import Greedy as Optimal
from unison.speculation.verifiers.judge import Judge
from unison.speculation.verifiers.kseq import KSeq
from unison.speculation.verifiers.match import Match
from unison.speculation.verifiers.recursive import Recursive
from unison.speculation.verifiers.token import Token

EXACT = 1e-12
P, Q = functools.cache(random_law(21, 3, 2.0)), functools.cache(random_law(22, 3, 2.0))
TARGET = Table(P, 3)


@dataclass(frozen=True)
class CopyingTable(TableDrafter):
    """A drafter that copies: two continuations, always the same."""

    copies: ClassVar[bool] = True

    def open(self, target, rows: int) -> "CopyingDrafting":
        return CopyingDrafting(self, [[] for _ in range(rows)])


class CopyingDrafting(TableDrafting):
    def texts(self, plan):
        texts = [[0, 1, 2, 0], [0, 2, 1, 1], [1, 1, 0, 2]]
        return torch.tensor([texts] * len(plan.depth))[..., : max(plan.depth)]

    def keep(self, rows):
        return CopyingDrafting(self.drafter, [self.written[i] for i in rows.tolist()])


def drafter_for(builder):
    return CopyingTable(Q) if builder.copies else TableDrafter(Q, sure=lambda text: Q(text)[0])


BUILT = {name: kind() for name, kind in BUILDERS.items()} | {"drawn chain": Chain(sampled=True)}
# The same shapes, small enough to go through.
BUILT |= {"multi": Multi((2, 1)), "gumbel": Gumbel((2, 1)), "greedy": Greedy((2, 1))}
LOSSY = {"judge": Judge(torch.nn.Linear(1, 1))}
torch.nn.init.constant_(LOSSY["judge"].head.bias, 1.0)  # pyright: ignore


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("builder", BUILT)
@pytest.mark.parametrize("verifier", VERIFIERS)
def test_each_choice_of_parts_is_refused_or_proved_or_says_it_is_not_lossless(
    verifier, builder, scheduler
):
    if scheduler != "fixed" and builder not in ("drawn chain", "gumbel", "top_k", "given"):
        pytest.skip("schedulers are held to their promise by one builder of each kind of draft")
    made, rule = BUILT[builder], LOSSY.get(verifier, VERIFIERS[verifier]())
    plain = Speculation()  # parts are replaced one by one, so that a refusal can be read
    object.__setattr__(plain, "drafter", drafter_for(made))
    for name, part in (
        ("builder", made),
        ("verifier", rule),
        ("scheduler", SCHEDULERS[scheduler]()),
    ):
        object.__setattr__(plain, name, part)
    reason = refusal(plain)
    if reason is not None:
        assert type(rule).__name__ in reason
        with pytest.raises(ValueError, match=r"use|Use"):
            replace(plain)
        return
    if isinstance(made, Beam):
        with pytest.raises(ValueError, match="real numbers"):
            prove(plain, TARGET, [1], 3)
        return
    proof = prove(plain, TARGET, [1], 3)
    if plain.lossless:
        assert proof.error <= EXACT
    elif not rule.lossless:
        assert proof.distance > 0.01


def test_a_judge_that_says_no_writes_the_targets_law_and_one_that_says_yes_the_drafters():
    no, yes = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    torch.nn.init.constant_(no.bias, -1.0)
    torch.nn.init.constant_(yes.bias, 1.0)
    chain = Chain(sampled=True)
    for head in (None, no):
        how = Speculation(TableDrafter(Q), chain, Judge(head), Fixed(2))
        assert not how.lossless
        assert prove(how, TARGET, [1], 3).error <= EXACT
    how = Speculation(TableDrafter(Q), chain, Judge(yes), Fixed(2))
    law, _, _ = written_law(how, TARGET, [1], 3)
    for (a, b, c), chance in law.items():
        assert chance == pytest.approx(Q((1,))[a] * Q((1, a))[b] * P((1, a, b))[c], abs=1e-12)
    assert prove(how, TARGET, [1], 3).distance > 0.1


def test_a_judge_trained_for_another_model_is_refused():
    how = Speculation(TableDrafter(Q), Chain(sampled=True), Judge(torch.nn.Linear(7, 1)))
    with pytest.raises(ValueError, match="another model"):
        prove(how, TARGET, [1], 3)


@dataclass(frozen=True)
class Peeking:
    """Keeps a draft only if it is token 0."""

    copies: ClassVar[bool] = False
    branches: ClassVar[bool] = False
    builder: Builder = Chain(sampled=True)  # noqa: RUF009

    @property
    def draws(self):
        return self.builder.draws

    def size(self, depth: int) -> int:
        return depth

    def build(self, root, drafting, plan, choose, go_on):
        tree = self.builder.build(root, drafting, plan, choose, go_on)
        return tree._replace(live=tree.live & ((tree.tokens == 0) | (tree.depth == 0)))


def test_a_scheduler_that_peeks_writes_85_percent_where_the_target_says_70():
    target, drafter = Table(lambda text: [0.7, 0.3], 2), TableDrafter(lambda text: [0.5, 0.5], 2)
    how = Speculation(drafter, Peeking(), Token(), Fixed(1))
    law, _, _ = written_law(how, target, [], 2)
    assert law[0, 0] + law[0, 1] == pytest.approx(0.85, abs=1e-12)
    honest = replace(how, builder=Chain(sampled=True))
    law, _, _ = written_law(honest, target, [], 2)
    assert law[0, 0] + law[0, 1] == pytest.approx(0.70, abs=1e-12)
    assert prove(replace(how, verifier=Match()), target, [], 2).error <= EXACT


ROWS = 3_000
F = functools.cache(random_law(31, 4, 1.5)), functools.cache(random_law(32, 4, 1.5))
SAMPLED = {
    "token": (Token(), Chain(sampled=True)),
    "block": (VERIFIERS["block"](), Chain(sampled=True)),
    "rrs": (Recursive(), Multi((3, 1))),
    "rsd": (Recursive(), Gumbel((2, 1))),
    "beam": (Recursive(), Beam(3)),
    "kseq": (KSeq(), Multi((3, 1))),
    "greedy": (Optimal(), Greedy((2, 1))),
    "match": (Match(), Multi((3, 1))),
}


def said(how, target, prompts, rooms, seeds):
    longest = max(len(prompt) for prompt in prompts)
    tokens = torch.tensor([[0, *prompt] + [0] * (longest - len(prompt)) for prompt in prompts])
    length = torch.tensor([1 + len(prompt) for prompt in prompts])
    return speculate(how, target, Ask(Text(tokens, length), rooms, seeds))


@pytest.mark.parametrize("name", SAMPLED)
def test_samples_follow_the_targets_law(name, seed):
    (p, q), (rule, builder) = F, SAMPLED[name]
    how = Speculation(TableDrafter(q, 4), builder, rule, Fixed(2))
    seeds = rng.rows(seed, 0, ROWS)
    spoken = said(how, Table(p, 4), [[1]] * ROWS, [2] * ROWS, seeds)
    assert_law([tuple(text) for text in spoken.tokens], joint(p, (1,), 2, 4))


@pytest.mark.parametrize("name", SAMPLED)
def test_a_row_is_written_as_if_alone_beside_rows_of_other_depths(name):
    (p, q), (rule, builder) = F, SAMPLED[name]
    how = Speculation(TableDrafter(q, 4), builder, rule, Fixed(3))
    prompts, rooms = [[1, 2, 3], [], [2], [0, 0]], [1, 6, 3, 2]
    together = said(how, Table(p, 4), prompts, rooms, torch.arange(4) + 5)
    assert [len(text) for text in together.tokens] == rooms
    for row in range(4):
        alone = said(
            how, Table(p, 4), prompts[row : row + 1], rooms[row : row + 1], torch.tensor([5 + row])
        )
        assert alone.tokens[0] == together.tokens[row]
        assert alone.rounds[0] == together.rounds[row]
