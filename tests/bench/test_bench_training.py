"""A training step is counted exactly, timed as it is, and compared with the machine."""

import dataclasses
import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unison import files
from unison.bench.record import BenchError
from unison.bench.training import flops, machine, parts
from unison.bench.training import steps as training
from unison.bench.training.flops import Counting
from unison.bench.training.machine import Limits, Spread
from unison.bench.training.rows import Row, content, read, section
from unison.bench.training.steps import Speed
from unison.models import MixtureConfig, Transformer, TransformerConfig, View
from unison.objectives import OBJECTIVES, Duo
from unison.train import Optimizer, Train, optim, step
from unison.train.config import fitted, objective_of
from unison.train.setup import build
from unison.train.step import Learner

CPU = torch.device("cpu")
VOCAB, ROWS, LENGTH = 11, 3, 10
SHAPES = {
    "adaln": {},
    "without time": {"time": "none"},
    "causal": {"attention": "causal", "time": "none"},
    "blocks": {"attention": "block_causal", "block_length": 4},
    "grouped queries": {"kv_heads": 2, "time": "none"},
    "wide heads": {"head_width": 6},
    "gated": {"mlp": "swiglu", "mlp_hidden": 20, "norm": "rms"},
    "tied": {"tied": True},
    "experts": {"mixture": MixtureConfig(4, 2, 6, shared=5, dense=1), "depth": 3},
}


def shape(**changes):
    sizes = {"vocab_size": VOCAB, "num_states": VOCAB + 1, "max_length": 2 * LENGTH}
    usual = {"hidden": 16, "depth": 2, "heads": 4, "cond_dim": 6}
    return TransformerConfig(**sizes | usual | changes)


def inputs(length=LENGTH):
    tokens = torch.arange(ROWS * length).reshape(ROWS, length) * 7 % VOCAB
    return tokens, torch.linspace(0.1, 0.9, ROWS)


