"""Every cache in the table, held to the promises it declares."""

import dataclasses
import inspect
import sys

import caching
import pytest
import torch
from caching import BLOCK, LENGTH, NETWORKS, VOCAB
from torch.utils._python_dispatch import TorchDispatchMode

from unison.decode import decode
from unison.decode.autoregressive.left_to_right import LeftToRight
from unison.decode.diffusion.ancestral import Ancestral
from unison.decode.diffusion.composed import Composed
from unison.decode.order import Confidence, Position, Random
from unison.decode.revise import WINO, Keep, Renoise
from unison.denoising import RowDenoiser
from unison.engine import CACHES, Standing, Unchanged, cached, check
from unison.prob.rng import Key
from unison.process import PROCESSES, Absorbing, Sequential, Uniform

names = pytest.mark.parametrize("name", CACHES)
REMEMBERING = [name for name in CACHES if name != "none"]
KEYED = [name for name in REMEMBERING if CACHES[name] is not Unchanged]
LOOKS_BACK = ("block_causal", "causal")


def fitting(name):
    """The networks a cache serves."""
    if name not in KEYED:
        return tuple(net for net in NETWORKS if net != "timed")
    return LOOKS_BACK if name == "exact" else tuple(NETWORKS)


PAIRS = [(name, net) for name in REMEMBERING for net in fitting(name)]
pairs = pytest.mark.parametrize(("name", "net"), PAIRS)
few = pytest.mark.parametrize(
    ("name", "net"), [pair for pair in PAIRS if pair[1] in ("bidirectional", "causal", "shifted")]
)


def standing(process=None, since=0, calls=0):
    """Two rows: the prompt, half a block written, nothing after."""
    process = Absorbing(VOCAB) if process is None else process
    tokens = torch.full((2, LENGTH), process.mask_id)
    tokens[:, :6] = torch.arange(6)
    undecided = tokens == process.mask_id
    needed = torch.zeros_like(undecided)
    needed[:, 6:8] = True
    place = torch.arange(LENGTH).expand(2, -1)
    block = torch.tensor([[4, 8], [4, 8]])
    count = torch.tensor([0, 1])
    seen = torch.where(place < 5, tokens, -1)
    masks = torch.zeros_like(undecided), undecided, place < 4, needed
    return Standing(tokens, seen, *masks, block, block, count + calls, count + since, 1)


@names
def test_a_cache_declares_itself(name):
    kind = CACHES[name]
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    assert kind.processes
    assert set(kind.processes) <= set(PROCESSES)
    doc = inspect.getdoc(kind)
    assert name == "none" or "arXiv:" in doc
    assert kind.exact or "An approximation:" in doc
    assert all(f"{field.name}:" in doc for field in dataclasses.fields(kind))
    assert sys.modules[kind.__module__].__doc__


@names
def test_a_negative_interval_is_refused(name):
    with pytest.raises(ValueError, match=r"refresh must be at least 0, got -1"):
        CACHES[name](refresh=-1)


def test_an_odd_window_is_refused():
    for window in (-2, 3):
        with pytest.raises(ValueError, match=f"window must be even and at least 0, got {window}"):
            CACHES["dkv_greedy"](window=window)


