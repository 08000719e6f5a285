"""What every request passes: keys, limits, the size and pace of bodies, logs, counts."""

import asyncio
import io
import json
import logging

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
httpx = pytest.importorskip("httpx")

from served import Client  # noqa: E402

from unison.serve.access import keys  # noqa: E402
from unison.serve.access.account import Names  # noqa: E402
from unison.serve.access.guards import Desk, guarded  # noqa: E402
from unison.serve.access.keys import Allowance, KeyFile  # noqa: E402
from unison.serve.access.logs import Records, to_stream  # noqa: E402
from unison.serve.access.metrics import Meters  # noqa: E402
from unison.serve.running import built  # noqa: E402
from unison.serve.service import Service  # noqa: E402
from unison.serve.settings import Settings  # noqa: E402

ASK = {"prompt": "the quick ", "max_tokens": 8, "seed": 3}


class Guarded(Client):
    """A client of an application behind its guards; ``lines`` is the log."""

    def __init__(self, service, **changes):
        self.lines = []
        settings = Settings(**changes)
        own = Service({n: service.model(n) for n in service.names}, service.engine, settings)
        ring = None if settings.keys is None else KeyFile(settings.keys)
        self.desk = Desk(settings, Names(own), Meters(own), self.lines.append, ring)
        super().__init__(built(own, self.desk))

    def request(self, method, path, **said):
        headers = {"host": "localhost", **said.pop("headers", {})}
        return super().request(method, path, headers=headers, **said)

    def ask(self, key=None, headers=None, **body):
        shown = {} if key is None else {"authorization": f"Bearer {key}"}
        said = {**ASK, **body}
        return self.request(
            "POST", "/v1/completions", json=said, headers={**shown, **(headers or {})}
        )


@pytest.fixture
def ring(tmp_path):
    """A file with the keys ``ann``, and ``root`` who is an administrator; the keys by name."""
    path, shown = tmp_path / "keys.json", {}
    for name, allowed in (
        ("ann", Allowance(concurrent=2, models=("mdlm", "duo"))),
        ("root", Allowance(admin=True, priority=9)),
    ):

        def more(old, name=name, allowed=allowed):
            made = old.added(name, allowed, 1, None)
            shown[name] = made.shown
            return made.ring

        keys.change(path, more, new=True)
    return path, shown


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def test_without_keys_everybody_on_this_machine_may_ask(service):
    client = Guarded(service)
    answer = client.ask()
    assert answer.status_code == 200
    assert client.lines[0]["client"] == ""


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("POST", "/v1/completions"),
        ("GET", "/metrics"),
        ("POST", "/admin/reload"),
        ("GET", "/openapi.json"),
        ("GET", "/playground/facts"),
        ("GET", "/nowhere"),
        ("GET", "/health/"),
        ("GET", "/playground/../v1/models"),
    ],
)
def test_with_keys_nothing_but_health_and_the_page_is_told_to_strangers(
    method, path, service, ring
):
    client = Guarded(service, keys=ring[0])
    for headers in (
        {},
        {"authorization": "Bearer usk-wrong"},
        {"authorization": f"Basic {ring[1]['ann']}"},
        {"authorization": ring[1]["ann"]},
    ):
        answer = client.request(method, path, headers=headers)
        assert code(answer) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "usk-wrong" not in answer.text
    for free in ("/health", "/ready"):
        assert client.request("GET", free).status_code == 200


def test_a_key_lets_in_and_the_log_has_its_name_and_nothing_of_it(service, ring):
    client = Guarded(service, keys=ring[0])
    answer = client.ask(ring[1]["ann"])
    assert answer.status_code == 200
    assert client.lines[0]["client"] == "ann"
    assert ring[1]["ann"][4:] not in json.dumps(client.lines)


