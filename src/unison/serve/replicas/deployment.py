"""What runs on every machine? Replicas that hold the model, and a gateway before them.

Ray Serve gives a request that was sent to a replica that dies back as an error of its own. The
gateway tells the client instead what a client understands: 503, and when to come again. A request
with a seed gets the same text the second time.
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from unison.language_model import LanguageModel
from unison.recipes.run import load
from unison.serve.asking import App, Head, Headers, Request, replies
from unison.serve.inside import Inside, serving
from unison.serve.replicas.cluster import Share
from unison.serve.settings import Settings

RETRY_AFTER = 1  # seconds; another replica takes the request at once, if there is one
_HOP = ("connection", "content-length", "keep-alive", "transfer-encoding", "upgrade")


@dataclass(frozen=True)
class Plan:
    """What is deployed.

    Attributes:
        model: A folder or name that every machine can load.
        name: What requests call it.
        device: ``auto``, ``cpu`` or ``cuda``.
        replicas: Copies of the model; with ``most``, the fewest.
        most: The most copies; ``None`` to keep the number.
        target: Requests in flight a copy should have; more make another copy.
        tensor_parallel: Devices one copy lies on, all of one machine.
        share: Of a machine, for each of those devices.
        gateways: Processes that take requests in.
        settings: Limits of requests, and how long running ones get when a copy ends.
    """

    model: str
    name: str
    device: str = "auto"
    replicas: int = 2
    most: int | None = None
    target: float = 8.0
    tensor_parallel: int = 1
    share: Share = field(default_factory=Share)
    gateways: int = 1
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        for name in ("replicas", "tensor_parallel", "gateways"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.most is not None and self.most < self.replicas:
            raise ValueError(
                f"there are to be at most {self.most} replicas and at least {self.replicas}."
            )
        if not self.target > 0:
            raise ValueError(f"target must be positive requests, got {self.target}.")

    @property
    def load(self) -> Callable[[str], LanguageModel]:
        """From a device to the model."""
        return partial(_load, self.model)


def _load(model: str, device: str) -> LanguageModel:
    return load(model, device)


class Replica:
    """One copy of the model with an engine of its own.

    Args:
        plan: What is deployed.
    """

    def __init__(self, plan: Plan) -> None:
        self._open = ExitStack()
        self._whole: Callable[[], bool] = lambda: True
        model = self._loaded(plan)
        self._inside = self._open.enter_context(serving(model, plan.name, plan.settings))
        self._app = _behind_guards(self._inside)

    def _loaded(self, plan: Plan) -> LanguageModel:
        if plan.tensor_parallel == 1:
            return plan.load(plan.device)
        from unison.serve.replicas.tensor_parallel import kind_of, spread

        ranks = spread(plan.load, plan.tensor_parallel, kind_of(plan.device))
        model = self._open.enter_context(ranks)
        network: Any = model.network
        self._whole = lambda: network.alive
        return model

    async def answer(self, request: Request) -> AsyncGenerator[Head | bytes]:
        """Yield head and body of an answer; a caller that goes away ends the work."""
        async with aclosing(replies(self._app, request)) as parts:
            async for part in parts:
                yield part

    def check_health(self) -> None:
        """Raise where the copy is of no use any more; Ray then starts another.

        Raises:
            RuntimeError: The engine has ended, or a device is lost.
        """
        if not self._inside.alive():
            raise RuntimeError("the engine has ended.")
        if not self._whole():
            raise RuntimeError("a process that holds part of the model is gone.")

    def __del__(self) -> None:  # Ray calls it once running requests are done
        self._open.close()


def _behind_guards(inside: Inside) -> App:
    """Return an application that asks for keys and holds clients to their limits."""
    from unison.serve.access.account import Names
    from unison.serve.access.guards import Desk, guarded
    from unison.serve.access.keys import KeyFile
    from unison.serve.access.logs import to_stream
    from unison.serve.access.metrics import Meters

    settings: Settings = inside.service.settings
    keys = None if settings.keys is None else KeyFile(settings.keys)
    meters, names = Meters(inside.service), Names(inside.service)
    return guarded(inside.app, Desk(settings, names, meters, to_stream(sys.stderr), keys))


class Gateway:
    """Takes requests in, hands each to a copy, and says cleanly where a copy was lost.

    Args:
        replicas: Handle of the copies.
        settings: Says how large a request may be, and how slow.
    """

    def __init__(self, replicas: Any, settings: Settings) -> None:
        self._replicas, self._settings = replicas.options(stream=True), settings

    async def __call__(self, request: Any) -> Any:
        """Answer a request of Starlette's."""
        from starlette.responses import Response, StreamingResponse

        body = await self._body(request)
        if isinstance(body, bytes):
            begun = await self._begin(_described(request, body))
        else:
            begun = body
        if isinstance(begun, _Refusal):
            return Response(begun.body, begun.status, dict(begun.headers))
        answer = StreamingResponse(_rest(begun), begun.head.status)
        answer.raw_headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in begun.kept]
        return answer

    async def _body(self, request: Any) -> "bytes | _Refusal":
        """Return what a client sends, or that it is too much or too slow."""
        most, seconds = self._settings.body_bytes, self._settings.body_seconds
        body = bytearray()
        try:
            async with asyncio.timeout(seconds):
                async for part in request.stream():
                    body += part
                    if len(body) > most:
                        return _refusal(413, f"a request holds at most {most:,} bytes.")
        except TimeoutError:
            return _refusal(408, f"the request was not there within {seconds:g} seconds.")
        return bytes(body)

    async def _begin(self, request: Request) -> "_Begun | _Refusal":
        """Return the answer from its first byte on, or why there is none."""
        from ray.exceptions import RayActorError, RayTaskError
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

        parts = self._replicas.answer.remote(request)
        try:
            head = await anext(parts)
            return _Begun(head, await anext(parts, b""), parts)
        except BackPressureError:
            return _refusal(429, "too many requests wait already; come again in a few seconds.")
        except (RayActorError, DeploymentUnavailableError):
            return _refusal(503, "the copy of the model that took this request is gone; repeat it.")
        except RayTaskError:
            return _refusal(500, "the server failed at this request.")


