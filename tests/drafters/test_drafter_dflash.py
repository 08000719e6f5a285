"""Block drafters: one pass, many guesses, the text that would have been written anyway."""

import math

import following
import pytest
import tiny
import torch

from unison.drafters import KINDS
from unison.drafters.dflash import DFlash, taps_of
from unison.engine.reading import NetworkTarget, target_of
from unison.prob.rng import Key
from unison.speculation import Ask, Speculation, Text, prove, speculate
from unison.speculation import tree as trees
from unison.speculation.builders.chain import Chain
from unison.speculation.builders.top_k import TopK
from unison.speculation.policies.plain import Plain
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.tree import Level
from unison.speculation.verifiers.token import Token

SMALL = {
    "dflash": DFlash(layers=2, streams=2, block=4, anchors=100),
    "dspark": DFlash(layers=1, streams=3, block=3, from_anchor=True, markov=4, anchors=100),
}


@pytest.fixture(scope="module")
def target():
    return target_of(tiny.model("ar", length=96, depth=3, strength=2.0))


def made(kind, target, seed=0):
    module = kind.module(target.network)
    tiny.randomise(module, 1.0, seed)
    return module.eval()


def drafter_of(kind, target, seed=0):
    return kind.drafter(made(kind, target, seed), target.network)


def asked(target):
    begin = target.begin
    tokens = torch.tensor([[begin, 3, 5, 7, 2], [begin, 1, 4, 0, 0], [begin, 0, 0, 0, 0]])
    return Ask(Text(tokens, torch.tensor([5, 3, 1])), [16, 7, 12], torch.arange(3))


@pytest.mark.parametrize("kind", SMALL.values(), ids=SMALL)
@pytest.mark.parametrize("builder", [Chain(), TopK()], ids=["chain", "tree"])
def test_greedy_text_is_that_of_plain_decoding_whatever_is_drafted(target, kind, builder):
    plain = speculate(Speculation(policy=Plain(0.0)), target, asked(target))
    how = Speculation(drafter_of(kind, target), builder, policy=Plain(0.0))
    assert speculate(how, target, asked(target)).tokens == plain.tokens


@pytest.mark.parametrize("kind", SMALL.values(), ids=SMALL)
@pytest.mark.parametrize("builder", [Chain(), TopK()], ids=["chain", "tree"])
def test_after_many_rounds_guesses_are_those_of_a_drafter_that_read_the_text_at_once(
    target, kind, builder
):
    watched = following.Watched(drafter_of(kind, target), target)
    how = Speculation(watched, builder, policy=Plain(1.0), scheduler=Fixed(2))
    speculate(how, target, asked(target))
    assert len(watched.gaps) > 20
    assert max(watched.gaps) < 1e-5


@pytest.mark.parametrize("kind", SMALL.values(), ids=SMALL)
def test_a_lesson_counts_the_very_guesses_that_drafting_makes(target, kind):
    module = made(kind, target, 3)
    text = [target.begin, 4, 8, 1, 1, 6, 2, 9, 3, 5, 7, 0, 2]
    key = Key(torch.zeros(1, dtype=torch.int64))
    lesson = kind.lesson(module, target.network, torch.tensor([text]), key)
    # Every place with a token before it and a block behind it is an anchor.
    last = len(text) - 1 - kind.guesses
    assert lesson.places.tolist() == [last] * kind.guesses
    drafter = kind.drafter(module, target.network)
    drafted = [0] * kind.guesses
    for end in range(1, last + 1):
        one = following.agreement(drafter, target, text[: end + 1 + kind.guesses], 3, end)
        # Only the prefix of ``end`` has all its guesses inside the text that is left.
        shorter = following.agreement(drafter, target, text[: end + 1 + kind.guesses], 3, end + 1)
        drafted = [d + a - b for d, a, b in zip(drafted, one, shorter, strict=True)]
    assert lesson.hits.tolist() == drafted


def test_guesses_further_on_weigh_less_by_a_factor_and_weights_sum_to_one(target):
    text = torch.tensor([[target.begin, 4, 8, 1, 6, 2]])
    key = Key(torch.zeros(1, dtype=torch.int64))
    losses = {}
    for gamma in (2.0, math.inf, 1e-3):
        kind = DFlash(layers=1, streams=1, block=4, gamma=gamma, anchors=1)
        module = made(kind, target, 1)
        drafter = kind.drafter(module, target.network)
        losses[gamma] = float(kind.lesson(module, target.network, text, key).loss.total.detach())
    at = next(a for a in (1, 2) if _nll(drafter, target, text, a)[0] == pytest.approx(losses[1e-3]))
    nll = _nll(drafter, target, text, at)
    weights = [1, math.exp(-1 / 2), math.exp(-1)]
    wanted = sum(w * x for w, x in zip(weights, nll, strict=True)) / sum(weights)
    assert losses[2.0] == pytest.approx(wanted, rel=1e-5)
    assert losses[math.inf] == pytest.approx(sum(nll) / 3, rel=1e-5)


def _nll(drafter, target, text, at):
    """Minus the log-probabilities of the three tokens behind a place, drafted from there."""
    row = text[0].tolist()
    drafting = following.begun(drafter, target, row[: at + 1])
    laws = _along(drafting, target, row[at], row[at + 1 :], 3)
    return [-float(law[row[at + 1 + k]]) for k, law in enumerate(laws)]