def test_no_key_is_written_down_wherever_it_was_put_and_whether_it_is_valid(service, ring):
    client = Guarded(service, keys=ring[0], log_prompts=True)
    good, bad = ring[1]["ann"], "usk-of-nobody"
    client.ask(good, temprature=1)
    for key in (good, bad):
        client.ask(key)
        client.ask(headers={"authorization": f"Basic {key}"})
        client.ask(headers={"api-key": key, "cookie": f"key={key}", "user-agent": key})
        client.get(f"/v1/models?api_key={key}")
        client.get(f"/v1/models/{key}", headers={"authorization": f"Bearer {key}"})
        client.request(key, "/v1/models")
    assert len(client.lines) == 13
    written = json.dumps(client.lines) + client.get("/metrics").text
    assert good[4:] not in written
    assert bad[4:] not in written


def test_two_authorization_headers_are_one_too_many(service, ring):
    client = Guarded(service, keys=ring[0])
    bearer = f"Bearer {ring[1]['ann']}".encode()
    said = [(b"host", b"localhost"), (b"authorization", bearer), (b"authorization", b"Bearer x")]

    async def ask():
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.get("/v1/models", headers=said)

    assert code(asyncio.run(ask())) == (401, "invalid_api_key")


def test_a_revoked_key_is_refused_without_a_restart(service, ring):
    client = Guarded(service, keys=ring[0])
    assert client.ask(ring[1]["ann"]).status_code == 200
    keys.change(ring[0], lambda old: old.without("ann", 2))
    assert code(client.ask(ring[1]["ann"])) == (401, "invalid_api_key")


def test_a_damaged_file_of_keys_lets_nobody_in_and_says_nothing_of_it(service, ring):
    client = Guarded(service, keys=ring[0])
    ring[0].write_text("{")
    answer = client.ask(ring[1]["root"])
    assert code(answer) == (503, "keys_unreadable")
    assert str(ring[0]) not in answer.text


def test_a_key_is_held_to_its_models_and_its_priority(service, ring):
    client = Guarded(service, keys=ring[0])
    assert client.ask(ring[1]["ann"], model="duo").status_code == 200
    answer = client.ask(ring[1]["ann"], model="ar")
    assert code(answer) == (403, "model_not_allowed")
    assert answer.json()["error"]["param"] == "model"
    assert client.ask(ring[1]["ann"], model="ar", stream=True).status_code == 403
    assert client.ask(ring[1]["root"], model="ar").status_code == 200
    assert code(client.ask(ring[1]["ann"], priority=1)) == (403, "priority_not_allowed")
    assert client.ask(ring[1]["root"], priority=9).status_code == 200
    assert code(client.ask(ring[1]["root"], priority=10)) == (403, "priority_not_allowed")


def test_only_an_administrator_loads_models_anew(service, ring):
    client = Guarded(service, keys=ring[0])
    for name, status in (("ann", 403), ("root", 200)):
        headers = {"authorization": f"Bearer {ring[1][name]}"}
        answer = client.request("POST", "/admin/reload", json={}, headers=headers)
        assert answer.status_code == status
    headers = {"authorization": f"Bearer {ring[1]['root']}"}
    answer = client.request("POST", "/admin/reload", json={"model": "no"}, headers=headers)
    assert answer.status_code == 404
    answer = client.request("POST", "/admin/reload", json={"model": "duo"}, headers=headers)
    assert answer.status_code == 400
    assert "made in memory" in answer.json()["error"]["message"]


def test_requests_beyond_the_minutes_are_told_when_to_come_again(service):
    client = Guarded(service, requests_per_minute=2)
    client.desk.clock = lambda: 50.0
    for left in ("1", "0"):
        answer = client.ask()
        assert answer.headers["x-ratelimit-remaining-requests"] == left
    answer = client.ask()
    assert code(answer) == (429, "rate_limit_exceeded")
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert answer.headers["retry-after"] == "30"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert client.get("/v1/models").status_code == 200, "looking costs nothing"
    client.desk.clock = lambda: 80.0
    assert client.ask().status_code == 200


