"""What the page's own endpoints promise: true facts, steps that are a trace, plain refusals."""

import gzip
import json
import math
import re
import subprocess
import sys
import zipfile
from importlib import resources, util
from pathlib import Path

import pytest
import tiny

import unison
from unison import trace
from unison.decode.parts import configured
from unison.generation import Sampling, choose
from unison.generation.settings import strategy_named

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

from fastapi import FastAPI
from served import Client, running

from unison.serve.http import failures
from unison.serve.playground import router
from unison.serve.service import Hosted
from unison.serve.settings import Settings

PLAIN, JSON, PACKED = (
    {"content-type": kind} for kind in ("text/plain", "application/json", "application/gzip")
)
STATIC = resources.files("unison.serve.playground") / "static"


@pytest.fixture(scope="module")
def models(hosted):
    return {name: one.model for name, one in hosted.items()}


@pytest.fixture(scope="module")
def client(hosted):
    with running(hosted, Settings(new_tokens=40, prompt_tokens=20)) as service:
        yield _client(service)


def _client(service):
    app = FastAPI()
    failures.install(app, service)
    app.include_router(router(service))
    return Client(app)


@pytest.fixture(scope="module")
def facts(client):
    return client.get("/playground/facts").json()


def _told(client, **wish):
    response = client.post("/playground/stream", json=wish)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    events = response.text.split("\n\n")
    assert events.pop() == ""
    return [json.loads(event.removeprefix("data: ")) for event in events]


def _document(messages):
    """The trace that the page puts together."""
    begin, *steps, done = messages
    texts = {}
    for message in messages:
        texts |= message.get("texts", {})
    moments = [
        {"step": m["step"], "rows": [{"row": 0} | {k: m[k] for k in ("candidates", "actions")}]}
        for m in steps
    ]
    parts = {"texts": texts, "rows": [begin["row"]], "steps": moments, "result": done["result"]}
    return begin["head"] | parts


def test_the_page_and_its_files_are_served_under_a_policy_that_lets_nothing_else_in(client):
    for path in ("/", "/playground", "/playground/main.js", "/playground/theme.css"):
        response = client.get(path)
        assert response.status_code == 200
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"


def test_every_file_the_page_asks_for_is_there_and_of_its_type(client):
    html = client.get("/").text
    asked = set(re.findall(r'(?:href|src)="(playground/[^"]+)"', html))
    for item in STATIC.iterdir():
        if item.name.endswith(".js"):
            names = re.findall(r'from "\./([^"]+)"', item.read_text("utf-8"))
            asked |= {f"playground/{name}" for name in names}
    assert {"playground/main.js", "playground/story.js", "playground/theme.css"} <= asked
    kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    for path in asked:
        response = client.get(f"/{path}")
        assert response.status_code == 200, path
        assert response.headers["content-type"].startswith(kinds[path.rpartition(".")[2]])


def test_the_page_fetches_nothing_from_elsewhere_and_makes_no_markup_of_text():
    for item in STATIC.iterdir():
        text = item.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//cdn", text), item.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(", text)
    html = (STATIC / "index.html").read_text("utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon\w+=|tabindex=\"[1-9]", html)


def test_a_file_that_is_not_there_is_told_as_an_error(client):
    for name in ("nothing.js", "..%2f..%2fservice.py"):
        response = client.get(f"/playground/{name}")
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/json"
    assert "'nothing.js'" in client.get("/playground/nothing.js").json()["error"]["message"]


def test_the_facts_offer_a_model_exactly_the_strategies_that_fit_it(facts, models):
    for told in facts["models"]:
        model = models[told["name"]]
        assert told["strategies"], told["name"]
        for name in facts["strategies"]:
            try:
                choose(model, Sampling(strategy=name))
            except ValueError:
                assert name not in told["strategies"]
            else:
                assert name in told["strategies"]
    ar = next(one for one in facts["models"] if one["name"] == "ar")
    assert ar["strategies"] == ["left_to_right"]
    assert not ar["infills"]


def test_the_facts_say_in_words_what_each_strategy_is(facts):
    for name, told in facts["strategies"].items():
        strategy = strategy_named(name)
        assert len(told["summary"]) > 20, name
        assert "``" not in told["summary"]
        assert told["law"]["name"] == strategy.law.name
        assert told["processes"] == list(strategy.processes)
    assert facts["strategies"]["wino"]["parts"]["revise"] == "wino"
    assert facts["strategies"]["fast-dllm"]["summary"].startswith("All that is surer than 0.9")


