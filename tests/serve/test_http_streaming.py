"""What a stream tells, piece by piece, is what is answered without one."""

import asyncio
import json
import math
import time

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from served import Client, reaching

from unison.serve.http import create_app

WAYS = [
    {},
    {"strategy": "fast-dllm", "temperature": 1.0, "block_length": 8},
    {"strategy": "wino", "temperature": 1.0},
    {"strategy": "remdm", "steps": 12},
    {"strategy": "first_hitting"},
    {"model": "duo", "strategy": "psi"},
    {"model": "ar"},
    {"model": "ar", "strategy": "left_to_right", "temperature": 0.7},
    {"suffix": " dog", "strategy": "first_hitting"},
    {"regex": "(lazy|quick)+"},
]


def chunks(answer):
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [one for one in answer.text.split("\n\n") if one]
    assert all(one.startswith("data: ") for one in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(one.removeprefix("data: ")) for one in lines[:-1]]


def stream(client, **said):
    body = {"prompt": "the ", "stream": True, **said}
    return chunks(client.post("/v1/completions", json=body))


def whole(client, **said):
    answer = client.post("/v1/completions", json={"prompt": "the ", **said})
    assert answer.status_code == 200, answer.text
    return answer.json()


def joined(told, index=0):
    return "".join(c["text"] for one in told for c in one["choices"] if c["index"] == index)


@pytest.mark.parametrize("way", [WAYS[0], WAYS[2], WAYS[6], WAYS[9]], ids=str)
def test_a_stop_string_is_never_sent_not_even_its_beginning(way, client):
    many = whole(client, max_tokens=12, seed=5, n=6, **way)["choices"]
    text = next(choice["text"] for choice in many if len(choice["text"]) > 5)
    stop = [text[4:6], text[2:6] + "?"]
    how = {"max_tokens": 12, "seed": 5, "n": 6, "stop": stop, **way}
    told, answer = stream(client, **how), whole(client, **how)
    for choice in answer["choices"]:
        assert joined(told, choice["index"]) == choice["text"]
        assert not any(one in choice["text"] for one in stop)
    assert any(choice["finish_reason"] == "stop" for choice in answer["choices"])


def test_a_left_to_right_text_comes_token_by_token(client):
    told = stream(client, model="ar", max_tokens=8, seed=5, regex="[a-z]{8}")
    pieces = [c["text"] for one in told for c in one["choices"]]
    assert len([one for one in pieces if one]) == 8


def test_a_text_that_is_revised_comes_at_its_end(client):
    told = stream(client, model="duo", max_tokens=8, seed=5)
    pieces = [c["text"] for one in told for c in one["choices"]]
    assert [bool(one) for one in pieces] == [True]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_deltas_joined_and_drafts_replayed_are_the_text_answered_at_once(way, client):
    how = {"max_tokens": 12, "seed": 5, "n": 2, **way}
    told, answer = stream(client, drafts=True, **how), whole(client, **how)
    places = [{}, {}]
    for one in told:
        if "unison" not in one:
            continue
        assert one["choices"] == []
        event = one["unison"]
        shown = places[event["index"]]
        for said in event["positions"]:
            if event["event"] == "draft":
                shown[said["position"]] = said["text"]
            else:
                assert event["event"] == "revision"
                assert shown[said["position"]] == said["before"]
                shown[said["position"]] = said["after"] or ""
    for choice in answer["choices"]:
        index = choice["index"]
        shown = places[index]
        assert "".join(shown[place] for place in sorted(shown)) == choice["text"]
        assert joined(told, index) == choice["text"]
        ends = [c["finish_reason"] for one in told for c in one["choices"] if c["index"] == index]
        assert ends[-1] == choice["finish_reason"]
        assert set(ends[:-1]) <= {None}


def test_drafts_change_nothing_else_that_is_told(client):
    how = {"max_tokens": 12, "seed": 5, "strategy": "fast-dllm"}
    drafted = [one["choices"] for one in stream(client, drafts=True, **how) if one["choices"]]
    assert [one["choices"] for one in stream(client, **how)] == drafted


def test_a_strategy_that_rewrites_tells_revisions_before_the_end(client):
    how = {"strategy": "remdm", "steps": 16, "settings": {"mode": "rescale", "eta": 0.5}}
    told = [one["unison"] for one in stream(client, drafts=True, max_tokens=16, seed=5, **how)
            if "unison" in one]  # fmt: skip
    taken_back = [
        said
        for event in told
        if event["event"] == "revision"
        for said in event["positions"]
        if said["after"] is None or said["after"] != said["before"]
    ]
    assert taken_back
    steps = [event["step"] for event in told]
    assert steps == sorted(steps)


