"""How does a service go up, stay up and come down?

Up: checked, bound, then told where. Down, by SIGTERM or SIGINT: it says that it is not ready and
takes nothing new, what runs gets ``Settings.drain`` seconds, what is left then fails with an error
event; a second signal does not wait. SIGHUP loads the models anew.
"""

# ruff: noqa: E402  # the door comes before what needs it

from unison.serve import door

door.require()

import ipaddress
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType, TracebackType
from typing import Literal

import torch
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from unison.models import packed
from unison.serve.access import admin, keys, logs, metrics
from unison.serve.access.account import Denied, Names
from unison.serve.access.guards import Desk, denial, guarded
from unison.serve.access.keys import KeyFile
from unison.serve.access.logs import Log, to_stream
from unison.serve.access.metrics import Meters
from unison.serve.access.patience import patiently
from unison.serve.batching import Engine, Limits
from unison.serve.http.app import create_app
from unison.serve.service import Hosted, Service
from unison.serve.settings import Settings

Command = Literal["reload", "stop"]

_TICK = 0.05  # seconds between looks at what is left to do
_LAST_WORDS = 5  # seconds in which answers that are ready may still be sent
_SPARE = 64  # connections beyond those whose requests run or wait
_TELLS = ("x-request-id", "retry-after", *(
    f"x-ratelimit-{what}-{of}"
    for what in ("limit", "remaining", "reset")
    for of in ("requests", "tokens")
))  # fmt: skip


def check(settings: Settings, *, insecure: bool = False) -> None:
    """Refuse to serve the world without keys, or with keys nobody can read.

    Args:
        settings: Of the server.
        insecure: Whether somebody said that this is meant.

    Raises:
        ValueError: The host is not this machine alone and there are no keys, or none can be read.
    """
    if settings.keys is not None:
        keys.read(settings.keys)
    if settings.keys is None and not insecure and not _loopback(settings.host):
        raise ValueError(
            f"host {settings.host!r} lets other machines in and there are no keys: anybody could "
            "use this server. Make a key with: unison keys add NAME --file keys.json and serve "
            "with --keys keys.json; or say --insecure if that is meant."
        )


def claim(settings: Settings) -> None:
    """Refuse an address that cannot be listened on, before minutes of loading.

    Raises:
        ValueError: It is taken, not of this machine, or not known.
    """
    _bound(settings.host, settings.port).close()


def hosting(models: Mapping[str, Hosted], settings: Settings) -> Service:
    """Return a service of models with an engine that runs.

    Args:
        models: By name; their weights are in memory already.
        settings: How; without a budget of memory it is half of what is free now.
    """
    devices = [hosted.model.device for hosted in models.values()]
    memory = min(map(_free, devices)) // 2 if settings.memory is None else settings.memory
    engine = Engine(Limits(settings.rows, settings.waiting, memory))
    return Service(models, engine.start(), settings)


