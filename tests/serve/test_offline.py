"""A batch answers every line once, in order, whatever happens between."""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny

from unison.serve import batch_lines, ledger, offline
from unison.serve.asking import Head, Request, replies, whole
from unison.serve.inside import Inside
from unison.serve.offline import How
from unison.serve.settings import Settings

SOURCE = Path(__file__).parents[2] / "src"


class App:
    """Says the prompt backwards after as many turns of the loop as the request asks for."""

    def __init__(self):
        self.asked, self.running, self.most = [], 0, 0

    async def __call__(self, scope, receive, send):
        body = json.loads((await receive())["body"])
        self.asked.append(body["prompt"])
        self.running += 1
        self.most = max(self.most, self.running)
        for _ in range(body.get("turns", 0)):
            await asyncio.sleep(0)
        self.running -= 1
        status = body.get("status", 200)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        answer = json.dumps({"text": body["prompt"][::-1]}).encode()
        await send({"type": "http.response.body", "body": answer[:3], "more_body": True})
        await send({"type": "http.response.body", "body": answer[3:]})


@pytest.fixture
def app(monkeypatch):
    made = App()

    @contextmanager
    def serving(model, name, settings):
        yield Inside(made, None, lambda: True)

    monkeypatch.setattr(offline, "serving", serving)
    return made


@pytest.fixture(scope="module")
def model():
    return tiny.model("mdlm")


def write(path, *records):
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def prompts(count, turns=lambda i: 0):
    return [{"prompt": f"text {i}", "turns": turns(i)} for i in range(count)]


def backwards(count):
    return [{"text": f"text {i}"[::-1]} for i in range(count)]


class TestOrder:
    def test_answers_stand_in_the_order_of_requests_however_long_each_takes(
        self, app, model, tmp_path
    ):
        source = write(tmp_path / "in", *prompts(40, lambda i: 7 * (40 - i) % 23))
        done = offline.run(source, tmp_path / "out", model, "m", How(Settings(rows=5)))
        answers = read(tmp_path / "out")
        assert [one["response"]["body"] for one in answers] == backwards(40)
        assert [one["custom_id"] for one in answers] == [f"line-{i + 1}" for i in range(40)]
        assert done == (40, 40, 0, 0)

    def test_no_more_are_in_flight_than_is_said(self, app, model, tmp_path):
        source = write(tmp_path / "in", *prompts(30, lambda i: 9))
        offline.run(source, tmp_path / "out", model, "m", How(Settings(rows=5)))
        assert app.most == 5

    def test_a_slow_request_holds_up_only_so_many(self, model, tmp_path):
        begun = []

        async def stuck(scope, receive, send):
            body = json.loads((await receive())["body"])
            begun.append(body["prompt"])
            await (asyncio.sleep(3600) if body["prompt"] == "text 0" else asyncio.sleep(0))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})

        lines = [batch_lines.parse(i + 1, json.dumps(one)) for i, one in enumerate(prompts(99))]

        async def look():
            waiting = asyncio.ensure_future(anext(offline.answers(stuck, lines, 2)))
            await asyncio.wait([waiting], timeout=0.3)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

        asyncio.run(look())
        assert len(begun) == 16

    def test_progress_ends_with_everything_done(self, app, model, tmp_path):
        told = []
        source = write(tmp_path / "in", *prompts(9))
        offline.run(source, tmp_path / "out", model, "m", How(Settings(rows=2)), told.append)
        assert told[0].done == 0
        assert told[-1].done == told[-1].total == 9
        assert [one.done for one in told] == sorted(one.done for one in told)


