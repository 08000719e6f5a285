import itertools
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from speculating import TableDrafter, random_law

from unison.prob import rng
from unison.speculation import Ask, Speculation, Table, Text, prove, speculate
from unison.speculation import tree as trees
from unison.speculation.builders.chain import Chain
from unison.speculation.builders.gumbel import Gumbel
from unison.speculation.cost import linear
from unison.speculation.parts import Guess, Outcome, Plan, Scores
from unison.speculation.proof import written_law
from unison.speculation.schedulers import SCHEDULERS
from unison.speculation.schedulers.adaptive import Adaptive, Lately
from unison.speculation.schedulers.confidence import Confidence, Thresholds
from unison.speculation.schedulers.heuristic import Heuristic
from unison.speculation.schedulers.optimal import Optimal, Seen, admitted, best_depth
from unison.speculation.schedulers.specdec import SpecDec
from unison.speculation.tree import How, Level, Tree, planted
from unison.speculation.verifiers.match import Match
from unison.speculation.verifiers.token import Token

P, Q = random_law(1), random_law(2)


def chain(chances: list[float], confidence=None, judged=None) -> Tree:
    """Return a chain whose tokens have some probabilities."""
    tree = planted(torch.zeros(1).long(), 3)
    sure = [1.0] * len(chances) if confidence is None else confidence
    for node, (chance, own) in enumerate(zip(chances, sure, strict=True)):
        zero = torch.zeros(1, 1).long()
        logq, own = torch.tensor([[chance]]).log(), torch.tensor([[own]])
        level = Level(zero, zero + node, zero, zero + int(How.IID), logq, own, zero == 0)
        tree = trees.sized(trees.grown(tree, level), 1, node + 1)
    if judged is not None:
        nodes = torch.arange(1, 1 + len(judged))[None]
        tree = trees.judged(tree, nodes, torch.tensor([judged]))
    return tree


def outcome(drafted: list[int], accepted: list[int]) -> Outcome:
    """Return a round in which rows drafted chains and some of each passed."""
    tree = planted(torch.zeros(len(drafted)).long(), 3)
    for node in range(max(drafted)):
        zero = torch.zeros(len(drafted), 1).long()
        live = torch.tensor(drafted)[:, None] > node
        level = Level(zero, zero + node, zero, zero, zero.float(), zero + 1.0, live)
        tree = trees.sized(trees.grown(tree, level), 1, node + 1)
    nothing = torch.zeros(len(drafted), 1).long()
    scores = Scores(None, torch.zeros(len(drafted), 1, 1), {})
    count = tuple(one + 1 for one in accepted)
    return Outcome(tree, scores, nothing, nothing, count, tuple(accepted))


QUICK = {
    "fixed": SCHEDULERS["fixed"](2),  # type: ignore
    "confidence": Confidence(0.4, 2),
    "specdec": SpecDec(0.3, 1, 2),
    "adaptive": Adaptive(2),
    "heuristic": Heuristic(1, 2),
    "optimal": Optimal(linear(0.1), 2),
}


@pytest.mark.parametrize("name", QUICK)
def test_no_scheduler_bends_the_law(name: str):
    assert set(QUICK) == set(SCHEDULERS)
    drafter = Judging(Q, lambda text: 1 / (1 + text[-1]))
    for builder, verifier in ((Chain(sampled=True), Token()), (Gumbel((2,)), Match())):
        how = Speculation(drafter, builder, verifier, QUICK[name])
        assert how.lossless
        assert prove(how, Table(P, 3), [1], 3 if builder == Chain(True) else 2).error < 1e-12


@pytest.mark.parametrize("name", QUICK)
def test_rows_keep_their_own_counsel(name: str):
    how = Speculation(TableDrafter(Q), Chain(sampled=True), Token(), QUICK[name])
    prompts = torch.tensor([[0, 1, 2], [0, 2, 0], [0, 0, 0]])
    seeds, length = rng.rows(2, 0, 3), torch.tensor([3, 2, 3])
    together = speculate(how, Table(P, 3), Ask(Text(prompts, length), [12, 20, 7], seeds))
    for row, room in enumerate((12, 20, 7)):
        text = Text(prompts[row : row + 1], length[row : row + 1])
        alone = speculate(how, Table(P, 3), Ask(text, [room], seeds[row : row + 1]))
        assert alone.rounds[0] == together.rounds[row]
        assert alone.tokens[0] == together.tokens[row]