def test_drafts_tell_no_probability_where_the_server_tells_none(serving):
    how = {"drafts": True, "strategy": "fast-dllm", "max_tokens": 8, "seed": 5}
    seen = {}
    for most in (0, 5):
        told = stream(Client(create_app(serving(logprobs=most))), **how)
        seen[most] = {
            said["confidence"]
            for one in told
            if "unison" in one
            for said in one["unison"]["positions"]
        }
    assert seen[0] == {None}
    assert all(0 < one <= 1 for one in seen[5])


def test_drafts_are_as_coarse_as_the_leak_audit_makes_them(client, serving):
    from unison.serve.leaks import floored_one

    how = {"drafts": True, "strategy": "fast-dllm", "max_tokens": 8, "seed": 5}

    def sure(asked):
        notes = [one["unison"] for one in stream(asked, **how) if "unison" in one]
        return [said["confidence"] for note in notes for said in note["positions"]]

    exact, told = sure(client), sure(Client(create_app(serving(logprob_digits=1))))
    assert told == [math.exp(floored_one(math.log(one), 1)) for one in exact]
    assert told != exact


def test_usage_comes_last_where_it_is_asked_for(client):
    how = {"max_tokens": 8, "seed": 5, "n": 2}
    told = stream(client, stream_options={"include_usage": True}, **how)
    assert told[-1]["choices"] == []
    assert told[-1]["usage"] == whole(client, **how)["usage"]
    assert all(one["usage"] is None for one in told[:-1])
    assert all("usage" not in one for one in stream(client, **how))


def test_echo_and_logprobs_are_streamed_too(client):
    how = {"max_tokens": 8, "seed": 5, "echo": True, "logprobs": 1, "strategy": "fast-dllm"}
    told, answer = stream(client, **how), whole(client, **how)
    assert joined(told) == answer["choices"][0]["text"]
    assert told[-1]["choices"][0]["logprobs"] == answer["choices"][0]["logprobs"]


def test_a_failure_in_the_middle_is_an_event_that_ends_the_stream(serving, monkeypatch):
    from unison.serve.http import streaming

    def break_off(self, wrote):
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(streaming.Follower, "finish", break_off)
    service = serving()
    answer = Client(create_app(service)).post(
        "/v1/completions", json={"prompt": "the ", "stream": True, "model": "ar", "seed": 5}
    )
    lines = [one for one in answer.text.split("\n\n") if one]
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["type"] == "server_error"
    assert "secret" not in answer.text
    assert answer.status_code == 200


def test_a_deadline_in_the_middle_is_told_as_one(serving):
    answer = Client(create_app(serving(timeout=0.001))).post(
        "/v1/completions", json={"prompt": "the ", "max_tokens": 40, "steps": 40}
    )
    assert answer.status_code == 408
    assert answer.json()["error"]["code"] == "deadline_exceeded"
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("streams", [True, False])
def test_a_client_that_goes_takes_its_work_along(streams, serving):
    service = serving()
    app = create_app(service)
    steps = 20_000  # far more than are done before it goes

    async def leave():
        body = {
            "prompt": "the ",
            "model": "duo",
            "steps": steps,
            "stream": streams,
            "drafts": streams,
        }
        unread = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
        gone = asyncio.Event()

        async def receive():
            if unread:
                return unread.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            pass

        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "method": "POST",
            "path": "/v1/completions", "raw_path": b"/v1/completions", "query_string": b"",
            "headers": [(b"content-type", b"application/json")], "http_version": "1.1",
            "scheme": "http", "server": ("test", 80), "client": ("test", 1), "root_path": "",
        }  # fmt: skip
        task = asyncio.create_task(app(scope, receive, send))
        while service.engine.stats().running == 0:
            await asyncio.sleep(0.01)
        gone.set()
        await task

    asyncio.run(leave())
    until = time.monotonic() + 20
    while service.engine.stats().running and time.monotonic() < until:
        time.sleep(0.01)
    stats = service.engine.stats()
    assert (stats.running, stats.waiting, stats.cancelled) == (0, 0, 1)


def test_streams_beside_each_other_tell_each_its_own(app, client):
    seeds = range(4)
    alone = [whole(client, seed=seed, max_tokens=8)["choices"][0]["text"] for seed in seeds]

    async def together():
        async with reaching(app) as asking:

            async def one(seed):
                body = {"prompt": "the ", "stream": True, "seed": seed, "max_tokens": 8}
                return chunks(await asking.post("/v1/completions", json=body, timeout=60))

            return await asyncio.gather(*map(one, seeds))

    assert [joined(told) for told in asyncio.run(together())] == alone
