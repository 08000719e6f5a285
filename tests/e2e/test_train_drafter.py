"""A drafter from the command line: trained, described, resumed, or refused in one line."""

import json

import pytest
import tiny

from unison.cli.main import main

SMALL = (
    "--steps", "3", "--batch-size", "4", "--length", "12", "--split", "blank", "--holdout", "0.2",
    "--eval-texts", "4", "--eval-every", "2", "--save-every", "2", "--device", "cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    text = tiny.corpus(folder)
    tiny.run(tiny.config("ar", steps=5), text, folder / "ar")
    tiny.run(tiny.config("mdlm", steps=1), text, folder / "mdlm")
    return folder


def command(runs, kind, out, *more, target="ar"):
    text = str(runs / "text.txt")
    place = ("--target", str(runs / target), "--text", text, "--out", str(out))
    return main(["train-drafter", kind, *place, *SMALL, *more])


def test_a_drafter_is_trained_and_its_agreement_told_depth_by_depth(runs, tmp_path, capsys):
    out = tmp_path / "eagle"
    assert command(runs, "eagle", out, "--kind.measured", "3") == 0
    said = capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())
    assert len(metrics["agreement"]) == 3
    for share in metrics["agreement"]:
        assert f"{share['value']:.3f} ±" in said
    config = json.loads((out / "config.json").read_text())
    assert config["kind"] == "eagle"
    assert config["settings"]["measured"] == 3
    assert (out / "model.safetensors").stat().st_size > 1000


def test_settings_of_the_kind_are_flags_and_json_is_one_document(runs, tmp_path, capsys):
    flags = ("--kind.layers", "1", "--kind.block", "3", "--kind.streams", "1", "--json")
    assert command(runs, "dflash", tmp_path / "out", *flags) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kind"] == "dflash"
    assert report["steps"] == 3
    assert len(report["agreement"]) == 2


def test_a_finished_run_resumed_with_more_steps_goes_on(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert command(runs, "fspad", out) == 0
    assert command(runs, "fspad", out) == 2
    assert "use --resume" in capsys.readouterr().err
    assert command(runs, "fspad", out, "--resume", "--steps", "5") == 0
    assert json.loads((out / "metrics.json").read_text())["steps"] == 5


def test_it_learns_from_what_the_target_writes_when_told_to(runs, tmp_path):
    more = ("--continue-from-target", "--prompt-tokens", "4", "--continuations", "8")
    assert command(runs, "eagle", tmp_path / "out", *more) == 0
    assert sorted(path.name for path in (tmp_path / "out" / "texts").iterdir()) == [
        "train-00000.safetensors",
        "valid-00000.safetensors",
    ]


@pytest.mark.parametrize(
    ("kind", "more", "target", "said"),
    [
        ("eagel", (), "ar", "unknown kind of drafter 'eagel'; did you mean 'eagle'?"),
        ("eagle", (), "mdlm", "a target of speculation is autoregressive"),
        ("eagle", ("--kind.wings", "2"), "ar", "unknown option '--kind.wings'"),
        ("eagle", ("--kind.unroll", "0"), "ar", "unroll must be at least 1, got 0"),
        ("eagle", ("--minutes", "0"), "ar", "--minutes must be above 0"),
        ("eagle", ("--length", "16"), "ar", "choose at most 15"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_leaves_nothing(
    kind, more, target, said, runs, tmp_path, capsys
):
    assert command(runs, kind, tmp_path / "out", *more, target=target) == 2
    error = capsys.readouterr().err
    assert said in error.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_missing_text_and_a_missing_kind_are_told(runs, tmp_path, capsys):
    place = ("--target", str(runs / "ar"), "--out", str(tmp_path / "out"))
    assert main(["train-drafter", "eagle", *place]) == 2
    assert "--text" in capsys.readouterr().err
    nowhere = str(tmp_path / "none.txt")
    place = (*place, "--length", "12")
    assert main(["train-drafter", "eagle", *place, "--text", nowhere]) == 2
    assert "there is no corpus" in capsys.readouterr().err
    (tmp_path / "empty.txt").write_text("")
    assert main(["train-drafter", "eagle", *place, "--text", str(tmp_path / "empty.txt")]) == 2
    assert "is empty" in capsys.readouterr().err
    assert main(["train-drafter", *place]) == 2
    assert "known kinds: acceptance, dflash" in capsys.readouterr().err
