"""How is the application asked without a socket? By the protocol it speaks with its server.

ASGI 3.0 (asgi.readthedocs.io): one call of the application per request, with a description of the
request, a coroutine that hands it events and one that takes its own.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

Message = MutableMapping[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]
Headers = tuple[tuple[str, str], ...]


class Request(NamedTuple):
    """What is asked.

    Attributes:
        method: As in HTTP, upper case.
        path: With its leading slash.
        body: What is sent.
        headers: Names in lower case, and values.
        query: What follows the question mark.
        client: Address it came from.
    """

    method: str
    path: str
    body: bytes = b""
    headers: Headers = (("content-type", "application/json"),)
    query: str = ""
    client: str = "127.0.0.1"


class Head(NamedTuple):
    """How an answer begins.

    Attributes:
        status: Of HTTP.
        headers: Names in lower case, and values.
    """

    status: int
    headers: Headers


async def replies(app: App, request: Request) -> AsyncGenerator[Head | bytes]:
    """Yield the head of the answer, then its body as it comes.

    Closing the iterator tells the application that the client has gone, as a server would, and
    waits until it is done.

    Raises:
        RuntimeError: The application ended in the middle of its answer, or without one.
        Exception: Whatever it raised there.
    """
    said: asyncio.Queue[Message | None] = asyncio.Queue()
    gone = asyncio.Event()
    task = asyncio.create_task(_answer(app, request, said, gone))
    complete = False
    try:
        while (message := await said.get()) is not None:
            if message["type"] == "http.response.start":
                yield Head(message["status"], _texts(message.get("headers", ())))
            elif message["type"] == "http.response.body":
                complete = not message.get("more_body", False)
                yield message.get("body", b"")
        if not complete:
            await task
            raise RuntimeError(f"{request.method} {request.path} got no whole answer.")
    finally:
        gone.set()
        if not complete:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def whole(app: App, request: Request) -> tuple[int, bytes]:
    """Return status and body of an answer.

    Raises:
        RuntimeError: The application ended in the middle of its answer, or without one.
        Exception: Whatever it raised there.
    """
    status, body = 0, b""
    async with contextlib.aclosing(replies(app, request)) as parts:
        async for part in parts:
            if isinstance(part, Head):
                status = part.status
            else:
                body += part
    return status, body


async def _answer(
    app: App, request: Request, said: asyncio.Queue[Message | None], gone: asyncio.Event
) -> None:
    unread = [{"type": "http.request", "body": request.body, "more_body": False}]

    async def receive() -> Message:
        if unread:
            return unread.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        said.put_nowait(message)

    try:
        await app(_scope(request), receive, send)
    finally:
        said.put_nowait(None)


def _scope(request: Request) -> Message:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
    if not any(name == b"host" for name, _ in headers):
        headers.append((b"host", b"127.0.0.1"))
    if not any(name == b"content-length" for name, _ in headers):
        headers.append((b"content-length", str(len(request.body)).encode()))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode("utf-8"),
        "query_string": request.query.encode("latin-1"),
        "root_path": "",
        "headers": headers,
        "client": (request.client, 0),
        "server": ("127.0.0.1", 80),
        "state": {},
    }


def _texts(headers: Any) -> Headers:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
