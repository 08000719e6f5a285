"""What does a composed strategy sample? Exact laws by enumeration, parts in all combinations.

The denoiser gives the exact conditionals of a small joint law, so that whatever departs from that
law is the strategy's doing and can be computed.
"""

from collections import Counter

import numpy as np
import pytest
import torch
from laws import ALPHA, assert_law, p_value
from oracle import composed as oracle
from oracle.decoding import Tables

from unison.decode import Canvas, decode, start
from unison.decode.diffusion.composed import Composed
from unison.decode.order import Confidence, Entropy, Margin, Perturbed, Position, Random
from unison.decode.select import Count, Dilated, EntropyBound, Factor, Shifted, Threshold
from unison.decode.temper import Temper
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing

VOCAB, LENGTH = 2, 4
ROWS = 10_000
MASK = VOCAB
JOINT = oracle.random_joint(VOCAB, LENGTH, 1)
SAMPLING = Temper(1.0)

pytestmark = pytest.mark.law

# Orders that do not look at the drawn token, and their scores.
BLIND = {
    "margin": (Margin(), oracle.best(oracle.by_margin, oracle.one)),
    "entropy": (Entropy(), oracle.best(oracle.by_entropy, oracle.one)),
    "best": (Confidence("best"), oracle.best(oracle.by_best, oracle.one)),
    "position": (Position(), oracle.best(oracle.by_position, oracle.one)),
    "random": (Random(), oracle.any_of(oracle.one)),
    "perturbed": (
        Perturbed(Margin(), 0.3),
        oracle.drawn(oracle.softened(oracle.by_margin, 0.3), oracle.one),
    ),
}
blind = pytest.mark.parametrize("name", BLIND)


@pytest.fixture
def exact(as_denoiser):
    """The denoiser of a joint law."""

    def build(joint):
        table = oracle.tables(joint)
        return as_denoiser(Tables(table, table))

    return build


def texts(decoded):
    return [tuple(row) for row in decoded.tokens.tolist()]


@blind
def test_one_token_per_step_follows_the_joint_law(name, exact, write):
    """Every order that does not look at the drawn token: with exact beliefs, exact samples."""
    order, choose = BLIND[name]
    assert oracle.law(JOINT, choose, (MASK,) * LENGTH) == pytest.approx(
        oracle.as_law(JOINT, (MASK,) * LENGTH)
    )
    strategy = Composed(order=order, temper=SAMPLING)
    decoded = write(strategy, Absorbing(VOCAB), exact(JOINT), {}, LENGTH, ROWS)
    assert (decoded.nfe == LENGTH).all()
    assert_law(texts(decoded), oracle.as_law(JOINT, (MASK,) * LENGTH))


@blind
@pytest.mark.parametrize("given", [{1: 0}, {0: 1, 3: 0}], ids=str)
def test_given_tokens_condition_the_law(name, given, exact, write):
    """In blocks, around a hole and before a suffix, with steps set for each block."""
    order, _ = BLIND[name]
    strategy = Composed(order=order, temper=SAMPLING, block_length=2, steps=2, per_block=True)
    decoded = write(strategy, Absorbing(VOCAB), exact(JOINT), given, LENGTH, ROWS)
    assert_law(
        texts(decoded),
        oracle.as_law(JOINT, tuple(given.get(i, MASK) for i in range(LENGTH))),
    )


def test_orders_really_differ(exact, write):
    """Or the tests above would check one order many times."""
    joint = oracle.random_joint(VOCAB, 3, 0)
    first = {}
    for name, (order, _) in BLIND.items():
        decoded = write(
            Composed(order=order, temper=SAMPLING), Absorbing(VOCAB), exact(joint), {}, 3
        )
        first[name] = {tuple(row) for row in decoded.step.tolist()}
    assert first["position"] == {(1, 2, 3)}
    assert len(first["random"]) == len(first["perturbed"]) == 6
    assert first["entropy"] != first["position"]
    assert all(1 <= len(first[name]) <= 4 for name in ("margin", "entropy", "best"))


def test_ranking_by_the_drawn_token_has_another_law(exact, write):
    """The published confidence at temperature 1: sharper than the joint, as enumeration says."""
    start_ = (MASK,) * LENGTH
    wanted = oracle.law(JOINT, oracle.best(oracle.by_confidence, oracle.one), start_)
    joint = oracle.as_law(JOINT, start_)
    decoded = write(Composed(temper=SAMPLING), Absorbing(VOCAB), exact(JOINT), {}, LENGTH, ROWS)
    assert_law(texts(decoded), wanted)
    assert p_value(texts(decoded), joint) < ALPHA
    assert oracle.entropy(np.array(list(wanted.values()))) < oracle.entropy(JOINT)


