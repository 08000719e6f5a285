"""Recorded steps are the steps themselves; a stand-in records where there is no GPU.

It calls the function once at the recording and again at every replay, and puts the second answer
where the first one lay: what is not copied in or out shows.
"""

import dataclasses

import pytest
import tiny
import torch
from torch.utils._pytree import tree_leaves

from unison import constrain
from unison.decode import Canvas, blocks, decode, shaped, start
from unison.decode.autoregressive import LeftToRight
from unison.decode.composition import unready
from unison.decode.diffusion.ancestral import Ancestral
from unison.decode.diffusion.composed import Composed
from unison.decode.diffusion.parallel_hitting import ParallelHitting
from unison.decode.presets import PRESETS as NAMED
from unison.decode.temper import Temper
from unison.denoising import RowDenoiser
from unison.engine import CachedDenoiser, Exact, replaying
from unison.engine.graphs import Graphs, Leaves, Recording, on_gpu
from unison.generation import generate
from unison.models import PRESETS, Transformer
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing, Sequential, Uniform

VOCAB, LENGTH = 11, 6
ASKING = ("edlm", "guided", "learn2pd")  # need another model, or a file


class StandIn:
    """Records on a CPU, and counts."""

    def __init__(self, error=None):
        self.error, self.recorded, self.replayed = error, 0, 0
        self.kinds = []

    def __call__(self, work):
        if self.error is not None:
            raise self.error
        self.recorded += 1
        answer = work()
        self.kinds.append(type(answer))

        def replay():
            self.replayed += 1
            for room, fresh in zip(tree_leaves(answer), tree_leaves(work()), strict=True):
                if isinstance(room, torch.Tensor):
                    room.copy_(fresh.clone())

        return Recording(replay, answer)


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    """Shapes that hang on what is decided are asked of no GPU; small buckets cost a CPU less."""
    monkeypatch.setattr(blocks, "width", lambda wanted, bound: bound)
    monkeypatch.setattr(replaying, "ROWS_ON_GPU", 4)


@pytest.fixture
def log():
    return []


@pytest.fixture
def network(seed):
    """One block, past its first step: it says something else of every canvas."""
    torch.manual_seed(seed)
    shape = dataclasses.replace(PRESETS["tiny"], depth=1, hidden=16, heads=2, cond_dim=8)
    made = Transformer(dataclasses.replace(shape, vocab_size=VOCAB, num_states=VOCAB + 1))
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return made.eval()


def beginning(process, rows, seed=3, length=LENGTH):
    key = Key(rng.rows(seed, 0, rows))
    given = torch.zeros(rows, length, dtype=torch.bool)
    given[:, 0] = True
    tokens = torch.arange(rows)[:, None].expand(rows, length) % VOCAB
    return start(process, tokens, given, key), key


def written(strategy, process, denoise, rows=3, seed=3):
    return decode(strategy, process, denoise, *beginning(process, rows, seed))


CASES = [
    (Ancestral(steps=5), Absorbing(VOCAB)),
    (Ancestral(steps=5), Uniform(VOCAB)),
    (Composed(steps=4, block_length=3, temper=Temper(0.8)), Absorbing(VOCAB)),
    (Composed(steps=4, block_length=3, temper=Temper(0.8)), Uniform(VOCAB)),
    (LeftToRight(), Sequential(VOCAB, 0)),
]
cases = pytest.mark.parametrize(("strategy", "process"), CASES)


@cases
def test_replayed_steps_write_the_same_text_to_the_last_bit(strategy, process, network, log):
    record = StandIn()
    replayed = replaying.strategy(strategy, Graphs(record, log.append))
    denoise = RowDenoiser(network, process)
    for seed in (3, 4):
        want, got = (written(s, process, denoise, seed=seed) for s in (strategy, replayed))
        assert torch.equal(got.tokens, want.tokens)
        assert torch.equal(got.step, want.step)
        assert torch.equal(got.confidence.isnan(), want.confidence.isnan())
        assert torch.equal(got.nfe, want.nfe)
    assert record.replayed > 0
    assert not log


def test_a_step_is_recorded_at_the_second_sight_and_replayed_ever_after(network, log):
    record, process = StandIn(), Uniform(VOCAB)
    strategy = replaying.strategy(Ancestral(steps=5), Graphs(record, log.append))
    denoise = RowDenoiser(network, process)
    written(strategy, process, denoise)
    assert (record.recorded, record.replayed) == (1, 4)
    written(strategy, process, denoise, rows=4)  # the same bucket
    written(strategy, process, RowDenoiser(network, process))  # as each batch makes its own
    assert (record.recorded, record.replayed) == (1, 14)


