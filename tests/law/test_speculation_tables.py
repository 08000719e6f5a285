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
from unison.speculation.cost import linear
from unison.speculation.proof import written_law
from unison.speculation.schedulers import SCHEDULERS
from unison.speculation.schedulers.adaptive import Adaptive
from unison.speculation.schedulers.confidence import Confidence
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.schedulers.heuristic import Heuristic
from unison.speculation.schedulers.optimal import Optimal as OptimalDepth
from unison.speculation.schedulers.specdec import SpecDec
from unison.speculation.tree import How
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


class JudgingTable(TableDrafter):
    """A drafter that says of each node it read how likely that one is to pass."""

    def open(self, target, rows: int) -> "JudgingDrafting":
        return JudgingDrafting(self, [[] for _ in range(rows)])


class JudgingDrafting(TableDrafting):
    def guess(self, tree, frontier):
        guess = super().guess(tree, frontier)
        seen = tree.tokens.gather(1, frontier)
        return guess._replace(judged=torch.where(seen == 0, 0.9, 0.4))

    def keep(self, rows):
        return JudgingDrafting(self.drafter, [self.written[i] for i in rows.tolist()])


def drafter_for(builder, vocab=3, table=TableDrafter):
    law = Q if vocab == 3 else FEW[1]
    return CopyingTable(Q) if builder.copies else table(law, vocab, sure=lambda text: law(text)[0])


BUILT = {name: kind() for name, kind in BUILDERS.items()} | {"drawn chain": Chain(sampled=True)}
# The same shapes, small enough to go through; the number of ways grows fast with the vocabulary.
BUILT |= {"multi": Multi((2, 1)), "gumbel": Gumbel((2, 1)), "greedy": Greedy((2, 1))}
FEW = functools.cache(random_law(23, 2, 2.0)), functools.cache(random_law(24, 2, 2.0))
LOSSY = {"judge": Judge(torch.nn.Linear(1, 1))}
torch.nn.init.constant_(LOSSY["judge"].head.bias, 1.0)  # pyright: ignore

CHAINS = {"chain", "drawn chain"}
FITS = {  # builders that each rule goes with; it keeps the law of all of them, if of any
    "match": set(BUILT),
    "token": CHAINS,
    "block": CHAINS,
    "rrs": set(BUILT),
    "kseq": {"drawn chain", "multi"},
    "greedy": {"chain", "static", "top_k", "greedy", "given"},
    "typical": set(BUILT),
    "judge": CHAINS,
}
# Short drafts, and thresholds that some of the drafts do not reach.
SCHEDULED = {name: kind() for name, kind in SCHEDULERS.items()} | {
    "confidence": Confidence(0.5, 3, own=True),
    "specdec": SpecDec(0.3, 1, 3),
    "adaptive": Adaptive(2, 1.0, 2),
    "heuristic": Heuristic(1, 3),
    "optimal": OptimalDepth(linear(0.3, 0.1)),
}
QUICK = {("token", "drawn chain"), ("rrs", "gumbel"), ("match", "given"), ("block", "chain")}


def grid():
    """All verifiers with all builders that fit at a fixed depth; all schedulers with a few."""
    return [
        pytest.param(
            verifier,
            builder,
            scheduler,
            marks=[] if scheduler == "fixed" or (verifier, builder) in QUICK else pytest.mark.slow,
        )
        for scheduler in SCHEDULERS
        for verifier in VERIFIERS
        for builder in sorted(FITS[verifier])
    ]


def rule_named(verifier):
    return LOSSY.get(verifier, VERIFIERS[verifier]())


def test_the_tables_here_name_every_part():
    assert FITS.keys() == VERIFIERS.keys()
    assert BUILDERS.keys() < BUILT.keys()
    assert SCHEDULED.keys() == SCHEDULERS.keys()
    assert {name for name, kind in VERIFIERS.items() if not kind.lossless} == {"typical", "judge"}


