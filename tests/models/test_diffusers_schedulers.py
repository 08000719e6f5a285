"""Our solvers inside pipelines of diffusers draw what ``solve`` draws from the same start."""

from contextlib import suppress
from functools import cache

import pytest
import torch

from unison.decode.continuous import SOLVERS, solve
from unison.decode.continuous.ddim import DDIM
from unison.decode.continuous.grids import Karras, LogSNR, TimePower
from unison.decode.continuous.heun import Heun
from unison.event_checkpoints import read_schedule, wrap
from unison.event_scheduler import EventScheduler, SchedulerError
from unison.prob import rng
from unison.prob.rng import Key

diffusers = pytest.importorskip("diffusers")

ROWS = 2


@cache
def tiny():
    """Made when a test asks: the networks of diffusers take seconds to import."""
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        add_attention=False,
    ).eval()


def pipeline(scheduler, kind=None):
    pipe = (kind or diffusers.DDPMPipeline)(tiny(), diffusers.DDPMScheduler())
    pipe.scheduler = scheduler  # DDIMPipeline converts what it is made with
    pipe.set_progress_bar_config(disable=True)
    return pipe


def start(rows=ROWS):
    """What a pipeline draws with this generator."""
    return torch.randn(rows, 1, 8, 8, generator=torch.Generator().manual_seed(3))


def drawn_by(pipe, steps):
    """The pipeline's events, before it takes them to [0, 1]."""
    seen = []
    step = pipe.scheduler.step

    def watched(*args, **named):
        seen.append(step(*args, **named))
        return seen[-1]

    pipe.scheduler.step = watched
    generator = torch.Generator().manual_seed(3)
    images = pipe(ROWS, generator=generator, num_inference_steps=steps, output_type="pt").images
    last = seen[-1].prev_sample
    torch.testing.assert_close(images, (last / 2 + 0.5).clamp(0, 1))
    return last, len(seen)


def solved(scheduler, prediction="epsilon", clip=None):
    """The same run by the driver."""
    config = diffusers.DDPMScheduler(prediction_type=prediction).config
    ours = wrap(tiny(), read_schedule(config))
    inner = ours.denoiser()

    def denoise(x, level):
        mean = inner(x, level)
        return mean if clip is None else mean.clamp(-clip, clip)

    process = ours.schedule.process
    high = torch.tensor(scheduler.levels[0], dtype=torch.float64)
    y = start() / process.alpha(process.time_of(high)).item()
    key = Key(rng.rows(scheduler.seed, 0, ROWS))
    return solve(scheduler.solver, scheduler.levels, denoise, y, key)


def close(ours, theirs):
    scale = theirs.abs().max()
    assert (ours - theirs).abs().max() / scale < 1e-5


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_pipeline_draws_what_the_driver_draws(prediction):
    config = diffusers.DDPMScheduler(prediction_type=prediction).config
    scheduler = EventScheduler(DDIM(), LogSNR(), config)
    last, calls = drawn_by(pipeline(scheduler), 6)
    expected = solved(scheduler, prediction)
    assert calls == expected.nfe == 6
    close(last, expected.x)


def buildable():
    """Solvers of the table that need no statistics."""
    made = []
    for name, kind in sorted(SOLVERS.items()):
        with suppress(TypeError, ValueError):
            made.append(pytest.param(kind(), id=name))
    return made


def begins_at_the_start(solver, levels):
    """Whether the driver's first question is about the start itself."""
    asked = []

    def denoise(x, level):
        asked.append((x, level[0].item()))
        return x / (1 + level.view(-1, 1) ** 2)

    y = levels[0] * start().flatten(1).double()
    solve(solver, levels, denoise, y, Key(rng.rows(5, 0, ROWS)))
    return torch.equal(asked[0][0], y) and asked[0][1] == levels[0]


@pytest.mark.parametrize("solver", buildable())
def test_every_solver_of_the_table_runs_in_a_pipeline_or_is_refused(solver):
    scheduler = EventScheduler(solver, TimePower(2.0), diffusers.DDPMScheduler().config, seed=5)
    if not begins_at_the_start(solver, (100.0, 10.0, 1.0, 0.1)):
        with pytest.raises(SchedulerError, match="does not begin by asking about the start"):
            scheduler.set_timesteps(9)
        return
    last, calls = drawn_by(pipeline(scheduler), 9)
    expected = solved(scheduler)
    assert calls == len(scheduler.timesteps) == expected.nfe
    assert 5 <= calls <= 9
    close(last, expected.x)


def test_ddims_pipeline_runs_it_too_and_leaves_randomness_to_the_solver():
    scheduler = EventScheduler(DDIM(), Karras(), diffusers.DDPMScheduler().config)
    pipe = pipeline(scheduler, diffusers.DDIMPipeline)
    last, _ = drawn_by(pipe, 5)
    close(last, solved(scheduler).x)
    with pytest.raises(SchedulerError, match=r"eta=0\.5 .* choose a stochastic solver"):
        pipe(1, eta=0.5, num_inference_steps=5)


def test_our_ddim_is_the_librarys_on_the_librarys_own_time_steps():
    """An independent reference: DDIMScheduler stepping through the levels of our grid."""
    config = diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=True).config
    theirs = diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
    theirs.set_timesteps(10)
    levels = ((1 - theirs.alphas_cumprod) / theirs.alphas_cumprod).double().sqrt()

    class Theirs:
        def levels(self, span, intervals):
            assert intervals == 9
            return tuple(levels[theirs.timesteps].tolist())

    scheduler = EventScheduler(DDIM(), Theirs(), config)
    scheduler.set_timesteps(10)
    assert scheduler.timesteps.tolist() == pytest.approx(theirs.timesteps.tolist(), abs=1e-3)
    x, y = start(), start()
    for t, due in zip(theirs.timesteps, scheduler.timesteps, strict=True):
        with torch.no_grad():
            x = theirs.step(tiny()(x, t).sample, t, x).prev_sample
            y = scheduler.step(tiny()(y, due).sample, due, y).prev_sample
    close(y, x)


