"""How far a cache leads decoding astray is measured, and the delay of dKV-Cache pays."""

import math
from dataclasses import dataclass

import caching
import pytest
import torch
from caching import LENGTH, VOCAB, network

from unison.decode import start
from unison.decode.diffusion.ancestral import Ancestral
from unison.decode.diffusion.composed import Composed
from unison.decode.order import Random
from unison.decode.temper import Temper
from unison.engine import CACHES, CachedDenoiser, cached, drift
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing

ABSORBING = Absorbing(VOCAB)


def constant(belief):
    """A denoiser that always says the same."""
    said = torch.tensor(belief).log()

    def denoise(xt, t, focus=None, earlier=None):
        length = xt.shape[1] if focus is None else focus.positions.shape[1]
        return said.expand(len(xt), length, -1)

    return denoise


def test_drift_is_the_divergence_of_beliefs_and_the_share_of_other_tokens():
    process = Absorbing(2)
    one, other = [0.75, 0.25], [0.25, 0.75]
    begin = caching.canvas(process)
    found = drift(constant(one), constant(other), Composed(block_length=4), process, begin)
    assert found.tokens == 1.0  # greedy: the likelier token everywhere
    assert found.nats == pytest.approx(0.75 * math.log(3) - 0.25 * math.log(3), rel=1e-6)
    assert drift(constant(one), constant(one), Composed(), process, begin) == (0.0, 0.0)


def test_certain_beliefs_do_not_count_as_drift():
    """Without a focus the belief at decided positions is certain: only undecided ones count."""
    net, begin = network(), caching.canvas(ABSORBING)
    policy = CACHES["dkv"](refresh=1)
    plain = cached(net, ABSORBING, CACHES["none"](), begin[0].valid)
    kept = cached(net, ABSORBING, policy, begin[0].valid)
    assert drift(plain, kept, Ancestral(5), ABSORBING, begin) == (0.0, 0.0)


def nats(plain, kept, how, begin):
    """Beliefs alone: what is written without the cache does not matter."""
    return drift(plain, kept, how, ABSORBING, begin, without=begin[0].tokens).nats


@pytest.mark.parametrize("name", caching.APPROXIMATE)
def test_the_more_is_computed_the_less_it_drifts(name):
    """Every third time against never, summed over random networks."""
    moved = {0: 0.0, 3: 0.0}
    for refresh in moved:
        policy = CACHES[name](refresh=refresh)
        how = caching.strategy(policy, block_length=8, temper=Temper(1.0))
        for seed in range(2):
            net, begin = network(seed), caching.canvas(ABSORBING, seed, even=True)
            plain = cached(net, ABSORBING, CACHES["none"]())
            moved[refresh] += nats(plain, cached(net, ABSORBING, policy), how, begin)
    assert 0 < moved[3] < moved[0]


@dataclass(frozen=True)
class Hasty:
    """dKV-Cache without its delay: a token is remembered by the evaluation that wrote it."""

    exact = exact_under_revision = blocks = False
    processes = ("absorbing",)
    refresh: int = 0

    def stale(self, now):
        return (now.since < 2)[:, None] | now.undecided


def test_a_token_remembered_one_step_late_disturbs_less():
    """On each of 20 random networks; were the delay no help, all would agree once in 2^20."""
    how = Composed(order=Random(), temper=Temper(1.0), steps=8)
    better = 0
    for seed in range(20):
        net, key = network(seed), Key(rng.rows(seed, 0, 1))
        blank = torch.zeros(1, LENGTH, dtype=torch.long)
        begin = start(ABSORBING, blank, blank.bool(), key), key
        plain = cached(net, ABSORBING, CACHES["none"]())
        late, early = (
            nats(plain, CachedDenoiser(net, ABSORBING, policy), how, begin)
            for policy in (CACHES["dkv"](refresh=0), Hasty())
        )
        better += late < early
    assert better == 20
