"""unison continuous diagnose on a fresh network, whose answer is known: D = y d^2 / (s^2 + d^2)."""

import json
import struct

import numpy as np
import pytest

from unison import event_model
from unison.cli.main import main
from unison.event_model import EventModel
from unison.models.continuous import build
from unison.models.continuous.unet import UNetConfig
from unison.process.continuous import EDM

SPREAD = 0.5


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "noise.npy"
    np.save(path, np.random.default_rng(0).integers(0, 255, (200, 8, 8)).astype(np.uint8))
    return str(path)


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    made = EventModel(
        build(UNetConfig(width=8)),
        EDM(),
        (1, 8, 8),
        SPREAD,
        span=(0.01, 20.0),
        notes={"data": data},
    )
    path = tmp_path_factory.mktemp("models") / "fresh"
    event_model.save(made, path)
    return str(path)


def diagnose(*arguments):
    few = ["--device", "cpu", "--count", "6", "--nfe", "5", "--solver", "ddim"]
    return main(["continuous", "diagnose", *arguments, *few])


def test_numbers_and_a_sheet_are_written(model, tmp_path, capsys):
    out = tmp_path / "found"
    assert diagnose(model, "--output", str(out), "--levels", "0.1", "0.5") == 0
    assert "decided after" in capsys.readouterr().out
    found = json.loads((out / "diagnosis.json").read_text())
    for row, level in zip(found["local"], (0.1, 0.5), strict=True):
        share = SPREAD**2 / (level**2 + SPREAD**2)
        assert row["level"] == level
        assert row["trace"]["value"] == pytest.approx(64 * share, rel=1e-4)
        assert row["trace"]["n"] == 6
        assert row["curl"]["value"] == pytest.approx(0, abs=1e-5)
    levels = [row["level"] for row in found["exposure"]]
    assert levels[0] == pytest.approx(20)
    assert levels == sorted(levels, reverse=True)
    assert found["exposure"][0]["variance"]["value"] == pytest.approx(1, abs=0.5)
    content = (out / "targets.png").read_bytes()
    wide, tall = struct.unpack(">II", content[16:24])
    side = 96 + 12
    assert tall == 6 * side + 12
    assert (wide - 12) / side - len(levels) in (0, 1)  # with a column for the events themselves


def test_json_is_the_document_that_is_written(model, data, tmp_path, capsys):
    assert diagnose(model, "--json", "--data", data, "--output", str(tmp_path)) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((tmp_path / "diagnosis.json").read_text())
    assert [row["level"] for row in said["local"]] == pytest.approx([0.025, 0.05, 0.1, 0.25, 0.5])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the run first"),
        (["--levels", "30"], "the model knows 0.01 to 20"),
        (["--probes", "0"], "probes must be at least 1"),
        (["--prob", "2"], "unknown option"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(model, arguments, message, capsys):
    place = [model] if arguments else []
    assert diagnose(*place, *arguments) != 0
    assert message in capsys.readouterr().err


def test_restoring_models_and_other_data_are_refused(model, tmp_path, capsys):
    wide = tmp_path / "wide.npy"
    np.save(wide, np.random.default_rng(1).random((40, 16, 16)).astype(np.float32))
    assert diagnose(model, "--data", str(wide)) != 0
    assert "draws events of shape (1, 8, 8)" in capsys.readouterr().err
    beside = EventModel(build(UNetConfig(width=8, beside_channels=1)), EDM(), (1, 8, 8))
    event_model.save(beside, tmp_path / "beside")
    assert diagnose(str(tmp_path / "beside"), "--data", str(wide)) != 0
    assert "only models that generate" in capsys.readouterr().err
