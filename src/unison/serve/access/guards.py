"""What does every request pass before an endpoint sees it, and its answer on the way back?

Pure ASGI, each guard an application around an application: streaming answers pass through them
event by event, and a client that goes is noticed in the endpoint.
"""

import asyncio
import ipaddress
import math
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unison.serve.access import bodies, logs
from unison.serve.access.account import Account, Client, Denied, Names
from unison.serve.access.keys import KeyFile, KeysError
from unison.serve.access.limits import Allotment, Limit
from unison.serve.access.logs import Log, Visit
from unison.serve.access.metrics import Meters
from unison.serve.batching.listening import witness
from unison.serve.http.errors import problem
from unison.serve.settings import Settings

FREE = frozenset({"/health", "/ready"})
# The page that asks for a key is itself free of one, with its files; what it asks is not.
_PAGE = re.compile(r"/|/playground(/[\w-]+\.[a-z0-9]+)?")
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_CLOSED = 499  # as proxies write it: the client closed the connection
_WAIT = 5.0  # seconds after which another server, or this one again, may be asked


@dataclass
class Desk:
    """What the guards of one server share.

    Attributes:
        settings: How it behaves.
        names: Of models.
        meters: What is counted.
        log: What is written down.
        keys: Who may ask; ``None`` for everybody.
        allotment: Who used how much.
        draining: Whether it is going down.
        running: Requests being answered, by peer address.
        clock: Seconds.
    """

    settings: Settings
    names: Names
    meters: Meters
    log: Log
    keys: KeyFile | None = None
    allotment: Allotment = field(default_factory=Allotment)
    draining: bool = False
    running: Counter[tuple[str, int] | None] = field(default_factory=Counter)
    clock: Callable[[], float] = time.monotonic

    @property
    def inflight(self) -> int:
        """Requests being answered."""
        return sum(self.running.values())


def guarded(app: ASGIApp, desk: Desk) -> ASGIApp:
    """Return an application behind all guards."""
    bounds = bodies.Bounds(desk.settings.body_bytes, desk.settings.body_seconds)
    inner = bodies.whole(app, bounds)
    for guard in (rationed, authenticated, from_here, open_still):
        inner = guard(inner, desk)
    return recorded(inner, desk)


@dataclass
class _Answer:
    """Passes an answer on, with headers of ours, and remembers what it was."""

    send: Send
    headers: dict[str, str]
    patience: float
    status: int | None = None
    done: bool = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            theirs = {name.lower() for name, _ in message.get("headers", ())}
            ours = [
                (name.encode(), value.encode())
                for name, value in self.headers.items()
                if name.encode() not in theirs
            ]
            message = {**message, "headers": [*message.get("headers", ()), *ours]}
        try:
            async with asyncio.timeout(self.patience):
                await self.send(message)
        except TimeoutError:  # nobody reads it: nothing more is written
            raise bodies.ClientGone from None
        if message["type"] == "http.response.body":
            self.done = not message.get("more_body", False)


def recorded(app: ASGIApp, desk: Desk) -> ASGIApp:
    """Give each request a name and an account, write it down, and let no exception pass."""

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        began, name = time.monotonic(), _name_of(scope)
        account = Account(desk.names, texts=desk.settings.log_prompts)
        headers = {**_HEADERS, "x-request-id": name}
        answer = _Answer(send, headers, desk.settings.timeout)
        scope["state"] = {
            **scope.get("state", {}),
            "client": "",
            "request_id": name,
            "account": account,
            "headers": headers,
        }
        peer = _peer(scope)
        desk.running[peer] += 1
        present = witness.set(account)
        error = None
        try:
            error = await _answered(app, (scope, receive, answer), desk.settings.body_seconds)
        finally:
            witness.reset(present)
            desk.running[peer] -= 1
            desk.running += Counter()  # forgets peers at zero
            status = _CLOSED if answer.status is None else answer.status
            ended = "failed" if error else "done" if answer.done else "gone"
            visit = Visit(
                name, _method(scope), route(scope), status, time.monotonic() - began, ended, error
            )
            _write_down(desk, visit, account)

    return guard


async def _answered(
    app: ASGIApp, line: tuple[Scope, Receive, _Answer], seconds: float
) -> str | None:
    """Run an application; return kind and place of a defect, whose message may hold a prompt."""
    scope, receive, answer = line
    try:
        await app(scope, receive, answer)
    except bodies.ClientGone:
        return None
    except Denied as no:
        if no.status != 408:  # who was too slow already gets no more time
            await bodies.discard(scope, receive, seconds)
        await denial(no, close=True)(scope, receive, answer)
    except Exception as error:  # noqa: BLE001  # the last door: it is written down and answered
        if answer.status is None:
            no = Denied(500, "internal_error", "the server failed at this; it was written down.")
            await denial(no, close=True)(scope, receive, answer)
        return logs.place_of(error)
    return None


def denial(no: Denied, *, close: bool = False) -> Response:
    """Return what a client that is told no is answered.

    Args:
        no: What is told.
        close: Whether the connection is closed after it, for the request was not read.
    """
    headers = dict(no.headers)
    if no.retry is not None:
        headers["retry-after"] = str(max(1, math.ceil(no.retry)))
    if close:
        headers["connection"] = "close"
    return problem(no.status, no.message, no.field, no.code, headers)


def open_still(app: ASGIApp, desk: Desk) -> ASGIApp:
    """Take no new requests while the server goes down; how it is may still be asked."""

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if _asks(scope) and desk.draining and scope["path"] not in ("/health", "/metrics"):
            raise Denied(503, "going_down", "the server is going down.", retry=_WAIT)
        await app(scope, receive, send)

    return guard