@dataclass(frozen=True)
class Judging(TableDrafter):
    """A drafter that also judges the node it was asked about."""

    judge: object = None

    def open(self, target, rows):
        return JudgingRows(super().open(target, rows), self.sure)


class JudgingRows:
    """Says of each node asked about what a function says of its text."""

    def __init__(self, inner, judge):
        self.inner, self.judge = inner, judge

    def __getattr__(self, name: str):
        return getattr(self.inner, name)

    def guess(self, tree: Tree, frontier) -> Guess:
        said = self.inner.guess(tree, frontier)
        return Guess(said.logq, None, said.confidence)

    def keep(self, rows):
        return JudgingRows(self.inner.keep(rows), self.judge)


@dataclass(frozen=True)
class Foreseeing:
    """Draws a token, and only then asks whether it may be there."""

    copies: ClassVar[bool] = False
    branches: ClassVar[bool] = False
    draws: ClassVar = frozenset({How.IID})

    def size(self, depth: int) -> int:
        return depth

    def build(self, root, drafting, plan, choose, go_on):
        longer = Chain(sampled=True).build(
            root, drafting, plan, choose, lambda tree: tree.live[:, 0]
        )
        stays = go_on(longer)[:, None] | (longer.depth == 0)
        return longer._replace(live=longer.live & stays)


@dataclass(frozen=True)
class Choosy(Confidence):
    """Admits drafts by what they turned out to be."""

    foresees: ClassVar[bool] = True

    def go_on(self, memory, tree):
        return (tree.tokens[:, -1:] == 0).all(1)


def test_a_scheduler_that_looks_at_the_draft_first_writes_another_law():
    # p = (0.7, 0.3), q = (0.5, 0.5): a draft of token 0 passes always, and one of token 1 is
    # sent away before it can fail: 0.5 + 0.5 * 0.7 = 0.85.
    target, drafter = Table(lambda text: (0.7, 0.3), 2), TableDrafter(lambda text: (0.5, 0.5), 2)
    how = Speculation(drafter, Foreseeing(), Token(), Choosy(depth=1))
    law, _, _ = written_law(how, target, [1], 2)
    first = sum(weight for text, weight in law.items() if text[0] == 0)
    assert first == pytest.approx(0.85, abs=1e-12)
    assert not how.lossless
    honest = Speculation(drafter, Chain(sampled=True), Token(), Confidence(0.9, 1))
    law, _, _ = written_law(honest, target, [1], 2)
    first = sum(weight for text, weight in law.items() if text[0] == 0)
    assert first == pytest.approx(0.7, abs=1e-12)
    assert honest.lossless


def test_confidence_stops_behind_the_first_unlikely_draft():
    rule, memory = Confidence(0.4), Confidence(0.4).start(1)
    assert rule.go_on(memory, chain([])).tolist() == [True]
    assert rule.go_on(memory, chain([0.5, 0.6])).tolist() == [True]
    assert rule.go_on(memory, chain([0.5, 0.39])).tolist() == [False]
    whole = Confidence(0.4, cumulative=True)
    assert whole.go_on(memory, chain([0.7, 0.6])).tolist() == [True]
    assert whole.go_on(memory, chain([0.7, 0.5])).tolist() == [False]
    own = Confidence(0.4, own=True)
    assert own.go_on(memory, chain([0.1], [0.5])).tolist() == [True]
    assert own.go_on(memory, chain([0.9], [0.3])).tolist() == [False]


def test_the_adapted_threshold_moves_by_a_tenth_of_a_hundredth():
    rule = Confidence(0.5, 4, adapt=0.9)
    after = rule.learn(rule.start(4), outcome([2, 2, 4, 0], [0, 2, 4, 0]), {})
    assert after.at == pytest.approx((0.501, 0.499, 0.5, 0.5))
    assert after.matched == pytest.approx((0.45, 0.95, 0.95, 0.9))
    assert rule.keep(after, [1, 3]) == Thresholds(after.at[1::2], after.matched[1::2])


def test_specdec_stops_once_a_rejection_is_likely():
    rule = SpecDec(0.3, 2, 8)
    assert rule.go_on(None, chain([0.1] * 3)).tolist() == [True]
    assert rule.go_on(None, chain([0.1] * 1, judged=[0.01])).tolist() == [True]  # too short yet
    assert rule.go_on(None, chain([0.1] * 3, judged=[0.9, 0.8])).tolist() == [True]
    assert rule.go_on(None, chain([0.1] * 3, judged=[0.9, 0.7])).tolist() == [False]
    assert rule.plan(None, Plan((20, 3), (20, 3))) == Plan((8, 3), (20, 3))


