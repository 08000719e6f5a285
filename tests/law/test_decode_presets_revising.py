"""Do presets that revise, work in a model's blocks or ask a judge write what is published?

As in ``test_decode_presets.py``.
"""

from dataclasses import replace

import pytest
import torch
from oracle import composed as exact
from oracle import published, published_blocks, published_revising
from oracle.decoding import Tables
from side_by_side import (
    EOS,
    MASK,
    ROWS,
    VOCAB,
    assert_same,
    logits_of,
    network,
    texts,
    together,
)
from torch import Tensor

from unison.decode import Canvas, decode
from unison.decode.diffusion.composed import Composed
from unison.decode.diffusion.guided import Guided
from unison.decode.presets import PRESETS
from unison.decode.revise import WINO, Edit
from unison.decode.select import Threshold
from unison.decode.sight import SITE_ORDER, SITE_TARGET
from unison.decode.temper import Temper
from unison.denoising import RowDenoiser
from unison.models import Transformer
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing, Sequential

seeds = pytest.mark.parametrize("seed", [0, 1])


@seeds
@pytest.mark.parametrize(("steps", "eta"), [(6, 1.0), (4, 3.0), (9, 0.5)])
def test_p2_writes_what_the_published_loop_writes(seed, steps, eta):
    preset = PRESETS["p2"]()
    preset = replace(preset, revise=replace(preset.revise, eta=eta), steps=steps)

    def loop(logits, row):
        return published_revising.p2(logits, row, MASK, steps=steps, eta=eta)

    assert_same(preset, seed, loop, rows=ROWS[:3])


class Shadows:
    """A denoiser that judges each token by an evaluation in which it is masked."""

    def __init__(self, net: Transformer):
        self.net = net

    def __call__(self, xt, t, focus=None, earlier=None):
        raise AssertionError("WINO asks for beliefs and shadows at once")

    def shadow(self, xt, t, focus):
        log_p = logits_of(self.net)(xt).log_softmax(-1)
        at = focus.positions[..., None].expand(-1, -1, VOCAB)
        return log_p.gather(1, at), without_own(self.net, xt).log_softmax(-1).gather(1, at)


def without_own(net: Transformer, x: Tensor) -> Tensor:
    """Logits at each position with that position masked."""
    rows, length = x.shape
    hidden = torch.where(torch.eye(length, dtype=torch.bool), MASK, x[:, None])
    said = logits_of(net)(hidden.flatten(0, 1)).unflatten(0, (rows, length))
    return said.diagonal(dim1=1, dim2=2).transpose(1, 2)


@seeds
@pytest.mark.parametrize(("draft", "back"), [(0.6, 0.9), (0.2, 0.5)])
def test_wino_writes_what_the_published_loop_writes(seed, draft, back):
    """Rows one at a time: the loop's shadows are of the row's own length."""
    preset = PRESETS["wino"]()
    preset = replace(
        preset, select=replace(preset.select, threshold=draft), revise=WINO(back), block_length=8
    )
    net = network(seed)
    for row in texts(seed):
        wrote, done = together(preset, net, [row], lambda _, canvas: Shadows(net))
        told = published_revising.wino(
            logits_of(net), lambda x: without_own(net, x), row, MASK,
            block_length=8, threshold=draft, threshold_back=back,
        )  # fmt: skip
        assert wrote[0] == told.tokens[0].tolist()
        assert done.nfe.tolist() == [told.calls]


BLOCKS = {"attention": "block_causal", "block_length": 4}


@seeds
@pytest.mark.parametrize(("steps", "threshold"), [(4, None), (2, None), (4, 0.5)])
def test_block_diffusion_writes_what_the_published_loop_writes(seed, steps, threshold):
    """SDAR's static and dynamic rules, made of parts; blocks are counted from position 0.

    A block of which a part is given gets a whole block's pace in public code and its own here: the
    same on these rows.
    """
    strategy = Composed(block_length=4, anchor="canvas")
    if threshold is None:
        strategy = replace(strategy, steps=steps, per_block=True)
    else:
        strategy = replace(strategy, select=Threshold(threshold))

    def loop(logits, row):
        return published_blocks.sdar(
            logits, row, MASK, block_length=4, denoising_steps=steps, threshold=threshold
        )

    rows = ((3, 13, 0), (0, 16, 0), (5, 7, 0))
    assert_same(strategy, seed, loop, rows=rows, **BLOCKS)


@seeds
@pytest.mark.parametrize(
    ("threshold", "editing", "after"),
    [(0.95, 0.9, 16), (0.5, 0.2, 16), (0.3, 0.0, 2), (0.3, 0.0, 0)],
)
def test_llada2_writes_what_the_published_loop_writes(seed, threshold, editing, after):
    preset = replace(
        PRESETS["llada2"](),
        select=Threshold(threshold),
        revise=Edit(editing, after),
        block_length=4,
    )

    def loop(logits, row):
        return published_blocks.llada2(
            logits, row, MASK, block_length=4, threshold=threshold,
            editing_threshold=editing, max_post_steps=after,
        )  # fmt: skip

    assert_same(preset, seed, loop, **BLOCKS)


