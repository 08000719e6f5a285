"""Every kind of work has a row, and a row's work is what its name says."""

import dataclasses
import json

import pytest
import torch

from unison import files
from unison.bench.record import BenchError
from unison.bench.roofline import gauges, measure, suite, tables
from unison.bench.roofline.decoding import Resumed
from unison.bench.roofline.settings import Roofline
from unison.bench.roofline.stage import Stage
from unison.bench.roofline.watching import Watching
from unison.bench.roofline.work import Pulse, Work
from unison.bench.training import flops
from unison.decode import STRATEGIES, decode, start
from unison.decode.diffusion.ancestral import Ancestral
from unison.decode.presets import PRESETS
from unison.objectives import Duo
from unison.prob import rng
from unison.prob.rng import Key
from unison.train.config import TrainError

CPU = torch.device("cpu")
SMALL = Roofline(("16x1x2",), vocab_size=260, length=32, batch_size=4, rounds=2)
ROWS = suite.makers({})


@pytest.fixture(scope="module")
def stage():
    return Stage(SMALL, "16x1x2", CPU)


def evaluations(stage, work):
    """Return how often a network answers in one call, and how many steps the call took."""
    count, before = [], work.pulse.number
    hooks = [
        model.network.register_forward_hook(lambda module, inputs, answer: count.append(1))
        for model in stage._made.values()
    ]
    work.call()
    for hook in hooks:
        hook.remove()
    return len(count), work.pulse.number - before


def watched(work):
    with Watching(CPU, lambda: work.pulse.number) as mode:
        work.call()
    return mode.watched()


class TestSuite:
    def test_every_sampler_and_preset_has_a_row_or_a_reason(self):
        for name, kind in STRATEGIES.items():
            for process in kind.processes:
                assert (f"{name}/{process}" if process != "sequential" else "ar") in ROWS
        assert set(PRESETS) == {name for name in PRESETS if name in ROWS} | set(suite.LEFT_OUT)

    def test_rows_of_rooms_above_have_their_places(self):
        def make(stage):
            return Work("x", lambda: None, 1)

        found = list(suite.makers({"serve": make, "distil": make}))
        assert found[:3] == ["train", "distil", "forward"]
        assert found[-1] == "serve"
        assert list(ROWS)[:2] == ["train", "forward"]

    def test_names_groups_and_samplers_choose_rows_in_the_order_of_a_report(self):
        known = list(ROWS)
        assert suite.chosen((), known) == known
        assert suite.chosen(("forward", "train"), known) == ["train", "forward"]
        assert suite.chosen(("psi",), known) == ["psi/absorbing", "psi/uniform"]
        assert suite.chosen(("remdm",), known) == ["remdm/absorbing", "remdm"]
        presets = suite.chosen(("presets",), known)
        assert presets == [name for name in PRESETS if name != "learn2pd"]
        assert set(suite.chosen(("samplers", "presets", "ar"), known)) == (
            set(known) - {"train", "forward", "speculation"}
        )

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("lada", "unknown row 'lada'; did you mean 'llada'"),
            ("sampler", "did you mean 'samplers'"),
            ("learn2pd", "cannot be measured: it needs a filter"),
        ],
    )
    def test_unknown_rows_are_refused_before_any_work(self, name, message):
        with pytest.raises(BenchError, match=message):
            measure.measure(Roofline(only=(name,)))


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"sizes": ("tyni",)}, "unknown size 'tyni'; did you mean 'tiny'"),
            ({"sizes": ()}, "sizes must name at least one"),
            ({"rounds": 0}, "rounds must be at least 1, got 0"),
            ({"threads": 0}, "threads must be at least 1"),
            ({"vocab_size": 100}, "vocab_size must be at least 258, got 100"),
            ({"length": 8}, "length must be at least 16"),
        ],
    )
    def test_what_cannot_be_measured_is_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            Roofline(**settings)

    def test_an_absent_device_is_refused(self):
        if not torch.cuda.is_available():
            with pytest.raises(TrainError, match="not available"):
                measure.measure(Roofline(device="cuda"))


TWICE = {"edlm", "guided"}  # another model is asked