def test_another_shape_or_setting_is_another_recording(network, log):
    record, process = StandIn(), Uniform(VOCAB)
    graphs = Graphs(record, log.append)
    denoise = RowDenoiser(network, process)
    strategies = [replaying.strategy(Ancestral(steps=n), graphs) for n in (4, 5)]
    for strategy in strategies:
        written(strategy, process, denoise)
    assert len(graphs) == 2
    written(strategies[0], process, denoise, rows=5)
    assert len(graphs) == 3
    for heat in (0.5, 0.7, 0.5):
        written(strategies[0], process, shaped(denoise, heat))
    assert len(graphs) == 5


def test_padding_is_told_at_every_replay(network, log):
    """What is valid in one batch is not what was valid in the batch that was recorded."""
    process, strategy = Uniform(VOCAB), Ancestral(steps=4)
    replayed = replaying.strategy(strategy, Graphs(StandIn(), log.append))
    for short in (0, 1, 2):
        canvas, key = beginning(process, 2)
        valid = torch.arange(LENGTH) < torch.tensor([[LENGTH], [LENGTH - short]])
        canvas = canvas._replace(valid=valid, given=canvas.given | ~valid)
        denoise = RowDenoiser(network, process, valid)
        want, got = (decode(s, process, denoise, canvas, key) for s in (strategy, replayed))
        assert torch.equal(got.tokens, want.tokens)


def test_a_row_does_not_see_the_bucket_it_is_filled_up_in(network, log):
    process = Uniform(VOCAB)
    strategy = replaying.strategy(Ancestral(steps=4), Graphs(StandIn(), log.append))
    denoise = RowDenoiser(network, process)
    many, few = (written(strategy, process, denoise, rows=n) for n in (6, 3))
    assert torch.equal(many.tokens[:3], few.tokens)


def test_rows_are_filled_up_to_what_the_network_computes_anyway():
    """Four together here."""
    assert [replaying.bucket(n) for n in (1, 4, 5, 12)] == [4, 4, 8, 12]


def test_what_cannot_be_recorded_goes_on_as_ever_and_is_said_once(network, log):
    process, strategy = Uniform(VOCAB), Ancestral(steps=5)
    graphs = Graphs(StandIn(RuntimeError("operation not permitted")), log.append)
    denoise = RowDenoiser(network, process)
    want = written(strategy, process, denoise)
    for _ in range(2):
        got = written(replaying.strategy(strategy, graphs), process, denoise)
        assert torch.equal(got.tokens, want.tokens)
    assert len(log) == 1
    assert "operation not permitted" in log[0]


def test_the_recording_not_used_for_longest_goes(log):
    record = StandIn()
    graphs = Graphs(record, log.append, most=2)

    def ask(size):
        return graphs("double", lambda told: 2 * told[0], Leaves((torch.ones(size),)))

    for size in (1, 1, 2, 2, 1, 3, 3):  # 2 goes, which 1 was asked for after
        assert torch.equal(ask(size), torch.full((size,), 2.0))
    assert len(graphs) == 2
    before = record.recorded
    ask(1)
    assert record.recorded == before
    ask(2)
    assert record.recorded == before + 1
    with pytest.raises(ValueError, match="most must be at least 1"):
        Graphs(record, log.append, most=0)


def test_an_answer_is_not_overwritten_by_the_next(log):
    graphs = Graphs(StandIn(), log.append)

    def ask(value):
        return graphs("next", lambda told: told[0] + 1, Leaves((torch.tensor([value]),)))

    answers = [ask(value) for value in (1.0, 2.0, 3.0, 4.0)]
    assert [float(answer) for answer in answers] == [2.0, 3.0, 4.0, 5.0]


def test_strategies_with_steps_of_their_own_and_denoisers_that_remember_are_left_alone(
    network, log
):
    record, process = StandIn(), Absorbing(VOCAB)
    graphs = Graphs(record, log.append)
    alone = ParallelHitting(steps=3)
    assert replaying.strategy(alone, graphs) is alone
    assert replaying.strategy(Ancestral(last="mode"), graphs) == Ancestral(last="mode")
    assert replaying.strategy(Ancestral(), None) == Ancestral()
    remembering = CachedDenoiser(network, process, Exact())
    strategy = Composed(steps=4)
    got = written(replaying.strategy(strategy, graphs), process, remembering)
    want = written(strategy, process, CachedDenoiser(network, process, Exact()))
    assert torch.equal(got.tokens, want.tokens)
    assert record.recorded == 0


