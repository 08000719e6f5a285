"""Two copies of a model on a local Ray: one may die under load, and no request is lost."""

import json
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
import tiny

import unison
from unison import checkpoints
from unison.serve.offline import How
from unison.serve.replicas import Plan, Share, data, deployed
from unison.serve.replicas.cluster import LOCAL, connected
from unison.serve.replicas.launch import APPLICATION, COPIES
from unison.serve.settings import Settings

pytest.importorskip("fastapi")
pytest.importorskip("ray.serve")
pytest.importorskip("ray.data")
openai = pytest.importorskip("openai")

pytestmark = [
    pytest.mark.slow,
    # Ray Data sets options of its own that it deprecates.
    pytest.mark.filterwarnings(r"ignore:`use_\w+` is deprecated:DeprecationWarning"),
]
NAME = "tiny"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("models") / NAME
    checkpoints.save(tiny.model("mdlm", length=48), place)
    return place


@pytest.fixture(scope="module")
def ray():
    with connected(LOCAL, 4.0) as found:
        yield found


@pytest.fixture(scope="class")
def url(ray, folder):
    settings = Settings(port=0, rows=4, drain=5.0)
    plan = Plan(str(folder), NAME, "cpu", replicas=2, share=Share(0.3), settings=settings)
    with deployed(plan) as where:
        yield where


def client(url, **settings):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", **settings)


def copies(ray):
    known = ray.util.list_named_actors(all_namespaces=True)
    return [one for one in known if "#Replica#" in one["name"]]


def running():
    """How many copies there are in each state, as Ray Serve says."""
    from ray import serve

    return serve.status().applications[APPLICATION].deployments[COPIES].replica_states


