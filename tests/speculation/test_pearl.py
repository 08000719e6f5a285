import functools
import itertools
from dataclasses import dataclass, replace

import causal
import laws
import pytest
import torch
from speculating import TableDrafter, joint, random_law

from unison.drafters.lookup import Lookup
from unison.drafters.smaller import Smaller
from unison.prob import rng
from unison.speculation import Ask, Speculation, Table, Text, speculate
from unison.speculation.builders.chain import Chain
from unison.speculation.pearl import Pearl, Step, pearl
from unison.speculation.policies.plain import Plain
from unison.speculation.proof import all_ways
from unison.speculation.verifiers.token import Token

P, Q = functools.cache(random_law(1)), functools.cache(random_law(2))


def asks(prompts: list[list[int]], room: int, ends=()) -> Ask:
    length = torch.tensor([1 + len(prompt) for prompt in prompts])
    tokens = torch.zeros(len(prompts), int(length.max()), dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        tokens[row, 1 : 1 + len(prompt)] = torch.tensor(prompt)
    return Ask(Text(tokens, length), [room] * len(prompts), rng.rows(4, 0, len(prompts)), ends)


@pytest.mark.parametrize(
    ("length", "sampled"),
    [
        *((1, True), (2, True), (1, False), (2, False), (3, False)),
        pytest.param(3, True, marks=pytest.mark.slow),
    ],
)
def test_every_way_the_choices_can_fall_together_make_the_targets_law(length: int, sampled: bool):
    how = Pearl(TableDrafter(Q), length, sampled=sampled, concurrent=False)
    target = Table(P, 3)

    def run(chooser) -> list[tuple[int, ...]]:
        rows = len(chooser.scripts)
        ask = asks([[1]] * rows, 3)._replace(seed=torch.arange(rows))
        return [tuple(text) for text in pearl(how, target, ask, choosing=chooser).tokens]

    law: dict[tuple[int, ...], float] = {}
    for text, weight in all_ways(run):
        law[text] = law.get(text, 0.0) + weight
    truth = joint(P, (1,), 3)
    assert law.keys() == truth.keys()
    assert max(abs(law[text] - truth[text]) for text in truth) < 1e-12


def test_what_is_written_does_not_depend_on_blocks_or_on_who_is_faster():
    ask = asks([[1], [], [2, 0, 1]], 12)
    how = Pearl(TableDrafter(Q), 1, concurrent=False)
    text = pearl(how, Table(P, 3), ask).tokens
    for length in (2, 4, 7):
        assert pearl(replace(how, length=length), Table(P, 3), ask).tokens == text
        both = replace(how, length=length, concurrent=True)
        assert pearl(both, Table(P, 3), ask) == pearl(replace(how, length=length), Table(P, 3), ask)
    assert pearl(Pearl(TableDrafter(Q)), Table(P, 3), ask).tokens == text


@pytest.mark.slow
def test_samples_of_longer_texts_follow_the_targets_law():
    count = 300
    ask = asks([[1]] * count, 4)
    how = Pearl(TableDrafter(Q), 2, concurrent=False)
    texts = pearl(how, Table(P, 3), ask).tokens
    laws.assert_law([tuple(text) for text in texts], joint(P, (1,), 4))


def test_a_step_after_a_rejection_tests_one_draft_and_others_a_block():
    steps: list[Step] = []
    how = Pearl(TableDrafter(P), 3, concurrent=False)  # every draft passes
    spoken = pearl(how, Table(P, 3), asks([[1]], 10), steps.append)
    assert [(step.fresh, step.tested, step.passed) for step in steps] == [
        (True, 1, 1),
        (False, 3, 3),
        (False, 3, 3),
        (False, 3, 3),
    ]
    assert spoken.rounds[0] == [1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert spoken.forwards == [1 + 4]
    steps.clear()
    pearl(Pearl(TableDrafter(Q), 3, concurrent=False), Table(P, 3), asks([[1]], 40), steps.append)
    for before, after in itertools.pairwise(steps):
        assert after.fresh == (before.passed < before.tested)
    assert any(step.fresh for step in steps[1:])
    assert not all(step.fresh for step in steps)


@dataclass(frozen=True)
class Watched:
    """A target whose last reading can be looked at."""

    inner: object
    opened: list

    def __getattr__(self, name: str):
        return getattr(self.inner, name)

    def open(self, rows, taps=()):
        self.opened.append(self.inner.open(rows, taps))
        return self.opened[-1]


@pytest.mark.parametrize("concurrent", [False, True])
def test_both_models_remember_what_is_written_after_every_step(concurrent: bool):
    big, small = causal.target(1), causal.target(2)
    target, draft = Watched(big, []), Watched(small, [])
    drafter = Smaller(draft)  # type: ignore
    how = Pearl(drafter, 3, concurrent=concurrent)
    ask = asks([[3, 4], [5, 1, 2]], 14)
    checked = []

    def look(step: Step) -> None:
        row = ask.text.tokens[step.row, : int(ask.text.length[step.row])].tolist()
        known = len(row) + sum(checked_tokens[step.row]) + step.passed
        known += step.passed < step.tested
        checked_tokens[step.row].append(step.passed + (step.passed < step.tested))
        held = int(target.opened[-1].length[0])
        assert held == known - 1
        checked.append(step)

    checked_tokens: list[list[int]] = [[], []]
    spoken = pearl(how, target, ask, look)  # type: ignore
    assert len(checked) >= 6
    for row, text in enumerate(spoken.tokens):
        assert len(text) == 14
        prompt = ask.text.tokens[row, : int(ask.text.length[row])].tolist()
        reading = target.opened[row]
        assert int(reading.length[0]) == len(prompt) + 13
    plain = pearl(replace(how, concurrent=False), big, ask).tokens
    assert spoken.tokens == plain


def test_without_temperature_the_text_is_the_greedy_one():
    big = causal.target(1)
    ask = asks([[3, 4], [5, 1, 2]], 12)
    greedy = speculate(Speculation(policy=Plain(0.0)), big, ask).tokens
    for drafter in (Smaller(causal.target(2)), Smaller(big)):
        how = Pearl(drafter, 3, policy=Plain(0.0), sampled=False, concurrent=False)
        spoken = pearl(how, big, ask)
        assert spoken.tokens == greedy
    assert spoken.forwards == [1 + 5, 1 + 5]  # the last drafter is the target: 1 + 3 + 3 + 3 + 2


def test_a_text_ends_at_its_end_and_within_its_context():
    ask = asks([[1], [2], [0, 1]], 30)
    how = Pearl(TableDrafter(Q), 3, concurrent=False)
    free = pearl(how, Table(P, 3), ask).tokens
    ended = pearl(how, Table(P, 3), ask._replace(ends=(2,))).tokens
    for whole, cut in zip(free, ended, strict=True):
        assert cut == whole[: whole.index(2) + 1 if 2 in whole else len(whole)]
    short = pearl(how, Table(P, 3, max_length=6), ask).tokens
    assert [len(text) for text in short] == [4, 4, 3]


def test_fewer_evaluations_wait_for_drafts_than_in_turns():
    ask = asks([[1]] * 20, 30)
    turns = speculate(Speculation(TableDrafter(P), Chain(sampled=True), Token()), Table(P, 3), ask)
    both = pearl(Pearl(TableDrafter(P), 5, concurrent=False), Table(P, 3), ask)
    assert max(len(row) for row in both.tokens) == max(len(row) for row in turns.tokens) == 30
    assert sum(both.forwards) <= 20 * (1 + 1 + 6)


def test_what_cannot_run_is_refused():
    with pytest.raises(ValueError, match="takes no time to hide"):
        Pearl(Lookup())
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Pearl(TableDrafter(Q), 0)
    with pytest.raises(ValueError, match="give length"):
        Pearl(TableDrafter(Q), concurrent=False)
