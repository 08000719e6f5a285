"""unison bench --roofline measures what was asked for and writes it down."""

import json

import pytest

from unison import checkpoints
from unison.bench.roofline import gauges, measure
from unison.bench.roofline.settings import Roofline
from unison.bench.roofline.stage import Stage
from unison.cli import bench, roofline
from unison.train.setup import device_of

TINY = ["--roofline", "--sizes", "16x1x2", "--length", "32", "--batch-size", "2", "--rounds", "1",
        "--vocab-size", "260", "--threads", "1"]  # fmt: skip


@pytest.fixture(autouse=True)
def small_machine(monkeypatch):
    """Gauges of a blink: what is under test is what is made of them."""
    monkeypatch.setattr(gauges, "_ARRAYS", (1 << 14,))
    monkeypatch.setattr(gauges, "_SQUARE", (32,))
    monkeypatch.setattr(gauges, "_ENOUGH_FLOPS", {"cpu": 1})
    monkeypatch.setattr(gauges, "_ENOUGH_BYTES", 1 << 14)
    monkeypatch.setattr(measure, "_ENOUGH", 0.0)


def stage():
    settings = Roofline(("16x1x2",), vocab_size=260, length=32, batch_size=2)
    return Stage(settings, "16x1x2", device_of("cpu"))


def test_rows_of_rooms_above_are_measured_and_written_down(tmp_path, capsys):
    bench.run([*TINY, "--only", "distil", "serve", "--json", "--out", str(tmp_path / "new")])
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "new" / "roofline.json").read_text())
    [size] = printed["sizes"]
    assert [row["name"] for row in size["rows"]] == ["distil", "serve"]
    assert 0 < size["rows"][1]["outside"]["median"] < 1
    assert printed["settings"]["sizes"] == ["16x1x2"]
    summary = (tmp_path / "new" / "summary.md").read_text()
    assert "| distil | 64 |" in summary
    assert (tmp_path / "new" / "report.html").is_file()


def test_a_trained_model_stands_in_for_random_weights(tmp_path, capsys):
    checkpoints.save(stage().model("absorbing"), tmp_path / "model")
    bench.run([*TINY, "--model", str(tmp_path / "model"), "--only", "llada", "ar"])
    printed = capsys.readouterr().out
    assert "Left out. ar: it needs a model of the sequential process" in printed
    assert "| llada | 32 |" in printed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--only", "destil"], "unknown row 'destil'; did you mean 'distil'"),
        (["--sizes", "tyni"], "did you mean 'tiny'"),
        (["--rouns", "3"], "unknown option '--rouns'; did you mean '--rounds'"),
        (["--model", "nowhere-at-all"], "nowhere-at-all"),
    ],
)
def test_what_is_misspelt_is_refused_before_any_work(given, message, monkeypatch):
    monkeypatch.setattr(measure, "_at", None)
    with pytest.raises(ValueError, match=message):
        bench.run(["--roofline", *given])


def test_a_server_goes_on_when_its_texts_are_finished():
    work = roofline.serving(stage())
    for _ in range(70):  # more rounds than a text takes steps
        work.call()


def test_left_to_right_models_are_not_distilled():
    model = stage().model("sequential")
    settings = Roofline(vocab_size=260, length=32)
    alone = Stage(settings, "model", device_of("cpu"), model)
    with pytest.raises(ValueError, match="sequential process are not distilled"):
        roofline.distilling(alone)
