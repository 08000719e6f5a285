"""Where a cache may not change anything, it does not: beliefs to 1e-6, the same text."""

import caching
import pytest
import torch
from caching import APPROXIMATE, NETWORKS, VOCAB, apart, network, run

from unison.decode import Canvas, start
from unison.decode.autoregressive.left_to_right import LeftToRight
from unison.decode.diffusion.ancestral import Ancestral
from unison.decode.diffusion.composed import Composed
from unison.decode.diffusion.first_hitting import FirstHitting
from unison.decode.diffusion.remdm import ReMDM
from unison.decode.order import Position
from unison.decode.revise import Edit, Renoise
from unison.decode.revise import ReMDM as Remask
from unison.decode.select import Threshold
from unison.decode.temper import Temper
from unison.engine import CACHES
from unison.engine import cached as make
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing, Sequential, Uniform
from unison.types import Focus

CLOSE = 1e-6  # of probabilities: matrices of other shapes round differently
ABSORBING = Absorbing(VOCAB)


def equal(net, policy, how, begin, process=ABSORBING):
    """Decode with and without the cache; the same text, and less work."""
    plain, asked = run(net, CACHES["none"](), how, begin, process)
    kept, answered = run(net, policy, how, begin, process)
    assert apart(asked, answered) < CLOSE
    assert torch.equal(plain.tokens, kept.tokens)
    assert torch.equal(plain.nfe, kept.nfe)
    assert answered.denoise.tally.share < 0.95
    return answered.denoise.tally


STRATEGIES = {
    "a token a step": Composed(block_length=4),
    "random text, two a step": Composed(block_length=4, steps=7, temper=Temper(1.0)),
    "wide blocks": Composed(block_length=8, select=Threshold(0.5)),
    "blocks that do not fit the network's": Composed(block_length=3),
    "blocks counted from the canvas": Composed(block_length=4, anchor="canvas"),
    "editing": Composed(block_length=8, revise=Edit(), select=Threshold(0.3)),
    "remasking": Composed(block_length=8, revise=Remask(), steps=14),
    "no blocks": Composed(),
    "no focus": Ancestral(6),
    "no focus, one at a time": FirstHitting(),
    "no focus, remasking": ReMDM(6, eta=0.5),
}


@pytest.mark.parametrize("how", STRATEGIES)
@pytest.mark.parametrize("refresh", [0, 3])
def test_exact_is_no_cache_for_a_network_of_causal_blocks(how, refresh):
    net = network(**NETWORKS["block_causal"])
    begin = caching.canvas(ABSORBING)
    if how in ("no focus", "no blocks", "no focus, one at a time", "no focus, remasking"):
        begin = caching.canvas(ABSORBING)
        plain, asked = run(net, CACHES["none"](), STRATEGIES[how], begin)
        kept, answered = run(net, CACHES["exact"](refresh=refresh), STRATEGIES[how], begin)
        assert apart(asked, answered) < CLOSE
        assert torch.equal(plain.tokens, kept.tokens)
    else:
        equal(net, CACHES["exact"](refresh=refresh), STRATEGIES[how], begin)


@pytest.mark.parametrize(
    "changes",
    [
        {"shifted": True},
        {"kv_heads": 2, "qk_norm": True, "norm": "rms", "mlp": "swiglu"},
        {"positions": "learned"},
        {"time": "adaln", "time_zeroed": True},
        {"block_length": 8},
        {"attention": "causal", "block_length": None},
    ],
    ids=str,
)
def test_exact_is_no_cache_for_every_kind_of_network_that_looks_back(changes):
    net = network(**NETWORKS["block_causal"] | changes)
    equal(net, CACHES["exact"](), Composed(block_length=4), caching.canvas(ABSORBING))