@pytest.mark.parametrize("heat", [0.5, 2.0])
def test_temperature_acts_token_by_token(heat, exact, write):
    choose = oracle.best(oracle.by_position, oracle.one)
    wanted = oracle.law(JOINT, choose, (MASK,) * LENGTH, heat)
    strategy = Composed(order=Position(), temper=Temper(heat))
    decoded = write(strategy, Absorbing(VOCAB), exact(JOINT), {}, LENGTH, ROWS)
    assert_law(texts(decoded), wanted)


def test_one_step_draws_the_marginals(exact, write):
    """And what that costs is the total correlation."""
    strategy = Composed(steps=1, temper=SAMPLING)
    decoded = write(strategy, Absorbing(VOCAB), exact(JOINT), {}, LENGTH, ROWS)
    wanted = oracle.grouped_law(JOINT, [(0, 1, 2, 3)])
    assert_law(texts(decoded), wanted)
    cost = oracle.divergence(oracle.as_law(JOINT, (MASK,) * LENGTH), wanted)
    assert cost == pytest.approx(oracle.total_correlation(JOINT, range(LENGTH)), abs=1e-12)
    assert cost > 0.1


SCHEDULES = {
    (4,): (Count(), 1),
    (2, 2): (Count(), 2),
    (2, 1, 1): (Count(), 3),
    (1, 3): (Shifted(3.0), 2),
    (3, 1): (Shifted(1 / 3), 2),
    (1, 1, 1, 1): (Count(), 4),
}


@pytest.mark.parametrize("sizes", SCHEDULES, ids=str)
def test_random_groups_cost_what_the_entropy_curve_says(sizes, exact, write):
    """Groups and text together follow their law, so the expected divergence is the curve's sum."""
    select, steps = SCHEDULES[sizes]
    ways = oracle.groups_of(LENGTH, sizes)
    laws = {way: oracle.grouped_law(JOINT, way) for way in ways}
    joint = oracle.as_law(JOINT, (MASK,) * LENGTH)
    cost = sum(oracle.divergence(joint, law) for law in laws.values()) / len(ways)
    assert cost == pytest.approx(oracle.schedule_cost(JOINT, sizes), abs=1e-12)
    strategy = Composed(order=Random(), select=select, steps=steps, temper=SAMPLING)
    decoded = write(strategy, Absorbing(VOCAB), exact(JOINT), {}, LENGTH, 20_000)
    seen = [
        (tuple(tuple(np.flatnonzero(row == n + 1)) for n in range(len(sizes))), text)
        for row, text in zip(decoded.step.numpy(), texts(decoded), strict=True)
    ]
    assert_law(seen, {(w, x): p / len(ways) for w in ways for x, p in laws[w].items()})


def test_the_price_of_a_schedule_ranks_schedules():
    """More steps never cost more; one token each costs nothing."""
    price = {sizes: oracle.schedule_cost(JOINT, sizes) for sizes in SCHEDULES}
    assert price[(4,)] > price[(2, 2)] > price[(2, 1, 1)] > price[(1, 1, 1, 1)]
    assert price[(1, 1, 1, 1)] == pytest.approx(0, abs=1e-12)


COMBINATIONS = {
    "threshold, confidence": (
        Confidence(),
        Threshold(0.7),
        oracle.above(0.7, oracle.by_confidence),
    ),
    "threshold, entropy": (Entropy(), Threshold(0.6), oracle.above(0.6, oracle.by_entropy)),
    "factor, confidence": (Confidence(), Factor(1.2), oracle.by_factor(1.2, oracle.by_confidence)),
    "factor, position": (Position(), Factor(1.5), oracle.by_factor(1.5, oracle.by_position)),
    "entropy bound, entropy": (
        Entropy(),
        EntropyBound(0.6),
        oracle.within(0.6, oracle.by_entropy),
    ),
    "entropy bound, margin": (Margin(), EntropyBound(0.9), oracle.within(0.9, oracle.by_margin)),
    "dilated": (Confidence(), Dilated(), lambda step: [(((0, 2), (1, 3))[step.number], 1.0)]),
    "two of a margin lottery": (
        Perturbed(Margin(), 0.2),
        Count(),
        oracle.drawn(oracle.softened(oracle.by_margin, 0.2), lambda step: 2),
    ),
    "two of a candidate lottery": (
        Perturbed(Confidence(), 0.4),
        Count(),
        oracle.drawn(oracle.softened(oracle.by_confidence, 0.4), lambda step: 2),
    ),
}