class TestLines:
    def test_openai_s_form_and_the_short_one_ask_the_same(self):
        body = {"prompt": "The ", "seed": 3}
        long = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": body}
        one = batch_lines.parse(1, json.dumps(long))
        other = batch_lines.parse(1, json.dumps({"custom_id": "a", **body}))
        assert one == other
        assert one.request == Request("POST", "/v1/completions", json.dumps(body).encode())

    @pytest.mark.parametrize(
        ("field", "url"),
        [
            ({"suffix": "."}, "/v1/completions"),
            ({"canvas": ["a", 3]}, "/v1/infill"),
            ({"tokens": 3, "suffix": "."}, "/v1/infill"),
            ({"input": "a"}, "/v1/score"),
            ({"context": "a", "choices": ["b", "c"]}, "/v1/score"),
            ({"prompt": "a", "choices": ["b", "c"]}, "/v1/completions"),
            ({"messages": []}, "/v1/chat/completions"),
        ],
    )
    def test_a_field_tells_who_is_asked(self, field, url):
        request = batch_lines.parse(1, json.dumps(field)).request
        assert request is not None
        assert request.path == url

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("{", "not valid JSON"),
            ("[1]", "not a list"),
            ("3", "not a number"),
            ('{"prompt": NaN}', "NaN is no number"),
            ("[" * 100_000, "nested too deeply"),
            ("{}", "needs one of messages, canvas, tokens, prefix, input, context, prompt, suffix"),
            ('{"custom_id": 3, "prompt": ""}', "custom_id must be text"),
            ('{"custom_id": "", "prompt": ""}', "custom_id must be text"),
            ('{"prompt": "", "stream": true}', "stream does not go with a batch"),
            ('{"url": "/v1/completion", "body": {}}', "did you mean '/v1/completions'"),
            ('{"url": 3, "body": {}}', "url must be one of"),
            ('{"url": "/v1/completions", "body": 3}', "body must be an object, not a number"),
            ('{"url": "/v1/completions", "body": {}, "method": "GET"}', "method must be POST"),
            ('{"url": "/v1/completions", "boddy": {}}', "unknown field 'boddy'; did you mean"),
        ],
    )
    def test_a_bad_line_says_its_number_and_why(self, text, reason):
        line = batch_lines.parse(7, text)
        assert line.request is None
        assert line.problem.startswith("line 7: ")
        assert reason in line.problem

    def test_a_bad_line_gets_an_answer_and_the_rest_goes_on(self, app, model, tmp_path):
        source = write(tmp_path / "in", {"prompt": "ab"}, "nonsense", "", {"prompt": "cd"})
        done = offline.run(source, tmp_path / "out", model, "m")
        first, bad, last = read(tmp_path / "out")
        assert (first["response"]["body"], last["response"]["body"]) == (
            {"text": "ba"},
            {"text": "dc"},
        )
        assert bad["response"] is None
        assert bad["error"]["code"] == "invalid_line"
        assert bad["error"]["message"].startswith("line 2: ")
        assert last["custom_id"] == "line-4"
        assert done.failed == 1

    def test_half_a_surrogate_pair_comes_back_as_valid_utf_8(self, app, model, tmp_path):
        source = write(tmp_path / "in", '{"prompt": "a\\ud800é"}')
        offline.run(source, tmp_path / "out", model, "m")
        assert read(tmp_path / "out")[0]["response"]["body"] == {"text": "é\ud800a"}