@seeds
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_bd3_writes_what_the_published_loop_writes(seed, temperature):
    """From the same uniforms: who is written by the largest of one draw, what by a second."""
    preset = replace(PRESETS["bd3"](), block_length=4, temper=Temper(temperature))
    net, wanted = network(seed, **BLOCKS), texts(seed)
    wrote, done = together(preset, net, wanted)
    for number, row in enumerate(wanted):
        key = Key(rng.rows(0, number, 1))

        def uniforms(call, site, key=key, row=row):
            return rng.uniform(key.at(call), site, row.shape[1])

        told = published_blocks.first_hitting_blocks(
            logits_of(net), row, MASK, block_length=4,
            who=lambda call, u=uniforms: u(call, SITE_ORDER),
            what=(lambda call, u=uniforms: u(call, SITE_TARGET)) if temperature else None,
        )  # fmt: skip
        assert wrote[number] == told.tokens[0].tolist()
        assert int(done.nfe[number]) == told.calls


def judged(net: Transformer) -> RowDenoiser:
    """A causal model as guided decoding sees it."""
    return RowDenoiser(net, Sequential(VOCAB))


def judge_logits(net: Transformer) -> published.LogitsFn:
    """The same for the published loop."""

    def logits(tokens):
        begun = torch.cat([torch.full_like(tokens[:, :1], VOCAB), tokens[:, :-1]], dim=1)
        return net(begun, torch.zeros(len(tokens)))

    return logits


RULES = ("deterministic", "topk", "topk_relative", "dynamic_threshold", "aggressive")


@seeds
@pytest.mark.parametrize("rule", RULES)
def test_guided_writes_what_the_published_loop_writes(seed, rule):
    judge = network(seed, attention="causal")
    strategy = replace(PRESETS["guided"](), rule=rule, eos_ids=(EOS,), judge=judged(judge))
    accept = published_revising.RULES[rule]

    def loop(logits, row):
        return published_revising.guided(
            logits, judge_logits(judge), row, MASK, accept=accept, eos=EOS
        )

    assert_same(strategy, seed, loop)


class Verdict:
    """A judge whose law is all on one token: the drafted one, or another."""

    def __init__(self, agrees: bool):
        self.agrees = agrees

    def __call__(self, xt, t, focus=None, earlier=None):
        token = xt.gather(1, focus.positions)
        token = token if self.agrees else (token + 1) % VOCAB
        return torch.nn.functional.one_hot(token, VOCAB).float().log()


@seeds
@pytest.mark.parametrize("rule", [*RULES, "original"])
def test_a_judge_that_accepts_all_needs_one_evaluation(seed, rule):
    wrote, done = together(Guided(rule, judge=Verdict(True)), network(seed), texts(seed))
    assert done.nfe.tolist() == [1] * len(ROWS)
    for row, text in zip(texts(seed), wrote, strict=True):
        at_once = logits_of(network(seed))(row).argmax(-1)
        assert text == torch.where(row == MASK, at_once, row)[0].tolist()


@seeds
def test_a_judge_that_rejects_all_leaves_one_token_per_evaluation_left_to_right(seed):
    net = network(seed)
    wrote, done = together(Guided(judge=Verdict(False)), net, texts(seed))
    assert done.nfe.tolist() == [answer for _, answer, _ in ROWS]
    for row, text in zip(texts(seed), wrote, strict=True):
        for place in (row[0] == MASK).nonzero()[:, 0].tolist():
            row[0, place] = logits_of(net)(row)[0, place].argmax()
        assert text == row[0].tolist()


def test_a_judge_that_knows_the_models_own_greedy_text_changes_nothing_but_the_pace(as_denoiser):
    """With the exact left-to-right conditionals of the joint law the model is exact for.

    The deterministic rule then writes the greedy left-to-right text: a draft is accepted only
    where it is what the law's greedy continuation says.
    """
    for seed in range(6):
        joint = exact.random_joint(3, 4, seed)
        table = exact.tables(joint)
        denoise = as_denoiser(Tables(table, table))

        def judge(xt, t, focus, earlier, denoise=denoise):
            told = []
            for place in range(xt.shape[1]):
                left = torch.where(torch.arange(xt.shape[1]) < place, xt, 3)
                told.append(denoise(left, t)[:, place])
            whole = torch.stack(told, dim=1)
            return whole.gather(1, focus.positions[..., None].expand(-1, -1, 3))

        masks = torch.full((1, 4), 3)
        canvas = Canvas(masks, torch.zeros_like(masks, dtype=torch.bool))
        key = Key(rng.rows(0, 0, 1))
        done = decode(Guided(judge=judge), Absorbing(3), denoise, canvas, key)
        greedy = masks.clone()
        for place in range(4):
            greedy[0, place] = denoise(greedy, torch.zeros(1))[0, place].argmax()
        assert done.tokens.tolist() == greedy.tolist()
        assert int(done.nfe[0]) <= 4


def test_guided_without_a_judge_or_with_another_vocabulary_says_so():
    with pytest.raises(ValueError, match="needs a judge"):
        together(Guided(), network(0), texts(0))
    with pytest.raises(ValueError, match="share a tokenizer"):
        together(
            Guided(judge=lambda xt, t, focus, earlier: torch.zeros(*focus.positions.shape, 5)),
            network(0),
            texts(0),
        )
