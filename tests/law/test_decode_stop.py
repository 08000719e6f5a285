"""Stops against hand-worked verdicts, and what they leave of the text."""

import math

import pytest
import torch
from oracle import published
from oracle.decoding import random_tables
from sights import seen, uncertain

from unison.decode import Canvas, decode, start
from unison.decode.diffusion.composed import Composed
from unison.decode.select import Threshold
from unison.decode.sight import After, Past
from unison.decode.stop import Committed, Eos, EoTP, Prophet, Stable, Steps
from unison.decode.temper import Temper
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing, Uniform

VOCAB, LENGTH = 3, 5
MASK, END = VOCAB, 2
ABSORBING = Absorbing(VOCAB)


def quiet(rows=1, length=LENGTH, calm=0):
    whole, number = torch.zeros(rows, length, dtype=torch.long), torch.zeros(rows).long()
    return Past(whole, whole.double(), number + calm, number, number)


def after(tokens, *, finished=None, tail=None, eos_ids=(END,)):
    tokens = torch.tensor([tokens])
    undecided = tokens == MASK
    ended = tokens.where(~undecided, 0) if finished is None else torch.tensor([finished])
    everywhere = torch.ones_like(undecided) if tail is None else torch.tensor([tail])
    return After(tokens, undecided, ended, everywhere, eos_ids)


def nothing(sight):
    return torch.zeros_like(sight.open)


@pytest.fixture
def table(seed):
    return torch.from_numpy(random_tables(VOCAB + 1, VOCAB, LENGTH, seed, timed=False).clean)


def denoiser(table):
    def denoise(xt, t, focus=None, earlier=None):
        said = table[tuple(xt.unbind(1))].log().float()
        if focus is None:
            return said
        return said.gather(1, focus.positions[..., None].expand(-1, -1, said.shape[-1]))

    return denoise


def run(strategy, table, canvas, process=ABSORBING):
    path = []
    key = Key(rng.rows(0, 0, len(canvas.tokens)))
    done = decode(
        strategy, process, denoiser(table), canvas, key, lambda _, now, __: path.append(now.tokens)
    )
    return done, path


def every_start():
    """Every pattern of tokens given and masks."""
    tokens = torch.cartesian_prod(*[torch.tensor([0, MASK])] * LENGTH)[1:]
    tokens = torch.where(tokens == 0, torch.arange(LENGTH) % 2, tokens)
    return Canvas(tokens, tokens != MASK)


# --- Prophet -------------------------------------------------------------------------------------


def gaps(*gap):
    """Beliefs over three tokens with these distances between the two best."""
    rest = torch.tensor([[[g, 0.0, -3.0] for g in gap]])
    return seen(rest.log_softmax(-1))


@pytest.mark.parametrize(
    ("step", "steps", "threshold"),
    [
        (0, 100, 7.5),
        (32, 100, 7.5),
        (33, 100, 5.0),  # exactly 0.33 of the steps
        (66, 100, 5.0),
        (67, 100, 2.5),  # exactly 0.67
        (99, 100, 2.5),
        (2, 6, 5.0),  # a third is more than 0.33
        (4, 6, 5.0),  # two thirds are less than 0.67
        (5, 6, 2.5),
    ],
)
def test_the_staircase_falls_at_exactly_its_two_shares(step, steps, threshold):
    for gap, known in ((threshold - 1e-3, False), (threshold + 1e-3, True)):
        progress = step / torch.tensor([steps]).double()
        sight = gaps(gap, gap)._replace(progress=progress)
        verdict = Prophet().judge(sight, nothing(sight), quiet(length=2), after([MASK, MASK]))
        assert verdict.canvas.item() is known
        assert not verdict.block.any()