class TestWorks:
    @pytest.mark.parametrize("name", [name for name in ROWS if name in PRESETS or "/" in name])
    def test_a_step_of_a_strategy_is_an_evaluation(self, stage, name):
        work = ROWS[name](stage)
        assert work.name == name
        assert work.decodes
        assert work.tokens == SMALL.length
        asked, steps = evaluations(stage, work)
        assert steps == 4
        assert asked >= 2 * steps if name in TWICE else asked == steps

    def test_the_same_steps_are_taken_again(self, stage):
        work = ROWS["ancestral/uniform"](stage)
        first, second = watched(work), watched(work)
        assert first.flops == second.flops
        assert (first.bytes, first.traffic) == (second.bytes, second.traffic)

    def test_steps_resumed_are_those_of_the_run(self, stage):
        model, strategy = stage.model("absorbing"), Ancestral(8)
        key = Key(rng.rows(3, 0, 1))
        blank = torch.zeros(1, SMALL.length, dtype=torch.int64)
        canvas = start(model.process, blank, torch.zeros_like(blank, dtype=torch.bool), key)
        whole = decode(strategy, model.process, model.denoiser(), canvas, key)
        for first, count in ((0, 3), (3, 5)):
            part = Resumed(strategy, first, count, Pulse())
            done = decode(part, model.process, model.denoiser(), canvas, key)
            canvas = canvas._replace(tokens=done.tokens)
        assert torch.equal(canvas.tokens, whole.tokens)

    def test_training_costs_what_the_formula_says(self, stage):
        made, expected = ROWS["train"](stage), stage.model("uniform").network.config
        made.call()
        assert watched(made).flops == {"float32": flops.training(expected, 4, SMALL.length).total}
        assert stage.trained("uniform").objective == Duo()

    def test_training_moves_a_copy_and_not_the_model(self, stage):
        before = stage.model("uniform").network.state_dict()["head.weight"].clone()
        work = ROWS["train"](stage)
        work.call()
        assert torch.equal(stage.model("uniform").network.state_dict()["head.weight"], before)

    def test_an_evaluation_costs_what_the_formula_says(self, stage):
        expected = flops.forward(stage.config, 4, SMALL.length).total
        assert watched(ROWS["forward"](stage)).flops == {"float32": expected}

    def test_a_token_costs_one_position_beside_what_is_remembered(self, stage):
        work = ROWS["ar"](stage)
        config = stage.model("sequential").network.config
        one = flops.forward(config, 1, 1)
        filled = 4 * (one.total - one.attention)  # one row is filled up to four: layers.steady
        token = filled + SMALL.length * one.attention
        for _ in range(4):  # the canvas is full in between
            assert watched(work).flops == {"float32": 8 * token}

    def test_speculation_counts_its_rounds(self, stage):
        work = ROWS["speculation"](stage)
        asked, steps = evaluations(stage, work)
        assert steps > 1
        assert watched(work).flops["float32"] > 0
        assert asked == 0, "a target reads trees by itself"

    def test_bfloat16_weights_are_read_and_float32_ones_are_trained(self):
        stage = Stage(dataclasses.replace(SMALL, dtype="bfloat16"), "16x1x2", CPU)
        assert set(watched(ROWS["forward"](stage)).flops) == {"bfloat16"}
        assert set(watched(ROWS["train"](stage)).flops) == {"bfloat16", "float32"}
        assert next(stage.fresh("uniform").parameters()).dtype == torch.float32

    def test_a_trained_model_does_the_work_of_its_process_and_no_other(self, stage):
        model = stage.model("absorbing")
        alone = Stage(SMALL, "model", CPU, model)
        assert evaluations(alone, ROWS["llada"](alone)) == (4, 4)
        assert ROWS["train"](alone).tokens == 4 * SMALL.length
        for name in ("ar", "ancestral/uniform", "edlm"):
            with pytest.raises(ValueError, match="this one is of the absorbing process"):
                ROWS[name](alone)


@pytest.fixture(scope="module")
def measured():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gauges, "_ARRAYS", (1 << 14, 1 << 18))
        patch.setattr(gauges, "_SQUARE", (32, 64))
        patch.setattr(gauges, "_ENOUGH_FLOPS", {"cpu": 1 << 20})
        patch.setattr(gauges, "_ENOUGH_BYTES", 1 << 18)
        patch.setattr(measure, "_ENOUGH", 0.0)
        told = []
        only = ("train", "forward", "llada", "ar")
        found = measure.measure(
            dataclasses.replace(SMALL, only=only, threads=1), observe=told.append
        )
        return found, told


class TestMeasure:
    def test_rows_come_in_order_with_all_there_is_to_tell(self, measured):
        [found], told = measured
        assert [row.name for row in found.rows] == ["train", "forward", "llada", "ar"]
        assert told[0] == "16x1x2: train"
        assert told[-1] == "16x1x2: round 2 of 2"
        assert not found.left_out
        for row in found.rows:
            assert (row.size, row.dtype) == ("16x1x2", "float32")
            assert row.seconds.rounds == row.fraction.rounds == 2
            assert row.fraction.low > 0
            assert len(row.gaps) == 3
            assert (row.outside is None) == (row.name in ("train", "forward"))
            assert row.outside is None or 0 < row.outside.low <= row.outside.high < 1

    def test_limits_are_of_every_kind(self, measured):
        [found], _ = measured
        assert list(found.limits.rates) == ["products", "memory", "attention", "streams"]
        names = list(found.limits.rates["products"])
        assert "float32 64 x 64 x 64" in names
        assert "bfloat16 128 x 16 x 64" in names
        assert len(found.limits.rates["memory"]) == 4
        assert len(found.limits.rates["attention"]) == 4

    def test_a_report_is_written_and_its_record_is_json(self, measured):
        found, _ = measured
        record = json.loads(files.to_json(tables.content(found)))
        [size] = record["sizes"]
        assert [row["name"] for row in size["rows"]] == ["train", "forward", "llada", "ar"]
        assert size["rows"][0]["gaps"][0]["kind"]
        [section] = tables.document(found).sections
        work, gaps, limits = section.tables
        assert [row[0] for row in work.rows] == [row[0] for row in gaps.rows]
        assert len(limits.rows) == sum(map(len, found[0].limits.rates.values()))

    def test_what_does_not_fit_is_left_out_with_the_reason(self, stage, monkeypatch):
        monkeypatch.setattr(gauges, "_ARRAYS", (1 << 14,))
        monkeypatch.setattr(gauges, "_SQUARE", (32,))
        monkeypatch.setattr(gauges, "_ENOUGH_FLOPS", {"cpu": 1})
        settings = dataclasses.replace(SMALL, rounds=1, only=("forward", "psi"))
        [found] = measure.measure(settings, model=stage.model("absorbing"))
        assert [row.name for row in found.rows] == ["forward", "psi/absorbing"]
        assert "this one is of the absorbing process" in found.left_out["psi/uniform"]
        said = tables.document([found]).sections[0].paragraphs
        assert "Left out. psi/uniform: it needs a model of the uniform process" in said[1]

    def test_nothing_to_measure_is_refused_with_the_reasons(self, stage):
        settings = dataclasses.replace(SMALL, only=("ar", "edlm"))
        with pytest.raises(BenchError, match=r"nothing can be measured at model\. edlm: it needs"):
            measure.measure(settings, model=stage.model("absorbing"))