def test_exact_follows_text_that_is_never_settled():
    process = Uniform(VOCAB)
    net = network(**NETWORKS["block_causal"], num_states=VOCAB)
    how = Composed(block_length=4, steps=12, revise=Renoise(), temper=Temper(1.0))
    equal(net, CACHES["exact"](), how, caching.canvas(process), process)


def test_exact_forgets_a_belief_that_was_told_for_one_step():
    """A self-conditioned network reads the step before only in the active block."""
    process = Uniform(VOCAB)
    net = network(**NETWORKS["block_causal"], num_states=VOCAB, self_conditioning=True)
    how = Composed(block_length=4, steps=12, revise=Renoise(), temper=Temper(1.0))
    equal(net, CACHES["exact"](), how, caching.canvas(process), process)


def test_an_autoregressive_model_computes_every_position_once():
    process = Sequential(VOCAB)
    net = network(attention="causal")
    begin = caching.canvas(process)
    tally = equal(net, CACHES["exact"](), LeftToRight(), begin, process)
    lengths = begin[0].valid.sum(1).tolist()
    assert tally.computed == dict(enumerate(lengths))
    assert tally.calls == dict(enumerate((~begin[0].given).sum(1).tolist()))


@pytest.mark.parametrize(
    ("process", "how", "net"),
    [
        (ABSORBING, Composed(block_length=4), "block_causal"),
        (ABSORBING, Composed(block_length=4), "causal"),
        (Sequential(VOCAB), LeftToRight(), "causal"),
    ],
    ids=str,
)
def test_given_text_that_is_never_asked_about_is_computed_all_the_same(process, how, net):
    """A whole given block between two that are written."""
    canvas, key = caching.canvas(process, even=True)
    given = canvas.given.clone()
    given[:, 8:12] = True
    text = (rng.uniform(key, 7, 16) * VOCAB).long()
    canvas = canvas._replace(tokens=torch.where(given, text, canvas.tokens), given=given)
    equal(network(**NETWORKS[net]), CACHES["exact"](), how, (canvas, key), process)


@pytest.mark.parametrize("net", ["block_causal", "causal"])
def test_exact_answers_whatever_is_asked_after_whatever_happened(net, seed):
    """Questions about any position, in any order, while any token changes, or none."""
    network_ = network(**NETWORKS[net])
    plain, kept = (make(network_, ABSORBING, CACHES[name]()) for name in ("none", "exact"))
    g, t = torch.Generator().manual_seed(seed), torch.full((2,), 0.5)
    xt = torch.full((2, 16), ABSORBING.mask_id)
    for _ in range(60):
        changes = torch.rand(xt.shape, generator=g) < 0.1 * torch.randint(2, (2, 1), generator=g)
        xt = torch.where(changes, torch.randint(VOCAB + 1, xt.shape, generator=g), xt)
        where = torch.randint(16, (2, 1), generator=g)
        focus = Focus(where, torch.cat([where, where + 1], dim=1))
        apart = kept(xt, t, focus).exp() - plain(xt, t, focus).exp()
        assert apart.abs().max() < CLOSE
    assert kept.tally.share < 0.8


def deaf(**changes):
    """A network whose positions do not hear each other: nothing remembered can be stale."""
    net = network(**changes)
    with torch.no_grad():
        for block in net.blocks:
            block.attention.out.weight.zero_()
    return net


@pytest.mark.parametrize("name", APPROXIMATE)
@pytest.mark.parametrize("changes", [{}, {"shifted": True}, {"self_conditioning": True}], ids=str)
def test_every_cache_is_exact_where_positions_do_not_hear_each_other(name, changes):
    """Every answer then comes from the right position, with the token that stands there now."""
    policy = CACHES[name](refresh=0)
    equal(deaf(**changes), policy, caching.strategy(policy), caching.canvas(ABSORBING))


