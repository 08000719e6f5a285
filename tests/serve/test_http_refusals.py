"""What cannot be done is refused with an error object that names the field, and costs nobody."""

import json
import string

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from served import Client

from unison.serve.batching import Limits
from unison.serve.http import create_app

PATH = "/v1/completions"


def refused(answer, status=400):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    [(key, error)] = answer.json().items()
    assert key == "error"
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"promt": "x"}, "promt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt.0"),
        ({"prompt": [None] * 9}, "prompt.0"),
        ({"prompt": ["x", 3]}, "prompt.1"),
        ({"prompt": [10**6]}, "prompt"),
        ({"prompt": "日本"}, "prompt"),
        ({"prompt": "the \x00"}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "8"}, "max_tokens"),
        ({"max_tokens": 8.0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 1000}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"length": 8, "max_tokens": 4}, "length"),
        ({"length": 1000}, "length"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"best_of": 3}, "best_of"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": 0}, "top_k"),
        ({"cfg": -0.5}, "cfg"),
        ({"model": "duo", "cfg": 1.0}, "cfg"),
        ({"seed": 2**63}, "seed"),
        ({"seed": "7"}, "seed"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop.1"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage"),
        ({"drafts": True}, "drafts"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"presence_penalty": -1}, "presence_penalty"),
        ({"logit_bias": {"5": 100}}, "logit_bias"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"strategy": "fast-dlm"}, "strategy"),
        ({"strategy": "left_to_right"}, None),
        ({"strategy": "edlm"}, None),
        ({"model": "nobody"}, "model"),
        ({"cache": "huge"}, "cache"),
        ({"cache": "prefix"}, "strategy"),
        ({"steps": 0}, "steps"),
        ({"steps": 10**9}, "steps"),
        ({"strategy": "first_hitting", "steps": 4}, "steps"),
        ({"block_length": 4}, "block_length"),
        ({"settings": {"steps": 4}}, "settings"),
        ({"settings": []}, "settings"),
        ({"strategy": "llada", "settings": {"stps": 4}}, "settings.stps"),
        ({"strategy": "llada", "settings": {"steps": "4"}}, "settings.steps"),
        ({"strategy": "llada", "settings": {"steps": 10**9}}, "settings.steps"),
        ({"strategy": "llada", "settings": {"select": "most"}}, "settings.select"),
        ({"strategy": "llada", "settings": {"select": "learned"}}, "settings.select"),
        ({"strategy": "llada", "settings": {"select": 4}}, "settings.select"),
        ({"strategy": "llada", "settings": {"temper": {}}}, "settings.temper"),
        ({"strategy": "prophet", "settings": {"stop.late": 1e300}}, "settings.stop.late"),
        ({"strategy": "guided", "settings": {"judge": 1}}, "settings.judge"),
        ({"strategy": "edlm", "settings": {"judge": None}}, "settings.judge"),
        ({"strategy": "fast-dllm", "settings": {"select.threshold": 7}}, "settings"),
        ({"strategy": "fast-dllm", "settings": {"select.a.b": 7}}, "settings.select.a.b"),
        ({"regex": "("}, "regex"),
        ({"regex": "[a-z]{60}"}, "max_tokens"),
        ({"regex": "日"}, "regex"),
        ({"regex": "a", "choices": ["b"]}, "choices"),
        ({"choices": []}, "choices"),
        ({"grammar": "root ::= nothing"}, "grammar"),
        ({"json_schema": {"type": "intger"}}, "json_schema"),
        ({"json_schema": {"tpe": "integer"}}, "json_schema"),
        ({"template": "{a:thing}"}, "template"),
        ({"covers": "canvas"}, "covers"),
        ({"priority": 11}, "priority"),
        ({"deadline": 0}, "deadline"),
        ({"user": 5}, "user"),
    ],
    ids=str,
)
def test_a_bad_field_is_refused_by_its_name(said, field, client):
    status = 404 if said.get("model") == "nobody" else 400
    error = refused(client.post(PATH, json={"prompt": "the ", **said}), status)
    if field == "max_tokens" and "regex" in said:
        assert error["param"] in ("max_tokens", "length", "regex")
    else:
        assert error["param"] == field