def test_the_gap_is_averaged_over_the_region_and_no_filling():
    sight = gaps(0.0, 9.0, 3.0, 50.0)
    sight = sight._replace(live=torch.tensor([[True, True, True, False]]))

    def known(threshold, region=None):
        part = Prophet(early=threshold, region=region)
        verdict = part.judge(sight, nothing(sight), quiet(length=4), after([MASK] * 4))
        return verdict.canvas.item()

    for region, mean in ((1, 3.0), (2, 6.0), (3, 4.0), (9, 4.0), (None, 4.0)):
        assert known(mean - 1e-3, region)
        assert not known(mean + 1e-3, region)


def test_the_gap_of_the_belief_is_the_gap_of_the_logits():
    """What normalises cancels; a token that is impossible, or certain, is no NaN."""
    logits = torch.tensor([[[5.0, 2.0, -torch.inf], [0.0, -torch.inf, -torch.inf]]])
    for shift in (0.0, 40.0):
        sight = seen((logits + shift).log_softmax(-1))
        for part in (Prophet(early=1e8, region=1), Prophet(early=3.1)):
            verdict = part.judge(sight, nothing(sight), quiet(length=2), after([MASK] * 2))
            assert verdict.canvas.item()
        alone = sight._replace(live=torch.tensor([[True, False]]))
        for early, known in ((2.999, True), (3.001, False)):
            verdict = Prophet(early).judge(alone, nothing(sight), quiet(length=2), after([MASK, 0]))
            assert verdict.canvas.item() is known


never = Prophet(math.inf, math.inf, math.inf)
at_once = Prophet(-math.inf, -math.inf, -math.inf)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("block", [None, 2])
def test_a_prophet_that_is_never_sure_changes_nothing(temperature, block, table):
    settings = {"steps": 4, "block_length": block, "temper": Temper(temperature)}
    base, path = run(Composed(**settings), table, every_start())
    done, same = run(Composed(stop=never, **settings), table, every_start())
    assert torch.equal(base.tokens, done.tokens)
    assert torch.equal(base.nfe, done.nfe)
    assert all(torch.equal(a, b) for a, b in zip(path, same, strict=True))


@pytest.mark.parametrize("block", [None, 2])
def test_a_prophet_that_is_always_sure_writes_the_likeliest_text_at_once(block, table):
    canvas = every_start()
    done, _ = run(Composed(stop=at_once, steps=5, block_length=block), table, canvas)
    text = torch.where(canvas.given, canvas.tokens, table[tuple(canvas.tokens.T)].argmax(-1))
    assert torch.equal(done.tokens, text)
    assert torch.equal(done.nfe, (~canvas.given).any(1).long())


def test_prophet_writes_what_the_published_loop_writes(table):
    canvas, spent = every_start(), set()
    for scale in (0.3, 0.7, 1.0, 1.5, 3.0):
        stairs = 1.2 * scale, 0.9 * scale, 0.6 * scale
        done, _ = run(Composed(stop=Prophet(*stairs), steps=4), table, canvas)
        for row, tokens, nfe in zip(canvas.tokens, done.tokens, done.nfe, strict=True):
            if (row == MASK).sum() < 4:  # the published loop spends steps that write nothing
                continue
            told = published.prophet(
                lambda x: table[tuple(x.unbind(1))].log(),
                row[None],
                MASK,
                answer=(row == MASK).nonzero()[:, 0],
                stairs=stairs,
                steps=4,
                block_length=LENGTH,
            )
            assert tokens.tolist() == told.tokens[0].tolist()
            assert nfe == told.calls
            spent.add(told.calls)
    assert len(spent) > 1, "all rows stopped together"


def test_answer_only_writes_the_region_and_leaves_the_rest_to_the_steps(table):
    canvas = Canvas(torch.full((1, LENGTH), MASK), torch.zeros(1, LENGTH, dtype=torch.bool))
    part = Prophet(-math.inf, -math.inf, -math.inf, region=2, answer_only=True)
    done, path = run(Composed(stop=part, steps=5), table, canvas)
    first = table[(MASK,) * LENGTH].argmax(-1)
    assert torch.equal(path[1][0, 3:], first[3:])
    assert (path[1][0, :3] == MASK).sum() >= 2
    assert (done.tokens < VOCAB).all()
    assert done.nfe > 1
    with pytest.raises(ValueError, match=r"answer_only=True .* needs absorbing"):
        run(Composed(stop=part), table[:3, :3, :3, :3, :3], canvas, Uniform(VOCAB))


