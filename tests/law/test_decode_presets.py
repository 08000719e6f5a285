"""Do the named presets write what the published loops write, token for token?

The published loops (``oracle/published.py``) see one row at a time, the whole of it, in every step;
ours get all rows together, ragged, and read only what they need. Random weights, temperature 0
unless said otherwise.
"""

from dataclasses import replace

import pytest
import torch
from oracle import published
from side_by_side import (
    EOS,
    MASK,
    ROWS,
    VOCAB,
    Loop,
    assert_same,
    logits_of,
    network,
    texts,
    together,
)

from unison.decode.diffusion.remdm import ReMDM
from unison.decode.guidance import free, unprompted
from unison.decode.order import Confidence, Margin, Random
from unison.decode.presets import PRESETS
from unison.decode.select import Bernoulli, Factor, LocalLeap, Threshold
from unison.decode.select.learned import Filter, save_filter
from unison.decode.sight import SITE_ORDER, SITE_SELECT
from unison.decode.stop import Prophet
from unison.decode.temper import Temper
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing

GREEDY = Temper()

seeds = pytest.mark.parametrize("seed", [0, 1])


def by_block(choose: published.Choose, block: int) -> Loop:
    return lambda logits, row: published.by_block(logits, row, MASK, block, choose)


@seeds
@pytest.mark.parametrize(("steps", "block"), [(16, 16), (8, 4), (7, 5), (20, 32)])
def test_llada_writes_what_the_published_loop_writes(seed, steps, block):
    """Also where lengths and steps do not divide, which public code refuses."""
    preset = replace(PRESETS["llada"](), steps=steps, block_length=block)

    def loop(logits, row):
        return published.llada(logits, row, MASK, steps=steps, block_length=block)

    assert_same(preset, seed, loop, idle=True)


@seeds
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_llada_with_guidance_writes_what_the_published_loop_writes(seed, scale):
    preset = replace(PRESETS["llada"](), steps=6, block_length=8)
    net, wanted = network(seed), texts(seed)

    def guided(denoise, canvas):
        return free(denoise, unprompted(denoise, Absorbing(VOCAB), canvas), scale)

    wrote, _ = together(preset, net, wanted, guided)
    for number, row in enumerate(wanted):
        told = published.llada(logits_of(net), row, MASK, steps=6, block_length=8, cfg_scale=scale)
        assert wrote[number] == told.tokens[0].tolist()


@seeds
def test_llada_in_random_order_writes_what_the_published_loop_writes(seed):
    """From the same uniforms: a position's own, whatever step looks at it."""
    preset = replace(PRESETS["llada"](), order=Random(), steps=16, block_length=16)
    net, wanted = network(seed), texts(seed, ((3, 13, 0), (0, 16, 0)))
    wrote, _ = together(preset, net, wanted)
    for number, row in enumerate(wanted):
        key = Key(rng.rows(0, number, 1))

        def noise(call, logits, key=key):
            u = rng.uniform(key.at(call), SITE_ORDER, logits.shape[1])
            return u[..., None].expand(logits.shape)

        told = published.llada(
            logits_of(net), row, MASK, steps=16, block_length=16, remasking="random", noise=noise
        )
        assert wrote[number] == told.tokens[0].tolist()


@seeds
@pytest.mark.parametrize(
    ("alg", "order"), [("entropy", None), ("maskgit_plus", Confidence()), ("topk_margin", Margin())]
)
@pytest.mark.parametrize("steps", [1, 4])
def test_dream_writes_what_the_published_loop_writes(seed, alg, order, steps):
    """Where the loop wastes no step: with fewer tokens than steps it has some that write none.

    Output i of Dream's network speaks of position i + 1: the loop shifts, our network is asked to.
    """
    preset = replace(PRESETS["dream"](), temper=GREEDY, steps=steps)
    preset = preset if order is None else replace(preset, order=order)
    rows = ROWS[:3]
    net, wanted = network(seed), texts(seed, rows)
    aligned = network(seed, shifted=True)
    wrote, done = together(preset, aligned, wanted)
    assert done.nfe.tolist() == [steps] * len(rows)
    for number, row in enumerate(wanted):
        told = published.dream(logits_of(net), row, MASK, steps=steps, alg=alg, shifted=True)
        assert wrote[number] == told.tokens[0].tolist()


@seeds
def test_dream_by_coins_writes_what_the_published_loop_writes(seed):
    """``origin``, from the same uniforms, in runs where every step has a coin that says yes."""
    preset = replace(PRESETS["dream"](), temper=GREEDY, select=Bernoulli(), steps=3)
    net, wanted = network(seed), texts(seed, ROWS[:3])
    wrote, done = together(preset, net, wanted)
    for number, row in enumerate(wanted):
        key = Key(rng.rows(0, number, 1))
        told = published.dream(
            logits_of(net), row, MASK, steps=3, alg="origin",
            uniforms=lambda i, key=key, row=row: rng.uniform(key.at(i), SITE_SELECT, row.shape[1]),
        )  # fmt: skip
        assert set(done.step[number][done.step[number] > 0].tolist()) == {1, 2, 3}
        assert wrote[number] == told.tokens[0].tolist()


