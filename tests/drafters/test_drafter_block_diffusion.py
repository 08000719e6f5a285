"""A diffusion model drafts blocks for a left-to-right one."""

import numpy as np
import pytest
import speculating
import tiny
import torch

from unison.data import train_tokenizer
from unison.decode.diffusion.ancestral import Ancestral
from unison.decode.diffusion.composed import Composed
from unison.decode.diffusion.guided import Guided
from unison.decode.select import Threshold
from unison.decode.temper import Temper
from unison.drafters.block_diffusion import BlockDiffusion
from unison.drafters.vocabulary import Vocabulary
from unison.engine.reading import target_of
from unison.process import Absorbing, Sequential, Uniform
from unison.speculation import Ask, Speculation, Table, Text, prove, speculate
from unison.speculation.builders.chain import Chain
from unison.speculation.parts import nothing
from unison.speculation.policies.plain import Plain
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.tree import planted
from unison.speculation.verifiers.token import Token

MOST = 12
SURE = Composed(temper=Temper(temperature=0.0), steps=2)


def toy(vocab=3, seed=0, sharp=2.0):
    """Return a belief that depends on both neighbours, the place and how much is unknown."""
    shape = (MOST, vocab + 2, vocab + 2, 4, vocab)
    noise = torch.tensor(np.random.default_rng(seed).normal(size=shape) * sharp).log_softmax(-1)

    def denoiser(valid=None):
        def denoise(xt, t, focus=None, earlier=None):
            known = xt if valid is None else torch.where(valid, xt, vocab + 1)
            edge = torch.full_like(xt[:, :1], vocab + 1)
            left, right = torch.cat([edge, known[:, :-1]], 1), torch.cat([known[:, 1:], edge], 1)
            masks = (known == vocab).sum(1, keepdim=True).clamp(max=3).expand_as(xt)
            place = torch.arange(xt.shape[1]).expand_as(xt)
            said = noise[place, left, right, masks].float()
            if focus is None:
                return said
            at = focus.positions[..., None].expand(-1, -1, vocab)
            return said.gather(1, at)

        return denoise

    return denoiser


def drafter(strategy=None, block=2, process=None, **changes):
    return BlockDiffusion(process or Absorbing(3), toy(), MOST, block, strategy, **changes)


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize(
    "how",
    [
        drafter(),
        drafter(temperature=0.5),
        drafter(SURE),
        drafter(Composed(), 3),  # draws its tokens
        drafter(process=Uniform(3)),
        drafter(SURE, process=Uniform(3)),
        drafter(SURE, 1),
    ],
    ids=["laws", "tempered", "sure", "drawn", "uniform", "uniform-sure", "short"],
)
def test_what_is_written_has_the_law_of_the_target(how, sampled):
    table = Table(speculating.random_law(3), 3)
    parts = Speculation(how, Chain(sampled=sampled), Token(), Fixed(2))
    assert prove(parts, table, [1, 2], 3).error <= 1e-12
    assert prove(parts, table, [], 2).error <= 1e-12


def test_verified_by_agreement_the_law_is_the_targets_as_well():
    table = Table(speculating.random_law(3), 3)
    for how in (drafter(), drafter(SURE)):
        assert prove(Speculation(how, scheduler=Fixed(3)), table, [1], 3).error <= 1e-12


def drafting_of(how, texts, vocab=3):
    longest = max(map(len, texts)) + 1
    tokens = torch.tensor([[0, *text, *[0] * (longest - 1 - len(text))] for text in texts])
    text = Text(tokens, torch.tensor([len(text) + 1 for text in texts]))
    table = Table(speculating.random_law(1, vocab=vocab), vocab)
    drafting = how.open(table, len(texts))
    drafting.begin(text, nothing(table.open(len(texts)).read(tokens, text.length)))
    return drafting


def test_one_evaluation_says_the_models_own_laws_at_the_holes():
    texts = [[1, 2, 0], [2], []]
    drafting = drafting_of(drafter(block=3), texts)
    for i, text in enumerate(texts):
        canvas = torch.tensor([[*text, 3, 3, 3]])
        truth = toy()()(canvas, torch.ones(1))[0, len(text) :].double()
        torch.testing.assert_close(drafting.ahead.logq[i], truth, atol=1e-6, rtol=0)