class Server:
    """A service on a port, in a thread of its own.

    Args:
        service: What is served; its engine runs, and is closed with the server.
        log: Takes a line per request; the standard error stream if left out.
        insecure: Whether other machines may use it without keys.

    Attributes:
        desk: What the guards share.
        app: The application behind its guards.

    Raises:
        ValueError: Other machines could use it without keys, or the keys cannot be read.
    """

    def __init__(self, service: Service, *, log: Log | None = None, insecure: bool = False) -> None:
        settings = service.settings
        check(settings, insecure=insecure)
        self.service = service
        self.log = to_stream(sys.stderr) if log is None else log
        ring = None if settings.keys is None else KeyFile(settings.keys)
        self.desk = Desk(settings, Names(service), Meters(service), self.log, ring)
        self.app = built(service, self.desk)
        self._socket: socket.socket | None = None
        self._commands: SimpleQueue[Command] = SimpleQueue()
        self._server = uvicorn.Server(_config(self.app, self.desk))
        self._thread = threading.Thread(target=self._serve, name="unison-server", daemon=True)
        self._broke: BaseException | None = None

    @property
    def url(self) -> str:
        """Where it is; the real port where any was asked for."""
        if self._socket is None:
            raise RuntimeError("the server was not started.")
        return self._url

    def start(self) -> "Server":
        """Bind, begin to answer, and return itself.

        Raises:
            ValueError: The address cannot be used.
            RuntimeError: The application did not start.
        """
        settings = self.service.settings
        self._socket = _bound(settings.host, settings.port)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self._url = f"http://{host}:{self._socket.getsockname()[1]}"
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                self._socket.close()
                raise RuntimeError("the server did not start.") from self._broke
            time.sleep(0.005)
        return self

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run(self, tell: Callable[[str], None]) -> None:
        """Serve until a signal says stop; in the main thread of a process of its own.

        Args:
            tell: Takes a line for people, which says where it is.
        """
        with _signals(self._commands.put), self._records(), self:
            tell(f"serving {', '.join(self.service.names)} at {self.url}")
            steady = _steady(self.service)
            self.log({"event": "started", "url": self.url, "batch_invariant": steady})
            while self._thread.is_alive() and self._next(1.0) != "stop":
                pass
            clean = self.drain(self.service.settings.drain)
            self.log({"event": "stopped", "drained": clean})

    def drain(self, seconds: float) -> bool:
        """Take nothing new and wait for what runs; return whether all of it was done."""
        self.desk.draining = True
        until = time.monotonic() + seconds
        while self.desk.inflight and time.monotonic() < until:
            if self._next(_TICK) == "stop":
                break
        return not self.desk.inflight

    def close(self) -> None:
        """Come down: what still runs fails, and says so to who waits for it."""
        self.desk.draining = True
        self.service.engine.close()
        self._server.should_exit = True
        self._thread.join()

    @contextmanager
    def _records(self) -> Iterator[None]:
        """Write down what libraries log, as everything else, while inside."""
        records = logs.Records(self.log, prompts=self.service.settings.log_prompts)
        root = logging.getLogger()
        root.addHandler(records)
        try:
            yield
        finally:
            root.removeHandler(records)

    def _serve(self) -> None:
        assert self._socket is not None
        try:
            self._server.run(sockets=[self._socket])
        except SystemExit as stop:  # what its server does where the application does not start
            self._broke = stop

    def _next(self, seconds: float) -> Command | None:
        """Return what was asked of it meanwhile; loading models anew is done here."""
        try:
            said = self._commands.get(timeout=seconds)
        except Empty:
            return None
        if said == "reload":
            self._reload()
        return said

    def _reload(self) -> None:
        for name in admin.loadable(self.service):
            with suppress(ValueError):  # written down; the one that was served stays
                admin.reloaded(self.service, name, self.desk.names, self.log)


def built(service: Service, desk: Desk) -> ASGIApp:
    """Return the application with all its routes, behind its guards."""
    app: FastAPI = create_app(service)
    app.include_router(metrics.router(desk.meters))
    app.include_router(admin.router(service, desk.names, desk.log))

    async def told_no(request: Request, error: Exception) -> Response:
        assert isinstance(error, Denied)
        return denial(error)

    app.add_exception_handler(Denied, told_no)
    whole = guarded(app, desk)
    if not desk.settings.cors:
        return whole
    return CORSMiddleware(
        whole,
        allow_origins=desk.settings.cors,
        allow_methods=("GET", "POST"),
        allow_headers=("authorization", "content-type", "x-request-id"),
        expose_headers=_TELLS,
    )


def _config(app: ASGIApp, desk: Desk) -> uvicorn.Config:
    settings = desk.settings
    seconds = settings.body_seconds
    return uvicorn.Config(
        app,
        # A class by its annotation; what is called is all the same.
        http=patiently(H11Protocol, seconds, lambda peer: desk.running[peer] > 0),  # pyright: ignore[reportArgumentType]
        ws="none",
        loop="asyncio",
        log_config=None,
        log_level="critical",  # every request has a line of ours
        access_log=False,
        proxy_headers=False,  # a client could name any address
        server_header=False,
        timeout_keep_alive=max(1, int(seconds)),
        timeout_graceful_shutdown=_LAST_WORDS,
        limit_concurrency=2 * (settings.waiting + settings.rows) + _SPARE,
    )


def _bound(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        ValueError: The address is taken, not of this machine, or not known.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (while")[0]
        raise ValueError(
            f"cannot listen on {host} port {port}: {why}; choose another --port (0 for any free "
            "one) or --host."
        ) from None
    # Connections inherit it; without, small answers wait 40 ms for an acknowledgement.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


def _steady(service: Service) -> dict[str, bool]:
    """Return of each model whether it writes the same to the last bit whatever else is written."""
    return {name: packed.invariant(service.model(name).model.network) for name in service.names}


def _free(device: torch.device) -> int:
    """Return the bytes that are free on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    text = Path("/proc/meminfo").read_text() if Path("/proc/meminfo").exists() else ""
    found = re.search(r"MemAvailable:\s+(\d+) kB", text)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return pages if found is None else int(found[1]) * 1024


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _signals(say: Callable[[Command], None]) -> Iterator[None]:
    """Turn signals into commands while inside; a queue may be put into from a handler."""
    meanings: dict[signal.Signals, Command] = {
        signal.SIGTERM: "stop",
        signal.SIGINT: "stop",
        signal.SIGHUP: "reload",
    }

    def heard(number: int, frame: FrameType | None) -> None:
        say(meanings[signal.Signals(number)])

    before = {number: signal.signal(number, heard) for number in meanings}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
