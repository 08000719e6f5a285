"""Where is the page, and how does it reach the models? Static files, facts, a stream, a trace.

Nothing is built or fetched from elsewhere: the files lie in this package, and the page's content
policy lets only them in. Model text reaches the page as data and is shown as text.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from importlib import resources
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from unison import constrain, view
from unison.constrain import Grammar
from unison.serve.batching import Failed, Step, Terms, Write, Wrote, listen
from unison.serve.http.bodies import strict_json
from unison.serve.http.errors import error_object
from unison.serve.playground import facts, sharing
from unison.serve.playground.story import Message, Story, telling
from unison.serve.playground.wish import Wish, field_in, order_of, read
from unison.serve.service import Service

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def router(service: Service) -> APIRouter:
    """Return the page and what it asks.

    ``GET /`` and ``/playground`` are the page, ``/playground/NAME`` its files; they hold nothing
    of the server. ``GET /playground/facts`` says what can be chosen, ``POST /playground/stream``
    writes a text and tells every step, ``POST /playground/trace`` makes a page of what it told:
    these are the service's own and need its keys.
    """
    files = _files()
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    @routes.get("/playground")
    async def page() -> Response:
        return _file("index.html", files)

    @routes.get("/playground/facts")
    async def known() -> Response:
        return JSONResponse(await asyncio.to_thread(facts.of_service, service))

    @routes.post("/playground/stream", dependencies=[Depends(strict_json)])
    async def stream(request: Request) -> Response:
        return await _stream(service, request)

    @routes.post("/playground/trace")
    async def trace(request: Request) -> Response:
        if request.headers.get("content-type") != "application/gzip":
            raise HTTPException(415, "the body must be of the type application/gzip.")
        page = await asyncio.to_thread(sharing.page, await request.body())
        return Response(page, media_type=_TYPES["html"], headers={"Cache-Control": "no-store"})

    @routes.get("/playground/{name}")
    async def file(name: str) -> Response:
        return _file(name, files)

    return routes


def _files() -> Mapping[str, bytes]:
    """Return the page's files by name, the colours among them."""
    folder = resources.files("unison.serve.playground") / "static"
    found = {item.name: item.read_bytes() for item in folder.iterdir() if item.is_file()}
    return {**found, "theme.css": view.colours().encode()}


def _file(name: str, files: Mapping[str, bytes]) -> Response:
    if name not in files:
        raise HTTPException(404, f"the playground has no file {name!r}.")
    kind = _TYPES.get(name.rpartition(".")[2], "application/octet-stream")
    return Response(files[name], media_type=kind, headers=_HEADERS)


async def _stream(service: Service, request: Request) -> Response:
    """Return a text's steps as server-sent events.

    Raises:
        UnknownModel: There is no such model.
        Refused: It cannot be written.
        Full: The engine takes no more work.
    """
    wish = read(await request.body())
    order, grammar = await asyncio.to_thread(order_of, service, wish)
    terms = Terms(getattr(request.state, "client", ""), deadline=service.settings.timeout)
    messages = _messages(service, Write(order, watch=True, terms=terms), wish, grammar)
    first = await anext(messages)
    return StreamingResponse(
        _events(first, messages),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(first: Message, rest: AsyncIterator[Message]) -> AsyncIterator[str]:
    async with contextlib.aclosing(rest):  # pyright: ignore[reportArgumentType]
        yield _event(first)
        async for message in rest:
            yield _event(message)


def _event(message: Message) -> str:
    return f"data: {json.dumps(message, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def _messages(
    service: Service, work: Write, wish: Wish, grammar: Grammar | None
) -> AsyncIterator[Message]:
    """Yield what the page is told of a text.

    Raises:
        Full: The engine takes no more work.
    """
    story = Story(work.order, wish.seed, telling(service.settings))
    began = time.monotonic()
    async with contextlib.aclosing(listen(service.engine, work)) as events:  # pyright: ignore
        async for event in events:
            for message in _said(story, event):
                message["seconds"] = round(time.monotonic() - began, 4)
                if message["event"] == "done":
                    message["fits"] = await asyncio.to_thread(_fits, grammar, message["answer"])
                yield message


def _said(story: Story, event: Any) -> list[Message]:
    if isinstance(event, Step):
        return list(story.step(event))
    if isinstance(event, Wrote):
        return list(story.end(event))
    if isinstance(event, Failed):
        return [{"event": "failed", **_failure(event.error)}]
    return []


def _failure(error: Exception) -> dict[str, Any]:
    """Return what is told of a text that could not be finished; a defect keeps its details."""
    if isinstance(error, ValueError):
        return error_object(400, str(error), field_in(str(error)))
    if isinstance(error, TimeoutError):
        return error_object(408, "the request took longer than this server allows.")
    if isinstance(error, InterruptedError):
        return error_object(503, "the server is going down; try again in a minute.")
    return error_object(500, "the server made a mistake; it is logged there.")


def _fits(grammar: Grammar | None, text: str) -> bool | None:
    """Return whether a text is in the language; ``None`` without one, or if that is too hard."""
    if grammar is None:
        return None
    try:
        return constrain.member(grammar, text)
    except constrain.ConstraintError:
        return None
