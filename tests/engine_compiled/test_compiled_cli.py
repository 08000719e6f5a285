"""The doctor times threads and keeps the best; a model is compiled as the flag says."""

import dataclasses
import itertools
import json

import pytest
import tiny

from unison.cli import compiling, shared, threads
from unison.cli.main import main
from unison.engine import threads as engine
from unison.engine.compiled import Compiled
from unison.generation import generate


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNISON_CACHE", str(tmp_path))
    monkeypatch.setattr(threads, "_STAND_IN", "nano")
    return tmp_path


def test_the_doctor_times_every_number_of_threads_and_keeps_the_best(own_cache, capsys):
    assert main(["doctor", "--threads", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["threads"]
    here = engine.machine()
    assert told["cores"] == len(here.cores)
    assert sum("best" in way for way in told["ways"]) == 1
    assert str(engine.kept(here)) == told["best"]
    assert told["kept"] == str(own_cache / "threads.json")
    assert told["evaluated"] == "a small network, one row of 64 tokens"


def test_of_a_model_its_own_canvas_is_timed():
    ticks = itertools.count()
    told = threads.found(tiny.model("duo"), lambda: float(next(ticks)))
    assert told["evaluated"] == "the model, one row of 16 tokens"
    assert told["best"] == told["usual"]  # all took one tick: nothing beats what is there


def test_what_was_kept_is_used_with_a_line_that_says_so(monkeypatch):
    said = []
    monkeypatch.setattr(shared, "log", said.append)
    monkeypatch.setattr(engine, "recalled", lambda environment, here: "3 threads, as found")
    threads.used()
    assert said == ["3 threads, as found"]
    monkeypatch.setattr(engine, "recalled", lambda environment, here: None)
    threads.used()
    assert len(said) == 1


@pytest.mark.parametrize("family", ["duo", "mdlm"])
def test_texts_of_a_compiled_model_do_not_depend_on_what_is_written_beside_them(
    family,
):
    model = tiny.model(family)
    made = compiling.compiled(model, "on", 16, lambda function: function)
    assert isinstance(made.network, Compiled)
    assert compiling.compiled(model, "off") is model
    four = generate(made, "", length=13, num=4, steps=4, seed=5, batch_size=4)
    one = generate(made, "", length=13, num=4, steps=4, seed=5, batch_size=1)
    assert [sample.text for sample in four] == [sample.text for sample in one]
    assert made.network.graphs.compiled >= 1
    assert dataclasses.replace(made, network=model.network) == model
