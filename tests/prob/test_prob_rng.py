"""Streams are published, distinct, uniform and independent of the batch they are drawn in."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

from unison.prob import rng
from unison.prob.rng import Key, uniform

FALSE_ALARM = 1e-6  # of each statistical test here, over seeds; the seed is fixed

KNOWN = [  # kat_vectors of Random123 (Salmon et al., 2011), philox 4x32, 10 rounds
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_answers_as_published(counter, key, words):
    got = rng.philox(tuple(torch.tensor(c) for c in counter), tuple(torch.tensor(k) for k in key))
    assert tuple(int(w) for w in got) == words


def test_a_uniform_is_53_bits_of_the_named_block():
    """The two numbers of a block are its words 0,1 and 2,3; the counter is (pair, site, step)."""
    key = Key(torch.tensor([0x299F31D0_A4093822]), 0x03707344_13198A2E)
    word = rng.philox(
        tuple(torch.tensor(c) for c in (1, 0x85A308D3, 0x13198A2E, 0x03707344)),
        (torch.tensor(0xA4093822), torch.tensor(0x299F31D0)),
    )
    want = [((int(a) << 21) ^ (int(b) >> 11)) * 2.0**-53 for a, b in (word[:2], word[2:])]
    assert uniform(key, 0x85A308D3, 4)[0, 2:].tolist() == want


def test_no_two_streams_coincide():
    """Seed, step and site each matter in all their bits; no draw of one stream is in another."""
    seeds = [0, 1, -1, 255, 256, 2**31, 2**32, 2**32 + 1, -(2**32), 2**63 - 1, -(2**63)]
    steps = [0, 1, 2, 2**31, 2**32, 2**32 + 1]
    sites = [0, 1, 2, 3, 255, rng.SITE_ROWS, rng.SITE_PRIOR, rng.SITE_TIMES, rng.SITE_SHUFFLE]
    draws = [uniform(Key(torch.tensor(seeds), k), site, 8) for k, site in product(steps, sites)]
    values = torch.stack(draws).flatten()
    assert len(values.unique()) == len(seeds) * len(steps) * len(sites) * 8


@pytest.mark.parametrize("length", [1, 2, 3, 8, 9])
def test_a_position_does_not_see_the_length(length):
    key = Key(torch.tensor([3, -7]), 5)
    assert torch.equal(uniform(key, 1, length), uniform(key, 1, 64)[:, :length])


def test_a_row_does_not_see_its_batch():
    seeds = rng.rows(11, 0, 16)
    together = uniform(Key(seeds, 4), 2, 33)
    alone = [uniform(Key(seeds[i : i + 1], 4), 2, 33) for i in range(16)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("seed", [0, -5, 2**40 + 1])
def test_row_seeds_of_a_rank_are_a_slice_of_the_run(seed):
    whole = rng.rows(seed, 0, 64)
    assert torch.equal(torch.cat([rng.rows(seed, f, 16) for f in range(0, 64, 16)]), whole)
    assert len(whole.unique()) == 64
    assert not set(whole.tolist()) & set(rng.rows(seed + 1, 0, 64).tolist())


def test_uniforms_are_uniform_on_the_open_interval():
    draws = uniform(Key(rng.rows(0, 0, 500)), 0, 500)
    assert draws.dtype == torch.float64
    assert ((draws > 0) & (draws < 1)).all()
    assert stats.kstest(draws.flatten().numpy(), "uniform").pvalue > FALSE_ALARM


def test_zero_bits_still_give_an_open_interval(monkeypatch):
    zero = torch.zeros(1, 2, dtype=torch.int64)
    monkeypatch.setattr(rng, "philox", lambda counter, key: (zero,) * 4)
    monkeypatch.setattr(rng, "_FEW", 0)
    assert (uniform(Key(torch.tensor([0])), 0, 4) == 2.0**-54).all()


NEIGHBOURS = {
    "position": lambda u: (u[:, :, :, :-1], u[:, :, :, 1:]),
    "pair": lambda u: (u[:, :, :, :-2], u[:, :, :, 2:]),
    "row": lambda u: (u[:, :, :-1], u[:, :, 1:]),
    "site": lambda u: (u[:, :-1], u[:, 1:]),
    "step": lambda u: (u[:-1], u[1:]),
}


@pytest.mark.law
@pytest.mark.parametrize("name", NEIGHBOURS)
def test_neighbours_are_independent(name):
    """Consecutive seeds, the worst names a caller could choose; 16 x 16 cells of the pair."""
    u = torch.stack(
        [
            torch.stack([uniform(Key(torch.arange(40), step), site, 41) for site in range(5)])
            for step in range(5)
        ]
    )
    first, second = (x.flatten().numpy() for x in NEIGHBOURS[name](u))
    table, *_ = np.histogram2d(first, second, bins=16, range=[[0, 1], [0, 1]])
    assert stats.chisquare(table.flatten()).pvalue > FALSE_ALARM


@pytest.mark.law
def test_normals_are_normal():
    draws = rng.normal(Key(rng.rows(1, 0, 300)), 0, 300).flatten().numpy()
    assert np.isfinite(draws).all()
    assert stats.kstest(draws, "norm").pvalue > FALSE_ALARM


def test_some_positions_draw_what_all_of_them_would():
    key = Key(rng.rows(5, 0, 3), 2**33 + 1)
    positions = torch.tensor([[0, 7, 3, 3], [40, 1, 2, 5], [8, 9, 10, 11]])
    whole = rng.uniform(key, 17, 41)
    assert torch.equal(rng.uniform_at(key, 17, positions), whole.gather(1, positions))


@pytest.mark.parametrize("count", [1, 2, 7, 512])
def test_each_stratum_gets_exactly_one_sample(count):
    for step in range(20):
        u = rng.stratified(9, step, count)
        assert torch.equal((u * count).long().sort().values, torch.arange(count))
        assert ((u > 0) & (u < 1)).all()


def test_slices_of_the_strata_by_rank_reassemble():
    """Four ranks slice what each computes alone: together one sample a stratum, steps differ."""
    ranks = [rng.stratified(9, 3, 64)[16 * r : 16 * (r + 1)] for r in range(4)]
    assert torch.equal(torch.cat(ranks), rng.stratified(9, 3, 64))
    assert torch.equal((torch.cat(ranks) * 64).long().sort().values, torch.arange(64))
    assert not torch.equal(rng.stratified(9, 3, 64), rng.stratified(9, 4, 64))
    assert not torch.equal(rng.stratified(9, 3, 64), rng.stratified(10, 3, 64))


@pytest.mark.law
def test_a_rank_sees_all_times():
    """Strata are dealt at random: the first of 8 rows over many steps is uniform."""
    first = [float(rng.stratified(0, step, 8)[0]) for step in range(1000)]
    assert stats.kstest(first, "uniform").pvalue > FALSE_ALARM


@pytest.mark.parametrize("seed", [0, 1, -7, 2**62, -(2**63)])
def test_a_few_draws_are_those_of_many(monkeypatch, seed):
    seeds = torch.tensor([seed, seed + 5])
    step = torch.tensor([3, 2**40 + 1])
    places = torch.tensor([[0, 5], [2**33, 7]])

    def drawn():
        key = Key(seeds, 2**35 + 3)
        return (
            rng.uniform_at(key, 9, places),
            uniform(key, 2**31, 3),
            rng.uniform_step(seeds, step, 1),
        )

    few = drawn()
    monkeypatch.setattr(rng, "_FEW", 0)
    for one, other in zip(few, drawn(), strict=True):
        assert torch.equal(one, other)


def test_a_step_of_each_row_draws_as_a_step_of_all():
    seeds = rng.rows(4, 0, 3)
    steps = torch.tensor([0, 9, 2])
    drawn = rng.uniform_step(seeds, steps, 7)
    for row, step in enumerate(steps.tolist()):
        assert drawn[row] == uniform(Key(seeds[row : row + 1], step), 7, 1)[0, 0]