def cheapest(chances: dict, path: tuple, left: int, passed: float, price: tuple) -> float:
    """Return the least expected cost of a round from a state, trying to stop and to go on.

    A draft costs ``price[0]``; a round that has a rejection costs nothing more for drafts made
    before it, but each draft made behind a rejection is lost; stopping without one loses
    ``price[1]``, the evaluation that the next drafts would have shared.
    """
    stop = price[1] * passed
    if left == 0:
        return stop
    on = price[0] * (1 - passed) + sum(
        weight * cheapest(chances, (*path, i), left - 1, passed * a, price)
        for i, (weight, a) in enumerate(chances[len(path)])
    )
    return min(stop, on)


def by_threshold(chances: dict, path: tuple, left: int, passed: float, price: tuple, h: float):
    """Return the expected cost of the threshold rule, by the scheduler itself."""
    rule = SpecDec(h, 0, 99)
    tree = chain([0.5] * max(len(path), 1), judged=[max(passed, 1e-9)])
    if left == 0 or not bool(rule.go_on(None, tree)):
        return price[1] * passed
    return price[0] * (1 - passed) + sum(
        weight * by_threshold(chances, (*path, i), left - 1, passed * a, price, h)
        for i, (weight, a) in enumerate(chances[len(path)])
    )


@pytest.mark.parametrize(("draft", "verify"), [(1.0, 0.4), (1.0, 0.8), (0.3, 1.0), (2.0, 0.3)])
def test_with_true_chances_some_threshold_costs_what_the_best_policy_costs(
    draft: float, verify: float
):
    levels = {depth: [(0.6, 0.95 - 0.05 * depth), (0.4, 0.45 - 0.05 * depth)] for depth in range(5)}
    price = (draft, verify)
    best = cheapest(levels, (), 5, 1.0, price)
    found = min(by_threshold(levels, (), 5, 1.0, price, h / 40) for h in range(41))
    assert found == pytest.approx(best, abs=1e-9)
    always = by_threshold(levels, (), 5, 1.0, price, 1.0)
    assert best < always - 1e-3


def test_heuristic_grows_by_two_and_shrinks_by_one():
    rule = Heuristic(3, 6)
    memory = rule.learn(rule.start(4), outcome([3, 3, 0, 2], [3, 1, 0, 0]), {})
    assert memory == (5, 2, 3, 2)
    assert rule.learn(memory, outcome([5, 2, 3, 1], [5, 0, 3, 0]), {}) == (6, 1, 5, 1)
    assert rule.plan((5, 2), Plan((9, 1), (9, 1))) == Plan((5, 1), (9, 1))


def test_adaptive_sits_out_longer_and_longer_where_nothing_repeats():
    rule = Adaptive(8, 1.0, 4)
    memory, drafted = rule.start(1), []
    for _ in range(40):
        depth = rule.plan(memory, Plan((99,), (99,))).depth[0]
        drafted.append(depth)
        memory = rule.learn(memory, outcome([depth], [0]), {})
    tried = [i for i, depth in enumerate(drafted) if depth]
    gaps = [b - a for a, b in itertools.pairwise(tried)]
    assert gaps[:3] == [1, 2, 3] or gaps[:2] == [2, 3]
    assert gaps[-3:] == [5, 5, 5]
    assert drafted[tried[-1]] == 1  # and what is tried then is short


def test_adaptive_drafts_more_while_all_passes_and_rests_no_more():
    rule = Adaptive(16, 1.0, 8)
    memory = (Lately(0.1, 0, 8),)
    depths = []
    for _ in range(8):
        depth = rule.plan(memory, Plan((99,), (99,))).depth[0]
        depths.append(depth)
        memory = rule.learn(memory, outcome([depth], [depth]), {})
    last = depths[-3:]
    assert last == [16, 16, 16] or 0 in depths
    memory = (Lately(4.0, 0, 8),)
    assert rule.learn(memory, outcome([0], [0]), {}) == memory


def test_the_best_depth_is_that_of_trying_all():
    draw = torch.Generator().manual_seed(3)
    for _ in range(50):
        step = torch.rand(6, generator=draw).tolist()
        chances = list(itertools.accumulate(step, lambda a, b: a * b))
        slope = float(torch.rand((), generator=draw))
        rates = [
            (1 + sum(chances[:depth])) / (1 + slope * depth) for depth in range(len(chances) + 1)
        ]
        depth = best_depth(chances, lambda depth, slope=slope: 1 + slope * depth)
        assert rates[depth] == max(rates)