@pytest.mark.parametrize("builder", BUILT)
@pytest.mark.parametrize("verifier", VERIFIERS)
def test_a_rule_takes_the_drafts_it_is_right_for_and_refuses_the_others_with_advice(
    verifier, builder
):
    made, rule = BUILT[builder], rule_named(verifier)
    if builder in FITS[verifier]:
        how = Speculation(drafter_for(made), made, rule)
        assert how.lossless == (verifier not in ("typical", "judge"))
        return
    with pytest.raises(ValueError, match=rf"{type(rule).__name__}.*[Uu]se") as refused:
        Speculation(drafter_for(made), made, rule)
    assert type(made).__name__ in str(refused.value)


@pytest.mark.parametrize(("verifier", "builder", "scheduler"), grid())
def test_each_choice_of_parts_is_proved_or_measurably_off_and_says_so(verifier, builder, scheduler):
    vocab = 2 if builder == "multi" else 3
    made, rule = BUILT[builder], rule_named(verifier)
    table = JudgingTable if scheduler == "specdec" else TableDrafter
    drafter = drafter_for(made, vocab, table)
    how = Speculation(drafter, made, rule, SCHEDULED[scheduler])
    target = TARGET if vocab == 3 else Table(FEW[0], 2)
    if isinstance(made, Beam):  # its law is held to the target's by samples below
        with pytest.raises(ValueError, match="real numbers"):
            prove(how, target, [1], 3)
        return
    proof = prove(how, target, [1], 3)
    if rule.lossless:
        assert how.lossless
        assert proof.error <= EXACT
        assert proof.forwards < 4  # some drafts passed: one forward reads the prompt, three write
    else:
        assert not how.lossless
        assert proof.distance > 0.01


@dataclass(frozen=True)
class Late:
    """Draws a chain first and asks the scheduler then, whether it may stay."""

    copies: ClassVar[bool] = False
    branches: ClassVar[bool] = False

    @property
    def draws(self) -> frozenset[How]:
        return frozenset({How.IID})

    def size(self, depth: int) -> int:
        return depth

    def build(self, root, drafting, plan, choose, go_on):
        drawn = Chain(sampled=True).build(
            root, drafting, plan, choose, lambda tree: tree.live[:, 0]
        )
        stays = go_on(drawn)[:, None] | (drawn.depth == 0)
        return drawn._replace(live=drawn.live & stays)


@dataclass(frozen=True)
class Foreseeing(Fixed):
    """Admits drafts that turned out to begin with token 0."""

    foresees: ClassVar[bool] = True

    def go_on(self, memory, tree):
        del memory
        return (tree.tokens[:, 1:2] == 0).any(1)


@pytest.mark.parametrize("verifier", ["token", "block", "rrs", "kseq"])
def test_a_scheduler_that_foresees_is_not_lossless_and_its_law_is_off(verifier):
    rule = rule_named(verifier)
    honest = Speculation(TableDrafter(Q), Late(), rule, Fixed(1))
    assert honest.lossless
    assert prove(honest, TARGET, [1], 3).error <= EXACT
    how = replace(honest, scheduler=Foreseeing(1))
    assert not how.lossless
    assert prove(how, TARGET, [1], 3).distance > 0.02
    assert not said(how, TARGET, [[1]], [2], torch.tensor([0])).lossless


def test_no_scheduler_of_the_table_foresees():
    assert not any(kind.foresees for kind in SCHEDULERS.values())


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


def test_a_scheduler_that_foresees_writes_85_percent_where_the_target_says_70():
    target, drafter = Table(lambda text: [0.7, 0.3], 2), TableDrafter(lambda text: [0.5, 0.5], 2)
    how = Speculation(drafter, Late(), Token(), Foreseeing(1))
    law, _, _ = written_law(how, target, [], 2)
    # A draft of token 0 passes always; one of token 1 is sent away before it can fail.
    assert law[0, 0] + law[0, 1] == pytest.approx(0.5 + 0.5 * 0.7, abs=1e-12)
    law, _, _ = written_law(replace(how, scheduler=Fixed(1)), target, [], 2)
    assert law[0, 0] + law[0, 1] == pytest.approx(0.70, abs=1e-12)
    # A rule that looks at the target alone cannot be misled, whatever the scheduler does.
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
