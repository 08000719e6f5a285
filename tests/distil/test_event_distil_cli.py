"""unison continuous distil: a run in, a student out that draws in one evaluation."""

import json

import numpy as np
import pytest

from unison import event_model
from unison.cli.main import main
from unison.event_model import EventModel
from unison.models.continuous import UNetConfig, build
from unison.process.continuous import EDM


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distil")
    np.savez(folder / "x.npz", x=np.random.default_rng(0).integers(0, 255, (40, 8, 8), np.uint8))
    network = build(UNetConfig(channels=1, width=8, multipliers=(1, 2)), seed=1)
    notes = {"data": str(folder / "x.npz")}
    model = EventModel(network, EDM(), (1, 8, 8), 0.5, span=(0.002, 80.0), notes=notes)
    event_model.save(model, folder / "run" / "model")
    return folder


@pytest.mark.parametrize("method", ["consistency", "f_distil", "mmd"])
def test_the_verb_leaves_a_student_that_draws_in_one_evaluation(teacher, method, capsys, tmp_path):
    fast = {
        "consistency": [],
        "f_distil": ["--fake-steps", "1"],
        "mmd": ["--report", "4"],
    }[method]
    out = tmp_path / "student"
    line = ["continuous", "distil", str(teacher / "run"), "--method", method, "--out", str(out)]
    size = ["--steps", "2", "--batch-size", "4", "--device", "cpu", "--json"]
    assert main([*line, *size, *fast]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["method"], said["steps"]) == (method, 2)
    draw = ["continuous", "sample", str(out), "--nfe", "1", "--count", "3", "--device", "cpu"]
    assert main([*draw, "--out", str(tmp_path / "x.npz"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nfe"] == 1
    assert np.load(tmp_path / "x.npz")["values"].shape == (3, 1, 8, 8)
    assert main([*line, *size]) != 0
    assert "is there already" in capsys.readouterr().err


def test_the_verb_refuses_unknown_methods_and_runs_without_data(teacher, capsys, tmp_path):
    line = ["continuous", "distil", str(teacher / "run"), "--out", str(tmp_path / "out")]
    assert main([*line, "--method", "consistancy"]) != 0
    assert "known: consistency, f_distil, mmd" in capsys.readouterr().err
    assert main([*line, "--data", str(teacher / "none.npz"), "--device", "cpu"]) != 0
    assert "there are no data called" in capsys.readouterr().err