def _along(drafting, target, root, tokens, depths):
    """Return the guessed laws on the way down a chain."""
    tree, laws = trees.planted(torch.tensor([root]), target.vocab_size), []
    for depth in range(depths):
        node = torch.tensor([[depth]])
        laws.append(drafting.guess(tree, node).logq[0, 0])
        token = torch.tensor([[tokens[depth]]])
        zero = torch.zeros_like(token)
        level = Level(token, node, zero, zero, zero.float(), zero + 1.0, zero == 0)
        tree = trees.sized(trees.grown(tree, level), 1, depth + 1)
    return laws


def test_without_a_markov_head_a_guess_does_not_know_the_drafts_before_it_and_with_one_it_does(
    target,
):
    text = [target.begin, 4, 8, 1]
    for kind, knows in ((SMALL["dflash"], False), (SMALL["dspark"], True)):
        drafter = drafter_of(kind, target)
        one, other = (
            _along(following.begun(drafter, target, text), target, 1, tokens, 2)
            for tokens in ([2, 2], [9, 2])
        )
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1]) != knows


def test_the_markov_head_adds_what_the_token_before_says(target):
    kind = SMALL["dspark"]
    drafter = drafter_of(kind, target)
    module = drafter.module
    text = [target.begin, 4, 8, 1]
    one, other = (
        _along(following.begun(drafter, target, text), target, 1, tokens, 2)[1]
        for tokens in ([2, 2], [9, 2])
    )
    bias = module.before.weight @ module.after.weight.T
    shift = (one - other) - (bias[2] - bias[9])
    assert torch.allclose(shift, shift[0].expand_as(shift), atol=1e-5)


def test_all_places_of_a_block_see_each_other_and_no_place_of_the_text_behind_the_anchor(target):
    kind = SMALL["dflash"]
    module = made(kind, target)
    key = Key(torch.zeros(1, dtype=torch.int64))
    kind = DFlash(layers=2, streams=2, block=4, anchors=1)
    base = [target.begin, 4, 8, 1, 6, 2, 9, 3]
    losses = []
    for place in range(len(base)):
        text = list(base)
        text[place] = (text[place] + 1) % 10
        hits = kind.lesson(module, target.network, torch.tensor([text]), key).loss.total.detach()
        losses.append(float(hits))
    same = float(kind.lesson(module, target.network, torch.tensor([base]), key).loss.total.detach())
    u = [i for i, loss in enumerate(losses) if loss == same]
    # Only places behind the block leave the loss as it was.
    anchor_end = len(base) - len(u)
    assert u == list(range(anchor_end, len(base)))
    assert anchor_end >= 5


@pytest.mark.parametrize("kind", SMALL.values(), ids=SMALL)
def test_the_law_of_sampled_text_is_the_targets_to_the_last_digit_of_float32(kind):
    model = tiny.model("ar", length=16, depth=2)
    network = type(model.network)(tiny.shape("ar", vocab_size=3, num_states=4))
    tiny.randomise(network, 2.0)
    target = NetworkTarget(network.eval(), 3)
    how = Speculation(drafter_of(kind, target), Chain(sampled=True), Token(), Fixed(2))
    proof = prove(how, target, [1], 3)
    assert proof.error < 1e-6
    assert proof.ways > 27


def test_nodes_deeper_than_the_block_are_guessed_by_its_last_place(target):
    kind = DFlash(layers=1, streams=1, block=3)
    drafting = following.begun(drafter_of(kind, target), target, [target.begin, 4, 8])
    laws = _along(drafting, target, 8, [1, 2, 3, 4], 4)
    assert not torch.equal(laws[0], laws[1])
    assert torch.equal(laws[1], laws[2])
    assert torch.equal(laws[1], laws[3])


def test_streams_are_evenly_spaced_from_the_second_block_to_the_last_but_two():
    deep = tiny.model("ar", length=16, depth=12).network
    assert taps_of(DFlash(streams=5), deep) == (1, 3, 5, 7, 9)
    assert taps_of(DFlash(streams=1), deep) == (9,)
    shallow = tiny.model("ar", length=16, depth=1).network
    assert taps_of(DFlash(streams=3), shallow) == (1, 1, 1)


def test_a_share_of_the_loss_may_be_the_targets_own_law(target):
    text = torch.tensor([[target.begin, 4, 8, 1, 6, 2, 7, 7]])
    key = Key(torch.zeros(1, dtype=torch.int64))
    totals = []
    for soft in (0.0, 1.0, 0.25):
        kind = DFlash(layers=1, streams=1, block=3, anchors=9, soft=soft)
        module = made(kind, target, 1)
        totals.append(float(kind.lesson(module, target.network, text, key).loss.total.detach()))
    hard, soft, mixed = totals
    assert abs(hard - soft) > 0.1
    assert mixed == pytest.approx(0.75 * hard + 0.25 * soft, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"block": 1}, "block must be at least 2, got 1"),
        ({"markov": -1}, "markov must be at least 0, got -1"),
        ({"gamma": 0.0}, "gamma must be above 0, got 0"),
        ({"soft": 2.0}, r"soft must be in \[0, 1\], got 2"),
    ],
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        DFlash(**settings)


def test_texts_too_short_for_a_block_are_refused(target):
    kind = DFlash(layers=1, streams=1, block=8)
    short = torch.tensor([[target.begin, 1, 2, 3]])
    with pytest.raises(ValueError, match="texts of 4 tokens hold no block of 8"):
        kind.lesson(made(kind, target), target.network, short, Key(torch.arange(1)))


def test_the_named_kinds_are_these_settings():
    assert KINDS["dflash"]() == DFlash()
    spark = KINDS["dspark"]()
    assert (spark.block, spark.guesses, spark.markov) == (7, 7, 64)
