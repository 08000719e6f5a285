"""Continuous data: read whole or refused, scaled reversibly, divided without leaks, degraded."""

import json
import wave

import numpy as np
import pytest
import torch

from unison.data.continuous import DEGRADATIONS, Reading, degraded, read
from unison.data.continuous.degrading import Blur, Hole, LowResolution, Noise, Scattered
from unison.prob import rng
from unison.prob.rng import Key


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def key(rows=4, seed=0):
    return Key(rng.rows(seed, 0, rows))


def test_digits_come_with_their_classes_and_scaling_is_undone_to_the_very_pixels():
    datasets = pytest.importorskip("sklearn.datasets")
    events = read("digits")
    truth = torch.from_numpy(datasets.load_digits().images).float()
    assert events.shape == (1, 8, 8)
    assert events.classes == 10
    assert events.values.min() == -1
    assert events.values.max() == 1
    assert torch.equal(events.scaling.undone(events.values)[:, 0], truth)
    assert int(events.held_out.sum()) == 180
    assert 0.5 < events.spread < 1
    assert "CC BY" in events.licence


def test_faces_are_a_hundred_of_24_pixels():
    pytest.importorskip("skimage")
    events = read("faces")
    assert tuple(events.values.shape) == (100, 1, 24, 24)
    assert events.labels is None
    assert events.values.abs().max() <= 1


def test_an_array_is_scaled_to_half_a_unit_and_back(tmp_path):
    raw = 7 + 3 * numbers(50, 2, 5)
    np.save(tmp_path / "a.npy", raw)
    events = read(tmp_path / "a.npy")
    assert events.values.std().item() == pytest.approx(0.5, abs=1e-5)
    assert events.values.mean().item() == pytest.approx(0, abs=1e-5)
    back = events.scaling.undone(events.values)
    assert torch.allclose(back, torch.from_numpy(raw).float(), atol=1e-5)


def test_bytes_are_pictures_with_channels_moved_to_the_front(tmp_path):
    colour = (np.arange(3 * 6 * 5 * 3) % 256).astype(np.uint8).reshape(3, 6, 5, 3)
    np.savez(tmp_path / "a.npz", x_train=colour, y_train=np.array([0, 1, 1]))
    events = read(tmp_path / "a.npz", Reading(holdout=0.4))
    assert events.shape == (3, 6, 5)
    assert events.classes == 2
    raw = events.scaling.undone(events.values)
    assert torch.equal(raw, torch.from_numpy(np.moveaxis(colour, -1, 1)).float())


def test_copies_of_an_event_are_never_on_both_sides_and_order_does_not_matter(tmp_path):
    distinct = numbers(40, 3)
    np.save(tmp_path / "twice.npy", np.concatenate([distinct, distinct[::-1]]))
    events = read(tmp_path / "twice.npy", Reading(holdout=0.25))
    first, second = events.held_out[:40], events.held_out[40:].flip(0)
    assert torch.equal(first, second)
    assert int(first.sum()) == 10
    other = read(tmp_path / "twice.npy", Reading(holdout=0.25, seed=1))
    assert not torch.equal(other.held_out, events.held_out)
    assert len(events.learnt.values) + len(events.kept.values) == 80


def test_a_folder_of_pictures_has_its_subfolders_for_classes(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for label, name in enumerate(("cats", "dogs")):
        (tmp_path / name).mkdir()
        for i in range(3):
            grey = np.full((12, 10), 40 * i + label, np.uint8)
            image.fromarray(grey).save(tmp_path / name / f"{i}.png")
    events = read(tmp_path, Reading(size=4, holdout=0.3))
    assert events.shape == (1, 4, 4)
    assert events.labels is not None
    assert events.labels.tolist() == [0, 0, 0, 1, 1, 1]
    raw = events.scaling.undone(events.values).round()
    assert raw[:, 0, 0, 0].tolist() == [0, 40, 80, 1, 41, 81]


def write_wave(path, samples, rate=8000, channels=1):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples, "<i2").tobytes())