@pytest.mark.parametrize("name", COMBINATIONS)
def test_order_and_selection_together_follow_their_enumerated_law(name, exact, write):
    order, select, choose = COMBINATIONS[name]
    wanted = oracle.law(JOINT, choose, (MASK,) * LENGTH)
    steps = 2 if isinstance(select, Count) else None
    strategy = Composed(order=order, select=select, steps=steps, temper=SAMPLING)
    decoded = write(strategy, Absorbing(VOCAB), exact(JOINT), {}, LENGTH, ROWS)
    assert_law(texts(decoded), wanted)
    assert 1 < decoded.nfe.float().mean() < LENGTH


# Rows of one batch: answer length, and what is given in it (a hole, a suffix, both, nothing).
SHAPES = [(4, {}), (4, {2: 1}), (3, {}), (3, {2: 0}), (2, {}), (4, {0: 0, 3: 1}), (1, {})]


def mixed(rows, seed):
    """A canvas of ragged rows, shape after shape, padded with token 0 at the right."""
    shape = torch.arange(rows) % len(SHAPES)
    tokens = torch.zeros(rows, LENGTH, dtype=torch.long)
    given = torch.zeros(rows, LENGTH, dtype=torch.bool)
    for number, (length, fixed) in enumerate(SHAPES):
        for place, token in fixed.items():
            tokens[shape == number, place] = token
            given[shape == number, place] = True
        given[shape == number, length:] = True
    valid = torch.arange(LENGTH) < torch.tensor([length for length, _ in SHAPES])[shape][:, None]
    key = Key(rng.rows(seed, 0, rows))
    return shape, start(Absorbing(VOCAB), tokens, given, key, valid), key


@pytest.mark.parametrize(
    ("strategy", "choose"),
    [
        (Composed(order=Entropy(), temper=SAMPLING), BLIND["entropy"][1]),
        (Composed(order=Random(), temper=SAMPLING, block_length=2), BLIND["random"][1]),
        (
            Composed(select=Threshold(0.7), temper=SAMPLING),
            oracle.above(0.7, oracle.by_confidence),
        ),
    ],
    ids=["entropy", "random in blocks", "threshold"],
)
def test_ragged_rows_each_follow_their_own_law(strategy, choose, exact, seed):
    """Short rows, suffixes and holes side by side: what is padding is given token 0."""
    shape, canvas, key = mixed(len(SHAPES) * 3000, seed)
    decoded = decode(strategy, Absorbing(VOCAB), exact(JOINT), canvas, key)
    for number, (length, fixed) in enumerate(SHAPES):
        open_ = tuple(fixed.get(i, MASK) if i < length else 0 for i in range(LENGTH))
        mine = [tuple(row) for row in decoded.tokens[shape == number].tolist()]
        assert_law(mine, oracle.law(JOINT, choose, open_))


@pytest.mark.parametrize("heat", [0.5, 1.0, 4.0])
def test_the_choice_temperature_sharpens_what_is_written(heat, seed):
    """MaskGIT's first pick among equal positions: p^(1 + 1/heat), as their number grows."""
    p, places, rows = np.array([0.6, 0.3, 0.1]), 24, ROWS
    belief = torch.from_numpy(np.log(p)).float().expand(rows, places, 3)

    def same(xt, t, focus=None, earlier=None):
        return belief

    key = Key(rng.rows(seed, 0, rows))
    tokens = torch.zeros(rows, places, dtype=torch.long)
    process = Absorbing(3)
    canvas: Canvas = start(process, tokens, torch.zeros_like(tokens, dtype=torch.bool), key)
    strategy = Composed(order=Perturbed(heat=heat, log=True), temper=SAMPLING)
    after, _ = strategy.step(process, same, canvas, key)
    written = after.tokens != process.mask_id
    assert (written.sum(1) == 1).all()
    picked = after.tokens.gather(1, written.long().argmax(1)[:, None])[:, 0].tolist()
    exact = oracle.picked_token(p, places, heat)
    assert_law(picked, dict(enumerate(exact.tolist())))
    assert p_value(picked, dict(enumerate(p.tolist()))) < ALPHA
    limit = p ** (1 + 1 / heat)
    assert exact == pytest.approx(limit / limit.sum(), abs=0.02)
    assert Counter(picked)[0] / rows > p[0] + 0.02