def test_drafts_are_admitted_where_trying_all_lengths_would_admit_them():
    draw = torch.Generator().manual_seed(5)
    for _ in range(30):
        steps = torch.rand(3, 3, generator=draw).tolist()
        chances = [list(itertools.accumulate(row, lambda a, b: a * b)) for row in steps]
        slope = float(torch.rand((), generator=draw)) * 0.3

        def rate(nodes: int, slope: float = slope) -> float:
            return 1 / (1 + slope * (3 + nodes))

        def worth(depths, chances=chances, rate=rate) -> float:
            tokens = 3 + sum(sum(one[:d]) for one, d in zip(chances, depths, strict=True))
            return tokens * rate(sum(depths))

        best = max(worth(depths) for depths in itertools.product(range(4), repeat=3))
        assert worth(admitted(chances, rate)) == pytest.approx(best)


def test_admission_ends_at_the_first_draft_that_does_not_pay():
    def rate(nodes: int) -> float:  # the second draft is dear and the third free
        return 1 / (1 + (0.9 if nodes >= 2 else 0.1 * nodes))

    assert admitted([[0.9, 0.8, 0.7, 0.6]], rate) == [1]
    assert best_depth([0.9, 0.8, 0.7, 0.6], lambda depth: 1 / rate(depth)) == 4


def test_optimal_learns_how_far_drafts_pass():
    rule = Optimal(linear(0.15), 8)
    good, bad = rule.start(1), rule.start(1)
    for _ in range(30):
        good = rule.learn(good, outcome([8], [8]), {})
        bad = rule.learn(bad, outcome([8], [0]), {})
    assert rule.plan(good, Plan((99,), (99,))) == Plan((8,), (8,))
    assert rule.plan(bad, Plan((99,), (99,))) == Plan((0,), (0,))
    for _ in range(rule.every):
        assert rule.plan(bad, Plan((99,), (99,))).depth == (0,)
        bad = rule.learn(bad, outcome([0], [0]), {})
    assert rule.plan(bad, Plan((99,), (99,))).depth == (1,)
    assert rule.plan(bad, Plan((0,), (0,))).depth == (0,)


def test_optimal_counts_a_depth_only_where_it_was_reached():
    rule = Optimal(linear(0.1), 3, fade=1.0)
    memory = rule.learn(rule.start(2), outcome([3, 2], [1, 2]), {})
    assert memory[0] == Seen((1.0, 1.0, 0.0), (1.0, 0.0, 0.0), 0)
    assert memory[1] == Seen((1.0, 1.0, 0.0), (1.0, 1.0, 0.0), 0)


def test_optimal_stops_where_the_drafter_says_that_more_does_not_pay():
    rule = Optimal(linear(0.5), 8)
    memory = rule.start(1)
    assert rule.go_on(memory, chain([0.5])).tolist() == [True]  # the drafter says nothing
    assert rule.go_on(memory, chain([0.5], [0.99])).tolist() == [True]
    # two tokens in 1.5 so far are 1.33 a second; 0.01 more in 0.5 are not worth it
    assert rule.go_on(memory, chain([0.5], [0.1])).tolist() == [False]


def test_requests_together_share_what_one_alone_would_not_be_given():
    one = Seen((9.0,) * 4, (9.0,) * 4, 0)
    low = Seen((9.0,) * 4, (1.0,) * 4, 0)
    rule = Optimal(linear(0.2), 4, together=True)
    plan = rule.plan((one, low), Plan((99, 99), (99, 99)))
    assert plan.depth[0] > plan.depth[1]
    alone = replace(rule, together=False)
    assert alone.plan((one, low), Plan((99, 99), (99, 99))).depth == tuple(
        alone.plan((row,), Plan((99,), (99,))).depth[0] for row in (one, low)
    )


def test_settings_that_mean_nothing_are_refused():
    for make in (
        lambda: Confidence(1.5),
        lambda: Confidence(depth=-1),
        lambda: Confidence(adapt=2.0),
        lambda: SpecDec(-0.1),
        lambda: SpecDec(0.3, 5, 4),
        lambda: Heuristic(0),
        lambda: Adaptive(0),
        lambda: Optimal(depth=-1),
        lambda: Optimal(fade=0.0),
    ):
        with pytest.raises(ValueError, match="got"):
            make()
