"""What the description of the server says is what it does, whatever is sent to it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytest.importorskip("schemathesis")

from served import listening, running
from speaking import byte_model

from unison.serve.http import create_app
from unison.serve.service import Hosted
from unison.serve.settings import Settings

# No schema can say whether a text fits its canvas, or a strategy a model: a request that the
# description allows may still be refused, so the check that it is accepted is left out.
UNSAYABLE = "positive_data_acceptance"


@pytest.fixture(scope="module")
def served():
    hosted = {name: Hosted(name, byte_model(name)) for name in ("mdlm", "ar")}
    with (
        running(hosted, Settings(new_tokens=8, timeout=30.0)) as service,
        listening(create_app(service)) as url,
    ):
        yield service, url


def fuzzed(url, folder, examples, phases):
    """Send what the description allows and what it forbids; return how much was sent.

    In a process of its own: its generators and the warnings of these tests disturb each other.
    """
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json"),
        *("--phases", phases, "--max-examples", str(examples), "--exclude-checks", UNSAYABLE),
        *("--seed", "1", "--generation-deterministic"),
        *("--no-shrink", "--no-color", "--warnings", "off", "--request-timeout", "60"),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return int(re.search(r"([\d,]+) generated", done.stdout)[1].replace(",", ""))


def test_no_request_breaks_what_the_description_says(served, tmp_path):
    service, url = served
    assert fuzzed(url, tmp_path, 6, "examples,fuzzing") >= 30
    stats = service.engine.stats()
    assert (stats.running, stats.waiting, stats.rows) == (0, 0, 0)


@pytest.mark.slow
def test_none_of_thousands_of_requests_breaks_what_the_description_says(served, tmp_path):
    service, url = served
    sent = fuzzed(url, tmp_path, 300, "examples,coverage,fuzzing")
    print(f"{sent} requests")
    assert sent >= 3000
    stats = service.engine.stats()
    assert (stats.running, stats.waiting, stats.rows) == (0, 0, 0)
