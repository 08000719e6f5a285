"""Limits are what was measured, in turns; memory is that of the work, not of what came before."""

import time

import pytest
import torch
from jaxtyping import TypeCheckError
from torch.utils.flop_counter import FlopCounterMode

from unison.bench import memory
from unison.bench.training import machine
from unison.bench.training.machine import Limits, Probe, Probes, Span, Spread

CPU = torch.device("cpu")
MIB = 1 << 20


def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


class TestTurns:
    def test_alternatives_take_turns_and_the_first_rounds_are_not_timed(self):
        calls = []
        work = {name: (lambda name=name: calls.append(name)) for name in "ab"}
        spans = machine.take_turns(work, 3, CPU, warm=2)
        assert calls == ["a", "b"] * 5
        assert {name: len(taken) for name, taken in spans.items()} == {"a": 3, "b": 3}

    def test_waiting_costs_wall_time_and_working_costs_cpu_time(self):
        waited = machine.timed(lambda: time.sleep(0.05), CPU)
        worked = machine.timed(lambda: burn(0.05), CPU)
        assert waited.wall >= 0.05 > 0.03 > waited.cpu
        assert worked.cpu >= 0.05
        assert worked.wall >= 0.9 * worked.cpu

    def test_a_cpu_is_compared_in_cpu_seconds_and_a_gpu_in_its_own(self):
        spans = [Span(wall=2.0, cpu=1.0), Span(wall=4.0, cpu=3.0)]
        assert machine.seconds(spans, CPU) == [1.0, 3.0]
        assert machine.seconds(spans, torch.device("cuda")) == [2.0, 4.0]

    def test_a_spread_is_the_median_and_the_extremes(self):
        assert machine.spread([5.0, 1.0, 2.0]) == Spread(2.0, 1.0, 5.0, 3)


class TestLimits:
    def probes(self):
        products = tuple(Probe(name, 12, lambda: None) for name in ("small", "large"))
        return Probes(products, (Probe("copy", 6, lambda: None),), "float32")

    def test_the_best_product_is_that_with_the_best_median_not_the_best_moment(self):
        spans = {
            "small": [Span(9.0, s) for s in (0.5, 4.0, 6.0)],
            "large": [Span(9.0, s) for s in (2.0, 3.0, 4.0)],
            "copy": [Span(9.0, s) for s in (1.0, 2.0, 3.0)],
        }
        found = machine.limits(self.probes(), spans, CPU)
        assert found.products["small"] == Spread(3.0, 2.0, 24.0, 3)
        assert (found.best, found.flops) == ("large", Spread(4.0, 3.0, 6.0, 3))
        assert found.bandwidth == Spread(3.0, 2.0, 6.0, 3)
        assert found.balance == pytest.approx(4 / 3)
        assert (found.clock, found.dtype) == ("CPU second", "float32")

    def test_bandwidth_is_that_of_the_faster_loop(self):
        slow, fast = Spread(1.0, 1.0, 9.0, 3), Spread(2.0, 2.0, 2.0, 3)
        limits = Limits("CPU second", "float32", {"p": fast}, {"copy": slow, "triad": fast}, {})
        assert limits.bandwidth == fast
        assert limits.balance == 1

    def test_probes_do_the_work_they_claim(self):
        probes = machine.probes(CPU, torch.float32)
        with FlopCounterMode(display=False) as counter:
            probes.products[0].run()
        assert counter.get_total_flops() == probes.products[0].amount
        assert {probe.name: probe.amount for probe in probes.products}["1024 x 1024"] == 2 * 1024**3
        copy, triad = probes.traffic
        assert copy.amount / 2 == triad.amount / 3 >= 128 * MIB
        taken = machine.take_turns({p.name: p.run for p in probes.traffic}, 2, CPU)
        for probe in probes.traffic:
            assert all(1e8 < rate < 1e13 for rate in machine.rates(probe, taken, CPU))

    def test_facts_place_the_numbers(self):
        facts = machine.facts(CPU)
        assert facts["threads"] == torch.get_num_threads()
        assert facts["torch"] == torch.__version__
        assert len(facts["load"]) == 3

    def test_operands_are_noise_whatever_their_size(self):
        drawn = machine.noise((400, 500), CPU).double()
        assert drawn.mean().abs() < 0.02
        assert abs(drawn.std() - 1) < 0.02
        assert not torch.equal(drawn[0], drawn[1])


class TestMemory:
    def test_memory_is_that_of_the_work_even_if_it_was_freed(self):
        with memory.watched(CPU) as peak:
            held = torch.ones(32 * MIB)
            del held
        assert peak.of == "process"
        assert 127 * MIB <= peak.growth <= 160 * MIB
        assert peak.bytes - peak.before == peak.growth

    def test_earlier_work_does_not_count(self):
        large = torch.ones(64 * MIB)
        del large
        with memory.watched(CPU) as peak:
            torch.ones(2 * MIB).sum()
        assert peak.growth <= 24 * MIB

    def test_the_mark_is_read_when_the_work_fails_too(self):
        seen = []

        def fail():
            with memory.watched(CPU) as peak:
                seen.append(peak)
                raise RuntimeError("half way")

        with pytest.raises(RuntimeError, match="half way"):
            fail()
        assert seen[0].bytes >= seen[0].before > MIB

    def test_a_mark_that_cannot_be_reset_says_that_it_is_of_the_whole_process(
        self, monkeypatch, tmp_path
    ):
        large = torch.ones(64 * MIB)
        before = memory.resident()
        del large
        monkeypatch.setattr(memory, "_CLEAR", tmp_path / "absent" / "clear_refs")
        with memory.watched(CPU) as peak:
            pass
        assert peak.of == "process so far"
        assert peak.bytes >= before - MIB, "the kernel counts pages in batches"

    def test_systems_without_proc_tell_the_highest_mark_so_far(self, monkeypatch, tmp_path):
        monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
        with memory.watched(CPU) as peak:
            pass
        assert peak.of == "process so far"
        assert peak.bytes == memory.resident() > MIB

    def test_tensors_count_once_and_until_they_are_freed(self):
        alive = memory.Alive()
        weights, first = torch.ones(100), torch.ones(50)
        alive([weights], [first])
        assert alive.peak == 600
        alive([first.view(2, 25)], [first[:3]])
        assert alive.peak == 600, "a view is what it looks at"
        del first
        second = torch.ones(60)
        alive([weights], [second])
        assert alive.peak == 640, "50 numbers were freed before 60 were made"

    def test_what_was_there_before_counts_at_the_peak_wherever_it_is_first_seen(self):
        alive = memory.Alive()
        moments = torch.ones(10)
        activations = torch.ones(1000)
        alive([], [activations])
        del activations
        alive([moments], [])
        assert alive.peak == 4040


def test_a_device_is_asked_for_by_its_own_type():
    with pytest.raises(TypeCheckError), memory.watched("cpu"):  # pyright: ignore
        pass
