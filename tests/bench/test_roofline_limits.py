"""Planted times come out as planted: limits, fractions, shares and the order of gaps."""

import pytest

from unison.bench.roofline.ceiling import Gauge, Peaks, ceiling, named, peaks
from unison.bench.roofline.kinds import BETWEEN, kind_of
from unison.bench.roofline.rows import Timing, gaps, merged, row, without
from unison.bench.roofline.watching import Operation, Spent, Watched
from unison.bench.roofline.work import Work
from unison.bench.training.machine import Spread

MIB = 1 << 20
PEAKS = Peaks({"float32": 100.0, "bfloat16": 400.0}, {MIB: 50.0, 64 * MIB: 10.0})


def nothing():
    return None


def operation(kind, name="mm", flops=0, size=0, shape="4 x 4", far=0):
    return Operation(kind, name, shape, "float32", flops, size, far)


def timing(seconds, watched, inside=None, steps=1):
    inside = [0.0] * len(seconds) if inside is None else inside
    return Timing(steps, [2 * s for s in seconds], seconds, seconds, inside, watched)


def done(work, taken, held):
    return row(work, "nano", "float32", taken, held)


class TestPeaks:
    def test_products_of_several_types_take_their_times_one_after_another(self):
        assert PEAKS.computing({"float32": 200, "bfloat16": 400}) == 3.0

    def test_a_type_nobody_measured_counts_as_float32(self):
        assert PEAKS.computing({"float64": 200}) == 2.0

    @pytest.mark.parametrize(
        ("size", "rate"),
        [(1, 50.0), (MIB, 50.0), (64 * MIB - 1, 50.0), (64 * MIB, 10.0), (1 << 40, 10.0)],
    )
    def test_memory_is_as_fast_as_over_the_largest_arrays_that_are_no_larger(self, size, rate):
        assert PEAKS.bandwidth(size) == rate
        assert PEAKS.moving(size) == size / rate

    def test_the_longer_of_the_two_times_decides(self):
        assert PEAKS.seconds({"float32": 1000}, 50) == 10.0
        assert PEAKS.bound({"float32": 1000}, 50) == "products"
        assert PEAKS.seconds({"float32": 100}, 500) == 10.0
        assert PEAKS.bound({"float32": 100}, 500) == "memory"

    def test_what_was_best_over_all_rounds_is_what_each_round_is_held_against(self):
        gauges = [
            Gauge("products", "small", "float32", 0, 12, nothing),
            Gauge("products", "large", "float32", 0, 12, nothing),
            Gauge("products", "large", "int8", 0, 12, nothing),
            Gauge("memory", "copy", "", MIB, 6, nothing),
            Gauge("memory", "read", "", MIB, 6, nothing),
            Gauge("attention", "forward", "float32", 0, 5, nothing),
        ]
        readings = {
            "float32 small": [0.5, 4.0, 6.0],
            "float32 large": [2.0, 3.0, 4.0],
            "int8 large": [1.0, 1.0, 1.0],
            "copy": [1.0, 2.0, 3.0],
            "read": [2.0, 1.0, 1.0],
            "float32 forward": [1.0, 1.0, 1.0],
        }
        assert list(map(named, gauges)) == list(readings)
        assert peaks(gauges, readings, 0) == Peaks({"float32": 6.0, "int8": 12.0}, {MIB: 3.0})
        assert peaks(gauges, readings, 2) == Peaks({"float32": 3.0, "int8": 12.0}, {MIB: 6.0})
        found = ceiling(gauges, readings, "CPU second", {"threads": 1})
        assert found.rates["products"]["float32 large"] == Spread(4.0, 3.0, 6.0, 3)
        assert found.rates["memory"]["copy"] == Spread(3.0, 2.0, 6.0, 3)
        assert list(found.rates) == ["products", "memory", "attention"]


class TestRow:
    def test_work_that_is_nothing_but_the_best_product_is_at_its_limit(self):
        product = operation("products", flops=1000, size=4)
        seen = Watched({product: Spent(1, 10.0)}, {"float32": 1000}, 4, 4)
        taken = timing([10.0, 5.0], [seen, seen])
        held = [PEAKS, Peaks({"float32": 200.0}, PEAKS.memory)]
        found = done(Work("product", nothing, 8), taken, held)
        assert found.fraction == Spread(1.0, 1.0, 1.0, 2)
        assert (found.limit, found.bound, found.outside) == (7.5, "products", None)

    def test_work_that_is_nothing_but_reading_is_at_its_limit_too(self):
        seen = Watched({operation("sums", size=500): Spent(1, 10.0)}, {}, 500, 500)
        found = done(Work("read", nothing, 8), timing([10.0], [seen]), [PEAKS])
        assert found.fraction.median == 1.0
        assert found.bound == "memory"

    def test_numbers_are_of_one_step(self):
        seen = Watched({}, {"float32": 400}, 40, 80)
        taken = timing([16.0, 24.0, 32.0], [seen] * 3, [12.0, 12.0, 24.0], steps=4)
        found = done(Work("steps", nothing, 6, decodes=True), taken, [PEAKS] * 3)
        assert found.cpu_seconds == Spread(6.0, 4.0, 8.0, 3)
        assert found.seconds == Spread(12.0, 8.0, 16.0, 3)
        assert (found.flops, found.bytes, found.traffic) == ({"float32": 100}, 10, 20)
        assert found.limit == 1.0
        assert found.fraction == Spread(1 / 6, 1 / 8, 1 / 4, 3)
        assert found.outside == Spread(0.25, 0.25, 0.5, 3)
        assert found.tokens_per_second == 0.5


