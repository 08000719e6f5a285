"""A model directory holds all of a model, and a damaged one is refused with a helpful line."""

import dataclasses
import json
import os
import shutil

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

import unison
from unison import checkpoints
from unison.data import byte_tokenizer
from unison.language_model import Defaults
from unison.models.formats.blueprint import CheckpointError
from unison.models.formats.own import FORMAT_VERSION
from unison.process import SCHEDULES, Uniform
from unison.process.schedule import Geometric, Learned

KINDS = {
    "duo": {},
    "mdlm": {"tied": True, "norm": "rms", "mlp": "swiglu"},
    "ar": {"kv_heads": 1},
}
FILES = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]


def ask(model, rows=3):
    tokens = torch.arange(rows * 16).reshape(rows, 16) * 5 % model.process.vocab_size
    time = torch.linspace(0.2, 0.9, rows, dtype=torch.float64)
    return model.denoiser()(tokens, time)


@pytest.fixture
def saved(tmp_path):
    checkpoints.save(tiny.model(), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("family", KINDS)
def test_a_model_that_was_saved_and_loaded_is_the_same_model(family, tmp_path):
    made = tiny.model(family, **KINDS[family])
    made = dataclasses.replace(
        made, defaults=Defaults("psi", 7, 9, 0.5, 0.8), notes={"text": ["a"], "who": "é"}
    )
    checkpoints.save(made, tmp_path / "model")
    back = unison.load(tmp_path / "model", "cpu")
    assert torch.equal(ask(made), ask(back))
    assert back.network.config == made.network.config
    assert back.process == made.process
    assert back.tokenizer == made.tokenizer
    assert back.defaults == made.defaults
    assert back.notes == made.notes
    assert not back.network.training
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == FILES


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_survives_the_round_trip_with_its_settings(name, tmp_path):
    field = "sigma_max" if name == "geometric" else "eps"
    schedule = SCHEDULES[name](**{field: 7.0 if name == "geometric" else 0.02})
    made = tiny.model()
    made = dataclasses.replace(made, process=Uniform(made.process.vocab_size, schedule))
    checkpoints.save(made, tmp_path / "model")
    assert unison.load(tmp_path / "model", "cpu").process == made.process


def test_a_model_needs_nothing_but_its_own_directory(saved, tmp_path, monkeypatch):
    moved = tmp_path / "elsewhere" / "renamed"
    moved.parent.mkdir()
    shutil.move(saved, moved)
    monkeypatch.chdir(moved.parent)
    assert torch.equal(ask(unison.load("renamed", "cpu")), ask(tiny.model()))
    config = json.loads((moved / "config.json").read_text())
    assert config["format"] == "unison"
    assert config["format_version"] == FORMAT_VERSION
    assert config["process"] == {
        "name": "uniform", "schedule": {"name": "log_linear", "eps": 1e-3},
    }  # fmt: skip
    assert config["model"]["hidden"] == 16


def test_a_learned_schedule_is_refused_before_anything_is_written(tmp_path):
    made = tiny.model()
    made = dataclasses.replace(made, process=Uniform(made.process.vocab_size, Learned()))
    with pytest.raises(CheckpointError, match="learned schedule cannot be saved"):
        checkpoints.save(made, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def edit(name, **changes):
    def change(path):
        content = json.loads((path / name).read_text())
        (path / name).write_text(json.dumps(content | changes))

    return change


def edit_model(**changes):
    def change(path):
        content = json.loads((path / "config.json").read_text())
        content["model"] |= changes
        (path / "config.json").write_text(json.dumps(content))

    return change


def edit_weights(alter):
    def change(path):
        weights = load_file(path / "model.safetensors")
        alter(weights)
        save_file(weights, path / "model.safetensors")

    return change


def without(name):
    return lambda path: (path / name).unlink()


def with_text(name, text):
    return lambda path: (path / name).write_text(text)


DAMAGE = {
    "no config": (without("config.json"), r"config\.json is missing"),
    "no weights": (without("model.safetensors"), r"model\.safetensors is missing"),
    "no tokenizer": (without("tokenizer.json"), r"holds no tokenizer .* name one with tokenizer="),
    "no defaults": (without("generation_config.json"), r"generation_config\.json is missing"),
    "truncated weights": (
        lambda path: os.truncate(path / "model.safetensors", 900),
        r"model\.safetensors is damaged or truncated .* copy it again",
    ),
    "empty weights": (with_text("model.safetensors", ""), "damaged or truncated"),
    "weights of another shape": (
        edit_model(hidden=32),
        r"does not fit config\.json: \d+ tensors are of another",
    ),
    "one tensor too few": (
        edit_weights(lambda w: w.pop("head.bias")),
        r"lacks 1 tensors, head\.bias",
    ),
    "one tensor too many": (
        edit_weights(lambda w: w.update(more=torch.ones(1))),
        r"has 1 tensors that the model does not know, more",
    ),
    "another tokenizer": (
        with_text("tokenizer.json", byte_tokenizer().json),
        r"tokenizer has 257 tokens and the model \d+; tokenizer\.json belongs to another model",
    ),
    "damaged tokenizer": (with_text("tokenizer.json", '{"x'), r"tokenizer\.json cannot be read"),
    "damaged config": (with_text("config.json", '{"format": "uni'), "is not valid JSON"),
    "config is a list": (with_text("config.json", "[1]"), "must hold one JSON object, got list"),
    "config is latin-1": (
        lambda path: (path / "config.json").write_bytes(b'{"a": "\xe9"}'),
        "is not valid JSON",
    ),
    "someone else's config": (with_text("config.json", '{"model_type": "t5"}'), "not describe a"),
    "newer format": (edit("config.json", format_version=2), "format version 2, newer than 1"),
    "format of no number": (edit("config.json", format_version="two"), "states no format_version"),
    "no model section": (edit("config.json", model=None), r"lacks model"),
    "unknown setting": (edit_model(flux=1), "unknown settings flux for TransformerConfig"),
    "impossible setting": (edit_model(heads=3), "must be heads times an even head width"),
    "setting of another type": (edit_model(hidden="wide"), "damaged or was edited"),
    "unknown process": (edit("config.json", process={"name": "flow"}), "unknown process 'flow'"),
    "unknown schedule": (
        edit("config.json", process={"name": "uniform", "schedule": {"name": "x"}}),
        "unknown schedule 'x'; known: log_linear",
    ),
    "schedule of no number": (
        edit(
            "config.json", process={"name": "uniform", "schedule": {"name": "cosine", "eps": 2.0}}
        ),
        r"eps must be in \[0, 1\), got 2",
    ),
    "unknown default": (edit("generation_config.json", beams=4), "unknown settings beams"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_directory_is_refused_with_a_line_that_names_it(name, saved):
    damage, message = DAMAGE[name]
    damage(saved)
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(CheckpointError, match=message) as caught:
        unison.load(saved, "cpu")
    assert str(saved) in str(caught.value)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


@pytest.mark.parametrize("name", ["nowhere", "model/config.json"])
def test_a_path_that_is_no_directory_is_refused(name, saved):
    with pytest.raises(
        CheckpointError, match=r"is not a directory; give the folder that holds config"
    ):
        unison.load(saved.parent / name, "cpu")


def test_a_save_that_fails_leaves_the_model_that_was_there(saved, monkeypatch):
    before = ask(unison.load(saved, "cpu"))

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"model\.safetensors could not be written \(No space"):
        checkpoints.save(tiny.model(strength=3.0), saved)
    assert torch.equal(ask(unison.load(saved, "cpu")), before)
    assert sorted(p.name for p in saved.iterdir()) == FILES


def test_a_row_does_not_see_its_batch():
    made = tiny.model()
    tokens = torch.arange(5 * 16).reshape(5, 16) * 5 % made.process.vocab_size
    time = torch.linspace(0.2, 0.9, 5, dtype=torch.float64)
    whole = made.denoiser()(tokens, time)
    for i in range(5):
        alone = made.denoiser()(tokens[i : i + 1], time[i : i + 1])
        assert torch.equal(whole[i], alone[0])


@pytest.mark.parametrize("family", ["duo", "mdlm"])
def test_padding_influences_nothing(family):
    made = tiny.model(family)
    valid = torch.arange(16)[None] < 11
    tokens = torch.arange(16)[None] * 5 % made.process.vocab_size
    other = torch.where(valid, tokens, (tokens + 3) % made.process.vocab_size)
    time = torch.tensor([0.5], dtype=torch.float64)
    one, two = (made.denoiser(valid)(x, time)[valid] for x in (tokens, other))
    assert torch.equal(one, two)


@pytest.mark.parametrize("family", ["duo", "mdlm", "ar"])
def test_a_belief_is_a_law_at_every_position(family):
    belief = ask(tiny.model(family, strength=3.0))
    assert belief.dtype == torch.float32
    torch.testing.assert_close(belief.double().exp().sum(-1), torch.ones(3, 16).double())


def test_an_autoregressive_model_is_aligned_and_sees_only_what_is_left_of_a_position():
    made = tiny.model("ar")
    tokens = torch.arange(16)[None] * 5 % made.process.vocab_size
    time = torch.ones(1, dtype=torch.float64)
    before = made.denoiser()(tokens, time)
    changed = tokens.clone()
    changed[0, 6] = (changed[0, 6] + 1) % made.process.vocab_size
    moved = (made.denoiser()(changed, time) != before).any(-1)[0]
    assert moved.tolist() == [False] * 7 + [True] * 9


def test_geometric_noise_reaches_the_network_as_its_own_sigma():
    made = tiny.model()
    made = dataclasses.replace(made, process=Uniform(made.process.vocab_size, Geometric(0.01, 5.0)))
    tokens = torch.arange(16)[None] * 5 % made.process.vocab_size
    with torch.no_grad():
        logits = made.network(tokens, torch.tensor([0.01**0.7 * 5.0**0.3]))
    told = made.denoiser()(tokens, torch.tensor([0.3], dtype=torch.float64))
    torch.testing.assert_close(told, logits.log_softmax(-1), rtol=1e-5, atol=1e-5)