@pytest.mark.parametrize("name", ["mdlm", "duo", "ar"])
def test_numbers_that_float32_takes_for_0_are_numbers_above_0(name, client):
    said = {"prompt": "the ", "model": name, "max_tokens": 4, "seed": 3}
    texts = []
    for field in ("temperature", "top_p"):
        answer = client.post(PATH, json={**said, field: 5e-324})
        assert answer.status_code == 200, answer.text
        texts.append(answer.json()["choices"][0]["text"])
    assert texts[0] == texts[1]  # each leaves the likeliest token alone


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_k": 0}], ids=str)
@pytest.mark.parametrize("strategy", ["ancestral", "fast-dllm"])
def test_an_order_is_refused_before_anything_is_written(strategy, wrong, hosted):
    from unison.generation import Sampling
    from unison.generation.ordering import Asked, ordered

    [field] = wrong
    with pytest.raises(ValueError, match=field):
        ordered(hosted["mdlm"].model, Asked("the "), Sampling(strategy, **wrong))


def test_an_unknown_field_is_told_with_the_nearest_known_one(client):
    error = refused(client.post(PATH, json={"prompt": "the ", "temprature": 1.0}))
    assert error["message"] == "unknown field \"temprature\"; did you mean 'temperature'?"
    assert error["code"] == "unknown_field"


def test_a_field_at_its_neutral_value_is_taken(client):
    said = {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "user": "me"}
    said |= {"n": 1, "best_of": 1, "stop": None, "suffix": None, "stream_options": None}
    answer = client.post(PATH, json={"prompt": "the ", "max_tokens": 4, "seed": 1, **said})
    plain = client.post(PATH, json={"prompt": "the ", "max_tokens": 4, "seed": 1})
    assert answer.json()["choices"] == plain.json()["choices"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "missing"),
        (b"{", "invalid_json"),
        (b'{"prompt": "a",}', "invalid_json"),
        (b'{"temperature": NaN}', "invalid_json"),
        (b'{"temperature": -Infinity}', "invalid_json"),
        (b'{"temperature": 1e999}', "invalid_json"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "invalid_json"),
        (b'{"prompt": "\xff"}', "invalid_utf8"),
        ('{"prompt": "the "}'.encode("utf-16"), "invalid_utf8"),
        (b'{"prompt": "\xed\xa0\x80"}', "invalid_utf8"),
        (b'{"prompt": "\\ud800"}', "invalid_unicode"),
        (b'{"\\ud800": 1}', "invalid_unicode"),
        (b'{"prompt": "a", "prompt": "b"}', "duplicate_field"),
        (b'{"a": ' * 70 + b"1" + b"}" * 70, "too_deep"),
        (b"[" * 100_000 + b"]" * 100_000, None),
        (b'{"prompt": "a\nb"}', "invalid_json"),
        (b"[]", None),
        (b'"prompt"', None),
        (b"null", None),
        (b"3", None),
    ],
    ids=lambda one: str(one)[:30],
)
def test_a_body_that_is_not_strict_json_is_refused(body, code, client):
    error = refused(client.post(PATH, content=body, headers={"content-type": "application/json"}))
    if code is not None:
        assert error["code"] == code


def test_of_a_long_name_or_value_the_ends_are_told(client):
    for said in ({"a" * 90_000: 1}, {"strategy": "b" * 90_000}):
        answer = client.post(PATH, json=said)
        error = refused(answer)
        assert len(answer.content) < 5000
        assert error["param"] == "strategy" or error["param"].startswith("a" * 90)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_of_another_type_is_refused(kind, client):
    headers = {} if kind is None else {"content-type": kind}
    error = refused(client.post(PATH, content=b'{"prompt": "the "}', headers=headers), 415)
    assert "application/json" in error["message"]


def test_routes_and_methods_that_are_not_there_are_told_as_such(client):
    refused(client.get("/v1/nothing"), 404)
    wrong = client.get(PATH)
    refused(wrong, 405)
    assert wrong.headers["allow"] == "POST"