class TestGaps:
    def planted(self):
        return {
            operation("products", flops=5000, size=4): Spent(1, 60.0),  # at 50 of 60
            operation("attention, backward", "sdpa", flops=100, shape="2 x 8"): Spent(4, 24.0),
            operation("element by element", "mul", size=50, shape="9"): Spent(2, 5.0),
            operation("element by element", "add", size=50, shape="9"): Spent(1, 3.0),
        }

    def test_the_largest_losses_come_first_and_say_how_large(self):
        found = gaps(self.planted(), 100.0, PEAKS, 0)
        assert [gap.kind for gap in found] == ["attention, backward", "products", BETWEEN]
        assert [gap.lost for gap in found] == pytest.approx([0.20, 0.10, 0.08])
        assert [gap.share for gap in found] == pytest.approx([0.24, 0.60, 0.08])
        assert found[0].words == (
            "attention, backward: 24 % of the time at 17 % of its limit (sdpa, 2 x 8)"
        )
        assert found[2].words == "between operations: 8 % of the time"

    def test_equal_kinds_are_added_up_and_the_worst_kernel_is_named(self):
        found = gaps(self.planted(), 92.0, PEAKS, 0)
        assert found[2].kind == "element by element"
        assert found[2].share == pytest.approx(8 / 92)
        assert found[2].of_limit == pytest.approx(3 / 8)
        assert found[2].mostly == "mul, 9"

    def test_shares_are_of_the_longer_where_watching_takes_longer_than_the_work(self):
        found = gaps(self.planted(), 46.0, PEAKS, 0)
        assert found[1].share == pytest.approx(60 / 92)
        assert all(gap.kind != BETWEEN for gap in found)

    def test_what_is_faster_than_its_limit_loses_nothing(self):
        fast = operation("copies", size=500)
        found = gaps({fast: Spent(1, 5.0)}, 10.0, PEAKS, 0)
        assert [gap.kind for gap in found] == [BETWEEN, "copies"]
        assert found[1].lost == -0.5
        assert found[1].of_limit == 2.0

    def test_the_price_of_a_call_is_taken_off_and_never_more_than_there_is(self):
        dear, cheap = operation("products", flops=5), operation("copies", size=5)
        seen = Watched({dear: Spent(2, 10.0), cheap: Spent(3, 5.0)}, {}, 0, 0)
        found = without(seen, 2.0)
        assert found.operations == {dear: Spent(2, 6.0), cheap: Spent(3, 0.0)}
        [idle, product, copy] = gaps(found.operations, 15.0, PEAKS, 0)
        assert (idle.kind, product.kind, copy.kind) == (BETWEEN, "products", "copies")
        assert idle.share == pytest.approx(9 / 15)
        assert copy.of_limit == 1.0

    def test_what_was_there_before_comes_from_as_far_away_as_all_of_it(self):
        mixed = operation("copies", size=150, far=100)
        for working, least in ((0, 3.0), (64 * MIB, 1.0 + 10.0)):
            [found, _] = gaps({mixed: Spent(1, 20.0)}, 20.0, PEAKS, working)
            assert found.of_limit == pytest.approx(least / 20)

    def test_rounds_are_added_up(self):
        one, other = operation("products", flops=5), operation("copies", size=5)
        first = Watched({one: Spent(2, 10.0)}, {}, 0, 0)
        second = Watched({one: Spent(2, 14.0), other: Spent(1, 3.0)}, {}, 0, 0)
        found = merged(timing([1.0, 1.0], [first, second]))
        assert found == {one: Spent(4, 24.0), other: Spent(1, 3.0)}


class TestKinds:
    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("addmm", "products"),
            ("_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
            ("native_layer_norm_backward", "norms"),
            ("gelu_backward", "activations"),
            ("_log_softmax_backward_data", "softmax"),
            ("embedding_dense_backward", "look-ups"),
            ("_foreach_lerp_", "optimiser"),
            ("_fused_adamw_", "optimiser"),
            ("bitwise_xor", "element by element"),
            ("anything_new", "element by element"),
        ],
    )
    def test_kernels_and_their_derivatives_are_one_kind(self, name, kind):
        assert kind_of(name) == kind
