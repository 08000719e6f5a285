"""What a client is told where a copy of the model is lost, full or wrong."""

import asyncio
import json

import pytest

pytest.importorskip("starlette")
pytest.importorskip("ray.serve")

from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError
from starlette.requests import Request as Incoming

from unison.serve.asking import Head, Request, replies, whole
from unison.serve.replicas.deployment import Gateway, Plan
from unison.serve.settings import Settings

STREAM = Head(200, (("content-type", "text/event-stream"),))
PLAIN = Head(200, (("content-type", "application/json"), ("content-length", "2")))


class Parts:
    """What a handle of Ray Serve returns: parts as they come, then perhaps an error."""

    def __init__(self, parts, error):
        self._left, self._error, self.cancelled = list(parts), error, False

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        if self._left:
            return self._left.pop(0)
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    def cancel(self):
        self.cancelled = True


class Handle:
    def __init__(self, parts=(), error=None):
        self.parts, self.asked = Parts(parts, error), []
        self.answer = self

    def options(self, stream):
        assert stream
        return self

    def remote(self, request):
        self.asked.append(request)
        return self.parts


def behind(handle, **settings):
    """The gateway as an application."""
    gateway = Gateway(handle, Settings(**settings))

    async def app(scope, receive, send):
        response = await gateway(Incoming(scope, receive))
        await response(scope, receive, send)

    return app


def head_and_body(handle, request=None, **settings):
    async def go():
        parts = replies(behind(handle, **settings), request or Request("POST", "/v1/x", b"{}"))
        head, *body = [part async for part in parts]
        return head.status, dict(head.headers), b"".join(body)

    return asyncio.run(go())


def lost():
    return ActorDiedError()


class TestLoss:
    @pytest.mark.parametrize("parts", [(), (PLAIN,), (STREAM,)])
    def test_before_the_first_byte_it_is_503_and_says_when_to_come_again(self, parts):
        status, headers, body = head_and_body(Handle(parts, lost()))
        assert status == 503
        assert headers["retry-after"] == "1"
        error = json.loads(body)["error"]
        assert error["type"] == "server_error"
        assert "repeat it" in error["message"]

    def test_in_the_middle_of_a_stream_the_last_event_is_an_error(self):
        status, _, body = head_and_body(Handle((STREAM, b"data: 1\n\n"), lost()))
        first, last, end = body.split(b"\n\n")
        assert (status, first, end) == (200, b"data: 1", b"")
        assert "gone" in json.loads(last.removeprefix(b"data: "))["error"]["message"]
        assert b"[DONE]" not in body

    def test_too_many_is_429_and_a_defect_500(self):
        full = BackPressureError(num_queued_requests=3, max_queued_requests=3)
        assert head_and_body(Handle((), full))[0] == 429
        status, headers, _ = head_and_body(Handle((), RayTaskError("f", "trace", ValueError("x"))))
        assert status == 500
        assert "retry-after" not in headers


class TestPassing:
    def test_an_answer_passes_unchanged(self):
        status, headers, body = head_and_body(Handle((PLAIN, b"{}")))
        assert (status, body) == (200, b"{}")
        assert headers["content-length"] == "2"
        assert headers["content-type"] == "application/json"

    def test_a_stream_passes_part_by_part(self):
        handle = Handle((STREAM, b"data: 1\n\n", b"data: 2\n\n", b"data: [DONE]\n\n"))

        async def go():
            request = Request("POST", "/v1/x", b"{}")
            return [part async for part in replies(behind(handle), request) if part]

        head, *events = asyncio.run(go())
        assert head.status == 200
        assert events == [b"data: 1\n\n", b"data: 2\n\n", b"data: [DONE]\n\n"]

    def test_the_request_reaches_the_copy_with_key_and_host(self):
        handle = Handle((PLAIN, b"{}"))
        headers = (("authorization", "Bearer k"), ("host", "h"), ("connection", "close"))
        head_and_body(handle, Request("POST", "/v1/x", b"{ }", headers, "a=b", "10.0.0.9"))
        (seen,) = handle.asked
        assert (seen.method, seen.path, seen.body, seen.query) == ("POST", "/v1/x", b"{ }", "a=b")
        assert seen.client == "10.0.0.9"
        assert dict(seen.headers) == {"authorization": "Bearer k", "host": "h"}

    def test_a_client_that_goes_ends_the_work(self):
        handle = Handle((STREAM, b"data: 1\n\n", *[b"data: x\n\n"] * 10_000))

        async def go():
            parts = replies(behind(handle), Request("POST", "/v1/x", b"{}"))
            await anext(parts)
            await anext(parts)
            await parts.aclose()

        asyncio.run(go())
        assert handle.parts.cancelled

    def test_what_was_read_to_the_end_is_not_cancelled(self):
        handle = Handle((PLAIN, b"{}"))
        head_and_body(handle)
        assert not handle.parts.cancelled


class TestBounds:
    def test_a_large_body_is_refused_before_any_copy_hears_of_it(self):
        handle = Handle((PLAIN, b"{}"))
        request = Request("POST", "/v1/x", b"x" * 101)
        status, _, body = head_and_body(handle, request, body_bytes=100)
        assert status == 413
        assert "at most 100 bytes" in json.loads(body)["error"]["message"]
        assert handle.asked == []

    def test_a_slow_body_is_refused(self):
        app = behind(Handle((PLAIN, b"{}")), body_seconds=0.05)

        async def slow(scope, receive, send):
            async def never():
                await asyncio.sleep(3600)

            await app(scope, never, send)

        assert asyncio.run(whole(slow, Request("POST", "/v1/x")))[0] == 408


class TestPlan:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"replicas": 0}, "replicas must be at least 1"),
            ({"tensor_parallel": 0}, "tensor_parallel must be at least 1"),
            ({"replicas": 3, "most": 2}, "at most 2 replicas and at least 3"),
            ({"target": 0.0}, "target must be positive"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, changes, reason):
        with pytest.raises(ValueError, match=reason):
            Plan("m", "m", **changes)
