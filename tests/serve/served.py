"""What tests of the server stand on: services of small models, an application, a real server."""

import asyncio
import contextlib
import threading
import time

import httpx
import tiny
import uvicorn

from unison.serve.batching import Engine, Limits
from unison.serve.service import Hosted, Service
from unison.serve.settings import Settings

LENGTH = 48


def small_models():
    """Models of three processes: ``mdlm`` (the default), ``duo`` and ``ar``."""
    return {
        family: Hosted(family, tiny.model(family, length=LENGTH))
        for family in ("mdlm", "duo", "ar")
    }


@contextlib.contextmanager
def running(hosted, settings=None, limits=None):
    """A service with an engine of its own, stopped at the end."""
    engine = Engine(limits or Limits()).start()
    try:
        yield Service(hosted, engine, settings or Settings())
    finally:
        engine.close()


def reaching(app):
    """A client of an application, without a socket; a defect is an answer, not an exception."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://unison")


class Client:
    """Asks an application from a test that is no coroutine."""

    def __init__(self, app):
        self.app = app

    def request(self, method, path, **said):
        async def ask():
            async with reaching(self.app) as client:
                return await client.request(method, path, timeout=60, **said)

        return asyncio.run(ask())

    def get(self, path, **said):
        return self.request("GET", path, **said)

    def post(self, path, **said):
        return self.request("POST", path, **said)


@contextlib.contextmanager
def listening(app):
    """The address of a real server of an application, on a free port of loopback."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="test-server")
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
