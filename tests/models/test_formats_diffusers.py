"""Models of diffusers answer through unison what they answer when called by hand."""

import json
import math
import sys

import pytest
import torch

from unison.decode.continuous import Span, solve
from unison.decode.continuous.ddim import DDIM
from unison.decode.continuous.grids import LogSNR
from unison.event_checkpoints import load, read_schedule, wrap
from unison.models.formats.diffusers import DiffusersError
from unison.prob import rng
from unison.prob.rng import Key

diffusers = pytest.importorskip("diffusers")

STEPS = (0, 1, 37, 500, 998, 999)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny(classes=None, seed=0):
    torch.manual_seed(seed)
    return diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        num_class_embeds=classes,
        add_attention=False,
    ).eval()


def tiny_dit():
    torch.manual_seed(0)
    return diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=2,
        out_channels=4,
        num_layers=1,
        sample_size=4,
        patch_size=2,
        norm_num_groups=1,
        num_embeds_ada_norm=5,
    ).eval()


def tiny_conditional():
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        sample_size=4,
        in_channels=2,
        out_channels=2,
        layers_per_block=1,
        block_out_channels=(8, 8),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=6,
        norm_num_groups=4,
        attention_head_dim=4,
    ).eval()


def clean_from(answer, x, signal, kind):
    """x_0 from an answer, by the definitions in x_t = sqrt(signal) x_0 + sqrt(1 - signal) noise."""
    alpha, sigma = math.sqrt(signal), math.sqrt(1 - signal)
    return {
        "epsilon": (x - sigma * answer) / alpha,
        "v_prediction": alpha * x - sigma * answer,
        "sample": answer,
    }[kind]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("table", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_the_mean_is_the_librarys_own_answer_at_its_own_time_steps(kind, table):
    scheduler = diffusers.DDPMScheduler(prediction_type=kind, beta_schedule=table)
    model = tiny()
    denoise = wrap(model, read_schedule(scheduler.config)).denoiser()
    for step in STEPS:
        signal = scheduler.alphas_cumprod[step].double().item()
        x = drawn(2, 1, 8, 8, seed=step)
        with torch.no_grad():
            answer = model(x, step).sample
        expected = clean_from(answer.double(), x.double(), signal, kind)
        level = torch.full((2,), math.sqrt((1 - signal) / signal), dtype=torch.float64)
        mean = denoise(x.double() / math.sqrt(signal), level)
        scale = expected.abs().max()
        assert (mean - expected).abs().max() / scale < 1e-6, step


def test_a_flow_model_is_asked_at_its_own_sigma_whatever_its_shift():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    model = tiny()
    ours = wrap(model, read_schedule(scheduler.config))
    for place in (1, 400, 998):
        sigma, step = scheduler.sigmas[place].item(), scheduler.timesteps[place]
        x = drawn(2, 1, 8, 8)
        with torch.no_grad():
            velocity = model(x, step).sample
        level = torch.full((2,), sigma / (1 - sigma), dtype=torch.float64)
        mean = ours.denoiser()(x.double() / (1 - sigma), level)
        torch.testing.assert_close(
            mean, x.double() - sigma * velocity.double(), rtol=1e-5, atol=1e-5
        )
    assert ours.schedule.prediction == "flow"


def test_between_time_steps_the_level_is_interpolated_and_found_again():
    process = read_schedule(diffusers.DDPMScheduler().config).process
    t = torch.linspace(0, 1, 3001, dtype=torch.float64)
    torch.testing.assert_close(process.time_of(process.level(t)), t, rtol=0, atol=1e-10)
    assert (process.level(t).diff() > 0).all()
    torch.testing.assert_close(
        process.alpha(t).square() * (1 + process.level(t).square()), torch.ones_like(t)
    )
    ends = torch.tensor([1e-6, 1e6], dtype=torch.float64)
    assert process.time_of(ends).tolist() == [0.0, 1.0]


def test_a_table_without_signal_at_its_end_stays_finite():
    config = diffusers.DDIMScheduler(
        rescale_betas_zero_snr=True, prediction_type="v_prediction"
    ).config
    schedule = read_schedule(config)
    high = schedule.span[1]
    before = schedule.process.level(torch.tensor(998 / 999, dtype=torch.float64)).item()
    assert high == pytest.approx(2 * before, rel=1e-6)
    mean = wrap(tiny(), schedule).denoiser()(high * drawn(1, 1, 8, 8), torch.tensor([high]))
    assert mean.isfinite().all()


def test_labels_reach_a_class_conditional_model():
    model = tiny(classes=4)
    ours = wrap(model, read_schedule(diffusers.DDPMScheduler().config))
    x, level, label = drawn(2, 1, 8, 8), torch.tensor([0.5, 0.5]), torch.tensor([3, 0])
    both = ours.denoiser(label)(x, level)
    kept = ours.denoiser(label).keep(torch.tensor([1]))(x[1:], level[1:])
    torch.testing.assert_close(kept, both[1:], rtol=1e-4, atol=1e-5)
    assert (ours.denoiser(label.flip(0))(x, level) - both).abs().max() > 1e-4
    with pytest.raises(DiffusersError, match="no class for 'none said'"):
        ours.denoiser(torch.tensor([-1, 0]))(x, level)


def test_a_transformer_answers_without_its_variances_and_knows_no_class():
    model = tiny_dit()
    scheduler = diffusers.DDPMScheduler()
    ours = wrap(model, read_schedule(scheduler.config))
    signal = scheduler.alphas_cumprod[700].double().item()
    x, level = drawn(2, 2, 4, 4), torch.full((2,), math.sqrt((1 - signal) / signal))
    with torch.no_grad():
        answer = model(x, torch.tensor([700]), torch.tensor([2, 5])).sample[:, :2]
    mean = ours.denoiser(torch.tensor([2, -1]))((x / math.sqrt(signal)), level)
    expected = clean_from(answer, x, signal, "epsilon")
    torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-3)