@pytest.mark.parametrize("how", [Ancestral(6), FirstHitting(), ReMDM(6, eta=0.5)], ids=str)
@pytest.mark.parametrize("changes", [{}, {"shifted": True}], ids=str)
def test_the_delayed_cache_serves_strategies_that_name_no_positions(how, changes):
    equal(deaf(**changes), CACHES["dkv"](refresh=0), how, caching.canvas(ABSORBING))


@pytest.mark.parametrize("name", ["prefix", "dual", "free"])
@pytest.mark.parametrize("refresh", [0, 3])
def test_block_caches_are_exact_where_attention_keeps_the_past_blind(name, refresh):
    net = network(**NETWORKS["block_causal"])
    policy = CACHES[name](refresh=refresh)
    equal(net, policy, caching.strategy(policy), caching.canvas(ABSORBING, even=True))


def test_block_caches_follow_revision_inside_the_active_block():
    net = network(**NETWORKS["block_causal"])
    how = Composed(block_length=4, revise=Edit(), select=Threshold(0.3))
    equal(net, CACHES["prefix"](), how, caching.canvas(ABSORBING, even=True))


def test_as_published_freecache_keeps_the_last_tokens_of_a_block_as_masks():
    net = network(**NETWORKS["block_causal"])
    begin, how = caching.canvas(ABSORBING, even=True), Composed(block_length=4)
    _, asked = run(net, CACHES["none"](), how, begin)
    _, settled = run(net, CACHES["free"](), how, begin)
    _, published = run(net, CACHES["free"](settle=False), how, begin)

    def late(watched):  # the first evaluation of the second block
        return next(said for _, focus, said in watched.log if focus.block[0, 0] == 8).exp()

    assert (late(asked) - late(settled)).abs().max() < CLOSE
    assert (late(asked) - late(published)).abs().max() > 1e-3
    assert published.denoise.tally.share < settled.denoise.tally.share


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("refresh", [0, 3])
def test_the_delayed_cache_is_exact_for_a_causal_network_written_from_left_to_right(
    refresh, freeze
):
    policy = CACHES["dkv"](refresh=refresh, freeze_prompt=freeze)
    how = Composed(block_length=8, order=Position(), temper=Temper(1.0))
    equal(network(attention="causal"), policy, how, caching.canvas(ABSORBING, even=True))


@pytest.mark.parametrize("name", APPROXIMATE)
def test_where_all_see_all_a_cache_is_an_approximation(name):
    """So the equalities above could have failed."""
    policy = CACHES[name]()
    begin, how = caching.canvas(ABSORBING, even=True), caching.strategy(policy)
    _, watched = run(network(), policy, how, begin)
    plain = make(network(), ABSORBING, CACHES["none"]())
    t = torch.full((3,), 0.5)
    moved = [
        (plain(xt, t, focus).exp() - said.exp()).abs().max() for xt, focus, said in watched.log
    ]
    assert max(moved) > 1e-3


def test_the_prompt_alone_may_be_remembered():
    """dKV-Cache-Prefill: all but the prompt is computed every time."""
    net, begin = network(), caching.canvas(ABSORBING, even=True)
    policy = CACHES["dkv"](refresh=1, freeze_prompt=True)
    done, watched = run(net, policy, Composed(block_length=4), begin)
    assert watched.denoise.tally.computed == dict.fromkeys(range(3), 16 + 11 * 12)
    assert done.nfe.tolist() == [12, 12, 12]


def test_a_written_canvas_is_a_prompt():
    """A row with nothing to write, and one whose text is all prompt but the end."""
    given = torch.ones(2, 16, dtype=torch.bool)
    given[1, 15] = False
    key = Key(rng.rows(0, 0, 2))
    canvas: Canvas = start(ABSORBING, torch.arange(16).expand(2, -1) % VOCAB, given, key)
    for name in ("prefix", "dual", "free", "dkv"):
        done, watched = run(network(), CACHES[name](), Composed(block_length=4), (canvas, key))
        assert done.nfe.tolist() == [0, 1]
        assert watched.denoise.tally.computed == {1: 16}