def test_an_enormous_array_is_refused_without_being_written(client, service):
    before = service.engine.stats()
    refused(client.post(PATH, json={"prompt": ["the "] * 50_000}))
    refused(client.post(PATH, json={"prompt": list(range(44)) * 2000}))
    assert service.engine.stats().finished == before.finished


def test_a_schema_bomb_is_refused_quickly(client):
    levels = {f"l{i}": {"type": "array", "items": {"$ref": f"#/$defs/l{i + 1}"},
                        "minItems": 9, "maxItems": 9} for i in range(12)}  # fmt: skip
    bomb = {"$ref": "#/$defs/l0", "$defs": {**levels, "l12": {"const": 1}}}
    assert refused(client.post(PATH, json={"prompt": "the ", "json_schema": bomb}))
    deep = {"type": "array"}
    for _ in range(25):
        deep = {"type": "array", "items": deep}
    answer = client.post(PATH, json={"prompt": "the ", "json_schema": deep})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("settings", "said", "field"),
    [
        ({"texts": 2}, {"n": 3}, "n"),
        ({"texts": 2}, {"prompt": ["a"] * 3}, "prompt"),
        ({"prompt_tokens": 3}, {"prompt": "the fox"}, "prompt"),
        ({"new_tokens": 6}, {"max_tokens": 7}, "max_tokens"),
        ({"new_tokens": 6}, {"length": 20}, "length"),
        ({"logprobs": 0}, {"logprobs": 0}, "logprobs"),
    ],
    ids=str,
)
def test_a_limit_of_the_server_is_told_by_the_field_it_is_about(settings, said, field, serving):
    client = Client(create_app(serving(**settings)))
    assert refused(client.post(PATH, json={"prompt": "the ", **said}))["param"] == field


def test_a_request_that_says_no_size_gets_what_the_server_allows(serving):
    client = Client(create_app(serving(new_tokens=6)))
    said = {"prompt": "the ", "seed": 1}
    answer = client.post(PATH, json=said).json()
    assert answer == {**client.post(PATH, json={**said, "max_tokens": 6}).json(),
                      "id": answer["id"], "created": answer["created"]}  # fmt: skip


def test_a_full_server_says_when_to_come_again(serving):
    import asyncio

    from served import reaching

    service = serving(Limits(rows=1, waiting=1))
    app = create_app(service)
    said = {"prompt": "the ", "model": "duo", "steps": 20, "max_tokens": 8}

    async def crowd():
        async with reaching(app) as client:
            asked = [client.post(PATH, json=said, timeout=60) for _ in range(8)]
            return await asyncio.gather(*asked)

    answers = asyncio.run(crowd())
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    for answer in answers:
        if answer.status_code == 429:
            assert refused(answer, 429)["type"] == "rate_limit_error"
            assert int(answer.headers["retry-after"]) > 0


def test_a_defect_is_told_without_what_is_inside(serving, monkeypatch):
    from unison.serve.http import completions

    def broken(*_):
        raise KeyError("a secret of the inside")

    monkeypatch.setattr(completions, "usage", broken)
    answer = Client(create_app(serving())).post(PATH, json={"prompt": "the ", "max_tokens": 4})
    assert refused(answer, 500)["type"] == "server_error"
    assert "secret" not in answer.text


def test_every_refusal_is_declared_and_every_route_has_a_name(app):
    described = app.openapi()
    names = [
        operation["operationId"]
        for path in described["paths"].values()
        for operation in path.values()
    ]
    assert len(names) == len(set(names))
    assert all(set(name) <= set(string.ascii_letters + string.digits + "_") for name in names)
    write = described["paths"][PATH]["post"]["responses"]
    assert {"200", "400", "401", "404", "408", "413", "415", "429", "503"} <= set(write)
    assert "422" not in json.dumps(described)
    body = described["components"]["schemas"]["CompletionRequest"]
    assert body["additionalProperties"] is False
    assert body["examples"]