class NoWaiting(TorchDispatchMode):
    """Refuse operations whose result the host must wait for, and writing to what it was given."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in {"_local_scalar_dense", "nonzero", "masked_select", "equal"}, name
        assert not name.endswith("_"), name
        return func(*args, **(kwargs or {}))


@names
def test_a_decision_is_pure_and_never_waits(name):
    policy, now = CACHES[name](), standing()
    with NoWaiting():
        first = policy.stale(now)
    assert first.dtype == torch.bool
    assert first.shape == now.tokens.shape
    assert torch.equal(first, policy.stale(now))


@names
def test_a_decision_about_a_row_does_not_depend_on_the_others(name):
    policy, now = CACHES[name](), standing()
    together = policy.stale(now)
    for row in range(2):
        alone = Standing(*(x[row : row + 1] if torch.is_tensor(x) else x for x in now))
        assert torch.equal(policy.stale(alone)[0], together[row])


@names
def test_interval_one_computes_everything_every_time(name):
    for calls in range(3):
        assert CACHES[name](refresh=1).stale(standing(since=calls, calls=calls)).all()


@pairs
def test_with_interval_one_a_cache_is_no_cache_bit_for_bit(name, net):
    network, policy = caching.network(**NETWORKS[net]), CACHES[name](refresh=1)
    begin = caching.canvas(Absorbing(VOCAB))
    how = caching.strategy(policy, steps=6)
    plain, asked = caching.run(network, CACHES["none"](), how, begin)
    kept, answered = caching.run(network, policy, how, begin)
    assert caching.apart(asked, answered) == 0
    assert torch.equal(plain.tokens, kept.tokens)
    assert torch.equal(plain.nfe, kept.nfe)
    assert answered.denoise.tally.share == 1


@few
def test_a_cache_computes_less_and_counts_it(name, net):
    network, policy = caching.network(**NETWORKS[net]), CACHES[name]()
    begin = caching.canvas(Absorbing(VOCAB))
    idle = Ancestral(24)  # some of its steps write nothing, and that is what Unchanged spares
    how = caching.strategy(policy) if name in KEYED else idle
    done, watched = caching.run(network, policy, how, begin)
    tally = watched.denoise.tally
    assert tally.calls == dict(enumerate(done.nfe.tolist()))
    lengths = begin[0].valid.sum(1).tolist()
    assert tally.whole == {row: n * tally.calls[row] for row, n in enumerate(lengths)}
    assert 0 < tally.share < 1
    assert all(0 < n <= tally.whole[row] for row, n in tally.computed.items())


@few
def test_a_row_does_not_see_its_batch(name, net):
    network, policy = caching.network(**NETWORKS[net]), CACHES[name]()
    canvas, key = caching.canvas(Absorbing(VOCAB))
    how = caching.strategy(policy)
    together, _ = caching.run(network, policy, how, (canvas, key))
    for row in range(3):
        one = slice(row, row + 1)
        alone = canvas._replace(
            tokens=canvas.tokens[one], given=canvas.given[one], valid=canvas.valid[one]
        )
        done, _ = caching.run(network, policy, how, (alone, Key(key.seed[one])))
        assert torch.equal(done.tokens, together.tokens[one])
        assert torch.equal(done.confidence, together.confidence[one])  # to the last bit


def steps(name):
    """How a cache's denoiser is called in a run, to be called again."""
    policy = CACHES[name]()
    net = caching.network(**NETWORKS["block_causal"])
    begin = caching.canvas(Absorbing(VOCAB), even=True)
    _, watched = caching.run(net, policy, caching.strategy(policy, steps=6), begin)
    return net, policy, watched.log


@pytest.mark.parametrize("name", REMEMBERING)
@pytest.mark.parametrize(
    "rows",
    [[1, 1, 0], *(pytest.param(rows, marks=pytest.mark.slow) for rows in ([0, 1, 2], [2]))],
    ids=str,
)
def test_rows_go_on_alone_or_twice_as_if_nothing_had_happened(name, rows):
    """Kept, dropped or forked: what a row remembers goes with it, and stays behind untouched."""
    net, policy, log = steps(name)
    rows, t = torch.tensor(rows), torch.full((3,), 0.5)
    whole = cached(net, Absorbing(VOCAB), policy)
    for number, (xt, focus, said) in enumerate(log):
        if number == 3:
            some = whole.keep(rows)
        if number >= 3:
            part = type(focus)(*(x[rows] for x in focus))
            assert torch.equal(some(xt[rows], t[rows], part), said[rows])
        assert torch.equal(whole(xt, t, focus), said)


@pytest.mark.parametrize("name", REMEMBERING)
def test_what_was_never_computed_is_never_seen(name, monkeypatch):
    """The room for keys and values starts as zeros; other numbers make no difference."""
    net, policy, log = steps(name)
    remember = _module().remember

    def littered(*args):
        memory = remember(*args)
        for part in (*memory.keys, *memory.values):
            part.fill_(7.0)
        return memory

    monkeypatch.setattr(_module(), "remember", littered)
    again = cached(net, Absorbing(VOCAB), policy)
    for xt, focus, said in log:
        assert torch.equal(again(xt, torch.full((3,), 0.5), focus), said)


def _module():
    return sys.modules["unison.engine.denoiser"]


@pytest.mark.parametrize("name", REMEMBERING)
def test_another_batch_is_refused(name):
    net, policy, log = steps(name)
    denoise = cached(net, Absorbing(VOCAB), policy)
    (xt, focus, _), t = log[0], torch.full((3,), 0.5)
    denoise(xt, t, focus)
    one = type(focus)(*(x[:1] for x in focus))
    with pytest.raises(ValueError, match=r"batch of shape \(3, 16\) and was given \(1, 16\)"):
        denoise(xt[:1], t[:1], one)


def test_no_cache_is_the_plain_denoiser():
    net = caching.network()
    assert isinstance(cached(net, Absorbing(VOCAB), CACHES["none"]()), RowDenoiser)