@seeds
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6, 1.0])
def test_fast_dllm_writes_what_the_published_loop_writes(seed, threshold):
    preset = replace(PRESETS["fast-dllm"](), select=Threshold(threshold), block_length=5)
    assert_same(preset, seed, by_block(published.above(threshold), 5))


@seeds
@pytest.mark.parametrize("factor", [0.0, 0.8, 1.5])
def test_fast_dllm_by_factor_writes_what_the_paper_says(seed, factor):
    """Public code takes one candidate too many where the last of them fails; we do not."""
    preset = replace(PRESETS["fast-dllm"](), select=Factor(factor), block_length=6)
    assert_same(preset, seed, by_block(published.by_factor(factor), 6))


@seeds
@pytest.mark.parametrize("bound", [0.0, 0.1, 1.0])
def test_entropy_bound_writes_what_the_published_loop_writes(seed, bound):
    preset = PRESETS["entropy-bound"]()
    preset = replace(preset, select=replace(preset.select, bound=bound), block_length=6)
    assert_same(preset, seed, by_block(published.within_entropy(bound), 6))


@seeds
@pytest.mark.parametrize(("high", "low", "radius"), [(0.9, 0.75, 4), (0.5, 0.2, 1)])
def test_localleap_writes_what_the_published_loop_writes(seed, high, low, radius):
    preset = replace(PRESETS["localleap"](), select=LocalLeap(high, low, radius), block_length=8)
    assert_same(preset, seed, by_block(published.leaping(high, low, radius), 8))


@seeds
def test_learn2pd_writes_what_the_published_loop_writes(seed, tmp_path):
    """On whole blocks, the only ones the published loop has."""
    draw = torch.Generator().manual_seed(seed)
    layers = [torch.randn(shape, generator=draw) for shape in ((4, 4), (4,), (4, 4), (4,))]
    save_filter(tmp_path / "filter.safetensors", Filter(*layers))
    preset = PRESETS["learn2pd"](str(tmp_path / "filter.safetensors"))
    preset = replace(preset, select=replace(preset.select, threshold=0.6))

    def lets_pass(sure):
        hidden = (layers[0] @ sure + layers[1]).relu()
        return (layers[2] @ hidden + layers[3]).sigmoid()

    rows = ((4, 12, 0), (0, 16, 0), (8, 4, 0))
    loop = by_block(published.filtered(lets_pass, 0.6, 4), 4)
    calls = assert_same(preset, seed, loop, rows=rows)
    assert sum(calls) < 12 + 16 + 4, "the filter let nothing pass"


def test_learn2pd_without_a_filter_says_how_to_get_one():
    with pytest.raises(ValueError, match="filter trained for the model"):
        PRESETS["learn2pd"]()


@seeds
@pytest.mark.parametrize("stairs", [(7.5, 5.0, 2.5), (2.2, 1.6, 1.2), (9.9, 1.7, 9.9), (9, 9, 1)])
def test_prophet_writes_what_the_published_loop_writes(seed, stairs):
    stop = Prophet(*map(float, stairs), region=5)
    preset = replace(PRESETS["prophet"](), stop=stop, steps=8, block_length=8)

    def loop(logits, row):
        last = int((row[0] == MASK).nonzero().max()) + 1
        return published.prophet(
            logits, row, MASK, answer=slice(last - 5, last), stairs=stairs, steps=8, block_length=8
        )

    assert_same(preset, seed, loop, rows=ROWS[:3], idle=True)


@seeds
@pytest.mark.parametrize("low", [0.01, 1.0])
def test_eoser_ass_writes_what_the_published_loop_writes(seed, low):
    """On 8 and 16 tokens: public code knows powers of two alone."""
    preset = replace(PRESETS["eoser-ass"](), eos_ids=(EOS,), discount=low)

    def loop(logits, row):
        return published.eoser_ass(logits, row, MASK, eos=EOS, low=low)

    assert_same(preset, seed, loop, rows=((3, 16, 0), (0, 16, 2), (5, 8, 2)))


@seeds
@pytest.mark.parametrize("discount", [0.0, 0.4])
def test_eoser_writes_what_the_published_loop_writes(seed, discount):
    preset = replace(
        PRESETS["llada"](), eos_ids=(EOS,), discount=discount, steps=6, block_length=16
    )

    def worth(token, share):
        return torch.where(token == EOS, discount + (1 - discount) * share, 1.0)

    def loop(logits, row):
        return published.llada(logits, row, MASK, steps=6, block_length=16, worth=worth)

    assert_same(preset, seed, loop, rows=ROWS[:3], idle=True)


@seeds
@pytest.mark.parametrize("block", [8, 4])
def test_dus_writes_what_the_published_loop_writes(seed, block):
    """On whole blocks of a power of two, as published."""
    preset = replace(PRESETS["dus"](), block_length=block)

    def loop(logits, row):
        return published.dus(logits, row, MASK, block_length=block)

    assert_same(preset, seed, loop, rows=((3, 16, 0), (0, 8, 2), (5, 16, 2)))


def test_remdm_is_the_strategy_held_to_its_law():
    assert PRESETS["remdm"]() == ReMDM()