def test_our_ddim_is_the_librarys_euler_where_paths_are_straight():
    """Euler in x_t along noise - x_0 holds the clean mean, as DDIM does."""
    sigmas = [0.95, 0.7, 0.4, 0.1]
    theirs = diffusers.FlowMatchEulerDiscreteScheduler()
    theirs.set_timesteps(sigmas=sigmas)

    class Theirs:
        def levels(self, span, intervals):
            return tuple(sigma / (1 - sigma) for sigma in sigmas)

    scheduler = EventScheduler(DDIM(), Theirs(), theirs.config)
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == pytest.approx(theirs.timesteps.tolist(), rel=1e-5)
    x, y = start(), start()
    for t, due in zip(theirs.timesteps, scheduler.timesteps, strict=True):
        with torch.no_grad():
            x = theirs.step(tiny()(x, t).sample, t, x).prev_sample
            y = scheduler.step(tiny()(y, due).sample, due, y).prev_sample
    close(y, x)


def test_a_solver_of_two_evaluations_takes_two_time_steps_an_interval():
    scheduler = EventScheduler(Heun(), LogSNR(), diffusers.DDPMScheduler().config)
    scheduler.set_timesteps(9)
    levels = scheduler.levels
    assert len(levels) == 6
    process = scheduler.schedule.process
    asked = process.level(scheduler.timesteps.double() / 999).tolist()
    expected = [levels[0]] + [level for level in levels[1:5] for _ in range(2)]
    assert asked == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match="Heun needs 3 evaluations for one interval"):
        scheduler.set_timesteps(2)


def test_clean_events_can_be_bounded_at_every_step():
    scheduler = EventScheduler(DDIM(), LogSNR(), diffusers.DDPMScheduler().config, clip=1.0)
    last, _ = drawn_by(pipeline(scheduler), 6)
    assert last.abs().max() <= 1
    close(last, solved(scheduler, clip=1.0).x)
    free = EventScheduler(DDIM(), LogSNR(), diffusers.DDPMScheduler().config)
    assert drawn_by(pipeline(free), 6)[0].abs().max() > 1


def test_what_a_pipeline_does_to_the_events_between_steps_counts():
    """As inpainting does: here the events are moved once, in the middle."""
    config = diffusers.DDPMScheduler().config
    outcomes = []
    for move in (0.0, 0.3):
        scheduler = EventScheduler(DDIM(), LogSNR(), config)
        scheduler.set_timesteps(4)
        x = start()
        for place, t in enumerate(scheduler.timesteps):
            shown = x + move if place == 2 else x
            with torch.no_grad():
                x = scheduler.step(tiny()(shown, t).sample, t, shown, return_dict=False)[0]
        outcomes.append(x)
    ours = wrap(tiny(), read_schedule(config))
    process, key = ours.schedule.process, Key(rng.rows(0, 0, ROWS))
    levels = scheduler.levels
    alpha = [process.alpha(process.time_of(torch.tensor(s, dtype=torch.float64))) for s in levels]
    middle = solve(DDIM(), levels[:3], ours.denoiser(), start() / alpha[0].item(), key).x
    moved = solve(DDIM(), levels[2:], ours.denoiser(), middle + 0.3 / alpha[2].item(), key).x
    close(outcomes[1], moved)
    assert (outcomes[0] - outcomes[1]).abs().max() > 1e-2


def test_noise_is_added_as_the_library_adds_it():
    theirs = diffusers.DDPMScheduler()
    ours = EventScheduler(DDIM(), LogSNR(), theirs.config)
    clean, noise = start(3), torch.flip(start(3), [2])
    steps = torch.tensor([0, 400, 999])
    torch.testing.assert_close(
        ours.add_noise(clean, noise, steps), theirs.add_noise(clean, noise, steps)
    )
    assert ours.scale_model_input(clean, steps[0]) is clean
    assert (len(ours), ours.order, ours.init_noise_sigma) == (1000, 1, 1.0)


def test_steps_out_of_turn_are_refused():
    scheduler = EventScheduler(DDIM(), LogSNR(), diffusers.DDPMScheduler().config)
    x = start()
    with pytest.raises(SchedulerError, match="call set_timesteps before a run"):
        scheduler.step(x, 999, x)
    scheduler.set_timesteps(3)
    with pytest.raises(SchedulerError, match="time step 5 is out of turn, 999 is due"):
        scheduler.step(x, 5, x)
    for t in scheduler.timesteps:
        x = scheduler.step(0 * x, t, x).prev_sample
    with pytest.raises(SchedulerError, match="the run is over"):
        scheduler.step(x, t, x)
    scheduler.set_timesteps(3)  # a second run starts afresh
    assert scheduler.step(x, scheduler.timesteps[0], x).prev_sample.isfinite().all()


def test_half_precision_events_are_stepped_in_single_and_returned_in_half():
    config = diffusers.DDPMScheduler(prediction_type="sample").config
    outcomes = []
    for dtype in (torch.float32, torch.float16):
        scheduler = EventScheduler(DDIM(), LogSNR(), config)
        scheduler.set_timesteps(5)
        x = start().to(dtype)
        for t in scheduler.timesteps:
            x = scheduler.step(x / 2, t, x).prev_sample
            assert x.dtype == dtype
        outcomes.append(x.float())
    torch.testing.assert_close(outcomes[1], outcomes[0], rtol=1e-2, atol=1e-2)