def counted(work):
    """Return the FLOPs PyTorch counts; attention is products, for it does not know all kernels."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def learner(name, optimizer="adamw", **settings):
    objective = objective_of(name)
    model = fitted(TransformerConfig(hidden=16, depth=2, heads=4, max_length=16), objective)
    config = Train(model, objective, optimizer=Optimizer(optimizer), batch_size=4, **settings)
    process, network = build(config, VOCAB, VOCAB - 1, CPU)
    return Learner(
        network.train(), process, objective, optim.make(network, config.optimizer)
    ), config


def tokens():
    return torch.arange(4 * 16).reshape(4, 16) * 5 % VOCAB


class TestFormula:
    @pytest.mark.parametrize("name", SHAPES)
    def test_a_pass_and_its_gradient_cost_what_pytorch_counts(self, name):
        config = shape(**SHAPES[name])
        network = Transformer(config)
        once = counted(lambda: network(*inputs()))
        both = counted(lambda: network(*inputs()).sum().backward())
        assert once == flops.forward(config, ROWS, LENGTH).total
        assert both == flops.training(config, ROWS, LENGTH).total

    def test_answers_that_are_not_read_spare_the_output_layer(self):
        config = shape()
        read = torch.tensor([[0, 3, 5, 9]]).expand(ROWS, -1)
        network, view = Transformer(config), View(read=read)
        assert (
            counted(lambda: network(*inputs(), view=view))
            == flops.forward(config, ROWS, LENGTH, read=4).total
        )

    def test_the_parts_are_the_textbook_ones(self):
        config = shape(time="none", hidden=8, heads=2, depth=5)
        found = flops.forward(config, 1, LENGTH)
        per_layer = 2 * LENGTH * 8 * 8
        assert found.projections == 5 * 4 * per_layer
        assert found.mlp == 5 * 8 * per_layer
        assert found.attention == 5 * 2 * (2 * LENGTH * LENGTH * 8)
        assert found.head == 2 * LENGTH * 8 * VOCAB
        assert found.conditioning == 0


class TestCounting:
    @pytest.mark.parametrize(
        ("name", "optimizer"), [*((name, "adamw") for name in OBJECTIVES), ("bd3", "muon")]
    )
    def test_a_step_of_every_objective_costs_what_pytorch_counts(self, name, optimizer):
        made, config = learner(name, optimizer)
        expected = counted(lambda: step.take(made, config, tokens(), 0))
        made, config = learner(name, optimizer)
        with Counting() as counting:
            step.take(made, config, tokens(), 0)
        assert counting.tally.flops() == expected > 0

    def test_one_pass_objectives_cost_the_formula_and_block_diffusion_a_doubled_row(self):
        for name in ("ar", "mdlm", "duo"):
            made, config = learner(name)
            with Counting() as counting:
                step.take(made, config, tokens(), 0)
            assert counting.tally.flops() == flops.training(made.network.config, 4, 16).total
        made, config = learner("bd3")
        with Counting() as counting:
            step.take(made, config, tokens(), 0)
        doubled = flops.training(made.network.config, 4, 32, read=16).total
        assert counting.tally.flops() == doubled

    @pytest.mark.parametrize("name", ["ar", "bd3"])
    def test_the_cut_into_micro_batches_costs_nothing(self, name):
        found = []
        for micro in (None, 1, 3):
            made, config = learner(name, micro_batch=micro)
            with Counting() as counting:
                step.take(made, config, tokens(), 0)
            found.append(counting.tally.flops())
        assert len(set(found)) == 1

    @pytest.mark.parametrize("name", ["ar", "bd3"])
    def test_products_alone_are_the_products_of_the_step(self, name):
        made, config = learner(name)
        with Counting() as counting:
            step.take(made, config, tokens(), 0)
        alone = flops.alone(counting.tally.of(), CPU)
        with FlopCounterMode(display=False) as counter:
            alone()
        assert counter.get_total_flops() == counting.tally.flops()

    def test_operands_of_products_alone_lie_as_those_of_the_step(self):
        a, b = torch.ones(3, 4), torch.ones(5, 4)
        with Counting() as counting:
            torch.mm(a, b.T)
        [(call, times)] = counting.tally.of().items()
        assert times == 1
        assert (call.left.stride, call.right.stride) == ((4, 1), (1, 4))
        with Counting() as again:
            flops.alone(counting.tally.of(), CPU)()
        assert again.tally.of() == counting.tally.of()

    def test_attention_is_two_products_forward_and_four_backward(self):
        q, k, v = (torch.ones(2, 3, n, 4, requires_grad=True) for n in (5, 7, 7))
        with Counting() as counting:
            out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        assert counting.tally.flops() == 2 * (2 * 2 * 3 * 5 * 7 * 4)
        with Counting() as counting:
            out.sum().backward()
        assert counting.tally.flops() == 4 * (2 * 2 * 3 * 5 * 7 * 4)

    def test_traffic_is_what_operations_read_and_write(self):
        a, b, table = torch.ones(3, 4), torch.ones(4, 5), torch.ones(1000, 8)
        ids = torch.tensor([1, 2, 3])
        cases = [
            (lambda: torch.mm(a, b), 4 * (12 + 20 + 15)),
            (lambda: a.T, 0),
            (lambda: a.view(2, 6)[0], 0),
            (lambda: a.add_(1), 4 * (12 + 12)),
            (lambda: torch.nn.functional.embedding(ids, table), 4 * 24 + 3 * 8 + 4 * 24),
            (lambda: a[:1].expand(9, 4) + 1, 4 * (4 + 36)),
            (lambda: torch.empty(100), 0),
            (lambda: a[:, :2] + 1, 4 * (6 + 6)),
        ]
        for work, expected in cases:
            with Counting() as counting:
                work()
            assert counting.tally.bytes.total() == expected

    def test_a_result_that_is_given_is_written_and_not_read(self):
        a, out = torch.ones(3, 4), torch.zeros(3, 4)
        with Counting() as counting:
            torch.exp(a, out=out)
        assert counting.tally.bytes.total() == 4 * (12 + 12)

    def test_parts_are_told_apart(self):
        now = ["first"]
        a, b = torch.ones(2, 3), torch.ones(3, 4)
        with Counting(lambda: now[0]) as counting:
            torch.mm(a, b)
            now[0] = "second"
            torch.mm(b, b.T)
        assert counting.tally.flops("first") == 2 * 2 * 3 * 4
        assert counting.tally.flops("second") == 2 * 3 * 4 * 3
        assert counting.tally.flops("absent") == 0
        assert counting.tally.flops() == 2 * 24 + 2 * 36


class TestMarks:
    @pytest.mark.parametrize("name", ["duo", "mam"])
    def test_a_marked_step_is_the_step(self, name):
        weights = []
        for mark in (False, True):
            made, config = learner(name)
            network = made.network
            if mark:
                made = parts.marked(made, parts.Marks(CPU))
            outcomes = [step.take(made, config, tokens(), n) for n in range(3)]
            flat = torch.cat([w.detach().flatten() for w in network.parameters()])
            weights.append((outcomes, flat))
        assert weights[0][0] == weights[1][0]
        assert torch.equal(weights[0][1], weights[1][1])

    @pytest.mark.parametrize("name", ["ar", "mam", "complementary"])
    def test_products_of_the_network_are_made_in_the_networks_time(self, name):
        made, config = learner(name)
        marks = parts.Marks(CPU)
        made = parts.marked(made, marks)
        with Counting(lambda: marks.part) as counting:
            step.take(made, config, tokens(), 0)
        found = counting.tally
        assert found.flops("network") > 0
        assert found.flops("objective") == found.flops("optimizer") == 0
        waves = found.flops("network") * 2 - found.flops("backward")
        assert 0 <= waves < found.flops("network") / 4, "all but the first layer's inputs"

    def test_parts_last_until_the_next_begins_and_pauses_belong_to_none(self, monkeypatch):
        moments = iter([0.0, 1.0, 3.0, 6.0, 10.0, 100.0, 101.0])
        monkeypatch.setattr(parts.time, "process_time", lambda: next(moments))
        marks = parts.Marks(CPU)
        for part in ("objective", "network", "backward", "optimizer", parts.DONE):
            marks(part)
        marks("network")
        marks(parts.DONE)
        expected = {"objective": 1.0, "network": 2.0 + 1.0, "backward": 3.0, "optimizer": 4.0}
        assert marks.seconds() == expected
        marks.forget()
        assert sum(marks.seconds().values()) == 0


class TestSpeed:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"objectives": ("any-order",)}, "'any-order'; did you mean 'any_order'"),
            ({"sizes": ("tyni",)}, "unknown size 'tyni'; did you mean 'tiny'"),
            ({"sizes": ("8x2",)}, "WIDTHxDEPTHxHEADS"),
            ({"sizes": ("10x2x4",)}, "hidden=10 and heads=4"),
            ({"objectives": ()}, "objectives must name at least one"),
            ({"sizes": ("nano", "nano")}, "each once"),
            ({"steps": 0}, "steps must be at least 1, got 0"),
            ({"warmup": 0}, "warmup must be at least 1"),
            ({"threads": 0}, "threads must be at least 1"),
            ({"micro_batch": 17}, r"micro_batch must be in \[1, batch_size=16\]"),
        ],
    )
    def test_what_cannot_be_timed_is_refused_before_any_work(self, settings, message):
        with pytest.raises(ValueError, match=message):
            Speed(**settings)

    def test_shapes_are_named_or_spelt_out_and_fit_the_objective(self):
        speed = Speed(("bd3", "duo"), ("nano", "48x3x4"), length=40)
        assert speed.cases()[2] == ("bd3", "48x3x4")
        model = speed.train("bd3", "48x3x4").model
        assert (model.hidden, model.depth, model.heads, model.max_length) == (48, 3, 4, 40)
        assert (model.attention, model.time) == ("block_causal", "none")
        assert speed.train("duo", "nano").model.time == "adaln"


TIMED = ("ar", "any_order", "mdlm", "bd3", "complementary", "duo", "mam")
TINY = {"vocab_size": 32, "length": 16, "batch_size": 2, "steps": 2, "warmup": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def small_machine():
    """Probes of a blink: what is under test is what is made of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "_CPU_PRODUCTS", ((64, 96), 1 << 22))
        patch.setattr(machine, "_CPU_ARRAY", 1 << 20)
        patch.setattr(machine, "_largest_cache", lambda: 0)
        yield


