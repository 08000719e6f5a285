"""Speech denoising as a recipe: it measures what it says, goes on, and refuses early."""

import json
import wave

import numpy as np
import pytest
import torch

from unison.event_model import EventModel
from unison.models.continuous import WaveConfig, build
from unison.process.continuous import SBVE
from unison.recipes.continuous.speech import SpeechDenoising, predicted, run, write_wave

pytest.importorskip("matplotlib")

RATE = 8000


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Chirps that differ in pitch and loudness, as recordings end to end."""
    draw = np.random.default_rng(0)
    sounds = []
    for _ in range(48):
        time = np.arange(draw.integers(900, 1300)) / RATE
        pitch, slope = draw.uniform(150, 700), draw.uniform(-300, 300)
        tone = np.sin(2 * np.pi * (pitch * time + slope * time**2))
        sounds.append(draw.uniform(0.1, 0.5) * tone * np.hanning(len(time)))
    offset = np.cumsum([0, *map(len, sounds)])
    path = tmp_path_factory.mktemp("speech") / "chirps.npz"
    np.savez(path, pcm=(np.concatenate(sounds) * 32767).astype(np.int16), offset=offset)
    return path


def small(recordings):
    return SpeechDenoising(
        data=str(recordings), clips=24, tests=3, frames=16, ratios=(5.0,), width=16, steps=2,
        batch_size=4,
    )  # fmt: skip


def test_every_method_is_measured_and_a_second_run_repeats_the_first(recordings, tmp_path):
    said = []
    first = run(small(recordings), tmp_path, said.append)
    assert first.numbers["noisy"]["SI-SDR gain"].value == 0
    # a network after two steps is nearly silent, and then a bridge's answer is the noisy event
    assert abs(first.numbers["predictor, 1"]["SI-SDR gain"].value) < 1
    methods = {"ResShift, 4", "SGMSE+, 4", "bridge, 4", "StoRM, 1 + 3", "DDPM, 4, time"}
    assert methods < first.numbers.keys()
    kinds = [first.numbers["bridge, 4"][f"gain, {kind}"].value for kind in ("coloured", "babble")]
    assert first.numbers["bridge, 4"]["SI-SDR gain"].value == pytest.approx(np.mean(kinds))
    best = first.facts["best conditional diffusion"]
    win = first.facts["wins over it, dB"]["bridge, 4"]
    gap = first.numbers["bridge, 4"]["SI-SDR gain"].value - first.numbers[best]["SI-SDR gain"].value
    assert win == pytest.approx(gap)
    results = json.loads((tmp_path / "results.json").read_text())
    assert all((tmp_path / name).stat().st_size > 0 for name in results["files"])
    again = run(small(recordings), tmp_path, said.append)
    assert again.numbers == first.numbers


def test_other_settings_do_not_go_on_in_the_same_folder(recordings, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="not a run"):
        run(small(recordings), tmp_path, print)


def test_the_predictor_adds_its_networks_answer_to_the_noisy_event():
    network = build(WaveConfig(channels=4, width=16, multipliers=(1, 1), patch=1, stride=2,
                               beside_channels=4))  # fmt: skip
    with torch.no_grad():
        network.get_parameter("head.weight").fill_(0.1)
    model = EventModel(network, SBVE(), (4, 8), spread=0.5, span=(0.0, 1.0))
    noisy = torch.linspace(-1, 1, 64).view(2, 4, 8)
    with torch.no_grad():
        answer = network(torch.zeros_like(noisy), torch.ones(2), None, noisy)
    assert answer.abs().max() > 0.01
    assert torch.allclose(predicted(model, noisy), noisy + 0.5 * answer, atol=1e-6)


def test_written_waves_are_read_back(tmp_path):
    values = torch.sin(torch.arange(100.0))
    write_wave(tmp_path / "a.wav", values, RATE)
    with wave.open(str(tmp_path / "a.wav")) as file:
        found = np.frombuffer(file.readframes(100), np.int16) / 32767
        assert (file.getframerate(), file.getnchannels()) == (RATE, 1)
    assert np.abs(found - 0.9 * values.numpy() / values.abs().max().item()).max() < 1e-4


def test_no_recordings_are_refused_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="give data"):
        run(SpeechDenoising(), tmp_path / "out", print)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("field", "value"), [("frames", 30), ("evaluations", 1), ("ratios", ()), ("tests", 0)]
)
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=field[:5]):
        SpeechDenoising(**{field: value})
