"""A server on a real socket: slow clients, large ones, ones that go; up, down and another model."""

import asyncio
import contextlib
import socket
import sys
import threading
import time

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
httpx = pytest.importorskip("httpx")

import tiny  # noqa: E402

from unison.serve import door  # noqa: E402
from unison.serve.batching import Engine  # noqa: E402
from unison.serve.running import Server, check, hosting  # noqa: E402
from unison.serve.service import Hosted, Service  # noqa: E402
from unison.serve.settings import Settings  # noqa: E402

ASK = {"prompt": "the quick ", "max_tokens": 8, "seed": 3}
LONG = {**ASK, "steps": 1_000, "stream": True, "n": 2, "drafts": True}


@contextlib.contextmanager
def up(hosted, **changes):
    """A server of its own; its log is ``lines``."""
    lines = []
    settings = Settings(**{"port": 0, **changes})
    with Server(Service(hosted, Engine().start(), settings), log=lines.append) as server:
        yield server, lines


def wait_until(true, seconds=20.0):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.01)


def connected(server):
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def everything(line):
    """What comes until the other side closes."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := line.recv(65_536):
            said += chunk
    return said


def test_half_a_head_half_a_body_and_silence_are_ended_in_time(hosted):
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    with up(hosted, body_seconds=0.4) as (server, lines), contextlib.ExitStack() as stack:
        silent, half_head, half_body, drops, chunked = (
            stack.enter_context(connected(server)) for _ in range(5)
        )
        half_head.sendall(head)
        half_body.sendall(head + b"content-length: 100\r\n\r\n{")
        chunked.sendall(head + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n")
        drops.sendall(b"GE")
        stop = threading.Event()

        def drop():
            """A letter of a header now and then, without end."""
            with contextlib.suppress(OSError):
                drops.sendall(b"T /health HTTP/1.1\r\nx: ")
                while not stop.wait(0.05):
                    drops.sendall(b"a")

        dropper = threading.Thread(target=drop)
        dropper.start()
        try:
            assert everything(silent) == b""
            assert everything(half_head) == b""
            for line in (half_body, chunked):
                said = everything(line)
                assert said.startswith(b"HTTP/1.1 408 ")
                assert b"body_too_slow" in said
                assert b"connection: close" in said.lower()
            everything(drops)
        finally:
            stop.set()
            dropper.join()
        assert httpx.get(server.url + "/ready").status_code == 200
        assert sum(line["status"] == 408 for line in lines) == 2


def test_a_connection_may_ask_again_and_a_long_answer_is_no_idle_connection():
    model = tiny.model("mdlm", length=48)
    evaluations = []

    def linger(*_):
        evaluations.append(time.sleep(0.05))

    model.network.register_forward_pre_hook(linger)
    ask, slow = {**ASK, "steps": 16}, {"m": Hosted("m", model)}
    with up(slow, body_seconds=0.4) as (server, _), httpx.Client(base_url=server.url) as client:
        first, again = (client.post("/v1/completions", json=ask, timeout=60) for _ in range(2))
        assert first.status_code == again.status_code == 200
        assert len(evaluations) > 2 * 8  # 0.05 seconds each: longer than a body may take
        assert first.json()["choices"] == again.json()["choices"]


def test_a_body_too_large_is_refused_while_it_is_sent_and_the_client_hears_it(hosted):
    def chunks():
        for _ in range(40):
            yield b"x" * 50_000

    with up(hosted, body_bytes=10_000) as (server, _):
        url = server.url + "/v1/completions"
        for content in (chunks(), b"x" * 2_000_000):
            answer = httpx.post(url, content=content, timeout=20)
            assert answer.status_code == 413
            assert answer.json()["error"]["code"] == "body_too_large"
        with connected(server) as line:
            line.sendall(
                b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n"
                b"content-length: 999999999999\r\n\r\n"
            )
            assert everything(line).startswith(b"HTTP/1.1 413 ")
        assert httpx.post(url, json=ASK, timeout=20).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_frees_the_engine_and_pays_for_what_was_written(stream, hosted):
    with up(hosted) as (server, lines):
        engine = server.service.engine

        async def go_away():
            async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
                if stream:
                    async with client.stream("POST", "/v1/completions", json=LONG) as answer:
                        await anext(answer.aiter_lines())
                    return
                body = {**ASK, "steps": 5_000}
                request = asyncio.ensure_future(client.post("/v1/completions", json=body))
                while engine.stats().rows == 0:
                    await asyncio.sleep(0.01)
                request.cancel()

        asyncio.run(go_away())
        wait_until(lambda: engine.stats().rows == 0)
        wait_until(lambda: lines)
        stats = engine.stats()
        assert (stats.cancelled, stats.finished, stats.failed) == (1, 0, 0)
        assert stats.steps < 5_000
        assert lines[0]["ended"] == "gone"
        assert lines[0]["status"] == (200 if stream else 499)
        assert server.desk.inflight == 0


def test_another_version_takes_over_under_load_and_a_damaged_one_does_not(hosted):
    one, other = tiny.model("mdlm", length=48), tiny.model("mdlm", length=48, strength=2.0)
    turns = iter([other, ValueError("damaged"), one])

    def load():
        turn = next(turns)
        if isinstance(turn, ValueError):
            raise turn
        return turn

    with up({"m": Hosted("m", one, load)}) as (server, lines):
        url, texts, stop = server.url, [], threading.Event()

        def ask():
            with httpx.Client(base_url=url, timeout=60) as client:
                while not stop.is_set():
                    answer = client.post("/v1/completions", json=ASK)
                    texts.append((answer.status_code, answer.json()["choices"][0]["text"]))

        def text():
            return httpx.post(url + "/v1/completions", json=ASK).json()["choices"][0]["text"]

        first = text()
        askers = [threading.Thread(target=ask) for _ in range(2)]
        for asker in askers:
            asker.start()
        reload = url + "/admin/reload"
        assert httpx.post(reload, json={}).json() == {"models": {"m": 2}}
        second = text()
        damaged = httpx.post(reload, json={})
        assert damaged.status_code == 400
        assert "the old one stays: damaged" in damaged.json()["error"]["message"]
        assert text() == second
        assert httpx.post(reload, json={"model": "m"}).json() == {"models": {"m": 3}}
        assert text() == first
        stop.set()
        for asker in askers:
            asker.join()
        assert first != second
        assert {status for status, _ in texts} == {200}
        assert {said for _, said in texts} <= {first, second}
        assert {line["model"] for line in lines if line["event"] == "request" and line["nfe"]} == {
            "m"
        }


def test_what_still_runs_when_it_closes_is_told_so_in_its_stream(hosted):
    with up(hosted) as (server, lines):
        with httpx.stream("POST", server.url + "/v1/completions", json=LONG, timeout=60) as answer:
            events = answer.iter_lines()
            assert next(events).startswith("data: ")
            assert not server.drain(0.05)
            closing = threading.Thread(target=server.close)
            closing.start()
            rest = [line for line in events if line]
            closing.join()
        assert "going_down" in rest[-1]
        assert "[DONE]" not in rest[-1]
        assert not server.service.engine.alive
    assert lines[-1]["ended"] == "done"


def test_two_servers_run_side_by_side_and_a_port_that_is_taken_is_named(hosted):
    with up(hosted) as (one, _), up(hosted) as (other, _):
        assert one.url != other.url
        port = int(one.url.rpartition(":")[2])
        third = Server(Service(hosted, Engine().start(), Settings(port=port)))
        with pytest.raises(ValueError, match=f"cannot listen on 127.0.0.1 port {port}"):
            third.start()
        third.service.engine.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_other_machines_are_not_let_in_without_keys_unless_that_is_meant(host):
    with pytest.raises(ValueError, match="unison keys add NAME"):
        check(Settings(host=host))
    check(Settings(host=host), insecure=True)
    for here in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        check(Settings(host=here))


def test_without_a_budget_of_memory_half_of_what_is_free_is_taken(hosted):
    service = hosting(hosted, Settings())
    try:
        most = service.engine.limits.memory
        assert most is not None
        assert 10_000_000 < most < 1 << 50
    finally:
        service.engine.close()
    service = hosting(hosted, Settings(memory=12_345))
    assert service.engine.limits.memory == 12_345
    service.engine.close()


def test_a_server_without_its_packages_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(ImportError, match=r"fastapi.*pip install 'unison\[serve\]'"):
        door.require()