@pytest.fixture(scope="module")
def measured(small_machine):
    speed = Speed(TIMED, ("16x1x2",), **TINY)
    told = []
    return training.measure(speed, told.append), told


@pytest.mark.usefixtures("small_machine")
class TestMeasure:
    def test_objectives_get_a_row_each_in_order(self, measured):
        (rows, _), told = measured
        assert [(row.objective, row.size) for row in rows] == [(o, "16x1x2") for o in TIMED]
        assert [line.split()[0] for line in told[:-1]] == list(TIMED)

    def test_rows_are_consistent(self, measured):
        (rows, limits), _ = measured
        for row in rows:
            assert row.tokens == 32
            assert row.seconds.rounds == row.utilisation.rounds == 2
            assert row.tokens_per_second == pytest.approx(32 / row.seconds.median)
            assert row.tokens_per_cpu_second == pytest.approx(32 / row.cpu_seconds.median)
            assert sum(row.shares.values()) == pytest.approx(1)
            assert min(row.shares.values()) > 0
            share = row.flops / row.cpu_seconds.median / limits.flops.median
            assert row.utilisation.low / 3 < share < 3 * row.utilisation.high
            assert 0 < row.utilisation.high < 1
            # weights, their average and two moments; gradients and activations come on top
            assert row.tensors > 5 * 4 * row.parameters
            assert row.optimizer_flops == 0

    def test_work_is_told_in_passes_over_the_text(self, measured):
        passes = {row.objective: row.passes for row in measured[0][0]}
        for name in ("ar", "any_order", "mdlm", "duo"):
            assert passes[name] == 1
        assert passes["complementary"] == 2
        assert passes["bd3"] > 1.5
        assert passes["mam"] > 2

    def test_all_but_times_is_the_same_again(self, measured):
        names = ("ar", "bd3")
        rows, _ = training.measure(Speed(names, ("16x1x2",), **TINY))
        for row, first in zip(
            rows, (r for r in measured[0][0] if r.objective in names), strict=True
        ):
            for field in ("parameters", "tokens", "tensors", "flops", "passes", "bytes"):
                assert getattr(row, field) == getattr(first, field), field

    def test_rows_and_limits_are_json(self, measured):
        rows, limits = measured[0]
        record = json.loads(files.to_json([dataclasses.asdict(row) for row in rows]))
        assert record[0]["seconds"]["median"] == rows[0].seconds.median
        assert json.loads(files.to_json(dataclasses.asdict(limits)))["clock"] == "CPU second"

    def test_muons_products_are_the_optimisers(self):
        speed = Speed(("ar",), ("16x1x2",), optimizer="muon", **TINY)
        [row], _ = training.measure(speed)
        assert row.passes == 1
        assert row.optimizer_flops > 0

    def test_threads_are_as_asked_inside_and_as_before_afterwards(self, monkeypatch):
        before, seen = torch.get_num_threads(), []

        def fail(*arguments):
            seen.append(torch.get_num_threads())
            raise RuntimeError("the first step")

        monkeypatch.setattr(training, "take", fail)
        with pytest.raises(RuntimeError, match="the first step"):
            training.measure(Speed(("ar",), ("16x1x2",), threads=before + 1, **TINY))
        assert seen == [before + 1]
        assert torch.get_num_threads() == before

    def test_a_step_that_moves_nothing_is_not_timed(self, monkeypatch):
        monkeypatch.setitem(OBJECTIVES, "broken", Broken)
        with pytest.raises(BenchError, match="gradient of Broken was not finite at step 0"):
            training.measure(Speed(("broken",), ("16x1x2",), **TINY))


