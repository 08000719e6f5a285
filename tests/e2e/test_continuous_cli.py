"""The verb for continuous data: learn, draw, restore, list; every misfit is one clear line."""

import json
import zlib

import numpy as np
import pytest

from unison.cli.main import main
from unison.decode.continuous import GRIDS, SOLVERS

SIDE = 8


def squares(rows=80, seed=0):
    """Grey pictures of two classes: bright above, or bright below."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, rows)
    pictures = random.integers(0, 60, (rows, SIDE, SIDE))
    for picture, label in zip(pictures, labels, strict=True):
        picture[label * 4 : label * 4 + 4] += 180
    return pictures.astype(np.uint8), labels


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "squares.npz"
    pictures, labels = squares()
    np.savez(path, x=pictures, y=labels)
    return str(path)


SMALL = ["--network", "unet:width=8", "--batch-size", "32", "--device", "cpu", "--ema", "0.9"]
FEW = ["--eval-every", "40", "--eval-events", "8", "--optimizer.warmup", "5"]


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "squares"
    arguments = ["continuous", "train", "--data", data, "--steps", "80", "--output", str(out)]
    assert main([*arguments, *SMALL, *FEW, "--optimizer.lr", "0.005"]) == 0
    return str(out)


def sample(run, *arguments):
    return main(["continuous", "sample", run, "--device", "cpu", *arguments])


def test_a_run_leaves_a_manifest_a_log_and_the_model(run):
    from pathlib import Path

    manifest = json.loads((Path(run) / "run.json").read_text())
    assert manifest["verb"] == "continuous"
    assert manifest["config"]["network"]["width"] == 8
    log = [json.loads(line) for line in (Path(run) / "log.jsonl").read_text().splitlines()]
    held_out = [line["held_out"]["value"] for line in log if "held_out" in line]
    assert len(held_out) == 2
    assert held_out[1] < held_out[0]
    assert (Path(run) / "checkpoints" / "best" / "model.safetensors").exists()


def test_a_class_that_is_asked_for_is_drawn(run, tmp_path, capsys):
    for label in (0, 1):
        out = tmp_path / f"{label}.npz"
        arguments = ["--nfe", "8", "--count", "16", "--label", str(label), "--guidance", "2"]
        assert sample(run, *arguments, "--output", str(out)) == 0
        assert "16 evaluations each" in capsys.readouterr().out
        values = np.load(out)["values"]
        assert values.shape == (16, 1, SIDE, SIDE)
        assert values.min() >= 0
        assert values.max() <= 255
        above, below = values[:, 0, :4].mean((1, 2)), values[:, 0, 4:].mean((1, 2))
        bright = above > below if label == 0 else below > above
        assert bright.sum() >= 14


def test_rows_are_the_same_whatever_the_count_and_the_batch_size(run, tmp_path):
    found = []
    for count, size in ((5, 5), (3, 2)):
        out = tmp_path / f"{count}.npz"
        arguments = ["--count", str(count), "--batch-size", str(size), "--nfe", "4", "--out"]
        assert sample(run, *arguments, str(out)) == 0
        found.append(np.load(out)["values"])
    assert np.allclose(found[0][:3], found[1], atol=1e-2)
    other = tmp_path / "other.npz"
    assert sample(run, "--count", "3", "--nfe", "4", "--seed", "1", "--out", str(other)) == 0
    assert np.abs(np.load(other)["values"] - found[1]).max() > 1


def test_a_sheet_is_a_png_of_the_stated_size(run, tmp_path):
    out = tmp_path / "sheet.png"
    assert sample(run, "--count", "6", "--nfe", "3", "--columns", "3", "--output", str(out)) == 0
    content = out.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    factor = 96 // SIDE
    assert (width, height) == tuple(n * (SIDE + 1) * factor + factor for n in (3, 2))
    start = content.index(b"IDAT") + 4
    length = int.from_bytes(content[start - 8 : start - 4], "big")
    assert len(zlib.decompress(content[start : start + length])) == height * (width + 1)


@pytest.mark.parametrize("solver", ["ddim", "multistep:order=2,basis=data", "ancestral:eta=1"])
@pytest.mark.parametrize("grid", ["karras:rho=5", "logsnr"])
def test_solvers_and_grids_are_named_with_their_settings(run, solver, grid, capsys):
    arguments = ["--solver", solver, "--grid", grid, "--nfe", "5", "--count", "2", "--json"]
    assert sample(run, *arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["nfe"] == 5
    assert said["events"] == 2


def test_a_resumed_run_is_finished_already_and_a_second_one_refused(run, data, capsys):
    arguments = ["continuous", "train", "--data", data, "--steps", "80", "--out", run]
    again = [*arguments, *SMALL, *FEW, "--optimizer.lr", "0.005"]
    assert main([*again, "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 80
    assert main(again) == 2
    assert "not empty" in capsys.readouterr().err


def test_a_residual_process_restores_held_out_events(data, tmp_path, capsys):
    out = str(tmp_path / "run")
    train = ["continuous", "train", "--data", data, "--process", "resshift", "--steps", "60"]
    degraded = ["--degradation", "hole:share=0.5", "--out", out, "--optimizer.lr", "0.005"]
    assert main([*train, *degraded, *SMALL, *FEW, "--json"]) == 0
    capsys.readouterr()
    picture = tmp_path / "restored.png"
    assert sample(out, "--nfe", "4", "--count", "8", "--out", str(picture), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["rms_restored"] < 0.8 * said["rms_degraded"]
    assert said["nfe"] == 4
    assert picture.exists()
    assert sample(out, "--solver", "ddim") == 2
    assert "posterior step" in capsys.readouterr().err


def test_everything_that_can_be_chosen_is_listed(capsys):
    assert main(["continuous", "solvers"]) == 0
    shown = capsys.readouterr().out
    for name in (*SOLVERS, *GRIDS, "best_of", "low_resolution"):
        assert f"  {name} " in shown
    assert main(["continuous", "solvers", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {*found["solvers"]} == {*SOLVERS}
    assert all(row["about"] for row in found["grids"].values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--solver", "dpm_solvr"], "did you mean 'dpm_solver'"),
        (["--solver", "multistep:ordr=2"], "did you mean 'order'"),
        (["--solver", "multistep:order=9"], "order must be 1 to 4"),
        (["--solver", "multistep:basis=date"], "data or noise"),
        (["--solver", "multistep:order"], "is no setting"),
        (["--grid", "karas"], "did you mean 'karras'"),
        (["--grid", "karras:rho=-1"], "rho must be above 0"),
        (["--high", "500"], "the model knows"),
        (["--low", "0.0001"], "the model knows"),
        (["--nfe", "0"], "nfe must be at least 1"),
        (["--solver", "dpm_solver_single:order=3", "--nfe", "2"], "needs 3 evaluations"),
        (["--count", "0"], "count must be at least 1"),
        (["--label", "7"], "knows classes 0 to 1"),
        (["--guidance", "3"], "name a label"),
        (["--out", "sheet.jpg"], ".png or .npz"),
        (["--nfee", "3"], "--nfe"),
    ],
)
def test_misfits_are_one_line_and_exit_code_2(run, arguments, said, capsys):
    assert sample(run, *arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["continuous"], "name what to do"),
        (["continuous", "trian"], "did you mean 'train'"),
        (["continuous", "solvers", "--jsn"], "--jsn"),
        (["continuous", "sample"], "name the run first"),
        (["continuous", "sample", "nowhere"], "config.json"),
        (["continuous", "train", "--out", "x", "--data", "digitz"], "did you mean 'digits'"),
        (["continuous", "train", "--out", "x", "--network", "unt"], "did you mean 'unet'"),
        (["continuous", "train", "--out", "x", "--process", "resshift"], "name a degradation"),
        (["continuous", "train", "--out", "x", "--degradation", "hole:share=2"], "share"),
        (["continuous", "train", "--out", "x", "--steps", "0"], "steps must be at least 1"),
        (
            [
                "continuous",
                "train",
                "--out",
                "x",
                "--objective",
                "flow_matching",
                "--weight",
                "clean",
            ],
            "has no --weight",
        ),
        (["continuous", "train", "--data", "digits"], "--out"),
    ],
)
def test_requests_that_cannot_be_met_leave_nothing_behind(
    arguments, said, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not [*tmp_path.iterdir()]


def test_help_names_the_deeds(capsys):
    assert main(["continuous", "--help"]) == 0
    assert "train" in capsys.readouterr().out