def test_the_defaults_and_ranges_of_the_facts_are_those_of_the_strategies(facts):
    ranged = 0
    for name, told in facts["strategies"].items():
        strategy = strategy_named(name)
        for field in told["fields"]:
            same = configured(strategy, {field["name"]: field["default"]})
            assert same == strategy, (name, field)
            if field["range"] is None:
                continue
            ranged += 1
            refused = 0
            real = (-1e9, 1e18, float("nan"))
            for absurd in real if field["kind"] == "float" else (-(10**9), 10**18):
                try:
                    configured(strategy, {field["name"]: absurd})
                except ValueError as error:
                    refused += field["range"] in str(error)
            assert refused, (name, field)
    assert ranged > 20


def test_the_sentence_about_a_setting_is_the_one_of_its_docstring(facts):
    fields = {f["name"]: f for f in facts["strategies"]["fast-dllm"]["fields"]}
    assert fields["select.threshold"]["range"] == "in [0, 1]"
    assert fields["select.share"]["about"].startswith("Largest share of the open positions")
    assert fields["anchor"]["choices"] == ["answer", "canvas"]


@pytest.mark.parametrize(
    ("name", "strategy"),
    [("mdlm", "llada"), ("mdlm", "wino"), ("mdlm", "remdm"), ("duo", "composed"), ("ar", None)],
)
def test_the_stream_is_the_trace_of_the_same_run_by_generate(client, models, name, strategy):
    model = models[name]
    wish = {"model": name, "canvas": ["the ", 12, " fox"], "seed": 5, "strategy": strategy}
    document = _document(_told(client, **wish))
    sampling = Sampling(strategy=strategy)
    recorder = trace.Recorder(model, sampling, seed=5)
    sample = unison.generate(
        model, parts=["the ", 12, " fox"], seed=5, strategy=strategy, on_step=recorder
    )[0]
    expected = recorder.document()
    assert document["rows"] == expected["rows"]
    assert document["result"] == expected["result"] == [sample.tokens]
    assert document["strategy"] == expected["strategy"]
    ours, theirs = list(trace.replayed(document)), list(trace.replayed(expected))
    assert [f.canvases for f in ours] == [f.canvases for f in theirs]
    for mine, other in zip(ours[1:], theirs[1:], strict=True):
        assert mine.moments[0].actions == other.moments[0].actions
        proposed = {(c.position, c.token): c.confidence for c in other.moments[0].candidates}
        for candidate in mine.moments[0].candidates:
            place = candidate.position
            there = proposed.get((place, candidate.token), sample.confidence[place])
            assert candidate.confidence == pytest.approx(there, abs=6e-5)
    for token, text in document["texts"].items():
        assert text == expected["texts"].get(token, text)


def _probabilities(messages):
    """Everything told of the probability of a token, in order."""
    *steps, done = messages[1:]
    told = [sure for message in steps for _, _, sure in message["candidates"]]
    return [*told, *done["confidence"]]


def test_probabilities_are_told_as_exactly_as_log_probabilities_or_not_at_all(hosted, models):
    wish = {"model": "mdlm", "canvas": ["the ", 8], "strategy": "wino", "seed": 2}

    def told_under(**knobs):
        with running(hosted, Settings(**knobs)) as service:
            return _told(_client(service), **wish)

    whole, coarse, none = told_under(), told_under(logprob_digits=0), told_under(logprobs=0)
    told = _probabilities(whole)
    assert len(told) > 16
    assert set(_probabilities(none)) == {None}
    grid = {None, *(round(math.exp(-nats), 4) for nats in range(30))}
    assert set(_probabilities(coarse)) <= grid
    sample = unison.generate(models["mdlm"], parts=["the ", 8], strategy="wino", seed=2)[0]
    assert coarse[-1]["confidence"] == [
        None if sure is None else round(math.exp(math.floor(math.log(sure))), 4)
        for sure in sample.confidence
    ]
    for one in (coarse, none):
        assert [m.get("actions") for m in one] == [m.get("actions") for m in whole]


def test_the_end_tells_what_the_text_cost_and_when_each_token_came(client, models):
    messages = _told(client, model="mdlm", canvas=["the ", 8], strategy="llada", steps=4, seed=1)
    done = messages[-1]
    assert [m["event"] for m in messages] == ["begin", *["step"] * 4, "done"]
    want = unison.generate(models["mdlm"], parts=["the ", 8], strategy="llada", steps=4, seed=1)[0]
    assert done["nfe"] == want.nfe == 4
    assert done["written_at"] == want.step
    assert done["text"] == want.text
    assert done["tokens_per_forward"] == want.tokens_per_forward
    times = [message["seconds"] for message in messages]
    assert times == sorted(times)


