"""Inner levels that rest between key steps: what stays exact, what is lost, what is saved."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from small_unets import CONFIG, deaf, distance, drawn, levels, network, plain, start

from unison.decode.continuous import SOLVERS
from unison.decode.continuous.guidance.parts import kept
from unison.engine.continuous.keys import Change, Every
from unison.engine.continuous.propagation import Propagation
from unison.engine.continuous.step_caching import StepCaching

STEPS = 16
THREE = replace(CONFIG, multipliers=(1, 2, 2), attention=(2,))


def at(level, rows=2):
    return torch.full((rows,), level)


class TestExact:
    @pytest.mark.parametrize("outer", [1, 2])
    def test_a_key_step_at_every_step_is_the_plain_model_to_the_bit(self, outer):
        denoise = plain(network(THREE))
        run = StepCaching(denoise, Every(1), outer).with_memory(levels(STEPS))
        assert torch.equal(drawn(run, STEPS), drawn(denoise, STEPS))
        assert (run.work.whole, run.work.rest) == (2 * STEPS, 0)

    def test_inner_levels_that_see_nothing_lose_nothing(self):
        net = deaf(network())
        net.body.downs[0].shorten.weight.zero_()
        for stage in net.body.ups[1].stages:  # the way out of the inner level hears no noise
            stage.block.modulation.weight.zero_()
            stage.block.modulation.bias.zero_()
        denoise = plain(net)
        run = StepCaching(denoise, Every(5)).with_memory(levels(STEPS))
        assert torch.equal(drawn(run, STEPS), drawn(denoise, STEPS))
        assert run.work.rest > run.work.whole > 0

    def test_every_step_sees_its_own_events(self):
        run = StepCaching(plain(), Every(9)).with_memory((2.0, 1.0, 0.5))
        run(start(high=2.0), at(2.0))
        x, y = start(high=1.0), start(high=1.0, seed=8)
        bare = [asked.denoise(x, at(1.0)) - asked.denoise(y, at(1.0)) for asked in (run,)]
        known = 0.25 / 1.25 * (x - y)  # what a resting encoder would say
        assert distance(run(x, at(1.0)) - run(y, at(1.0)), known) > 1e-3
        assert distance(run(x, at(1.0)) - run(y, at(1.0)), bare[0]) < distance(known, bare[0])


class TestLoss:
    def test_more_key_steps_are_nearer_to_the_plain_model(self):
        whole = drawn(plain(), 24)
        away = [
            distance(drawn(StepCaching(plain(), Every(k)).with_memory(levels(24)), 24), whole)
            for k in (1, 2, 4, 8, 24)
        ]
        assert away[0] == 0
        assert all(fewer > more for more, fewer in pairwise(away)), away

    def test_more_outer_levels_are_nearer_to_the_plain_model(self):
        denoise = plain(network(THREE))
        whole = drawn(denoise, STEPS)
        one, two = (
            distance(
                drawn(StepCaching(denoise, Every(4), n).with_memory(levels(STEPS)), STEPS), whole
            )
            for n in (1, 2)
        )
        assert 0 < two < one

    def test_it_loses_less_than_a_resting_encoder_at_the_same_key_steps(self):
        whole = drawn(plain(), STEPS)
        lost = [
            distance(drawn(kind(plain(), Every(4)).with_memory(levels(STEPS)), STEPS), whole)
            for kind in (StepCaching, Propagation)
        ]
        assert 0 < lost[0] < lost[1]


class TestRuns:
    @pytest.mark.parametrize("name", ["multistep", "unipc", "heun", "dpm_solver_single"])
    def test_every_solver_that_descends_can_ask(self, name):
        run = StepCaching(plain(), Change(0.8)).with_memory(levels(10))
        away = distance(drawn(run, 10, SOLVERS[name]()), drawn(plain(), 10, SOLVERS[name]()))
        assert 0 < away < 0.1

    def test_inner_levels_run_at_key_steps_alone(self):
        net, calls = network(), []
        net.body.middle.register_forward_hook(lambda *told: calls.append(1))
        drawn(StepCaching(plain(net), Every(4)).with_memory(levels(10)), 10)
        assert len(calls) == 3

    def test_forks_remember_apart(self):
        grid, rows = levels(8), torch.tensor([1, 1])
        run = StepCaching(plain(), Every(8)).with_memory(grid)
        run(start(), at(grid[0]))
        fork = kept(run, rows)
        x = start(seed=9)
        torch.testing.assert_close(fork(x[rows], at(grid[1])), run(x, at(grid[1]))[rows])

    def test_a_second_run_of_one_memory_is_refused(self):
        run = StepCaching(plain()).with_memory(levels(8))
        drawn(run, 8)
        with pytest.raises(ValueError, match="make one for each run"):
            drawn(run, 8)

    def test_networks_without_inner_levels_are_refused(self):
        with pytest.raises(ValueError, match="no inner ones"):
            StepCaching(plain(network(replace(CONFIG, multipliers=(1,), attention=()))))
        with pytest.raises(ValueError, match="1 to 1 outer levels"):
            StepCaching(plain(), levels=2)