@dataclass(frozen=True)
class Broken:
    """A loss that is not a number."""

    needs: ClassVar = Duo.needs
    process: ClassVar[str] = "uniform"

    def __call__(self, process, network, batch, key):
        nats = Duo()(process, network, batch, key)
        return nats._replace(total=nats.total * torch.nan)

    def losses(self, process, network, batch, key):
        return Duo().losses(process, network, batch, key)


class TestSection:
    def test_a_report_says_what_was_measured(self):
        ms = Spread(0.004, 0.003, 0.009, 5)
        row = Row(
            "duo", "nano", 1234567, 2048, ms, ms, 512000.0, 512000.0, 3_200_000, 9_900_000,
            "process", 4_096_000_000, 0, 1.25, 1_024_000_000, Spread(0.5, 0.4, 0.6, 5),
            Spread(0.8, 0.7, 0.9, 5),
            {"network": 0.25, "objective": 0.125, "backward": 0.5, "optimizer": 0.125},
        )  # fmt: skip
        rate = Spread(8e10, 7e10, 9e10, 5)
        facts = {"threads": 3, "load": [2.5, 1, 1]}
        traffic = {"copy": Spread(2e10, 1e10, 3e10, 5)}
        limits = Limits("CPU second", "float32", {"256 x 256": rate}, traffic, facts)
        found = section([row], limits)
        words = " ".join(found.paragraphs)
        for told in ("float32", "threads: 3", "2.5", "5 rounds", "80.0 GFLOP", "20.0 GB", "4.0"):
            assert told in words
        speed, work, best = found.tables
        assert speed.rows[0] == [
            "duo", "nano", "1,234,567", "512,000", "512,000", "4 [3 - 9]", "4 [3 - 9]", "3.2", "9.9"
        ]  # fmt: skip
        assert work.rows[0] == [
            "duo", "nano", "2.00", "1.25", "4.0", "50 [40 - 60]", "80 [70 - 90]", "25", "12", "50",
            "12",
        ]  # fmt: skip
        assert best.rows == [
            ["product of 256 x 256, GFLOP", "80.0", "70.0", "90.0"],
            ["copy, GB", "20.0", "10.0", "30.0"],
        ]


def test_a_record_of_training_speed_is_read_as_it_was_written():
    speed = Speed(("ar",), ("16x1x2",), 16, 8, 2, steps=1, warmup=1)
    rows, limits = training.measure(speed)
    written = json.loads(files.to_json(content(rows, limits)))
    assert read(written) == (rows, limits)
