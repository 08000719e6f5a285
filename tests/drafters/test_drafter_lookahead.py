"""N-grams from a window that is read beside the drafts, and plain Jacobi iteration."""

import dataclasses

import numpy as np
import pytest
import speculating
import tiny
import torch

from unison.drafters.jacobi import Jacobi
from unison.drafters.lookahead import Lookahead
from unison.engine.reading import target_of
from unison.speculation import Ask, Speculation, Table, Text, prove, speculate
from unison.speculation.builders.given import Given
from unison.speculation.parts import nothing
from unison.speculation.policies.plain import Plain
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.tree import How, planted


def asked(target, room, ends=()):
    tokens = torch.tensor(np.random.default_rng(1).integers(0, target.vocab_size, (3, 12)))
    tokens[:, 0] = target.begin
    return Ask(Text(tokens, torch.tensor([12, 5, 1])), room, torch.arange(3), ends)


def picked(ask, row):
    text = Text(ask.text.tokens[row : row + 1], ask.text.length[row : row + 1])
    return ask._replace(text=text, room=ask.room[row : row + 1], seed=ask.seed[row : row + 1])


@pytest.fixture(scope="module")
def target():
    return target_of(tiny.model("ar", length=64, depth=2, strength=3.0))


SMALL = Lookahead(window=3, size=3, guesses=2)


@pytest.mark.parametrize("drafter", [SMALL, Lookahead(2, 2, 1, False), Lookahead(1, 4), Jacobi(2)])
def test_what_is_written_has_the_law_of_the_target(drafter):
    law = speculating.random_law(3)
    how = Speculation(drafter, Given(), scheduler=Fixed(2))
    assert prove(how, Table(law, 3), [1, 2, 0, 1, 2], 4).error <= 1e-12
    assert prove(how, Table(law, 3), [], 3).error <= 1e-12


@pytest.mark.parametrize("drafter", [SMALL, Lookahead(), Jacobi()])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_text_is_plain_decodings_seed_by_seed(target, drafter, temperature):
    ask = asked(target, [30, 41, 22], (2,))
    policy = Plain(temperature)
    plain = speculate(Speculation(policy=policy), target, ask)
    how = Speculation(drafter, Given(), scheduler=Fixed(3), policy=policy)
    assert speculate(how, target, ask).tokens == plain.tokens


def test_a_row_does_not_see_its_batch(target):
    ask = asked(target, [30, 45, 22])
    how = Speculation(SMALL, Given(), scheduler=Fixed(3), policy=Plain(0.0))
    both = speculate(how, target, ask)
    for row in range(3):
        alone = speculate(how, target, picked(ask, row))
        assert (alone.tokens[0], alone.rounds[0]) == (both.tokens[row], both.rounds[row])


def test_the_window_changes_no_law_of_the_text(target):
    text = asked(target, [9] * 3).text
    drafting = Lookahead(4, 4).open(target, 3)
    drafting.begin(text, nothing(target.open(3).read(text.tokens, text.length)))
    root = text.tokens.gather(1, text.length[:, None] - 1)[:, 0]
    bare = planted(root, target.vocab_size)
    probed = drafting.finish(bare)
    window = (probed.how == How.PROBE) & probed.live
    assert window.sum(1).tolist() == [11, 11, 0]  # the last row has no text yet
    said = []
    for tree in (bare, probed):
        reading = target.open(3)
        reading.read(text.tokens[:, :-1], text.length - 1)
        said.append(reading.score(tree).logits[:, 0])
    torch.testing.assert_close(*said, atol=1e-5, rtol=0)


def greedy(law, text):
    return int(np.argmax(law(tuple(text))))


def iterated(law, prompt, written, settings):
    """The pools that the paper's window collects, by its words, round by round.

    ``written`` are the tokens of each round.
    """
    columns, rows = settings.window, settings.size - 1
    some = [prompt[i * 0x9E3779B1 % len(prompt)] for i in range(columns * rows)]
    window = np.array(some).reshape(rows, columns).tolist()
    text, grams = list(prompt), []
    for tokens in written:
        new = []
        top = [text[-1], *window[0][1:]]
        for j in range(columns):
            column = [top[j], *(row[j] for row in window[1:])]
            new.append(greedy(law, text[:-1] + top[:j] + column))
            grams.append((*column, new[-1]))
        window = [*window[1:], new]
        text += tokens
    return grams