class TestRefusals:
    def never(self):
        raise AssertionError("the model was loaded")

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "holds no request"),
            (b"\n \n", "holds no request"),
            (b'[{"prompt": "a"}]\n3\n', "can be read; line 1: it must be an object, not a list"),
            (b'{"prompt": "a"}\n{"prompt": "\xff"}\n', "line 2 is not UTF-8"),
            (
                b'{"custom_id": "a", "prompt": ""}\n\n{"custom_id": "a", "prompt": ""}\n',
                "lines 1 and 3 have one custom_id, 'a'",
            ),
        ],
    )
    def test_a_file_that_is_no_batch_is_refused_before_the_model_is_loaded(
        self, content, reason, tmp_path
    ):
        (tmp_path / "in").write_bytes(content)
        with pytest.raises(ValueError, match=reason):
            offline.run(tmp_path / "in", tmp_path / "out", self.never, "m")
        assert not (tmp_path / "out").exists()

    def test_what_is_no_file_to_be_read_twice_is_refused(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for source, reason in [
            (tmp_path / "none", "there is no file .*none"),
            (tmp_path, "is a folder; name a file"),
            (tmp_path / "pipe", "can be read only once"),
        ]:
            with pytest.raises(ValueError, match=reason):
                offline.run(source, tmp_path / "out", self.never, "m")

    def test_a_strict_batch_begins_only_if_all_lines_can_be_read(self, tmp_path):
        source = write(tmp_path / "in", {"prompt": "a"}, "nonsense")
        with pytest.raises(ValueError, match="line 2: it is not valid JSON"):
            offline.run(source, tmp_path / "out", self.never, "m", How(strict=True))

    def test_a_strict_batch_stops_at_a_refused_request_and_keeps_those_before(
        self, app, model, tmp_path
    ):
        source = write(
            tmp_path / "in", {"prompt": "ab"}, {"prompt": "cd", "status": 400}, {"prompt": "ef"}
        )
        with pytest.raises(ValueError, match="line-2"):
            offline.run(source, tmp_path / "out", model, "m", How(strict=True))
        assert [one["custom_id"] for one in read(tmp_path / "out")] == ["line-1"]

    def test_places_that_cannot_take_answers_are_refused(self, tmp_path):
        source = write(tmp_path / "in", {"prompt": "a"})
        other = write(tmp_path / "other", "my diary")
        for out, reason in [
            (source, "both input and output"),
            (tmp_path, "is a folder"),
            (tmp_path / "no" / "out", "there is no folder"),
            (other, "is not the output of a batch"),
        ]:
            with pytest.raises(ValueError, match=reason):
                offline.run(source, out, self.never, "m")
        assert other.read_text() == "my diary\n"

    def test_a_byte_order_mark_is_no_text(self, app, model, tmp_path):
        (tmp_path / "in").write_bytes(b'\xef\xbb\xbf{"prompt": "ab"}\n')
        offline.run(tmp_path / "in", tmp_path / "out", model, "m")
        assert read(tmp_path / "out")[0]["response"]["body"] == {"text": "ba"}


class TestResume:
    @pytest.mark.parametrize("cut", [0, 1, 40, 97, 180, 100_000])
    def test_a_file_cut_anywhere_is_completed_and_nothing_is_asked_twice(
        self, app, model, tmp_path, cut
    ):
        source, out = write(tmp_path / "in", *prompts(6)), tmp_path / "out"
        offline.run(source, out, model, "m")
        want = out.read_bytes()
        out.write_bytes(want[:cut])
        app.asked.clear()
        done = offline.run(source, out, model, "m")
        kept = want[:cut].count(b"\n")
        assert out.read_bytes() == want
        assert app.asked == [f"text {i}" for i in range(kept, 6)]
        assert (done.done, done.resumed) == (6, kept)

    def test_a_tail_that_a_power_cut_filled_with_zeros_is_written_again(self, app, model, tmp_path):
        source, out = write(tmp_path / "in", *prompts(3)), tmp_path / "out"
        offline.run(source, out, model, "m")
        want = out.read_bytes()
        first = want.index(b"\n") + 1
        out.write_bytes(want[:first] + b"\0" * 30 + b"\n")
        offline.run(source, out, model, "m")
        assert out.read_bytes() == want

    def test_other_input_model_or_settings_are_refused_by_name(self, app, model, tmp_path):
        source, out = write(tmp_path / "in", *prompts(3)), tmp_path / "out"
        offline.run(source, out, model, "m")
        before = out.read_bytes()
        with pytest.raises(ValueError, match=r"another model \(weights_sha256 \S+, not \S+\)"):
            offline.run(source, out, tiny.model("mdlm", strength=2.0), "m")
        with pytest.raises(ValueError, match=r"another settings \(logprobs 5, not 0\); give"):
            offline.run(source, out, model, "m", How(Settings(logprobs=0)))
        write(source, *prompts(4))
        with pytest.raises(ValueError, match="begun with another input"):
            offline.run(source, out, model, "m")
        assert out.read_bytes() == before

    def test_answers_that_somebody_changed_are_not_built_upon(self, app, model, tmp_path):
        source, out = write(tmp_path / "in", *prompts(3)), tmp_path / "out"
        offline.run(source, out, model, "m")
        lines = out.read_text().splitlines(keepends=True)
        out.write_text("".join(lines[1:]))
        with pytest.raises(ValueError, match="line 1 answers 'line-2', where 'line-1' is next"):
            offline.run(source, out, model, "m")

    def test_two_writers_of_one_file_are_one_too_many(self, tmp_path):
        with (
            ledger.opened(tmp_path / "out", {}, []),
            pytest.raises(ValueError, match="another process"),
            ledger.opened(tmp_path / "out", {}, []),
        ):
            pass

    def test_a_sidecar_of_a_later_format_or_none_at_all_is_told_apart(self, tmp_path):
        beside = ledger.sidecar(tmp_path / "out")
        beside.write_text('{"format_version": 99}')
        with pytest.raises(ValueError, match="format 99"), ledger.opened(tmp_path / "out", {}, []):
            pass
        beside.write_text("{")
        with pytest.raises(ValueError, match="damaged"), ledger.opened(tmp_path / "out", {}, []):
            pass

    def test_what_was_appended_survives_a_kill(self, tmp_path):
        program = (
            "import os, signal, sys\n"
            "from pathlib import Path\n"
            "from unison.serve import ledger\n"
            "with ledger.opened(Path(sys.argv[1]), {'a': 1}, []) as book:\n"
            '    book.append([\'{"custom_id": "x"}\', \'{"custom_id": "y"}\'])\n'
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        out = tmp_path / "out"
        command = [sys.executable, "-c", program, str(out)]
        subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": str(SOURCE)})
        with ledger.opened(out, {"a": 1}, ["x", "y", "z"]) as book:
            assert book.done == 2


class TestAsking:
    def test_an_application_is_asked_as_by_a_server(self):
        seen = {}

        async def app(scope, receive, send):
            seen.update(scope)
            assert (await receive())["body"] == b"hello"
            headers = [(b"x-a", b"1")]
            await send({"type": "http.response.start", "status": 201, "headers": headers})
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            await send({"type": "http.response.body", "body": b"two"})

        async def parts():
            return [part async for part in replies(app, Request("PUT", "/x", b"hello", (), "q=1"))]

        assert asyncio.run(parts()) == [Head(201, (("x-a", "1"),)), b"one", b"two"]
        assert (seen["method"], seen["path"], seen["query_string"]) == ("PUT", "/x", b"q=1")
        assert (b"content-length", b"5") in seen["headers"]

    def test_who_stops_listening_ends_the_answer(self):
        ended = []

        async def app(scope, receive, send):
            try:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await asyncio.sleep(3600)
            finally:
                ended.append(True)

        async def go():
            parts = replies(app, Request("GET", "/"))
            await anext(parts)
            await parts.aclose()

        asyncio.run(go())
        assert ended == [True]

    def test_an_answer_that_breaks_off_is_an_error(self):
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})

        with pytest.raises(RuntimeError, match="GET / got no whole answer"):
            asyncio.run(whole(app, Request("GET", "/")))

        async def broken(scope, receive, send):
            raise KeyError("why")

        with pytest.raises(KeyError, match="why"):
            asyncio.run(whole(broken, Request("GET", "/")))