def test_a_text_encoders_states_are_bound_beside():
    model = tiny_conditional()
    ours = wrap(model, read_schedule(diffusers.DDPMScheduler(prediction_type="sample").config))
    words, x = drawn(2, 3, 6), drawn(2, 2, 4, 4)
    low = torch.full((2,), ours.schedule.span[0], dtype=torch.float64)
    with torch.no_grad():
        answer = model(x, 0, words).sample
    y = x.double() * math.sqrt(1 + ours.schedule.span[0] ** 2)
    torch.testing.assert_close(
        ours.denoiser(beside=words)(y, low), answer.double(), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(DiffusersError, match="takes hidden states"):
        ours.denoiser()(y, low)
    plain = wrap(tiny(), ours.schedule)
    with pytest.raises(DiffusersError, match="takes no hidden states"):
        plain.denoiser(beside=words)(drawn(2, 1, 8, 8), low)


def test_gradients_pass_through_the_model_where_asked():
    ours = wrap(tiny(), read_schedule(diffusers.DDPMScheduler(prediction_type="sample").config))
    x = drawn(1, 1, 8, 8).requires_grad_()
    ours.denoiser(gradients=True)(x, torch.tensor([1.0])).sum().backward()
    assert x.grad.abs().max() > 1e-6
    assert not ours.denoiser()(x.detach(), torch.tensor([1.0])).requires_grad


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "tiny"
    scheduler = diffusers.DDPMScheduler(beta_end=0.015)
    diffusers.DDPMPipeline(tiny(), scheduler).save_pretrained(folder)
    return folder


def test_a_pipelines_folder_and_a_bare_model_are_the_same_denoiser(pipeline):
    whole = load(pipeline)
    scheduler = json.loads((pipeline / "scheduler" / "scheduler_config.json").read_text())
    bare = load(pipeline / "unet", scheduler)
    x, level = drawn(2, 1, 8, 8), torch.tensor([0.3, 20.0])
    mean = whole.denoiser()(x, level)
    assert torch.equal(bare.denoiser()(x, level), mean)
    by_hand = wrap(tiny(), read_schedule(diffusers.DDPMScheduler(beta_end=0.015).config))
    assert torch.equal(by_hand.denoiser()(x, level), mean)
    assert whole.shape == (1, 8, 8)
    high = whole.schedule.span[1]
    assert high < read_schedule(diffusers.DDPMScheduler().config).span[1]


def test_solvers_run_on_it_and_refuse_levels_it_never_saw(pipeline):
    ours = load(pipeline)
    low, high = ours.schedule.span
    start = high * drawn(2, 1, 8, 8)
    levels = LogSNR().levels(Span(high, low, ours.schedule.process), 4)
    key = Key(rng.rows(0, 0, 2))
    drawn_events = solve(DDIM(), (*levels, 0.0), ours.denoiser(), start, key)
    assert drawn_events.nfe == 5
    with pytest.raises(ValueError, match=r"the model knows levels from 0\.01"):
        solve(DDIM(), (2 * high, 1.0), ours.denoiser(), start, key)


def test_checkpoints_that_cannot_be_read_are_explained(pipeline, tmp_path):
    with pytest.raises(DiffusersError, match="has no scheduler's configuration"):
        load(pipeline / "unet")
    with pytest.raises(DiffusersError, match="cannot be read as a model"):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DMode"}))
    with pytest.raises(DiffusersError, match=r"holds a UNet2DMode; did you mean 'UNet2DModel'"):
        load(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    config = (pipeline / "unet" / "config.json").read_text()
    (empty / "config.json").write_text(config)
    with pytest.raises(DiffusersError, match="cannot be read as UNet2DModel"):
        load(empty, diffusers.DDPMScheduler().config)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"_class_name": "EDMEulerScheduler", "sigma_max": 80.0}, "EDMEulerScheduler states no ta"),
        ({"beta_start": 1e-4, "prediction_type": "epsilo"}, "'epsilo'; did you mean 'epsilon'"),
        ({"beta_start": 1e-4, "beta_schedule": "wild"}, "the table of betas cannot be made: wild"),
    ],
)
def test_schedulers_that_are_not_known_are_refused(config, said):
    with pytest.raises(DiffusersError, match=said):
        read_schedule(config)


def test_without_the_library_it_is_said_what_to_install(pipeline, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(DiffusersError, match=r"pip install 'unison\[continuous\]'"):
        load(pipeline)


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks`:UserWarning")  # the library's own
def test_a_name_that_is_neither_a_folder_nor_on_the_hub_is_refused(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DiffusersError, match="nobody/nothing cannot be read as a model"):
        load("nobody/nothing")
