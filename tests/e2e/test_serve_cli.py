"""The server as people start and stop it: a process, signals, and the doctor who looks at it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import tiny

for needed in ("fastapi", "uvicorn", "prometheus_client", "greenlet"):
    pytest.importorskip(needed)
httpx = pytest.importorskip("httpx")

from unison.cli.main import main  # noqa: E402
from unison.cli.serve import named  # noqa: E402

ASK = {"prompt": "the quick ", "max_tokens": 6, "seed": 3}
LONG = {**ASK, "stream": True, "drafts": True}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tiny.run(tiny.config("mdlm", steps=2), tiny.corpus(folder), folder / "small")
    return folder / "small"


@contextlib.contextmanager
def serving(*arguments):
    """A server in a process of its own; yields the process, its address and its log so far."""
    with subprocess.Popen(
        [sys.executable, "-m", "unison", "serve", *map(str, arguments), "--port", "0"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            first = process.stderr.readline()
            assert first.startswith("unison: serving "), first
            lines = []
            reader = threading.Thread(target=lambda: lines.extend(process.stderr))
            reader.start()
            yield process, first.split()[-1], lines
            reader.join(20)
        finally:
            process.kill()


def test_a_server_answers_is_looked_at_reloads_and_drains_at_sigterm(run, capsys):
    with serving(run, f"again={run}", "--drain", "30", "--device", "cpu") as (process, url, lines):
        assert main(["doctor", "--server", url, "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        found = {check["name"]: check for check in report["checks"]}
        assert found["models"]["said"] == "small, again"
        assert {check["fine"] for check in report["checks"]} <= {True, None}
        process.send_signal(signal.SIGHUP)
        with httpx.Client(base_url=url, timeout=60) as http:
            body = {**LONG, "steps": 1500}
            with http.stream("POST", "/v1/completions", json=body) as answer:
                events = answer.iter_lines()
                said = [next(events)]
                process.send_signal(signal.SIGTERM)
                until_it_goes_down(http)
                refused = http.post("/v1/completions", json=ASK)
                assert refused.status_code == 503
                assert refused.json()["error"]["code"] == "going_down"
                said += [line for line in events if line]
        assert said[-1] == "data: [DONE]"
        assert process.wait(30) == 0
    told = [json.loads(line) for line in lines]
    assert told[0]["batch_invariant"].keys() == {"small", "again"}
    assert [line["model"] for line in told if line["event"] == "reload"] == ["small", "again"]
    assert {line["status"] for line in told if line["event"] == "reload"} == {"done"}
    assert told[-1]["event"] == "stopped"
    assert told[-1]["drained"] is True
    assert "quick" not in "".join(lines)


@pytest.mark.slow
def test_a_second_signal_does_not_wait_and_what_runs_is_told(run):
    with (
        serving(run, "--drain", "600", "--device", "cpu") as (process, url, _),
        httpx.Client(base_url=url, timeout=60) as http,
        http.stream("POST", "/v1/completions", json={**LONG, "steps": 4_000}) as answer,
    ):
        events = answer.iter_lines()
        assert next(events).startswith("data: ")
        process.send_signal(signal.SIGINT)
        until_it_goes_down(http)
        process.send_signal(signal.SIGINT)
        rest = [line for line in events if line]
        assert "going_down" in rest[-1]
        assert process.wait(30) == 0


def until_it_goes_down(http):
    for _ in range(1000):
        if http.get("/ready").status_code == 503:
            return
        time.sleep(0.01)
    raise AssertionError("it stays ready")


def test_models_are_called_by_their_names_or_by_the_last_part_of_their_place(tmp_path):
    (tmp_path / "a=b").mkdir()
    (tmp_path / "weights.gguf").write_bytes(b"")
    asked = ["org/Name", f"short={tmp_path}", f"{tmp_path}/a=b", f"{tmp_path}/weights.gguf"]
    assert list(named(asked)) == ["Name", "short", "a=b", "weights"]
    for wrong, reason in (
        (["a/x", "b/x"], "two models are called 'x'"),
        (["=x"], "NAME=MODEL"),
        (["x="], "NAME=MODEL"),
    ):
        with pytest.raises(ValueError, match=reason):
            named(wrong)


def test_a_server_without_its_packages_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(["serve", "--port", "0"]) == 2
    assert "pip install 'unison[serve]'" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told_before_the_model_is_looked_for(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "nowhere", "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"cannot listen on 127.0.0.1 port {port}" in said
    assert "nowhere" not in said


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("serve", "--host", "0.0.0.0"), "--insecure"),
        (("serve", "nowhere", "--port", "0"), "nowhere"),
        (("serve", "--keys", "none.json"), "keys add NAME"),
        (("serve", "--port", "70000"), "port must be in"),
        (("serve", "--body-seconds", "0"), "body_seconds must be positive"),
        (("serve", "--hots", "x"), "--host"),
        (("doctor", "--server", "http://127.0.0.1:9"), "cannot be reached"),
        (("doctor", "--server", "file:///etc/passwd"), "give an address"),
        (("doctor", "model", "--server", "http://127.0.0.1:9"), "name one of them"),
    ],
)
def test_what_cannot_be_served_is_one_line_and_exit_code_2(
    arguments, reason, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(list(arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("unison: error: ")
    assert reason in line