def test_sounds_are_filled_with_silence_and_named_by_their_number(tmp_path):
    write_wave(tmp_path / "3_a.wav", [16384, -16384, 8192])
    write_wave(tmp_path / "7_b.wav", np.arange(20) * 100)
    events = read(tmp_path, Reading(length=5, holdout=0.5))
    assert events.shape == (1, 5)
    assert events.labels is not None
    assert events.labels.tolist() == [3, 7]
    raw = events.scaling.undone(events.values)
    assert torch.allclose(raw[0, 0], torch.tensor([0.5, -0.5, 0.25, 0, 0]), atol=1e-6)
    assert torch.allclose(raw[1, 0] * 2**15, torch.arange(5) * 100.0, atol=0.05)


def test_two_channels_of_a_sound_are_averaged(tmp_path):
    write_wave(tmp_path / "a.wav", [8192, 16384, 0, 8192], channels=2)
    write_wave(tmp_path / "b.wav", [1, 2, 3])
    raw = read(tmp_path, Reading(length=2, holdout=0.5))
    found = raw.scaling.undone(raw.values)[0, 0]
    assert torch.allclose(found, torch.tensor([0.375, 0.125]), atol=1e-6)


def test_recordings_end_to_end_are_cut_at_their_offsets(tmp_path):
    pcm = (np.arange(10) * 1000).astype(np.int16)
    offsets, digits = np.array([0, 4, 10]), np.array([5, 2], np.uint8)
    np.savez(tmp_path / "fsdd.npz", pcm=pcm, offset=offsets, digit=digits)
    events = read(tmp_path / "fsdd.npz", Reading(length=5, holdout=0.5))
    raw = (events.scaling.undone(events.values) * 2**15).round()
    assert raw[:, 0].tolist() == [[0, 1000, 2000, 3000, 0], [4000, 5000, 6000, 7000, 8000]]
    assert events.labels is not None
    assert events.labels.tolist() == [5, 2]


def test_a_piano_roll_has_one_pitch_for_every_voice_and_time(tmp_path):
    rise = [[60 + t, 55, 50, 45] for t in range(8)]
    fall = [[70 - t, 55, 50, 43] for t in range(7)]
    pieces = {"train": [rise], "test": [[*fall, [60, 55]]]}
    (tmp_path / "jsb.json").write_text(json.dumps(pieces))
    events = read(tmp_path / "jsb.json", Reading(length=2, holdout=0.5))
    assert tuple(events.values.shape) == (7, 4, 2, 70 - 43 + 1)
    sounding = (events.values == 1).nonzero()[:, -1].view(7, 4, 2) + 43
    assert sounding[1, :, 1].tolist() == [63, 55, 50, 45]
    assert torch.equal(events.values.sum(-1), torch.full((7, 4, 2), 2.0 - 28))
    assert len(set(events.held_out[:4].tolist())) == 1, "windows of a piece stay together"
    assert events.held_out[0] != events.held_out[4]


def broken(tmp_path, content):
    np.savez(tmp_path / "bad.npz", **content)
    return tmp_path / "bad.npz"


NAN = numbers(4, 3)
NAN[2, 1] = np.nan


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"x": NAN}, "event 2 holds NaN"),
        ({"x": numbers(1, 3)}, "at least two events"),
        ({"x": numbers(4)}, "at least two events"),
        ({"x": np.zeros((3, 0))}, "at least two events"),
        ({"x": np.ones((3, 2)) * 5}, "nothing to learn"),
        ({"x": np.array([["a"], ["b"]])}, "not numbers"),
        ({"x": numbers(4, 3), "y": np.arange(3)}, "one label"),
        ({"x": numbers(4, 3), "y": np.arange(4.0)}, "whole numbers"),
        ({"x": numbers(4, 3), "y": np.arange(4) - 1}, "whole numbers"),
        ({"x": numbers(4, 3), "values": numbers(4, 3)}, "keep one"),
        ({"a": numbers(4, 3), "b": numbers(4, 3)}, "call the events one of"),
        ({"x": np.repeat(numbers(1, 3), 4, 0)}, "copies of one event"),
        ({"pcm": np.zeros(4, np.int16), "offset": np.array([0, 9])}, "offset must rise"),
    ],
)
def test_unusable_arrays_are_refused_by_name(tmp_path, content, said):
    with pytest.raises(ValueError, match=said):
        read(broken(tmp_path, content))