def test_parts_and_settings_reach_the_strategy(client):
    messages = _told(
        client, model="mdlm", canvas=["the ", 8], strategy="llada", block_length=4,
        parts={"select": "threshold", "order": "margin"}, settings={"select.threshold": 0.25},
        steps=8, temperature=0.5, cache="none",
    )  # fmt: skip
    strategy = messages[0]["head"]["strategy"]
    assert strategy["select"]["kind"] == "Threshold"
    assert strategy["select"]["threshold"] == 0.25
    assert strategy["order"]["kind"] == "Margin"
    assert strategy["block_length"] == 4
    assert strategy["temper"]["temperature"] == 0.5


@pytest.mark.parametrize(
    ("kind", "text", "language"),
    [
        ("regex", "[a-c]{3}", r"[a-c]{3}"),
        ("choices", "fox\ndogs\n", r"fox|dogs"),
        ("grammar", 'start: "a" start | "b"', r"a*b"),
        ("json_schema", '{"enum": [12, 345]}', r"12|345"),
    ],
)
def test_a_constraint_holds_and_the_end_says_so(client, kind, text, language):
    wish = {"model": "mdlm", "canvas": ["the ", 12], "strategy": "llada"}
    done = _told(client, **wish, constraint={"kind": kind, "text": text})[-1]
    assert re.fullmatch(language, done["answer"])
    assert done["fits"] is True


BAD = [
    ({"canvas": ["the ", 4], "temprature": 1.0}, "temprature"),
    ({"canvas": ["the ", 4], "steps": "many"}, "steps"),
    ({"canvas": ["the ", 4], "steps": True}, "steps"),
    ({"canvas": ["the ", 4], "steps": 0}, "steps"),
    ({"canvas": ["the "]}, "canvas"),
    ({"canvas": []}, "canvas"),
    ({"canvas": ["the ", -4]}, "canvas"),
    ({"canvas": ["the ", 10**9]}, "canvas"),
    ({"canvas": ["the ", 41]}, "canvas"),
    ({"canvas": ["the " * 6, 4]}, "canvas"),
    ({"canvas": ["ünknown ", 4]}, "canvas"),
    ({"canvas": ["a", 1] * 400}, "canvas"),
    ({"canvas": ["the ", 4], "seed": -1}, "seed"),
    ({"canvas": ["the ", 4], "seed": 2**60}, "seed"),
    ({"canvas": ["the ", 4], "strategy": "lladda"}, "strategy"),
    ({"canvas": ["the ", 4], "model": "ar", "strategy": "llada"}, "strategy"),
    ({"canvas": ["the ", 4], "settings": {"select.threshold": 0.5}}, "strategy"),
    ({"canvas": ["the ", 4], "cache": "fast"}, "cache"),
    ({"canvas": ["the ", 4], "cfg": -1.0}, "cfg"),
    ({"canvas": ["the ", 4], "strategy": "llada", "parts": {"select": "x"}}, "parts.select"),
    ({"canvas": ["the ", 4], "strategy": "llada", "temperature": -1.0}, "temperature"),
    ({"canvas": ["the ", 4], "strategy": "llada", "block_length": 0}, "block_length"),
    ({"canvas": ["the ", 4], "constraint": {"kind": "regex", "text": "("}}, "constraint"),
    ({"canvas": ["the ", 4], "constraint": {"kind": "json_schema", "text": "{"}}, "constraint"),
    ({"canvas": ["the ", 4], "constraint": {"kind": "choices", "text": "\n"}}, "constraint"),
    ({"canvas": ["the ", 4], "constraint": {"kind": "grammar", "text": "?"}}, "constraint"),
    ({"canvas": ["the ", 4], "constraint": {"kind": "magic", "text": "?"}}, "constraint"),
    (
        {"canvas": ["the ", 4], "strategy": "fast-dllm", "settings": {"select.threshold": 2.0}},
        "settings.select.threshold",
    ),
    (
        {"canvas": ["the ", 4], "strategy": "fast-dllm", "settings": {"select.threshold": "x"}},
        "settings.select.threshold",
    ),
    (
        {"canvas": ["the ", 4], "strategy": "fast-dllm", "settings": {"select.treshold": 0.5}},
        "settings.select.treshold",
    ),
    (
        {"canvas": ["the ", 4], "strategy": "fast-dllm", "settings": {"__class__": 1}},
        "settings.__class__",
    ),
]


@pytest.mark.parametrize(("wish", "param"), BAD)
def test_a_wish_that_cannot_be_met_is_refused_with_the_field_it_is_about(client, wish, param):
    response = client.post("/playground/stream", json=wish)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param, error
    assert error["type"] == "invalid_request_error"
    assert len(error["message"]) > 10


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"canvas":["a\xff",4]}', b"[" * 100_000,
     b'{"canvas":["a",4],"temperature":NaN}', b'{"canvas":["a",4],"temperature":1e999}'],
)  # fmt: skip
def test_a_body_that_is_no_wish_is_refused(client, body):
    response = client.post("/playground/stream", content=body, headers=JSON)
    assert response.status_code == 400
    assert response.json()["error"]["message"]