def two_running(ray, lost=None):
    """Wait until there are two copies but for a lost one, and both run; return them."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        found = [one for one in copies(ray) if one != lost]
        if len(found) == 2 and running() == {"RUNNING": 2}:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{copies(ray)} after two minutes, {running()}")


def written(model, seed, steps=32):
    whole = unison.generate(model, "the ", new_tokens=32, seed=seed, steps=steps)[0].text
    return whole.removeprefix("the ")


def ask(asked, seed, steps=32):
    answer = asked.completions.create(
        model=NAME, prompt="the ", max_tokens=32, seed=seed, extra_body={"steps": steps}
    )
    return answer.choices[0].text


class TestDeployment:
    def test_the_openai_client_gets_the_texts_of_generate(self, url, folder):
        with client(url) as asked:
            assert ask(asked, 3) == written(unison.load(folder), 3)
            assert [one.id for one in asked.models.list()] == [NAME]

    def test_a_stream_passes_through_the_gateway(self, url, folder):
        with client(url) as asked:
            stream = asked.completions.create(
                model=NAME, prompt="the ", max_tokens=32, seed=5, stream=True,
                extra_body={"steps": 32},
            )  # fmt: skip
            parts = [part.choices[0].text for part in stream if part.choices]
        assert len(parts) > 1
        assert "".join(parts) == written(unison.load(folder), 5)

    def test_a_refusal_passes_through_the_gateway(self, url):
        with client(url) as asked, pytest.raises(openai.BadRequestError) as refused:
            asked.completions.create(model=NAME, prompt="the ", extra_body={"bogus": 1})
        assert refused.value.body["param"] == "bogus"

    def test_killing_a_copy_under_load_loses_no_request(self, url, ray, folder):
        answers, failures, begun = {}, [], threading.Event()
        killed = []

        def work(number):
            with client(url, max_retries=8) as asked:
                for i in range(8):
                    try:
                        answers[8 * number + i] = ask(asked, 8 * number + i)
                    except openai.APIError as error:
                        failures.append(error)
                    if len(answers) >= 4:
                        begun.set()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        assert begun.wait(120)
        victim = copies(ray)[0]
        ray.kill(ray.get_actor(victim["name"], namespace=victim["namespace"]), no_restart=True)
        killed.append(len(answers))
        for thread in threads:
            thread.join(240)
        assert failures == []
        assert killed[0] < 48  # it died in the middle
        model = unison.load(folder)
        assert answers == {seed: written(model, seed) for seed in range(48)}

    def test_another_copy_takes_the_place_of_a_lost_one(self, url, ray):
        lost = two_running(ray)[0]
        ray.kill(ray.get_actor(lost["name"], namespace=lost["namespace"]), no_restart=True)
        two_running(ray, lost)
        with client(url) as asked:
            assert len({ask(asked, 3) for _ in range(6)}) == 1


@pytest.fixture
def command(folder, tmp_path):
    """``unison serve-ray`` as a process: how to start it, and its address."""
    log = tmp_path / "log"
    line = [
        *(sys.executable, "-m", "unison", "serve-ray", str(folder), "--port", "0"),
        *("--replicas", "1", "--tensor-parallel", "2", "--cpus", "0.3", "--device", "cpu"),
    ]
    with log.open("w") as out, subprocess.Popen(line, stdout=out, stderr=out) as process:
        try:
            until = time.monotonic() + 120
            while "serving" not in log.read_text() and time.monotonic() < until:
                assert process.poll() is None, log.read_text()
                time.sleep(0.2)
            yield process, re.findall(r"serving \S+ at (http://\S+)", log.read_text())[0]
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(90)


class TestCommand:
    def test_a_copy_on_two_processes_answers_ends_what_runs_and_listens_on_loopback(
        self, command, folder
    ):
        psutil = pytest.importorskip("psutil")
        process, url = command
        model, texts = unison.load(folder), []
        with client(url, max_retries=0) as asked:
            assert ask(asked, 3) == written(model, 3)
            elsewhere = {
                one.name()
                for one in psutil.Process(process.pid).children(recursive=True)
                for port in one.net_connections("tcp")
                if port.status == psutil.CONN_LISTEN and not port.laddr.ip.endswith("127.0.0.1")
            }
            long = threading.Thread(target=lambda: texts.append(ask(asked, 5, 400)))
            long.start()
            time.sleep(0.3)
            assert texts == []
            process.send_signal(signal.SIGTERM)
            long.join(60)
        assert process.wait(60) == 0
        assert texts == [written(model, 5, 400)]
        # Ray opens a port of each copy and gateway to whoever has its token.
        assert elsewhere <= {"ray::ServeReplica:unison:Replica", "ray::ServeReplica:unison:Gateway"}


class TestBatch:
    def test_workers_write_in_order_what_generate_writes_and_resume(self, ray, folder, tmp_path):
        source, out = tmp_path / "in", tmp_path / "out"
        asked = [{"prompt": "the ", "max_tokens": 32, "seed": i, "steps": 32} for i in range(11)]
        source.write_text("".join(f"{json.dumps(body)}\n" for body in asked) + "nonsense\n")
        crew = data.Crew(workers=2, share=Share(0.3), lines=2)
        how = How(Settings(rows=2))
        done = data.run(source, out, (str(folder), "cpu"), crew, how)
        assert done == (12, 12, 1, 0)
        answers = [json.loads(line) for line in out.read_text().splitlines()]
        assert [one["custom_id"] for one in answers] == [f"line-{i + 1}" for i in range(12)]
        model = unison.load(folder)
        got = [one["response"]["body"]["choices"][0]["text"] for one in answers[:11]]
        assert got == [written(model, seed) for seed in range(11)]
        whole = out.read_bytes()
        out.write_bytes(whole[: len(whole) // 2])
        kept = out.read_bytes().count(b"\n")
        again = data.run(source, out, (str(folder), "cpu"), crew, how)
        assert (again.done, again.resumed) == (12, kept)
        told = [json.loads(line) for line in out.read_text().splitlines()]
        texts = [one["response"]["body"]["choices"][0]["text"] for one in told[:11]]
        assert texts == got