def test_what_is_written_is_charged_whole_and_by_stream_alike(service):
    client = Guarded(service, tokens_per_minute=16)
    client.desk.clock = lambda: 50.0
    for _ in range(2):
        assert client.ask(stream=_ == 1).status_code == 200
    answer = client.ask()
    assert code(answer) == (429, "rate_limit_exceeded")
    written = sum(line["completion_tokens"] for line in client.lines[:2])
    level = 16 - written
    assert int(answer.headers["retry-after"]) == -(-(1 - level) * 60 // 16)


def test_a_refused_request_is_not_charged(service):
    client = Guarded(service, tokens_per_minute=16)
    client.desk.clock = lambda: 50.0
    assert client.ask(temprature=1).status_code == 400
    assert client.ask().headers["x-ratelimit-remaining-tokens"] == "16"


def test_a_body_that_announces_too_much_is_refused_unread(service):
    client = Guarded(service, body_bytes=1_000)
    assert code(client.ask(prompt="x" * 1_000)) == (413, "body_too_large")
    assert client.ask().status_code == 200


def test_a_body_in_chunks_is_counted_as_it_comes(service):
    client = Guarded(service, body_bytes=1_000)
    taken = []

    async def chunks():
        for _ in range(50):
            taken.append(1)
            yield b"x" * 100

    answer = client.request("POST", "/v1/completions", content=chunks())
    assert code(answer) == (413, "body_too_large")
    assert client.lines[0]["status"] == 413


def test_pages_of_other_sites_cannot_use_a_server_without_keys(service):
    client = Guarded(service, cors=("https://friend.example",))
    assert code(client.ask(headers={"origin": "https://evil.example"})) == (
        403,
        "origin_not_allowed",
    )
    assert code(client.ask(headers={"origin": "null"})) == (403, "origin_not_allowed")
    assert client.ask(headers={"origin": "http://localhost"}).status_code == 200
    friend = client.ask(headers={"origin": "https://friend.example"})
    assert friend.status_code == 200
    assert friend.headers["access-control-allow-origin"] == "https://friend.example"
    rebound = client.request("GET", "/v1/models", headers={"host": "evil.example"})
    assert code(rebound) == (403, "host_not_allowed")
    for host in ("127.0.0.1:8000", "[::1]:8000", "localhost:80"):
        assert client.request("GET", "/v1/models", headers={"host": host}).status_code == 200


def test_no_other_origin_is_allowed_unless_told_so(service, ring):
    for client in (Guarded(service), Guarded(service, keys=ring[0])):
        asked = {"origin": "https://a.example", "access-control-request-method": "POST"}
        answer = client.request("OPTIONS", "/v1/completions", headers=asked)
        assert "access-control-allow-origin" not in answer.headers
        assert answer.status_code in (401, 403)


def test_every_answer_has_a_name_and_headers_that_keep_browsers_careful(service):
    client = Guarded(service)
    for answer in (client.ask(), client.get("/nowhere"), client.ask(temprature=1)):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-request-id"].startswith("req_")
    names = [line["id"] for line in client.lines]
    assert len(set(names)) == 3
    assert client.ask(headers={"x-request-id": "mine-7"}).headers["x-request-id"] == "mine-7"
    for bad in ("a b", "x" * 129, 'a"b', "a\x07b", ""):
        answer = client.ask(headers={"x-request-id": bad})
        assert answer.headers["x-request-id"].startswith("req_")
        assert client.lines[-1]["id"] == answer.headers["x-request-id"]


def test_a_request_is_one_line_with_what_it_cost_and_without_what_it_said(service):
    client = Guarded(service)
    answer = client.ask(prompt="jumps over ", n=2).json()
    (line,) = client.lines
    usage = answer["usage"]
    for name in ("prompt_tokens", "completion_tokens", "nfe"):
        assert line[name] == usage[name], name
    assert (line["route"], line["status"], line["ended"]) == ("/v1/completions", 200, "done")
    assert (line["model"], line["strategy"]) == ("mdlm", "Ancestral")
    assert 0 <= line["queue_seconds"] <= line["first_seconds"] <= line["seconds"]
    assert 0 <= line["run_seconds"] <= line["seconds"]
    said = json.dumps(client.lines)
    assert "jumps" not in said
    for choice in answer["choices"]:
        assert choice["text"] not in said


def test_prompts_are_logged_only_where_that_was_asked_for(service):
    client = Guarded(service, log_prompts=True)
    answer = client.ask(prompt="jumps over ").json()
    assert client.lines[0]["prompts"] == ["jumps over "]
    assert client.lines[0]["answers"] == [answer["choices"][0]["text"]]


def test_a_log_line_is_one_line_whatever_a_client_puts_in():
    stream = io.StringIO()
    write = to_stream(stream)
    write({"event": "x", "evil": "a\nb\r\x1b[31m\u2028\x00\x7f\x9b{}"})
    (line,) = stream.getvalue().splitlines()
    assert all(32 <= ord(character) < 127 for character in line)
    assert json.loads(line)["evil"].startswith("a\nb")


def test_a_log_that_is_closed_harms_no_request():
    stream = io.StringIO()
    write = to_stream(stream)
    stream.close()
    write({"event": "x"})


def test_what_libraries_log_is_told_without_the_values_it_quotes():
    lines = []
    handler = Records(lines.append, prompts=False)
    try:
        raise ValueError("my secret prompt")
    except ValueError as error:
        record = logging.LogRecord(
            "lib", logging.ERROR, "f.py", 3, "broke on %s", ("my secret prompt",),
            (type(error), error, error.__traceback__),
        )  # fmt: skip
    handler.handle(record)
    assert "secret" not in json.dumps(lines)
    assert lines[0]["message"] == "broke on %s"
    assert lines[0]["error"].startswith("ValueError at ")


def test_a_defect_is_answered_and_written_down_without_its_message(service):
    client = Guarded(service)

    async def broken(scope, receive, send):
        raise KeyError("my secret prompt")

    answer = Client.request(
        Client(guarded(broken, client.desk)), "GET", "/", headers={"host": "[::1]"}
    )
    assert code(answer) == (500, "internal_error")
    (line,) = client.lines
    assert line["ended"] == "failed"
    assert line["error"].startswith("KeyError at ")
    assert "secret" not in json.dumps(line) + answer.text


def test_metrics_count_requests_and_tokens_and_ask_the_engine(service):
    client = Guarded(service)
    used = client.ask().json()["usage"]
    client.ask(temprature=1)
    client.get("/nowhere")
    text = client.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    post = 'method="POST",route="/v1/completions"'
    assert lines[f'unison_requests_total{{{post},status="200"}}'] == "1.0"
    assert lines[f'unison_requests_total{{{post},status="400"}}'] == "1.0"
    assert lines['unison_requests_total{method="GET",route="other",status="404"}'] == "1.0"
    assert float(lines['unison_completion_tokens_total{model="mdlm"}']) == used["completion_tokens"]
    assert float(lines['unison_evaluations_total{model="mdlm"}']) == used["nfe"]
    assert lines['unison_first_event_seconds_count{route="/v1/completions"}'] == "1.0"
    assert lines['unison_queue_seconds_count{route="/v1/completions"}'] == "1.0"
    assert float(lines["unison_engine_tokens_total"]) == service.engine.stats().tokens
    assert lines["unison_engine_alive"] == "1.0"
    for name in ("waiting", "preempted_total", "prefix_hits_total"):
        assert f"unison_engine_{name}" in lines


def test_two_servers_in_one_process_count_apart_and_paths_nobody_has_are_one_label(service):
    one, other = Guarded(service), Guarded(service)
    for i in range(30):
        one.get(f"/nowhere/{i}")
    one.request("BREW", "/pot")
    text = one.get("/metrics").text
    assert 'unison_requests_total{method="GET",route="other",status="404"} 30.0' in text
    assert 'method="BREW"' not in text
    assert "unison_requests_total{" not in other.get("/metrics").text


def test_while_it_goes_down_it_is_not_ready_and_takes_nothing_new(service):
    client = Guarded(service)
    client.desk.draining = True
    assert client.get("/health").status_code == 200
    assert client.get("/metrics").status_code == 200
    answer = client.get("/ready")
    assert code(answer) == (503, "going_down")
    assert "retry-after" in answer.headers
    assert code(client.ask()) == (503, "going_down")