def test_a_replayed_network_answers_as_the_network_and_steps_pass_through_it(network, log):
    """Also where the step around it is recorded, which then holds the evaluation."""
    record, process = StandIn(), Absorbing(VOCAB)
    graphs = Graphs(record, log.append)
    replayed = replaying.ReplayedNetwork(network, graphs)
    assert replayed.config is network.config
    assert replayed.remembers
    want = written(ParallelHitting(steps=4), process, RowDenoiser(network, process))
    got = written(ParallelHitting(steps=4), process, RowDenoiser(replayed, process))
    assert torch.equal(got.tokens, want.tokens)
    assert record.recorded == 1
    strategy = Ancestral(steps=4)
    want = written(strategy, process, RowDenoiser(network, process))
    got = written(replaying.strategy(strategy, graphs), process, RowDenoiser(replayed, process))
    assert torch.equal(got.tokens, want.tokens)
    assert record.recorded == 2


IN_PARTS = {
    name: one
    for name, make in NAMED.items()
    if name not in ASKING and isinstance(one := make(), Composed)
}


@pytest.mark.parametrize("name", IN_PARTS)
def test_every_preset_of_parts_writes_the_same_text_replayed(name, network, log):
    """What names a recording must be such that it can: settings, process, guidance."""
    strategy = dataclasses.replace(IN_PARTS[name], steps=4, per_block=True, eos_ids=(1,))
    for process in (Absorbing(VOCAB), Uniform(VOCAB)):
        if unready(strategy, type(process).__name__.lower()):
            continue
        denoise = shaped(RowDenoiser(network, process), 0.8, top_p=0.9)
        want = written(strategy, process, denoise, rows=2)
        got = written(replaying.strategy(strategy, Graphs(StandIn(), log.append)), process, denoise)
        assert torch.equal(got.tokens[:2], want.tokens)
    assert not log


@pytest.mark.parametrize(
    ("asked", "kinds"),
    [
        ({"strategy": "ancestral"}, [tuple]),
        ({"strategy": "llada", "temperature": 0.8, "top_p": 0.9}, [tuple]),
        ({"strategy": "parallel_hitting"}, [torch.Tensor]),
        ({"strategy": "llada", "constraint": "[a-z ]*"}, [torch.Tensor]),
        ({"strategy": "llada", "cache": "prefix", "block_length": 2}, []),
    ],
    ids=["ancestral", "llada", "steps-of-its-own", "constrained", "remembering"],
)
def test_who_writes_with_a_recorded_model_gets_whole_steps_or_else_evaluations(asked, kinds, log):
    record, own = StandIn(), tiny.model("mdlm")
    model = replaying.model(own, Graphs(record, log.append))
    settings = {"length": 10, "num": 3, "steps": 5, "seed": 4, **asked}
    if "constraint" in asked:
        settings["constraint"] = constrain.regex(asked["constraint"])
    want, got = (generate(one, "the ", **settings) for one in (own, model))
    assert [sample.text for sample in got] == [sample.text for sample in want]
    assert record.kinds[:1] == kinds  # a stand-in's replays call the step, and it the network
    assert not log


def test_what_is_asked_for_inside_a_step_is_part_of_it(log):
    """A lone step evaluates several groups of rows alike, and still comes once."""
    record = StandIn()
    model = replaying.model(tiny.model("mdlm"), Graphs(record, log.append))
    generate(model, "the ", length=10, num=6, steps=1, strategy="ancestral")
    assert record.recorded == 0


def test_what_gradients_flow_through_is_not_recorded(network, log):
    record = StandIn()
    replayed = replaying.ReplayedNetwork(network, Graphs(record, log.append))
    for _ in range(3):
        replayed(torch.zeros(1, LENGTH, dtype=torch.int64), torch.ones(1)).sum().backward()
    assert record.recorded == 0
    assert all(w.grad is not None for w in network.blocks.parameters())


@pytest.mark.gpu
@cases
def test_a_gpu_writes_the_same_text_replayed(strategy, process, network, log):
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    graphs = Graphs(on_gpu(), log.append)
    denoise = RowDenoiser(network.cuda(), process)
    for rows in (3, 5):
        canvas, key = beginning(process, rows)
        canvas = Canvas(canvas.tokens.cuda(), canvas.given.cuda())
        key = key._replace(seed=key.seed.cuda())
        want = decode(strategy, process, denoise, canvas, key)
        got = decode(replaying.strategy(strategy, graphs), process, denoise, canvas, key)
        assert torch.equal(got.tokens, want.tokens)
    assert len(graphs) > 0
    assert not log