def test_a_strategy_writes_the_drafts_and_they_count_as_sure():
    texts = [[1, 2, 0], [2], []]
    drafting = drafting_of(drafter(SURE, 4), texts)
    assert drafting.ahead.reach.tolist() == [4, 4, 4]
    assert set(drafting.ahead.logq.exp().sum(-1).flatten().tolist()) == {1.0}
    drafts = drafting.ahead.logq.argmax(-1).tolist()
    for i, text in enumerate(texts):  # by hand: half of the holes in each of two steps
        canvas = [*text, 3, 3, 3, 3]
        for _ in range(2):
            said = toy()()(torch.tensor([canvas]), torch.ones(1))[0]
            holes = [j for j, token in enumerate(canvas) if token == 3]
            holes.sort(key=lambda j, said=said: -float(said[j].max()))
            for j in holes[:2]:
                canvas[j] = int(said[j].argmax())
        assert drafts[i] == canvas[len(text) :]


def test_a_draft_does_not_reach_beyond_its_block():
    drafting = drafting_of(drafter(SURE, 1), [[1, 2]])
    tree = planted(torch.tensor([2]), 3)
    deep = tree._replace(depth=tree.depth + 1)
    guess = drafting.guess(deep, torch.tensor([[0]]))
    assert guess.logq.exp().flatten().tolist() == pytest.approx([1 / 3] * 3)


def test_a_draft_ends_before_a_token_that_the_target_lacks():
    words = Vocabulary((2, 0), ((2,), (0,)), 3)  # the drafter's 1 is nobody's
    how = drafter(SURE, 4, vocabulary=words)
    for text in ([1], [0], [1, 0], [0, 0, 1]):
        drafting = drafting_of(how, [text], vocab=2)
        own = [words.own[token] for token in text]
        whole = drafting_of(drafter(SURE, 4), [own]).ahead.logq.argmax(-1)[0].tolist()
        reach = int(drafting.ahead.reach)
        assert reach == (whole.index(1) if 1 in whole else 4)
        guesses = drafting.ahead.logq[0, :reach].argmax(-1).tolist()
        assert [words.own[token] for token in guesses] == whole[:reach]
    table = Table(speculating.random_law(3, vocab=2), 2)
    assert prove(Speculation(how, scheduler=Fixed(3)), table, [1, 0], 3).error <= 1e-12


def test_of_a_text_longer_than_its_canvas_the_model_sees_the_end():
    text = np.random.default_rng(0).integers(0, 3, 30).tolist()
    long = drafting_of(drafter(SURE, 4), [text]).ahead
    short = drafting_of(drafter(SURE, 4), [text[-8:]]).ahead
    assert torch.equal(long.logq, short.logq)


@pytest.fixture(scope="module")
def models():
    target = tiny.model("ar", length=48, strength=3.0)
    return target, tiny.model("mdlm", length=32, strength=3.0), tiny.model("duo", length=48)


@pytest.mark.parametrize(("steps", "number"), [(None, 1), (None, 2), (1, 2), (3, 1)])
def test_at_temperature_0_the_text_is_plain_decodings(models, steps, number):
    target = target_of(models[0])
    tokens = torch.tensor(np.random.default_rng(1).integers(0, target.vocab_size, (3, 9)))
    tokens[:, 0] = target.begin
    ask = Ask(Text(tokens, torch.tensor([9, 3, 1])), [7, 12, 5], torch.arange(3), (2,))
    plain = speculate(Speculation(policy=Plain(0.0)), target, ask)
    strategy = steps and Composed(steps=steps, select=Threshold(0.9), block_length=None)
    if steps == 1:
        strategy = Ancestral(steps=1)
    how = BlockDiffusion.of(models[number], models[0], 5, strategy)
    parts = Speculation(how, scheduler=Fixed(4), policy=Plain(0.0))
    spoken = speculate(parts, target, ask)
    assert spoken.tokens == plain.tokens
    for row in range(3):
        text = Text(ask.text.tokens[row : row + 1], ask.text.length[row : row + 1])
        one = Ask(text, ask.room[row : row + 1], ask.seed[row : row + 1], ask.ends)
        alone = speculate(parts, target, one)
        assert alone.rounds[0] == spoken.rounds[row]


def test_bad_matches_are_refused(models):
    with pytest.raises(ValueError, match="fills no blocks"):
        BlockDiffusion(Sequential(3), toy(), MOST)
    with pytest.raises(ValueError, match="leave room for text"):
        drafter(block=MOST)
    with pytest.raises(ValueError, match="target has 4 tokens and the drafter 3"):
        drafter().open(Table(speculating.random_law(1, vocab=4), 4), 1)
    with pytest.raises(ValueError, match="temperature"):
        drafter(temperature=-1.0)
    with pytest.raises(ValueError, match="undoes absorbing"):
        BlockDiffusion.of(models[2], strategy=Guided())
    other = train_tokenizer("char", ["".join(map(chr, range(0x4E00, 0x4F00)))])
    foreign = tiny.dataclasses.replace(models[0], tokenizer=other)
    with pytest.raises(ValueError, match="too few"):
        BlockDiffusion.of(models[1], foreign)
