"""Fixtures of the server's tests; see ``served`` for what they are made of."""

import contextlib

import pytest


@pytest.fixture(scope="session")
def hosted():
    """Models of three processes: ``mdlm`` (the default), ``duo`` and ``ar``."""
    for needed in ("fastapi", "httpx", "uvicorn"):
        pytest.importorskip(needed)
    from served import small_models

    return small_models()


@pytest.fixture(scope="module")
def service(hosted):
    """The service of these models that the tests of a file share; its threads end with them."""
    from served import running

    with running(hosted) as made:
        yield made


@pytest.fixture
def serving(hosted):
    """From changed settings to a service of its own, stopped at the end."""
    from served import running

    from unison.serve.settings import Settings

    with contextlib.ExitStack() as stack:

        def make(limits=None, **settings):
            return stack.enter_context(running(hosted, Settings(**settings), limits))

        yield make


@pytest.fixture(scope="module")
def app(service):
    """The application over the shared service."""
    from unison.serve.http import create_app

    return create_app(service)


@pytest.fixture
def client(app):
    """Asks the application without a socket: ``client.post(path, json=...)``."""
    from served import Client

    return Client(app)


@pytest.fixture(scope="module")
def server_url(app):
    """The address of a real server of the application."""
    from served import listening

    with listening(app) as url:
        yield url
