"""The verb writes one page, names what it cannot read, and replaces nothing unasked."""

import json
import os

import pytest
import tiny

from unison import trace
from unison.cli.main import main
from unison.generation import Sampling, generate


@pytest.fixture(scope="module")
def document():
    model = tiny.model("mdlm")
    recorder = trace.Recorder(model, Sampling("ancestral"), seed=1)
    generate(model, "the ", new_tokens=6, strategy="ancestral", seed=1, on_step=recorder)
    return recorder.document()


@pytest.fixture
def folder(tmp_path, document):
    trace.write(tmp_path / "b.json", document)
    trace.write(tmp_path / "a.json", document)
    return tmp_path


def test_a_trace_becomes_a_page_beside_it(folder, capsys):
    assert main(["view", str(folder / "a.json")]) == 0
    assert capsys.readouterr().out == f"{folder / 'a.html'}\n"
    page = (folder / "a.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "<title>a.json</title>" in page
    assert sorted(p.name for p in folder.iterdir()) == ["a.html", "a.json", "b.json"]


def test_a_folder_becomes_one_page_of_all_its_traces(folder, capsys):
    (folder / "run.json").write_text("{}")
    assert main(["view", str(folder), "--title", "Both"]) == 0
    said = capsys.readouterr()
    assert "run.json is no trace" in said.err
    assert "2 traces" in said.err
    page = (folder / "traces.html").read_text(encoding="utf-8")
    assert "<title>Both</title>" in page
    assert page.index('"name":"a.json"') < page.index('"name":"b.json"')


def test_several_traces_become_a_page_where_the_user_is(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["view", "a.json", "b.json"]) == 0
    assert (folder / "traces.html").exists()
    assert main(["view", "b.json", "a.json", "--out", "c.html"]) == 0
    page = (folder / "c.html").read_text(encoding="utf-8")
    assert page.index('"name":"b.json"') < page.index('"name":"a.json"')


def test_a_page_that_is_there_is_replaced_only_by_force(folder, capsys):
    out = folder / "p.html"
    out.write_text("mine")
    arguments = ["view", str(folder / "a.json"), "--out", str(out)]
    assert main(arguments) == 2
    assert "exists; name another with --out, or add --force" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main([*arguments, "--force"]) == 0
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")


def damaged(document):
    document = json.loads(json.dumps(document))
    document["steps"][0]["rows"][0]["row"] = 7
    return json.dumps(document)


REFUSED = {
    "nothing named": ([], "name the traces first"),
    "no file": (["none.json"], "there is no trace none.json"),
    "another file": (["other.json"], "is no trace; generate --trace writes one"),
    "half a file": (["half.json"], "half.json is no trace"),
    "no text": (["bytes.json"], "bytes.json is no trace"),
    "damaged": (["damaged.json"], "damaged.json: there is no row 7 among 1. The trace is damaged"),
    "an empty folder": (["empty"], "there is no trace in empty; generate --trace FILE"),
    "a folder of others": (["others"], "there is no trace in others: others/x.json is no trace"),
    "an output in no folder": (["a.json", "--out", "none/p.html"], "there is no folder none"),
    "an output that is a folder": (["a.json", "--out", "empty"], "is a folder; name a file"),
    "a flag misspelt": (["a.json", "--ot", "x"], "unknown option '--ot'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_shown_is_refused_in_one_line(name, folder, document, monkeypatch, capsys):
    arguments, message = REFUSED[name]
    monkeypatch.chdir(folder)
    (folder / "other.json").write_text('{"format": "unison"}')
    (folder / "half.json").write_text('{"format": "unison-trace", "rows": [')
    (folder / "bytes.json").write_bytes(b"\xff\xfe\x00")
    (folder / "damaged.json").write_text(damaged(document))
    (folder / "empty").mkdir()
    (folder / "others").mkdir()
    (folder / "others" / "x.json").write_text("[]")
    before = sorted(folder.rglob("*"))
    assert main(["view", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(folder.rglob("*")) == before, "nothing is written"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(folder, capsys):
    folder.chmod(0o500)
    try:
        assert main(["view", str(folder / "a.json")]) == 2
    finally:
        folder.chmod(0o700)
    assert "could not be written" in capsys.readouterr().err