def test_an_unknown_model_is_not_found_and_the_nearest_is_named(client):
    response = client.post("/playground/stream", json={"canvas": [4], "model": "mdln"})
    assert response.status_code == 404
    assert response.json()["error"]["param"] == "model"
    assert "'mdlm'" in response.json()["error"]["message"]


def test_a_schema_nested_beyond_all_measure_is_refused(client):
    deep = '{"items":' * 3000 + "{}" + "}" * 3000
    wish = {"canvas": ["the ", 4], "constraint": {"kind": "json_schema", "text": deep}}
    response = client.post("/playground/stream", json=wish)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "constraint"


@pytest.mark.parametrize(
    ("error", "code", "param"),
    [
        (ValueError("this temperature is too high for what it reads."), 400, "temperature"),
        (KeyError("my secret"), 500, None),
    ],
)
def test_what_goes_wrong_while_it_writes_is_told_in_the_stream(error, code, param):
    def fail(*_):
        raise error

    model = tiny.model("mdlm")
    model.network.register_forward_pre_hook(fail)
    with running({"m": Hosted("m", model)}) as service:
        said = _told(_client(service), canvas=["the ", 4])[-1]
    assert said["event"] == "failed"
    assert said["error"]["param"] == param
    assert ("temperature" in said["error"]["message"]) == (code == 400)
    assert "secret" not in json.dumps(said)


def test_an_engine_that_goes_down_says_so(hosted):
    with running(hosted) as service:
        assert service.engine.drain(1.0)
        response = _client(service).post("/playground/stream", json={"canvas": ["the ", 4]})
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert "going down" in response.json()["error"]["message"]


def test_a_body_of_another_type_is_refused_so_that_no_other_page_can_send_one(client):
    for path in ("stream", "trace"):
        response = client.post(f"/playground/{path}", content=b"{}", headers=PLAIN)
        assert response.status_code == 415


def _shared(client, body, packed=True):
    body = gzip.compress(json.dumps(body).encode()) if packed else body
    return client.post("/playground/trace", content=body, headers=PACKED)


def test_what_was_told_becomes_one_page_with_everything_inside(client):
    document = _document(_told(client, model="mdlm", canvas=["the ", 12], strategy="wino"))
    response = _shared(client, {"documents": [document, document], "names": ["A", "B <b>"]})
    assert response.status_code == 200
    html = response.text
    assert html.startswith("<!doctype html>")
    assert "B <b>" not in html
    assert not re.search(r'(?:src|href)="(?!data:)', html)


def test_traces_that_are_none_are_refused(client):
    document = _document(_told(client, model="mdlm", canvas=["the ", 4], strategy="llada"))
    damaged = [
        {}, {"documents": [], "names": []}, {"documents": [{}], "names": ["a"]},
        {"documents": [document], "names": []}, {"documents": [document] * 3, "names": ["a"] * 3},
        {"documents": "x", "names": "y"}, [], 3,
        *({"documents": [{k: v for k, v in document.items() if k != key}], "names": ["a"]}
          for key in ("model", "rows", "steps", "texts", "result", "format")),
        *({"documents": [document | {key: value}], "names": ["a"]}
          for key in ("model", "strategy", "rows", "steps", "texts", "result",
                      "evaluations_per_step")
          for value in (None, 3, "x", [None], {"a": 1}, float("inf"))),
    ]  # fmt: skip
    answers = [_shared(client, body).status_code for body in damaged]
    assert set(answers) <= {200, 400}, list(zip(answers, damaged, strict=True))
    assert answers[:14] == [400] * 14
    for body in (b"", b"plain", gzip.compress(b"{")[:-4], gzip.compress(b"{")):
        assert _shared(client, body, packed=False).status_code == 400


def test_a_small_body_cannot_become_a_huge_document(client):
    bomb = gzip.compress(b" " * 200_000_000)
    assert len(bomb) < 300_000
    assert _shared(client, bomb, packed=False).status_code == 400


@pytest.mark.slow
@pytest.mark.skipif(util.find_spec("hatchling") is None, reason="hatchling builds the wheel")
def test_the_wheel_holds_the_page(tmp_path: Path):
    root = Path(__file__).parents[2]
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=root, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        inside = set(wheel.namelist())
    for item in STATIC.iterdir():
        assert f"unison/serve/playground/static/{item.name}" in inside