# --- Stable --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patience", "calm", "stops"), [(0, 0, 1), (1, 0, 0), (1, 1, 1), (2, 1, 0)]
)
def test_stable_waits_for_as_many_equal_texts_as_it_says(patience, calm, stops):
    sight = uncertain(0.1, 0.2)
    part = Stable(patience, entropy=0.5)
    ending = after([0, 0], finished=[END, 0])
    verdict = part.judge(sight, nothing(sight), quiet(length=2, calm=calm), ending)
    assert verdict.block.item() == bool(stops)
    assert verdict.cut.item() == (1 if stops else 2)  # the end counts once the block is over


def test_stable_compares_the_mean_entropy_over_the_block_alone():
    sight = uncertain(0.1, 0.3, 0.6)._replace(active=torch.tensor([[True, True, False]]))
    for entropy, stops in ((0.201, True), (0.199, False)):
        verdict = Stable(0, entropy).judge(sight, nothing(sight), quiet(length=3), after([0, 0, 0]))
        assert verdict.block.item() is stops
    certain = seen(torch.tensor([[[0.0, -torch.inf]]]))
    for entropy, stops in ((0.0, False), (1e-9, True)):  # strictly below
        verdict = Stable(0, entropy).judge(certain, nothing(certain), quiet(length=1), after([0]))
        assert verdict.block.item() is stops


@pytest.mark.parametrize("patience", [0, 1, 2, 3])
def test_stable_stops_one_step_after_each_step_of_patience(patience):
    """A belief that never moves is stable from the second look on."""
    fixed = torch.tensor([0.1, 0.7, 0.2]).expand(*(VOCAB,) * 4, 4, VOCAB)
    process = Uniform(VOCAB)
    key = Key(rng.rows(0, 0, 3))
    given = torch.zeros(3, 4, dtype=torch.bool)
    canvas = start(process, torch.zeros(3, 4, dtype=torch.long), given, key)
    strategy = Composed(stop=Stable(patience, 2.0), steps=8, per_block=True, block_length=2)
    done, _ = run(strategy, fixed, canvas, process)
    assert (done.nfe == 2 * (1 + patience)).all()
    assert (done.tokens == 1).all()


def test_a_stable_block_with_an_end_in_it_ends_the_text():
    """The block is finished at the same step; what follows costs nothing."""
    fixed = torch.full((VOCAB,) * 6 + (6, VOCAB), 0.01)
    fixed[..., [0, 1, 2, 3, 4, 5], [0, 1, 0, END, 1, 0]] = 0.98
    process, key = Uniform(VOCAB), Key(rng.rows(0, 0, 2))
    given = torch.zeros(2, 6, dtype=torch.bool)
    canvas = start(process, torch.zeros(2, 6, dtype=torch.long), given, key)
    settings = {"steps": 9, "per_block": True, "block_length": 2}
    stop = Stable(1, 2.0)
    for how in ({"stop": stop, "eos_ids": (END,)}, {"stop": Stable(1, 2.0, eos_ids=(END, 7))}):
        done, _ = run(Composed(**how, **settings), fixed, canvas, process)
        assert done.tokens.tolist() == [[0, 1, 0, END, END, END]] * 2
        assert (done.nfe == 4).all()
    done, _ = run(Composed(stop=stop, **settings), fixed, canvas, process)
    assert done.tokens.tolist() == [[0, 1, 0, END, 1, 0]] * 2
    assert (done.nfe == 6).all()