def test_missing_empty_and_damaged_sources_are_refused(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        read("digit")
    with pytest.raises(ValueError, match="no PNG, JPEG or WAV"):
        read(tmp_path)
    for name in ("a.npy", "a.npz", "a.json", "a.txt"):
        (tmp_path / name).write_bytes(b"\x00broken")
        with pytest.raises(ValueError, match=r"cannot be read|of no known kind"):
            read(tmp_path / name)
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match="cannot be read as WAV"):
        read(tmp_path)
    (tmp_path / "short.json").write_text("[[[60, 55, 50, 45]]]")
    with pytest.raises(ValueError, match="smaller length"):
        read(tmp_path / "short.json")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "a.png").write_bytes(b"\x89PNG\r\n")
    pytest.importorskip("PIL")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        read(tmp_path / "torn")


def test_settings_out_of_range_are_refused():
    for settings in ({"size": 0}, {"length": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            Reading(**settings)


def test_low_resolution_keeps_the_means_of_squares():
    clean = torch.from_numpy(numbers(4, 2, 8, 8)).float()
    pair = degraded(clean, LowResolution(2), key())
    means = clean.view(4, 2, 4, 2, 4, 2).mean((3, 5))
    assert torch.allclose(pair.degraded[:, :, ::2, ::2], means, atol=1e-6)
    assert torch.allclose(pair.degraded[:, :, 1::2, 1::2], means, atol=1e-6)


def test_a_hole_covers_its_share_and_leaves_the_rest_alone():
    clean = torch.from_numpy(numbers(16, 2, 8, 6)).float()
    pair = degraded(clean, Hole(0.5), key(16))
    assert torch.equal(pair.degraded, clean * pair.known)
    assert (1 - pair.known).flatten(1).sum(1).tolist() == [2 * 4 * 3] * 16
    places = {tuple(row.flatten().tolist()) for row in pair.known}
    assert len(places) > 4, "each row has its own place"


def test_scattered_numbers_are_lost_in_all_channels_together():
    clean = torch.from_numpy(numbers(4, 3, 100, 100)).float()
    pair = degraded(clean, Scattered(0.25), key())
    assert torch.equal(pair.known[:, 0], pair.known[:, 2])
    assert pair.known.mean().item() == pytest.approx(0.25, abs=0.02)  # 9 standard errors


def test_a_blur_is_a_gaussian_filter():
    ndimage = pytest.importorskip("scipy.ndimage")
    clean = torch.from_numpy(numbers(2, 1, 9, 7))
    pair = degraded(clean, Blur(1.0), key(2))
    truth = ndimage.gaussian_filter(clean[0, 0].numpy(), 1.0, mode="nearest", truncate=3.0)
    assert torch.allclose(pair.degraded[0, 0], torch.from_numpy(truth), atol=1e-12)


def test_noise_has_its_level():
    clean = torch.zeros(4, 1, 100, 100)
    pair = degraded(clean, Noise(0.3), key())
    assert pair.degraded.std().item() == pytest.approx(0.3, rel=0.03)  # 8 standard errors


@pytest.mark.parametrize("kind", DEGRADATIONS.values())
def test_no_degradation_of_a_row_depends_on_its_batch(kind):
    clean = torch.from_numpy(numbers(4, 2, 8, 8)).float()
    whole, alone = degraded(clean, kind(), key()), degraded(clean[2:3], kind(), _row(2))
    assert torch.equal(whole.degraded[2:3], alone.degraded)
    assert torch.equal(whole.known[2:3], alone.known)
    assert torch.equal(whole.clean, clean)
    sound = degraded(clean[:, :, 0], kind(), key())
    assert sound.degraded.shape == clean[:, :, 0].shape


def _row(index):
    return Key(rng.rows(0, index, 1))


def test_degradations_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="factor=3"):
        degraded(torch.zeros(4, 1, 8, 8), LowResolution(3), key())
    with pytest.raises(ValueError, match="behind the channels"):
        degraded(torch.zeros(4, 8), Blur(), key())
    for kind, field in ((Hole, "share"), (Scattered, "kept"), (Blur, "spread"), (Noise, "level")):
        with pytest.raises(ValueError, match=field):
            kind(-1.0)
    with pytest.raises(ValueError, match="factor"):
        LowResolution(1)
