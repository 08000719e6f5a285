"""A model of continuous data is what it was after it was saved; damaged folders are explained."""

import dataclasses
import json
import math
import shutil

import pytest
import torch

from unison import files
from unison.event_model import EventModel, EventModelError, load, save
from unison.models.continuous import DiTConfig, PointsConfig, UNetConfig, WaveConfig, build
from unison.process.continuous import (
    EDM,
    GAUSSIAN,
    RESIDUAL,
    Cosine,
    FlowMatching,
    Resfusion,
    ResShift,
    VariancePreserving,
)

NETWORKS = {
    "unet": (UNetConfig(1, 8, (1, 2), attention=(1,), classes=3), (1, 4, 4)),
    "dit": (DiTConfig(1, 2, 8, 1, 2, classes=3), (1, 4, 4)),
    "wave": (WaveConfig(1, 8, (1, 2), patch=2, stride=2, classes=3), (1, 8)),
    "points": (PointsConfig(3, 8, 1, classes=3), (3,)),
}


def weighed(config, seed=0):
    net = build(config)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.2, generator=torch.Generator().manual_seed(seed))
    return net


def small(**changes):
    config, shape = NETWORKS["points"]
    model = EventModel(weighed(config), EDM(0.01, 50.0), shape, 0.5, "edm", (0.01, 50.0))
    return dataclasses.replace(model, **changes)


@pytest.fixture
def folder(tmp_path):
    save(small(notes={"data": "two moons", "seed": 3}), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_model_answers_the_same_after_saving_and_loading(name, tmp_path):
    config, shape = NETWORKS[name]
    model = EventModel(
        weighed(config), VariancePreserving(0.2, 19.0), shape, 0.7, "velocity", (0.02, 90.0)
    )
    save(model, tmp_path / "deep" / "model")
    again = load(tmp_path / "deep" / "model")
    assert again.config == config
    assert dataclasses.replace(again, network=model.network) == model
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    level, label = torch.tensor([0.1, 60.0]), torch.tensor([2, -1])
    told = model.denoiser(label)(x, level)
    assert torch.equal(again.denoiser(label)(x, level), told)
    assert (told - dataclasses.replace(model, spread=0.8).denoiser(label)(x, level)).abs().max() > 0
    assert again.denoiser().span == (0.02, 90.0)


@pytest.mark.parametrize(
    "process",
    [
        *(kind() for kind in GAUSSIAN.values()),
        *(kind() for kind in RESIDUAL.values()),
        Resfusion(Cosine(150.0)),
        ResShift(**{dataclasses.fields(ResShift)[0].name: 1.5}),
        FlowMatching(99.0),
    ],
    ids=str,
)
def test_every_process_comes_back_with_its_numbers(process, tmp_path):
    save(small(process=process), tmp_path / "model")
    assert load(tmp_path / "model").process == process


def test_an_open_range_bfloat16_weights_and_the_input_of_a_process_come_back(tmp_path):
    config, shape = NETWORKS["points"]
    model = EventModel(weighed(config).bfloat16(), VariancePreserving(), shape, process_input=True)
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.span == (0.0, math.inf)
    assert again.process_input
    assert {w.dtype for w in again.network.parameters()} == {torch.bfloat16}
    assert again.denoiser().process == VariancePreserving()


def test_a_restorer_comes_back_too(tmp_path):
    config = PointsConfig(3, 8, 1, beside_channels=3)
    model = EventModel(weighed(config), ResShift(), (3,), 0.4)
    save(model, tmp_path / "model")
    x, degraded = torch.ones(2, 3), torch.zeros(2, 3)
    t = torch.tensor([0.3, 0.9])
    again = load(tmp_path / "model")
    assert torch.equal(again.restorer(degraded)(x, t), model.restorer(degraded)(x, t))
    with pytest.raises(EventModelError, match=r"ask for restorer\(degraded\)"):
        again.denoiser()
    with pytest.raises(EventModelError, match=r"events of shape \(3,\), got \(4,\)"):
        again.restorer(torch.zeros(2, 4))
    with pytest.raises(EventModelError, match=r"ask for denoiser\(\)"):
        small().restorer(degraded)


def test_notes_are_kept(folder):
    assert load(folder).notes == {"data": "two moons", "seed": 3}


def test_a_failed_save_leaves_the_old_model_whole(folder, monkeypatch):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def full(path, tensors):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "put_tensors", full)
    with pytest.raises(OSError, match=r"No space left on device.*nothing was overwritten"):
        save(small(spread=0.9), folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def edited(folder, **changes):
    place = folder / "config.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format_version": 2}, "format version 2, newer than 1, the newest.*upgrade unison"),
        ({"format_version": None}, "states no format_version"),
        ({"format": "unison"}, "describes no model of continuous data"),
        ({"network": {"name": "unett"}}, "unknown network 'unett'; did you mean 'unet'.; known: "),
        ({"network": {"name": "points", "wide": 3}}, "unexpected keyword argument 'wide'"),
        ({"network": {"name": "points", "width": 0}}, "points.width must be at least 1"),
        ({"network": {}}, "lacks 'name'"),
        ({"network": {"name": "points", "channels": 3}}, "does not fit config.json: .* tensors"),
        ({"process": {"name": "vpp"}}, "unknown process 'vpp'; did you mean 'vp'.; known: cosine"),
        ({"prediction": "nois"}, "unknown prediction 'nois'; did you mean 'noise'."),
        ({"shape": [4]}, r"answers 3 channels and an event of shape \(4,\) has 4"),
        ({"shape": [0]}, r"positive numbers, got \(0,\)"),
        ({"span": [1]}, "not enough values"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_config_that_was_edited_is_refused(folder, changes, said):
    edited(folder, **changes)
    with pytest.raises(EventModelError, match=said):
        load(folder)


def test_a_config_without_a_setting_is_refused(folder):
    place = folder / "config.json"
    stated = json.loads(place.read_text())
    del stated["spread"]
    place.write_text(json.dumps(stated))
    with pytest.raises(EventModelError, match=r"config.json lacks 'spread'; the file is damaged"):
        load(folder)


def test_missing_and_damaged_files_are_refused(folder, tmp_path):
    with pytest.raises(EventModelError, match=r"holds no config.json; give the folder"):
        load(tmp_path / "nowhere")
    copy = tmp_path / "copy"
    for name, content, said in (
        ("config.json", b"{", "config.json is damaged"),
        ("config.json", b"\xff\xfe", "config.json is damaged"),
        ("model.safetensors", b"\x00" * 40, "model.safetensors is damaged"),
        ("model.safetensors", None, "model.safetensors is missing; the folder is not a complete"),
    ):
        shutil.copytree(folder, copy)
        if content is None:
            (copy / name).unlink()
        else:
            (copy / name).write_bytes(content)
        with pytest.raises(EventModelError, match=said):
            load(copy)
        shutil.rmtree(copy)


def test_labels_the_model_does_not_know_are_refused():
    with pytest.raises(EventModelError, match=r"classes 0 to 2 and -1 .* labels from -1 to 3"):
        small().denoiser(torch.tensor([3, -1]))
    plain = small(network=weighed(PointsConfig(3, 8, 1)))
    with pytest.raises(EventModelError, match="knows no classes"):
        plain.denoiser(torch.tensor([0]))


def test_what_cannot_be_written_is_refused_before_anything_is(tmp_path):
    class Mine(EDM):
        pass

    with pytest.raises(EventModelError, match="a Mine cannot be written; known: cosine"):
        save(small(process=Mine()), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
