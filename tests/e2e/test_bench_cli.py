"""unison bench, as a person would call it."""

import json

import bench_models
import pytest

from unison import checkpoints
from unison.bench.report import drawing
from unison.cli.main import main

SMALL = ("--suite", "chain:terms=3", "--count", "4", "--batch-size", "4", "--device", "cpu")


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    for name in ("mdlm", "ar"):
        checkpoints.save(bench_models.load(name), place / name)
    return {name: str(place / name) for name in ("mdlm", "ar")}


@pytest.fixture
def drawn_once(monkeypatch):
    """One drawing of each form stands for all figures; what they show is tested without models."""
    pytest.importorskip("matplotlib")
    real, made = drawing.drawn, {}

    def drawn(panels, **how):
        form = tuple(how.items())
        if form not in made:
            made[form] = real(panels, **how)
        return made[form]

    monkeypatch.setattr(drawing, "drawn", drawn)


@pytest.mark.usefixtures("drawn_once")
def test_a_bench_leaves_results_answers_and_a_report_and_is_repeated_exactly(
    folders, tmp_path, capsys
):
    ways = ("--strategies", "default", "composed:threshold=0.9", "left_to_right")
    asked = ["bench", folders["mdlm"], folders["ar"], *SMALL, *ways, "--samples", "2"]
    assert main([*asked, "--out", str(tmp_path / "a")]) == 0
    said = capsys.readouterr()
    assert "mdlm default" in said.out
    assert "skipped: LeftToRight cannot undo the absorbing process" in said.out
    assert "24/48" in said.err
    left = {path.name for path in (tmp_path / "a").iterdir()}
    assert left == {"run.json", "results.jsonl", "answers", "summary.md", "report.html", "figures"}
    page = (tmp_path / "a" / "report.html").read_text()
    assert "skipped" in page
    assert "More tries" in page
    assert main([*asked, "--out", str(tmp_path / "b"), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["results"]
    first = lines_of(tmp_path / "a" / "results.jsonl")
    for one, other in zip(first, again, strict=True):
        for name in ("asked", "status", "reason", "accuracy", "nfe", "tokens", "prompts_sha256"):
            assert one[name] == other[name]
    assert main([*asked, "--out", str(tmp_path / "a"), "--resume"]) == 0
    assert lines_of(tmp_path / "a" / "results.jsonl") == first
    capsys.readouterr()
    assert main(["bench", "--compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "+0.0" in capsys.readouterr().out


def test_problems_are_written_as_pairs_to_train_on(tmp_path, capsys):
    path = tmp_path / "pairs.jsonl"
    asked = ["bench", "--export", str(path), "--suite", "chain:terms=3|4", "--count", "5"]
    assert main(asked) == 0
    pairs = lines_of(path)
    assert len(pairs) == 10
    assert set(pairs[0]) == {"prompt", "completion"}
    assert main(asked) == 2
    assert "exists" in capsys.readouterr().err


def test_everything_that_can_be_asked_is_listed(capsys):
    from unison.suites import SUITES, TASKS

    assert main(["bench", "--list"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in (*SUITES, *TASKS))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--suite", "chian"], "did you mean 'chain'"),
        (["--suite", "chain:terms"], "is no setting"),
        (["--strategies", "lada"], "did you mean 'llada'"),
        (["--cuont", "3"], "did you mean '--count'"),
        (["--count", "0"], "count must be at least 1"),
        (["--suite", "gsm8k"], "path"),
        (["--suite", "gsm8k:path=nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_wrong_input_is_one_line_and_no_folder(folders, tmp_path, capsys, changes, message):
    out = tmp_path / "out"
    assert main(["bench", folders["ar"], *SMALL, "--out", str(out), *changes]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    assert not out.exists()


def test_a_model_that_is_not_there_stops_the_bench_before_it_begins(folders, tmp_path, capsys):
    out = tmp_path / "out"
    nowhere = str(tmp_path / "no" / "such" / "model")
    assert main(["bench", folders["ar"], nowhere, *SMALL, "--out", str(out)]) == 2
    assert "is not a directory" in capsys.readouterr().err
    assert main(["bench", *SMALL, "--out", str(out)]) == 2
    assert "name at least one model" in capsys.readouterr().err
    assert not out.exists()
    assert main(["bench", "--compare", folders["ar"], str(tmp_path)]) == 2
    assert "is not the folder of a bench" in capsys.readouterr().err