@pytest.mark.parametrize("settings", [Lookahead(3, 4, 99, False), Lookahead(4, 2, 99, False)])
def test_the_pool_holds_what_the_window_was_said_to_become(settings):
    law, prompt = speculating.random_law(8, sharp=3.0), [0, 1, 2, 1, 0, 2, 2]
    how = Speculation(settings, Given(), policy=Plain(0.0), scheduler=Fixed(3))
    rounds, pools = [], []
    drafter = dataclasses.replace(settings)
    opened = type(drafter).open

    def watching(self, target, rows):
        drafting = opened(self, target, rows)
        pools.append(drafting.rows[0])
        return drafting

    type(drafter).open = watching
    try:
        tokens = torch.tensor([[0, *prompt]])
        ask = Ask(Text(tokens, torch.tensor([8])), [20], torch.tensor([0]))
        speculate(how, Table(law, 3), ask, lambda seen: rounds.append(seen.outcome))
    finally:
        type(drafter).open = opened
    written = [outcome.tokens[0][: outcome.count[0]].tolist() for outcome in rounds]
    assert max(map(len, written)) > 1
    expected = iterated(law, prompt, written, settings)
    held = {(key, *rest) for key, known in pools[0].grams.items() for rest in known}
    assert held == set(expected)
    assert len(held) > 1


def test_the_least_recent_n_gram_is_forgotten_and_the_most_recent_drafted_first():
    drafting = Lookahead(1, 2, 2).open(Table(speculating.random_law(1), 3), 1)
    pool = drafting.rows[0]
    pool.begin([0, 1, 0, 2, 0, 1, 0])
    assert pool.continuations(1) == [[1], [2]]
    pool.begin([0, 1, 0, 2, 0, 0])
    assert pool.continuations(1) == [[0], [2]]


def test_jacobi_settles_at_least_a_token_a_round_and_a_steady_target_all():
    def constant(text):
        return [0.0, 0.0, 1.0]

    how = Speculation(Jacobi(4), Given(), policy=Plain(0.0), scheduler=Fixed(4))
    ask = Ask(Text(torch.tensor([[0, 1, 1]]), torch.tensor([3])), [22], torch.tensor([0]))
    spoken = speculate(how, Table(constant, 3), ask)
    assert spoken.tokens == [[2] * 22]
    assert spoken.rounds[0][:7] == [1, 2, 2, 2, 2, 2, 3]  # one round finds the fixed point


def test_jacobi_drafts_what_was_said_behind_the_drafts():
    law = speculating.random_law(6, sharp=3.0)
    how = Speculation(Jacobi(3), Given(), policy=Plain(0.0), scheduler=Fixed(3))
    seen = []
    tokens = torch.tensor([[0, 1, 2, 0, 1]])
    ask = Ask(Text(tokens, torch.tensor([5])), [14], torch.tensor([0]))
    speculate(how, Table(law, 3), ask, lambda one: seen.append(one.outcome))
    text, guesses = [1, 2, 0, 1], []
    for outcome in seen:
        drafts = (guesses + [text[-1]] * 3)[:3]
        kept = outcome.tree.tokens[0, 1:].tolist()
        assert kept == drafts[: len(kept)]
        said = [greedy(law, text + drafts[:i]) for i in range(len(kept) + 1)]
        count = outcome.count[0]
        text += outcome.tokens[0][:count].tolist()
        guesses = said[count:]
    assert len(seen) > 3


def test_settings_and_targets_that_make_no_sense_are_refused():
    for wrong in ({"window": 0}, {"size": 1}, {"guesses": 0}):
        with pytest.raises(ValueError, match="at least"):
            Lookahead(**wrong)
    with pytest.raises(ValueError, match="window"):
        Jacobi(0)
    with pytest.raises(ValueError, match="reads chains alone"):
        Lookahead().open(Table(speculating.random_law(1), 3, branches=False), 1)
