"""How does a process answer requests of its own? With application and engine, without a socket."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from unison.language_model import LanguageModel
from unison.serve.asking import App
from unison.serve.settings import Settings


class Inside(NamedTuple):
    """What answers.

    Attributes:
        app: The application.
        service: What the application serves.
        alive: Whether its engine serves.
    """

    app: App
    service: Any
    alive: Callable[[], bool]


@contextmanager
def serving(model: LanguageModel, name: str, settings: Settings) -> Iterator[Inside]:
    """Yield the application over an engine of its own.

    Args:
        model: Answers.
        name: What requests call it.
        settings: Limits.

    Raises:
        ValueError: The packages of a server are missing.
    """
    try:
        from unison.serve.batching import Engine, Limits
        from unison.serve.http.app import create_app
        from unison.serve.service import Hosted, Service
    except ModuleNotFoundError as error:
        raise ValueError(
            f"this needs the package {error.name!r}; pip install 'unison[serve]'."
        ) from None

    engine = Engine(Limits(settings.rows, settings.waiting, settings.memory)).start()
    try:
        service = Service({name: Hosted(name, model)}, engine, settings)
        yield Inside(create_app(service), service, lambda: engine.alive)
    finally:
        engine.close()