# --- ends of text --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "tail", "cut"),
    [
        ([0, 1, END, MASK, MASK], [1, 1, 1, 1, 1], 3),
        ([0, MASK, END, MASK, MASK], [1, 1, 1, 1, 1], 5),  # a hole before it
        ([0, 1, 0, MASK, END], [1, 1, 1, 1, 1], 5),
        ([0, END, END, MASK, 1], [1, 1, 1, 1, 1], 2),  # the first of two
        ([END, 1, 0, MASK, MASK], [0, 0, 1, 1, 1], 5),  # in the prompt
        ([0, END, 0, 1, MASK], [0, 0, 0, 1, 1], 5),  # before a given part
        ([0, 1, 0, 1, END], [1, 1, 1, 1, 1], 5),
    ],
)
def test_eos_cuts_behind_the_first_end_with_no_hole_before_it(tokens, tail, cut):
    sight = uncertain(0.1)
    verdict = Eos().judge(
        sight, nothing(sight), quiet(), after(tokens, tail=[bool(x) for x in tail])
    )
    assert verdict.cut.item() == cut
    assert verdict.end == END
    assert not (verdict.block | verdict.canvas).any()


def left_to_right(*text):
    """Beliefs surest at the left, whatever the canvas: the text is written in order."""
    said = torch.full((VOCAB + 1,) * len(text) + (len(text), VOCAB), 0.0)
    for place, token in enumerate(text):
        said[..., place, :] = 0.01 * (place + 1)
        said[..., place, token] = 1 - 0.02 * (place + 1)
    return said


@pytest.mark.parametrize("block", [None, 2, 3])
def test_eos_fills_the_rest_and_spends_nothing_on_it(block):
    table = left_to_right(0, 1, END, 0, 1)
    canvas = Canvas(torch.full((1, 5), MASK), torch.zeros(1, 5, dtype=torch.bool))
    strategy = Composed(stop=Eos(), eos_ids=(END,), block_length=block)
    done, _ = run(strategy, table, canvas)
    assert done.tokens.tolist() == [[0, 1, END, END, END]]
    assert done.nfe == 3
    own = Composed(stop=Eos(eos_ids=(END,)), block_length=block)
    assert torch.equal(run(own, table, canvas)[0].tokens, done.tokens)


def test_eos_leaves_given_text_and_padding_alone():
    table = left_to_right(END, END, 0, END, 1)
    tokens = torch.tensor([[MASK, MASK, 0, MASK, MASK], [MASK, MASK, MASK, 1, 1]])
    given = torch.tensor([[0, 0, 1, 0, 0], [0, 0, 0, 1, 1]]).bool()
    valid = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    strategy = Composed(stop=Eos(), eos_ids=(END,))
    done, _ = run(strategy, table, Canvas(tokens, given, valid=valid))
    # The ends before the given 0 end nothing; the first one of the padded row does.
    assert done.tokens.tolist() == [[END, END, 0, END, END], [END, END, END, 1, 1]]
    assert done.nfe.tolist() == [3, 1]


def test_eos_ends_a_uniform_row_when_its_block_does():
    fixed = torch.full((VOCAB,) * 6 + (6, VOCAB), 0.01)
    fixed[..., [0, 1, 2, 3, 4, 5], [0, END, 0, 1, 1, 0]] = 0.98
    process, key = Uniform(VOCAB), Key(rng.rows(0, 0, 1))
    given = torch.zeros(1, 6, dtype=torch.bool)
    canvas = start(process, torch.zeros(1, 6, dtype=torch.long), given, key)
    strategy = Composed(stop=Eos(), eos_ids=(END,), steps=3, per_block=True, block_length=2)
    done, _ = run(strategy, fixed, canvas, process)
    assert done.tokens.tolist() == [[0, END, END, END, END, END]]
    assert done.nfe == 3


def likely(*pairs):
    """One row of beliefs: the likeliest token of each position and its probability."""
    said = torch.zeros(1, len(pairs), VOCAB)
    for place, (token, p) in enumerate(pairs):
        said[0, place] = (1 - p) / (VOCAB - 1)
        said[0, place, token] = p
    return said.log()