class _Begun(NamedTuple):
    """An answer that has begun.

    Attributes:
        head: Its head.
        first: The first of its body.
        parts: The rest.
    """

    head: Head
    first: bytes
    parts: Any

    @property
    def kept(self) -> Headers:
        """Headers that go on to the client."""
        whole = self.first if _length(self.head) == len(self.first) else None
        kept = tuple((k, v) for k, v in self.head.headers if k not in _HOP)
        return kept if whole is None else (*kept, ("content-length", str(len(whole))))


class _Refusal(NamedTuple):
    status: int
    body: bytes
    headers: Headers


async def _rest(begun: _Begun) -> AsyncIterator[bytes]:
    """Yield the body; a stream that is cut ends with an event that says so."""
    from ray.exceptions import RayError

    done = False
    try:
        yield begun.first
        async for part in begun.parts:
            yield part
        done = True
    except RayError:
        done = True
        if dict(begun.head.headers).get("content-type", "").startswith("text/event-stream"):
            yield b"data: " + _refusal(503, "the copy of the model that wrote is gone.").body
            yield b"\n\n"
    finally:
        if not done:  # the client went away
            begun.parts.cancel()


def _described(request: Any, body: bytes) -> Request:
    headers = tuple((k, v) for k, v in request.headers.items() if k not in _HOP)
    client = "" if request.client is None else request.client.host
    return Request(request.method, request.url.path, body, headers, request.url.query, client)


def _refusal(status: int, message: str) -> _Refusal:
    """Return an error as OpenAI's clients read it; they repeat what may be repeated."""
    kind = "invalid_request_error" if status < 500 and status != 429 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": None}
    headers = [("content-type", "application/json")]
    if status in (429, 503):
        headers.append(("retry-after", str(RETRY_AFTER)))
    return _Refusal(status, json.dumps({"error": error}).encode(), tuple(headers))


def _length(head: Head) -> int | None:
    said = dict(head.headers).get("content-length")
    return None if said is None else int(said)
