"""Revisions against hand-worked steps, published loops and the laws they promise to keep."""

import math
from itertools import pairwise

import pytest
import torch
from laws import assert_count
from oracle import published_blocks, published_revising
from oracle.decoding import random_tables
from revising import (
    ABSORBING,
    GIVEN,
    LENGTH,
    MASK,
    VOCAB,
    Exact,
    before,
    beliefs,
    blank,
    every_start,
    logits_of,
    picked,
    run,
    standing,
)
from sights import seen

from unison.decode import Canvas
from unison.decode.diffusion.composed import Composed
from unison.decode.revise import P2, WINO, Edit, Keep, ReMDM
from unison.decode.select import Count, Threshold
from unison.decode.temper import Temper
from unison.prob import rng
from unison.prob.rng import Key


@pytest.fixture
def table(seed):
    """Random conditionals over the toy canvas, as tables and as a function of many canvases."""
    tables = random_tables(VOCAB + 1, VOCAB, LENGTH, seed, timed=False)
    return torch.from_numpy(tables.clean)


# --- path planning -------------------------------------------------------------------------------


def test_p2_masks_the_lowest_of_all_positions_written_ones_among_them():
    """Five positions, step 3 of 5: two masks stay, and they are the two worst of all five."""
    belief = beliefs(
        (0.30, 0.60, 0.10),  # says 1, holds 0: log 0.3
        (0.90, 0.05, 0.05),  # holds 0: log 0.9
        (0.20, 0.50, 0.30),  # open: log 0.5
        (0.20, 0.40, 0.40),  # open: log 0.4
        (0.05, 0.15, 0.80),  # open: log 0.8
    )
    sight = standing(belief, [0, 0, MASK, MASK, MASK], left=3, block_step=2)
    tokens = {
        eta: P2(eta).write(ABSORBING, sight, sight.open, before(), None).tokens.tolist()[0]
        for eta in (0.0, 0.5, 1.0, 20.0)
    }
    assert tokens[1.0] == [MASK, 0, 1, MASK, 2]
    assert tokens[0.5] == [0, 0, MASK, MASK, 2]  # sqrt(0.3) = 0.55 beats 0.5
    assert tokens[0.0] == [0, 0, MASK, MASK, 2]
    assert tokens[20.0] == [MASK, MASK, 1, 1, 2]  # 0.9^20 = 0.12


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7])
def test_p2_holds_its_schedule_of_masks_exactly(steps, table):
    strategy = Composed(revise=P2(1.5), steps=steps)
    _, path = run(strategy, Exact(table), blank(3))
    open_ = LENGTH - len(GIVEN)
    for done, tokens in enumerate(path):
        assert ((tokens == MASK).sum(1) == open_ * (steps - done) // steps).all()


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_p2_writes_what_the_published_loop_writes(eta, steps, table):
    canvas = every_start()
    done, _ = run(Composed(revise=P2(eta), steps=steps), Exact(table), canvas)
    for row, tokens in zip(canvas.tokens, done.tokens, strict=True):
        if (row == MASK).any():
            told = published_revising.p2(logits_of(table), row[None], MASK, steps=steps, eta=eta)
            assert tokens.tolist() == told.tokens[0].tolist()


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_p2_without_weight_on_written_tokens_is_maskgit(steps, table):
    canvas = blank(1)
    planned, _ = run(Composed(revise=P2(0.0), steps=steps), Exact(table), canvas)
    counted, _ = run(Composed(revise=Keep(), select=Count(), steps=steps), Exact(table), canvas)
    assert torch.equal(planned.tokens, counted.tokens)


# --- remasking -----------------------------------------------------------------------------------


def moves(part, rows=40_000, confidence=1.0):
    """How often each of six positions changes: two written, one chosen, three masks beside it."""
    belief = torch.full((rows, 6, VOCAB), -math.log(VOCAB))
    current = torch.tensor([0, 1, MASK, MASK, MASK, MASK]).expand(rows, -1)
    sight = seen(belief, open_=current == MASK, left=4, candidate=torch.full((rows, 6), 2))
    sight = sight._replace(current=current, key=Key(rng.rows(3, 0, rows)))
    past = before(rows, 6, confidence=confidence)
    tokens = part.write(ABSORBING, sight, picked(sight, 2), past, None).tokens
    assert (tokens[:, 2] == 2).all()
    assert ((tokens[:, :2] == current[:, :2]) | (tokens[:, :2] == MASK)).all()
    return (tokens != current).sum(0).tolist(), rows


@pytest.mark.parametrize(
    ("part", "sigma", "besides"),
    [  # bound = min(1, 3 / 2) = 1; besides = (sum of sigma) / 3
        (ReMDM("cap", 0.3), (0.3, 0.3), 0.2),
        (ReMDM("cap", 1.0), (1.0, 1.0), 2 / 3),
        (ReMDM("rescale", 0.6), (0.6, 0.6), 0.4),
        (ReMDM("cap", 0.0), (0.0, 0.0), 0.0),
    ],
)
def test_remasking_happens_at_the_stated_rates(part, sigma, besides):
    counts, rows = moves(part)
    for place, rate in {0: sigma[0], 1: sigma[1], 3: besides, 4: besides, 5: besides}.items():
        if rate in (0.0, 1.0):
            assert counts[place] == rate * rows
        else:
            assert_count(counts[place], rows, rate)


def test_remasking_by_confidence_prefers_what_was_written_unsure():
    said = torch.tensor([0.9, 0.1, 0.0, 0.0, 0.0, 0.0])
    counts, rows = moves(ReMDM("conf"), confidence=said)
    sure, unsure = math.exp(-0.9), math.exp(-0.1)
    assert_count(counts[0], rows, sure / (sure + unsure))
    assert_count(counts[1], rows, unsure / (sure + unsure))
    assert_count(counts[4], rows, 1 / 3)


def test_the_bound_of_remasking_shrinks_with_the_masks_left():
    """Three written, one chosen, one mask beside: bound = 1 / 3, and rescale takes its share."""
    rows = 40_000
    current = torch.tensor([0, 1, 2, MASK, MASK]).expand(rows, -1)
    sight = seen(torch.zeros(rows, 5, 3).log_softmax(-1), open_=current == MASK, left=3)
    sight = sight._replace(current=current, key=Key(rng.rows(5, 0, rows)))
    for part, rate in ((ReMDM("cap", 0.9), 1 / 3), (ReMDM("rescale", 0.6), 0.2)):
        tokens = part.write(ABSORBING, sight, picked(sight, 3), before(rows), None).tokens
        assert_count(int((tokens[:, 0] == MASK).sum()), rows, rate)
        written = 3 * rate  # what is taken back is written elsewhere
        if written < 1:
            assert_count(int((tokens[:, 4] != MASK).sum()), rows, written)
        else:
            assert (tokens[:, 4] != MASK).all()


@pytest.mark.parametrize("part", [ReMDM("cap", 0.4), ReMDM("rescale", 0.8), ReMDM("conf")], ids=str)
def test_remasking_keeps_the_share_that_is_written(part):
    """P(written) = alpha_s at every position, where alpha_t of them were and the choice is fair.

    A position is written before the step with probability 2/6 and after it with 3/6, remasking or
    not; a mask among the others is written at the paper's rate in the mean.
    """
    rows, places = 60_000, 6
    rank = rng.uniform(Key(rng.rows(1, 0, rows)), 77, places).argsort(1).argsort(1)
    current = torch.where(rank < 2, rank, MASK)
    sight = seen(torch.zeros(rows, places, 3).log_softmax(-1), open_=current == MASK, left=4)
    sight = sight._replace(current=current, key=Key(rng.rows(2, 0, rows)))
    tokens = part.write(ABSORBING, sight, rank == 2, before(rows, places), None).tokens
    for place in range(places):
        assert_count(int((tokens[:, place] != MASK).sum()), rows, 3 / 6)
    if part.mode == "cap":
        sigma, alpha_t, alpha_s = 0.4, 2 / 6, 3 / 6
        unmask = (alpha_s - (1 - sigma) * alpha_t) / (1 - alpha_t)
        masked = current[:, 0] == MASK
        assert_count(int((masked & (tokens[:, 0] != MASK)).sum()), int(masked.sum()), unmask)


def test_remasking_at_rate_nought_changes_nothing(table):
    sharp = {"steps": 3, "temper": Temper(1.0)}
    kept, path = run(Composed(**sharp), Exact(table), blank(50))
    none, same = run(Composed(revise=ReMDM("cap", 0.0), **sharp), Exact(table), blank(50))
    assert torch.equal(kept.tokens, none.tokens)
    assert all(torch.equal(a, b) for a, b in zip(path, same, strict=True))


# --- verification by shadows ---------------------------------------------------------------------

SHADOW = beliefs(
    (0.95, 0.03, 0.02), (0.60, 0.30, 0.10), (0.10, 0.20, 0.70), (0.50, 0.25, 0.25), (0.4, 0.3, 0.3)
)


@pytest.mark.parametrize(
    ("wrote", "expected"),
    [
        (0, [0, 1, 0, 0, 1]),  # the first step
        (1, [0, 1, 0, 0, 1]),  # one was written: nothing is taken back
        (2, [0, 1, MASK, 0, 1]),  # one may go: the least probable, 0.1
        (3, [0, MASK, MASK, 0, 1]),  # then 0.3
        (4, [0, MASK, MASK, MASK, 1]),  # then 0.5
        (9, [0, MASK, MASK, MASK, 1]),  # 0.95 is beyond doubt, the last is a draft
    ],
)
def test_wino_takes_back_the_most_doubted_but_fewer_than_were_written(wrote, expected):
    sight = standing(
        torch.full((1, 5, 3), -math.log(3)),
        [0, 1, 0, 0, MASK],
        candidate=torch.tensor([[2, 2, 2, 2, 1]]),
        block_step=1,
    )
    part = WINO(threshold=0.9)
    tokens = part.write(ABSORBING, sight, picked(sight, 4), before(wrote=wrote), SHADOW).tokens
    assert tokens[0].tolist() == expected


def test_wino_needs_shadows(table):
    sight = standing(SHADOW, [0, 1, 2, 0, MASK])
    with pytest.raises(ValueError, match="leave the own token out"):
        WINO().write(ABSORBING, sight, sight.open, before(), None)
    plain = lambda xt, t, focus=None, earlier=None: Exact(table)(xt, t, focus)  # noqa: E731
    with pytest.raises(ValueError, match="WINO judges tokens without seeing them"):
        run(Composed(revise=WINO()), plain, blank(1))


@pytest.mark.parametrize(("draft", "verify"), [(0.3, 0.9), (0.5, 0.4), (0.0, 0.5), (0.3, 1.0)])
def test_wino_writes_what_the_published_loop_writes(draft, verify, table):
    canvas, exact = every_start(), Exact(table)
    strategy = Composed(select=Threshold(draft), revise=WINO(verify))
    done, _ = run(strategy, exact, canvas)
    for row, tokens, nfe in zip(canvas.tokens, done.tokens, done.nfe, strict=True):
        if not (row == MASK).any():
            continue
        told = published_revising.wino(
            logits_of(table),
            lambda x: exact.without(x).log(),
            row[None],
            MASK,
            block_length=LENGTH,
            threshold=draft,
            threshold_back=verify,
        )
        assert tokens.tolist() == told.tokens[0].tolist()
        assert nfe == told.calls


@pytest.mark.parametrize("draft", [0.2, 0.3, 0.6])
def test_after_k_steps_wino_has_written_k_tokens_however_much_it_doubts(draft, table):
    strategy = Composed(select=Threshold(draft), revise=WINO(1.0), temper=Temper(1.0))
    done, path = run(strategy, Exact(table), blank(200))
    open_ = LENGTH - len(GIVEN)
    back = 0
    for step, (old, new) in enumerate(pairwise(path), 1):
        assert (open_ - (new == MASK).sum(1) >= min(step, open_)).all()
        back += int(((old != MASK) & (new == MASK)).sum())
    assert (done.nfe <= open_).all()
    assert back > 0, "nothing was ever taken back"


# --- editing -------------------------------------------------------------------------------------


def test_edit_replaces_what_the_model_is_sure_is_another_token():
    belief = beliefs(
        (0.05, 0.90, 0.05),  # holds 0, surely 1: edited
        (0.20, 0.70, 0.10),  # holds 0, perhaps 1: stays
        (0.95, 0.03, 0.02),  # holds 0, surely 0: stays
        (0.02, 0.03, 0.95),  # open, chosen
        (0.02, 0.03, 0.95),  # open, not chosen: a mask is never edited
    )
    sight = standing(belief, [0, 0, 0, MASK, MASK])
    part = Edit(threshold=0.8)
    revision = part.write(ABSORBING, sight, picked(sight, 3), before(), None)
    assert revision.tokens[0].tolist() == [1, 0, 0, 2, MASK]
    assert not revision.lingering


@pytest.mark.parametrize(
    ("tokens", "edits", "most", "lingers"),
    [
        ([1, MASK], 0, 3, True),  # just filled: look once more
        ([1, MASK], 0, 0, False),  # no look allowed
        ([0, 2], 1, 3, True),  # the first look edited
        ([1, 2], 1, 3, False),  # it found nothing to do
        ([0, 2], 3, 3, False),  # the third and last look
    ],
)
def test_edit_lingers_while_it_changes_something(tokens, edits, most, lingers):
    sight = standing(beliefs((0.01, 0.98, 0.01), (0.01, 0.01, 0.98)), tokens)
    part = Edit(0.9, max_post_steps=most)
    assert part.write(ABSORBING, sight, sight.open, before(edits=edits), None).lingering == lingers


@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.6, 0.9])
@pytest.mark.parametrize("most", [0, 1, 5])
@pytest.mark.parametrize("block", [LENGTH, 2])
def test_edit_writes_what_the_published_loop_writes(threshold, most, block, table):
    canvas = every_start()
    select, revise = Threshold(0.5), Edit(threshold, max_post_steps=most)
    strategy = Composed(select=select, revise=revise, block_length=block, anchor="canvas")
    done, _ = run(strategy, Exact(table), canvas)
    edited = 0
    for row, tokens, nfe in zip(canvas.tokens, done.tokens, done.nfe, strict=True):
        if not (row == MASK).any():
            continue
        settings = {"block_length": block, "threshold": 0.5, "max_post_steps": most}
        told = published_blocks.llada2(
            logits_of(table), row[None], MASK, editing_threshold=threshold, **settings
        )
        plain = published_blocks.llada2(
            logits_of(table), row[None], MASK, editing_threshold=None, **settings
        )
        assert tokens.tolist() == told.tokens[0].tolist()
        assert nfe == told.calls
        edited += told.tokens.tolist() != plain.tokens.tolist()
    assert edited > 0 or threshold > 0.6


def test_editing_that_never_settles_ends_after_its_steps():
    """Two tokens that each want to be what the other is not: every look changes both."""
    swap = torch.full((4, 4, 2, VOCAB), 0.005)
    for a in range(4):
        for b in range(4):
            swap[a, b, 0, 1 if a == 0 else 0] = swap[a, b, 1, 1 if b == 0 else 0] = 0.99

    def denoise(xt, t, focus=None, earlier=None):
        said = swap[tuple(xt.unbind(1))].log()
        return said.gather(1, focus.positions[..., None].expand(-1, -1, VOCAB)).log_softmax(-1)

    canvas = Canvas(torch.full((1, 2), MASK), torch.zeros(1, 2, dtype=torch.bool))
    for most in (0, 1, 2, 5):
        strategy = Composed(select=Threshold(0.5), revise=Edit(0.9, max_post_steps=most))
        done, _ = run(strategy, denoise, canvas)
        assert done.nfe == 1 + most
        assert done.tokens.tolist() == [[most % 2] * 2]