@pytest.mark.parametrize(
    ("chosen", "threshold", "cut"),
    [
        ([3], 1.0, 4),  # chosen and an end
        ([1, 3], 1.0, 2),  # the first of two that were chosen
        ([0], 0.9, 5),  # none is sure enough
        ([0], 0.8, 4),  # the most probable end, not the first
        ([0], 0.0, 4),
        ([3], 0.0, 4),
        ([1], 0.0, 2),  # a chosen one goes before a more probable one
    ],
)
def test_eotp_cuts_behind_a_chosen_end_else_behind_the_surest(chosen, threshold, cut):
    belief = likely((0, 0.95), (END, 0.6), (1, 0.99), (END, 0.85), (0, 0.9))
    sight = seen(belief)
    picked = torch.zeros_like(sight.open).index_fill(1, torch.tensor(chosen), True)
    verdict = EoTP(threshold).judge(sight, picked, quiet(), after([MASK] * 5))
    assert verdict.cut.item() == cut


def test_eotp_takes_no_end_that_something_given_follows():
    sight = seen(likely((END, 0.99), (0, 0.6), (END, 0.7)))
    held = after([MASK, 0, MASK], tail=[False, False, True])
    everything = sight.open
    assert EoTP(0.0).judge(sight, everything, quiet(length=3), held).cut.item() == 3
    other = sight._replace(candidate=torch.zeros_like(sight.candidate))  # drawn, not likeliest
    free = after([0, 0, 0])
    assert EoTP(0.0).judge(other, everything, quiet(length=3), free).cut.item() == 3
    nowhere = after([MASK, 0, MASK], tail=[False, False, False])
    assert EoTP(0.0).judge(sight, everything, quiet(length=3), nowhere).cut.item() == 3


def test_eotp_writes_the_front_and_spends_nothing_on_the_cut_tail():
    """The end is seen at once, at place 3 of 6; three steps write what stands in front of it."""
    said = torch.full((VOCAB + 1,) * 6 + (6, VOCAB), 0.0)
    said[:] = likely((0, 0.7), (1, 0.6), (END, 0.95), (0, 0.5), (1, 0.5), (0, 0.5)).exp()[0]
    canvas = Canvas(torch.full((1, 6), MASK), torch.zeros(1, 6, dtype=torch.bool))
    for block in (None, 4):
        strategy = Composed(stop=EoTP(), eos_ids=(END,), block_length=block)
        done, path = run(strategy, said, canvas)
        assert path[1].tolist() == [[MASK, MASK, END, END, END, END]]
        assert done.tokens.tolist() == [[0, 1, END, END, END, END]]
        assert done.nfe == 3


@pytest.mark.parametrize("stop", [Eos(), EoTP()], ids=str)
def test_a_stop_that_knows_no_end_is_refused_at_the_first_step(stop, table):
    strategy = Composed(stop=stop)
    with pytest.raises(ValueError, match=f"{type(stop).__name__} .* name them in eos_ids"):
        run(strategy, table, every_start())
    with pytest.raises(ValueError, match=r"discount=0.5 .* eos_ids names none"):
        run(Composed(discount=0.5), table, every_start())


# --- numbers of steps ----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 9])
@pytest.mark.parametrize("block", [5, 2])
def test_steps_ends_each_block_with_the_likeliest_text(count, block, table):
    canvas = Canvas(torch.full((1, LENGTH), MASK), torch.zeros(1, LENGTH, dtype=torch.bool))
    done, path = run(Composed(stop=Steps(count), block_length=block), table, canvas)
    assert done.nfe == sum(min(block, LENGTH - i, count) for i in range(0, LENGTH, block))
    before = path[-2]
    likeliest = table[tuple(before.unbind(1))].argmax(-1)
    assert torch.equal(done.tokens, torch.where(before == MASK, likeliest, before))


def test_committed_lets_every_position_be_written(table):
    done, _ = run(Composed(select=Threshold(1.0), stop=Committed()), table, every_start())
    assert torch.equal(done.nfe, (every_start().tokens == MASK).sum(1))