def from_here(app: ASGIApp, desk: Desk) -> ASGIApp:
    """Keep pages of other sites from using a server without keys through somebody's browser.

    A page may send a request anywhere, and a name that resolves to this machine makes the answer
    readable to it (DNS rebinding): so the host must be an address, localhost or the one served,
    and the page's origin this server or one that is allowed.
    """

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if _asks(scope) and desk.keys is None:
            said = _headers(scope)
            host, origin = said.get("host", ""), said.get("origin")
            if not _literal(host, desk.settings.host):
                raise Denied(
                    403,
                    "host_not_allowed",
                    "a server without keys is asked by its address or as localhost, not by "
                    "another name; use its address, or give it keys.",
                )
            if origin is not None and not _same(origin, host, desk.settings.cors):
                raise Denied(
                    403,
                    "origin_not_allowed",
                    "pages of other sites may not use this server; see --cors.",
                )
        await app(scope, receive, send)

    return guard


def authenticated(app: ASGIApp, desk: Desk) -> ASGIApp:
    """Let in who shows a valid key, where there are keys; ``request.state.client`` is its name."""

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if _asks(scope) and not _free(scope, desk.settings):
            client = _anybody(scope) if desk.keys is None else _holder(scope, desk.keys)
            if scope["path"].startswith("/admin") and not client.allowance.admin:
                raise Denied(403, "not_an_admin", "this needs the key of an administrator.")
            scope["state"]["account"].client = client
            scope["state"]["client"] = client.name
        await app(scope, receive, send)

    return guard


def rationed(app: ASGIApp, desk: Desk) -> ASGIApp:
    """Hold each client to its requests, tokens and requests at once; GET and HEAD cost nothing."""

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if not _asks(scope) or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await app(scope, receive, send)
            return
        account: Account = scope["state"]["account"]
        client = account.client
        verdict = desk.allotment.enter(client.name, limit(client, desk.settings), desk.clock())
        if verdict.refused is not None:
            raise Denied(
                429,
                "rate_limit_exceeded",
                verdict.refused,
                retry=verdict.wait,
                headers=verdict.headers,
            )
        scope["state"]["headers"] |= verdict.headers
        try:
            await app(scope, receive, send)
        finally:
            desk.allotment.leave(client.name, account.cost().completion_tokens, desk.clock())

    return guard


def limit(client: Client, settings: Settings) -> Limit:
    """Return what a client may do: what its key says, else what everybody gets."""
    own = client.allowance
    return Limit(
        own.requests_per_minute or settings.requests_per_minute,
        own.tokens_per_minute or settings.tokens_per_minute,
        own.concurrent or settings.concurrent,
    )


def route(scope: Scope) -> str:
    """Return the template of a request's path: few, whatever clients ask for."""
    return getattr(scope.get("route"), "path", "other")


def _write_down(desk: Desk, visit: Visit, account: Account) -> None:
    cost = account.cost()
    desk.meters.count(visit, cost)
    desk.log(logs.entry(visit, account, cost, prompts=desk.settings.log_prompts))


def _asks(scope: Scope) -> bool:
    return scope["type"] == "http"


def _free(scope: Scope, settings: Settings) -> bool:
    """Return whether a path is open to everybody."""
    reads = scope["method"] in ("GET", "HEAD")
    page = settings.playground and reads and _PAGE.fullmatch(scope["path"])
    return bool(page) or scope["path"] in FREE


def _anybody(scope: Scope) -> Client:
    """Return the client of a server without keys: an administrator if it is on this machine."""
    client = Client()
    here = _loopback((scope.get("client") or ("",))[0])
    admin = type(client.allowance)(priority=client.allowance.priority, admin=here)
    return Client("", admin)


def _holder(scope: Scope, keys: KeyFile) -> Client:
    """Return whose key a request shows.

    Raises:
        Denied: None, not a valid one, or nobody can tell.
    """
    shown = [value for name, value in scope["headers"] if name == b"authorization"]
    scheme, _, token = (shown[0] if len(shown) == 1 else b"").decode("latin-1").partition(" ")
    try:
        found = keys.find(token.strip(), time.time())
    except KeysError:
        raise Denied(
            503, "keys_unreadable", "keys cannot be checked at the moment.", retry=_WAIT
        ) from None
    if scheme.lower() != "bearer" or found is None:
        reason = "this server asks for a key; send it as: Authorization: Bearer usk-..."
        wrong = "this key is not valid: it is unknown, revoked or past its time."
        raise Denied(
            401,
            "invalid_api_key",
            wrong if shown else reason,
            headers={"www-authenticate": "Bearer"},
        )
    return Client(found.name, found.allowance)


def _headers(scope: Scope) -> Mapping[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _literal(host: str, served: str) -> bool:
    """Return whether a Host header names an address, this machine or the host served."""
    name = _hostname(f"//{host}")
    return name in ("localhost", served.lower()) or _address(name) is not None


def _same(origin: str, host: str, allowed: tuple[str, ...]) -> bool:
    return origin in allowed or "*" in allowed or origin.partition("://")[2] == host


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _address(name: str) -> Any:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _loopback(name: str) -> bool:
    address = _address(name)
    return address is not None and address.is_loopback


def _peer(scope: Scope) -> tuple[str, int] | None:
    client = scope.get("client")
    return None if client is None else (client[0], client[1])


def _method(scope: Scope) -> str:
    """Return the method; a label of metrics, so any invented one is one."""
    known = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return scope["method"] if scope["method"] in known else "other"


def _name_of(scope: Scope) -> str:
    """Return the client's name of a request, if it is fit for a log, or a new one."""
    said = _headers(scope).get("x-request-id", "")
    return said if _ID.fullmatch(said) else f"req_{secrets.token_hex(12)}"
