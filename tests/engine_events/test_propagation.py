"""An encoder that rests between key steps: what stays exact, what is lost, what is refused."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from small_unets import CONFIG, deaf, distance, drawn, levels, network, plain, start

from unison.decode.continuous import SOLVERS, State
from unison.decode.continuous.ddim import DDIM
from unison.decode.continuous.guidance.parts import kept
from unison.engine.continuous.keys import Change, Every, Places
from unison.engine.continuous.prior_noise import PriorNoise
from unison.engine.continuous.propagation import Propagation
from unison.event_denoising import Residual
from unison.models.continuous import DiTConfig, build
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import EDM, ResShift, VariancePreserving
from unison.types import Law

STEPS = 20


def at(level, rows=2):
    return torch.full((rows,), level)


class TestKeySteps:
    def test_the_published_places_are_those_of_fifty_steps(self):
        assert Places().keys(levels(50)[:-1]) == (0, 1, 2, 3, 5, 10, 15, 25, 35)

    def test_places_move_with_the_length_of_the_grid(self):
        assert Places().keys(levels(10)[:-1]) == (0, 1, 2, 3, 5, 7)

    def test_every_fourth_step_of_ten(self):
        assert Every(4).keys(levels(10)[:-1]) == (0, 4, 8)

    def test_change_counts_nats_since_the_last_key_step(self):
        grid = tuple(math.exp(-0.3 * i) for i in range(10))
        assert Change(0.6).keys(grid) == (0, 2, 4, 6, 8)
        assert Change(0.7).keys(grid) == (0, 3, 6, 9)
        assert Change(0.0).keys(grid) == tuple(range(10))

    def test_policies_refuse_what_is_no_choice(self):
        with pytest.raises(ValueError, match="0 among them"):
            Places((1, 2))
        with pytest.raises(ValueError, match="0 among them"):
            Places((0, 60))
        with pytest.raises(ValueError, match="at least 1 step"):
            Every(0)
        with pytest.raises(ValueError, match="at least 0"):
            Change(-1.0)


class TestExact:
    def test_a_key_step_at_every_step_is_the_plain_model_to_the_bit(self):
        run = Propagation(plain(), Every(1)).with_memory(levels(STEPS))
        assert torch.equal(drawn(run, STEPS), drawn(plain(), STEPS))
        assert (run.work.whole, run.work.rest) == (2 * STEPS, 0)

    def test_an_encoder_that_is_deaf_to_noise_loses_nothing_while_the_events_stay(self):
        # In the frame of EDM the network sees y itself: at other levels the same picture.
        denoise = plain(deaf(network()), process=EDM())
        run = Propagation(denoise, Every(9)).with_memory((4.0, 2.0, 1.0))
        x = start(high=1.0)
        for level in (4.0, 2.0, 1.0):
            assert torch.equal(run(x, at(level)), denoise(x, at(level)))
        assert run.work.rest == 4

    def test_an_encoder_that_sees_nothing_loses_nothing_over_a_whole_run(self):
        net = deaf(network())
        net.stem.weight.zero_()
        denoise = plain(net)
        run = Propagation(denoise).with_memory(levels(STEPS))
        assert torch.equal(drawn(run, STEPS), drawn(denoise, STEPS))
        assert run.work.rest > run.work.whole > 0

    @pytest.mark.parametrize("name", ["ddim", "multistep", "dpm_solver", "unipc", "heun"])
    def test_together_is_one_by_one_for_every_solver(self, name):
        solver = SOLVERS[name]()
        apart, once = (
            drawn(Propagation(plain(), Every(4), flag).with_memory(levels(12)), 12, solver)
            for flag in (False, True)
        )
        whole = drawn(plain(), 12, solver)
        assert distance(apart, once) < 1e-6
        assert distance(apart, whole) > 1e-4

    def test_together_between_the_levels_of_the_grid_is_one_by_one_too(self):
        solver = SOLVERS["dpm_solver_single"]()
        apart, once = (
            drawn(Propagation(plain(), Every(3), flag).with_memory(levels(9)), 9, solver)
            for flag in (False, True)
        )
        assert distance(apart, once) < 1e-6

    def test_together_calls_the_decoder_once_for_each_key_step(self):
        net = network()
        calls = []
        net.body.ups[0].register_forward_hook(lambda *told: calls.append(len(told[2])))
        drawn(Propagation(plain(net), Every(4), together=True).with_memory(levels(8)), 8)
        assert calls == [2, 6, 2, 6]

    def test_labels_and_processes_pass_through(self):
        net = network(replace(CONFIG, classes=3))
        denoise = plain(net, process=VariancePreserving(), label=torch.tensor([0, 2]))
        every = Propagation(denoise, Every(1)).with_memory(levels(8))
        assert torch.equal(drawn(every, 8), drawn(denoise, 8))
        apart, once = (
            drawn(Propagation(denoise, Every(4), flag).with_memory(levels(8)), 8)
            for flag in (False, True)
        )
        assert distance(apart, once) < 1e-6


class TestRestoration:
    def test_a_residual_denoiser_can_rest_too(self):
        net = network(replace(CONFIG, beside_channels=1))
        x, degraded = start(high=1.0), start(high=1.0, seed=5)
        denoise = Residual(net, ResShift(), degraded, 0.4)
        times = (0.9, 0.6, 0.3)
        every, apart, once = (
            Propagation(denoise, Every(step), flag).with_memory(times)
            for step, flag in ((1, False), (3, False), (3, True))
        )
        for time in times:
            assert torch.equal(every(x, at(time)), denoise(x, at(time)))
            torch.testing.assert_close(apart(x, at(time)), once(x, at(time)))
        assert distance(apart(x, at(0.3)), denoise(x, at(0.3))) > 1e-4


class TestLoss:
    def test_more_key_steps_are_nearer_to_the_plain_model(self):
        whole = drawn(plain(), 24)
        away = [
            distance(drawn(Propagation(plain(), Every(k)).with_memory(levels(24)), 24), whole)
            for k in (1, 2, 4, 8, 24)
        ]
        assert away[0] == 0
        assert all(fewer > more for more, fewer in pairwise(away)), away

    def test_gradients_at_key_steps_are_those_of_the_plain_model(self):
        denoise = plain(gradients=True)
        run = Propagation(denoise, Every(2)).with_memory((2.0, 1.0))
        slopes = []
        for asked in (denoise, run):
            x = start(high=2.0).requires_grad_()
            slopes.append(torch.autograd.grad(asked(x, at(2.0)).sum(), x)[0])
        assert torch.equal(*slopes)
        x = start(high=1.0).requires_grad_()
        slope = torch.autograd.grad(run(x, at(1.0)).sum(), x)[0]
        # Where the encoder rests the mean is skip y + a constant, skip = d^2 / (s^2 + d^2).
        torch.testing.assert_close(slope, torch.full_like(x, 0.25 / 1.25))


class TestMemory:
    def test_a_run_is_repeated_by_a_new_memory(self):
        setting = Propagation(plain())
        first, second = (drawn(setting.with_memory(levels(STEPS)), STEPS) for _ in range(2))
        assert torch.equal(first, second)

    def test_a_second_run_of_one_memory_is_refused(self):
        run = Propagation(plain()).with_memory(levels(STEPS))
        drawn(run, STEPS)
        with pytest.raises(ValueError, match="make one for each run"):
            drawn(run, STEPS)

    def test_other_rows_are_refused(self):
        run = Propagation(plain()).with_memory(levels(STEPS))
        run(start(2), at(20.0))
        with pytest.raises(ValueError, match="make one for each run"):
            run(start(3), at(10.0, 3))

    def test_rows_at_different_levels_are_refused(self):
        run = Propagation(plain()).with_memory(levels(STEPS))
        with pytest.raises(ValueError, match="at one level"):
            run(start(2), torch.tensor([1.0, 2.0]))

    def test_a_solver_that_goes_back_up_is_refused(self):
        run = Propagation(plain()).with_memory((5.0, 1.0))
        run(start(), at(1.0))
        with pytest.raises(ValueError, match="never"):
            run(start(), at(1.5))

    def test_forks_remember_apart(self):
        grid = levels(8)
        run = Propagation(plain(), Every(8)).with_memory(grid)
        x, other = start(2), 2 * start(2, seed=9)
        run(x, at(grid[0]))
        fork = kept(run, torch.tensor([1, 0, 1]))
        alone = Propagation(plain(), Every(8)).with_memory(grid)
        alone(x, at(grid[0]))
        rows = torch.tensor([1, 0, 1])
        said = fork(other[rows], at(grid[1], 3))
        run(other, at(grid[2]))
        torch.testing.assert_close(said, alone(other, at(grid[1]))[rows])
        torch.testing.assert_close(fork(x[rows], at(grid[2], 3)), alone(x, at(grid[2]))[rows])

    def test_a_row_does_not_see_its_batch(self):
        both = drawn(Propagation(plain()).with_memory(levels(10)), 10)
        one = drawn(Propagation(plain()).with_memory(levels(10)), 10, x=start()[1:])
        torch.testing.assert_close(both[1:], one)

    def test_networks_without_levels_are_refused(self):
        net = build(DiTConfig(channels=1))
        with pytest.raises(ValueError, match="U-Net"):
            Propagation(plain(net))


class TestPriorNoise:
    def test_no_strength_is_the_solver_itself(self):
        solver = SOLVERS["multistep"]()
        mixed = drawn(plain(), 8, PriorNoise(solver, 0.0))
        assert torch.equal(mixed, drawn(plain(), 8, solver))

    def test_late_steps_gain_a_share_of_the_first_events(self):
        solver, grid = PriorNoise(DDIM(), 0.01, below=2.5), (4.0, 2.0, 1.0)
        key = Key(rng.rows(0, 0, 2))
        first = start(high=4.0)
        early = solver.step(grid, plain(), State(first), key)
        assert torch.equal(early.x, DDIM().step(grid, plain(), State(first), key).x)
        late = solver.step(grid, plain(), early, key.at(1))
        moved = early.x + 0.01 * math.sqrt(5 / 17) * first
        torch.testing.assert_close(late.x, DDIM().step(grid, plain(), State(moved), key.at(1)).x)

    def test_it_is_biased_and_refuses_nonsense(self):
        assert PriorNoise(DDIM()).law is Law.BIASED
        assert PriorNoise(DDIM()).evaluations(7) == 7
        with pytest.raises(ValueError, match="strength"):
            PriorNoise(DDIM(), -0.1)
        with pytest.raises(ValueError, match="below"):
            PriorNoise(DDIM(), below=0.0)