# What does not go together.

BIDIRECTIONAL, CAUSAL = caching.network(), caching.network(attention="causal")
TIMED = caching.network(attention="causal", time="adaln")
ABSORBING = Absorbing(VOCAB)
BLOCKS = Composed(block_length=BLOCK)


def told(name, strategy=BLOCKS, network=BIDIRECTIONAL, process=ABSORBING):
    check(CACHES[name](), strategy, network, process)


class Foreign:
    """A network whose keys and values are out of reach."""

    config = caching.SHAPE

    def __call__(self, inputs, sigma, valid=None, earlier=None, view=None):
        return torch.zeros(*inputs.shape, VOCAB)

    def parameters(self):
        return iter(())

    def state_dict(self):
        return {}


@pytest.mark.parametrize("name", KEYED)
def test_a_foreign_network_is_refused(name):
    with pytest.raises(ValueError, match=r"Foreign keeps its keys and values to itself"):
        told(name, network=Foreign())
    with pytest.raises(ValueError, match=r"Foreign keeps its keys and values to itself"):
        cached(Foreign(), ABSORBING, CACHES[name]())


def test_no_cache_goes_with_everything():
    told("none", network=Foreign())
    told("none", Ancestral(4), TIMED, Uniform(VOCAB))
    told("none", LeftToRight(), CAUSAL, Sequential(VOCAB))


@pytest.mark.parametrize("name", ["prefix", "dual", "free"])
def test_block_caches_need_blocks(name):
    told(name)
    with pytest.raises(ValueError, match=r"Ancestral works on the whole canvas at once"):
        told(name, Ancestral(4))
    with pytest.raises(ValueError, match=r"block_length, which is None"):
        told(name, Composed())
    denoise = cached(BIDIRECTIONAL, ABSORBING, CACHES[name]())
    with pytest.raises(ValueError, match=r"works by the active block, which this strategy"):
        decode(Ancestral(4), ABSORBING, denoise, *caching.canvas(ABSORBING, even=True))


@dataclasses.dataclass(frozen=True)
class Everywhere(Keep):
    """Rewrites what it likes, wherever it stands."""

    reads = "canvas"
    rewrites = True


def test_a_cache_that_follows_no_revision_is_refused_under_one_that_leaves_the_block():
    for name in ("prefix", "dual", "free"):
        with pytest.raises(ValueError, match=r"Everywhere rewrites written text"):
            told(name, Composed(revise=Everywhere()))
    told("dkv", Composed(revise=Everywhere()))
    told("exact", Composed(revise=Everywhere()), CAUSAL)


def test_revision_inside_the_active_block_is_no_hindrance():
    assert Renoise.rewrites
    for name in ("prefix", "dual", "free"):
        told(name, Composed(revise=Renoise(), block_length=BLOCK), process=Uniform(VOCAB))


def test_greedy_needs_an_order_that_does_not_ask_the_model():
    told("dkv_greedy", Composed(order=Random(), block_length=BLOCK))
    told("dkv_greedy", Composed(order=Position()))
    for strategy in (Composed(order=Confidence()), Ancestral(4)):
        with pytest.raises(ValueError, match=r"order must be random or position"):
            told("dkv_greedy", strategy)


def test_exact_needs_a_network_that_looks_back_and_knows_no_time():
    told("exact", network=CAUSAL)
    told("exact", LeftToRight(), CAUSAL, Sequential(VOCAB))
    told("exact", network=caching.network(attention="causal", time="adaln", time_zeroed=True))
    with pytest.raises(ValueError, match=r"every position sees every other"):
        told("exact")
    with pytest.raises(ValueError, match=r"reads the noise level"):
        told("exact", network=TIMED)
    with pytest.raises(ValueError, match=r"reads a fresh belief"):
        told("exact", network=caching.network(attention="causal", self_conditioning=True))


@pytest.mark.parametrize(
    ("name", "process"),
    [("dkv", Uniform(VOCAB)), ("dkv_greedy", Uniform(VOCAB)), ("dual", Sequential(VOCAB))],
    ids=str,
)
def test_a_process_the_cache_cannot_follow_is_refused(name, process):
    with pytest.raises(ValueError, match=r"goes with .* processes, and this model undoes the"):
        told(name, network=CAUSAL, process=process)


@pytest.mark.parametrize("name", ["dual", "dkv"])
def test_shadows_are_not_served(name):
    with pytest.raises(ValueError, match=r"WINO judges tokens without seeing them"):
        told(name, Composed(revise=WINO(), block_length=BLOCK))
