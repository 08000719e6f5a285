"""A real server under what nobody should send: refused, in bounded time, at nobody else's cost."""

import asyncio
import http.client
import json
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")

WRITING = (
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/infill",
    "/v1/labelled",
    "/v1/score",
)
JSON = {"content-type": "application/json"}
BAD = {
    "no JSON": b"{",
    "wrong type": b'{"model": 3, "seed": "7", "temperature": []}',
    "no object": b"[1, 2, 3]",
    "deep": b'{"prompt": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "invalid UTF-8": b'{"prompt": "\xc3\x28", "messages": "\xff"}',
    "control characters": b'{"prompt": "a\x01b", "input": "a\x00"}',
    "half a character": b'{"prompt": "\\udc00", "input": "\\ud800"}',
    "many numbers": b'{"prompt": [' + b"1," * 60_000 + b"-1]}",
    "many faults": b'{"prompt": [' + b"[]," * 60_000 + b"[]]}",
    "many names": b"{" + b",".join(b'"%d":1' % i for i in range(50_000)) + b',"49999":1}',
    "a long name": b'{"' + b"a" * 500_000 + b'": 1}',
    "a long number": b'{"seed": ' + b"9" * 500_000 + b"}",
}


@pytest.fixture(scope="module")
def asking(server_url):
    with httpx.Client(base_url=server_url, timeout=60) as client:
        yield client


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_body_is_refused_everywhere_and_soon(bad, asking):
    for path in WRITING:
        began = time.monotonic()
        answer = asking.post(path, content=BAD[bad], headers=JSON)
        assert 400 <= answer.status_code < 500, answer.text
        error = answer.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert error["message"]
        assert len(answer.content) < 10_000
        assert time.monotonic() - began < 15


BOMBS = {
    "counts of counts": {"regex": "((((a{99}){99}){99}){99})"},
    "all pasts at once": {"regex": "(a|b)*a(a|b){16}x{30}"},
    "stars of stars": {"regex": "(((a*)*)*)*b"},
    "arrays of arrays": {
        "json_schema": {
            "$ref": "#/$defs/l0",
            "$defs": {
                **{
                    f"l{i}": {
                        "type": "array",
                        "items": {"$ref": f"#/$defs/l{i + 1}"},
                        "minItems": 9,
                        "maxItems": 9,
                    }
                    for i in range(12)
                },
                "l12": {"const": 1},
            },
        }
    },
    "a huge enum": {"json_schema": {"enum": [f"value {i} of many" for i in range(40_000)]}},
    "patterns together": {
        "json_schema": {
            "allOf": [{"type": "string", "pattern": f"(a|b)*a(a|b){{{k}}}"} for k in range(1, 7)]
        }
    },
    "an ambiguous grammar": {"grammar": 'start: start start | start start start | "a" |'},
}


def test_what_compiles_no_language_does_not_wait_for_what_does():
    from unison.serve.http.writing import aside

    compiled = threading.Event()

    async def crowd():
        many = [asyncio.ensure_future(aside(True, compiled.wait)) for _ in range(40)]
        try:
            return await asyncio.wait_for(aside(False, lambda: "plain"), 60)
        finally:
            compiled.set()
            assert await asyncio.gather(*many) == [True] * 40

    assert asyncio.run(crowd()) == "plain"


def test_others_are_answered_while_bombs_are_defused(asking, server_url, service):
    answers, slowest, done = {}, 0.0, threading.Event()

    def throw():
        with httpx.Client(base_url=server_url, timeout=120) as thrower:
            for name, bomb in BOMBS.items():
                body = {"prompt": "the ", "max_tokens": 8, "steps": 2, **bomb}
                answers[name] = thrower.post("/v1/completions", json=body)
        done.set()

    thread = threading.Thread(target=throw)
    thread.start()
    while not done.wait(0.02):
        began = time.monotonic()
        assert asking.get("/health").status_code == 200
        slowest = max(slowest, time.monotonic() - began)
    thread.join()
    assert {name: one.status_code for name, one in answers.items()} == {
        **dict.fromkeys(BOMBS, 400),
        "stars of stars": 200,
        "an ambiguous grammar": 200,
    }
    assert slowest < 5  # a compilation holds the lock of the interpreter for moments only
    assert service.engine.stats().rows == 0


@pytest.mark.parametrize("streams", [True, False])
def test_a_connection_that_breaks_frees_what_it_used(streams, server_url, service):
    before = service.engine.stats().cancelled
    place = urlsplit(server_url)
    line = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
    body = {"prompt": "the ", "model": "duo", "steps": 20_000, "stream": streams}
    line.request("POST", "/v1/completions", json.dumps(body), JSON)
    until = time.monotonic() + 30
    while not service.engine.stats().rows and time.monotonic() < until:
        time.sleep(0.01)
    line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
    line.close()
    while service.engine.stats().running and time.monotonic() < until:
        time.sleep(0.01)
    stats = service.engine.stats()
    assert (stats.running, stats.waiting, stats.rows) == (0, 0, 0)
    assert stats.cancelled == before + 1


def test_a_request_that_never_ends_holds_nothing_of_the_engine(server_url, service):
    place = urlsplit(server_url)
    with socket.create_connection((place.hostname, place.port), timeout=30) as line:
        head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        line.sendall(f'{head}Content-Length: 900\r\n\r\n{{"prompt": "a'.encode())
        assert httpx.get(f"{server_url}/ready", timeout=30).status_code == 200
        stats = service.engine.stats()
        assert (stats.running, stats.waiting) == (0, 0)
