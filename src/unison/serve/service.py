"""Which models are served, and how does one take another's place while requests run?"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from unison.language_model import LanguageModel
from unison.serve.batching import Engine
from unison.serve.settings import Settings
from unison.suggest import nearest

Load = Callable[[], LanguageModel]


class UnknownModel(LookupError):  # noqa: N818  # told as 404
    """No model of that name is served."""


@dataclass(frozen=True)
class Hosted:
    """A model that is served.

    Attributes:
        name: What requests call it.
        model: The model.
        load: Loads it anew, for a hot reload; ``None`` where it was made in memory.
        created: Unix time at which it was loaded.
        version: How often it was loaded.
        source: Its checkpoint, whose chat template is read; ``None`` where it has none.
    """

    name: str
    model: LanguageModel
    load: Load | None = None
    created: int = field(default_factory=lambda: int(time.time()))
    version: int = 1
    source: str | None = None


class Service:
    """Models by name and the engine that runs them.

    Args:
        models: What is served; the first is the default.
        engine: Runs everything; already started.
        settings: How.
    """

    def __init__(self, models: Mapping[str, Hosted], engine: Engine, settings: Settings) -> None:
        if not models:
            raise ValueError("a server needs at least one model.")
        self.engine, self.settings = engine, settings
        self._models = dict(models)
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Models, the default first."""
        return tuple(self._models)

    def model(self, name: str | None) -> Hosted:
        """Return a model by name; the default for ``None``.

        Raises:
            UnknownModel: There is none of that name; the message suggests the nearest.
        """
        known = self._models
        if name is None:
            return next(iter(known.values()))
        if name not in known:
            raise UnknownModel(
                f"there is no model {name!r} here{nearest(name, known)}; served: "
                f"{', '.join(known)}."
            )
        return known[name]

    def reload(self, name: str) -> Hosted:
        """Load a model anew; requests from now on get it, running ones keep the one they have.

        Raises:
            UnknownModel: There is none of that name.
            ValueError: It cannot be loaded anew, or what is there now is damaged: the one that
                was served stays.
        """
        with self._lock:
            old = self.model(name)
            if old.load is None:
                raise ValueError(f"{name!r} was made in memory and cannot be loaded anew.")
            fresh = replace(
                old, model=old.load(), created=int(time.time()), version=old.version + 1
            )
            self._models = {**self._models, name: fresh}
            return fresh
