"""What did one request ask, and what did it cost? Heard from the engine, whatever the endpoint."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

from unison.generation.ordering import Order
from unison.language_model import LanguageModel
from unison.models import Network
from unison.serve.access.keys import Allowance
from unison.serve.batching import Answered, Event, Started, Step, Work, Write, Wrote
from unison.serve.service import Service
from unison.speculation import Speculation
from unison.speculation.pearl import Pearl


class Denied(ValueError):  # noqa: N818  # an answer, not a defect
    """A client is told no.

    Attributes:
        status: Of HTTP.
        code: For programs.
        message: For people.
        field: Of the request, that it is about.
        retry: Seconds after which to try again.
        headers: More to tell.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        retry: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.field, self.retry, self.headers = field, retry, headers or {}


@dataclass(frozen=True)
class Client:
    """Who asks.

    Attributes:
        name: Of the key; empty without keys.
        allowance: What it may do.
    """

    name: str = ""
    allowance: Allowance = field(default_factory=lambda: Allowance(priority=2**31))


class Cost(NamedTuple):
    """What a request came to.

    Attributes:
        model: The first it used, by name; ``None`` if it came to none.
        strategy: How it wrote; ``None`` where nothing was written.
        prompt_tokens: Given tokens of its canvases.
        completion_tokens: Written, also for texts it did not wait for.
        nfe: Network evaluations of finished texts.
        queue_seconds: Until its work began.
        first_seconds: From its arrival until the first it was told.
        run_seconds: Of the engine, waiting aside.
    """

    model: str | None = None
    strategy: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    nfe: int = 0
    queue_seconds: float | None = None
    first_seconds: float | None = None
    run_seconds: float | None = None


@dataclass
class _Text:
    """How far one text has come: the written positions of its first step and of its last."""

    given: Step | None = None
    last: Step | None = None
    tokens: int | None = None

    def written(self) -> int:
        """Return how many tokens were written."""
        if self.tokens is not None:
            return self.tokens
        if self.given is None or self.last is None:
            return 0
        return sum(self.last.written) - sum(self.given.written)


class Account:
    """One request's witness: holds its work to what its key may do, and adds up what it costs.

    Args:
        names: From a network's model to its name.
        texts: Whether what is asked and written is kept, for logs that hold it.

    Attributes:
        client: Who asks; whoever authenticates it sets this.
        prompts: What was asked, if that is kept.
        answers: What was written, likewise.
    """

    def __init__(self, names: "Names", *, texts: bool = False) -> None:
        self.client = Client()
        self.prompts: list[str] = []
        self.answers: list[str] = []
        self._names, self._keeps = names, texts
        self._since = time.monotonic()
        self._lock = threading.Lock()
        self._cost = Cost()
        self._began: float | None = None
        self._ended: float | None = None
        self._texts: dict[tuple[int, int], _Text] = {}
        self._works: list[Work] = []  # alive, so that no two have one id

    def admit(self, work: Work) -> Work:
        """Return work in its client's name.

        Raises:
            Denied: Its key may not use the model, or not so urgently.
        """
        model = work.order.model if isinstance(work, Write) else work.model
        name, allowed = self._names(model), self.client.allowance
        if allowed.models and name not in allowed.models:
            raise Denied(
                403,
                "model_not_allowed",
                f"this key may not use the model {name!r}; it may use: "
                f"{', '.join(allowed.models)}.",
                field="model",
            )
        if work.terms.priority > allowed.priority:
            raise Denied(
                403,
                "priority_not_allowed",
                f"this key may ask for a priority of at most {allowed.priority}, not "
                f"{work.terms.priority}.",
                field="priority",
            )
        with self._lock:
            cost = self._cost
            self._cost = cost._replace(model=cost.model or name)
            if isinstance(work, Write):
                self._ordered(work.order)
            admitted = replace(work, terms=replace(work.terms, client=self.client.name))
            self._works.append(admitted)
        return admitted

    def hear(self, work: Work, event: Event) -> None:
        """Take down what is told of work."""
        now = time.monotonic()
        with self._lock:
            self._ended = now
            if isinstance(event, Started):
                self._began = now if self._began is None else self._began
                waited = max(event.waited, self._cost.queue_seconds or 0.0)
                self._cost = self._cost._replace(queue_seconds=waited)
            elif isinstance(event, Step | Wrote | Answered) and self._cost.first_seconds is None:
                self._cost = self._cost._replace(first_seconds=now - self._since)
            if isinstance(event, Step | Wrote):
                self._wrote(work, event)

    def cost(self) -> Cost:
        """Return what it has come to by now."""
        with self._lock:
            written = sum(text.written() for text in self._texts.values())
            ran = None if self._began is None or self._ended is None else self._ended - self._began
            return self._cost._replace(completion_tokens=written, run_seconds=ran)

    def _ordered(self, order: Order) -> None:
        firsts = {text.prompt: text.row for text in order.texts}
        given = sum(sum(row.given) for row in firsts.values())
        cost = self._cost
        self._cost = cost._replace(
            strategy=cost.strategy or _manner(order), prompt_tokens=cost.prompt_tokens + given
        )
        if self._keeps:
            self.prompts += [
                order.model.text(_known(row.tokens, row.given)) for row in firsts.values()
            ]

    def _wrote(self, work: Work, event: Step | Wrote) -> None:
        text = self._texts.setdefault((id(work), event.text), _Text())
        if isinstance(event, Step):
            text.given, text.last = text.given or event, event
            return
        text.tokens = event.tokens
        self._cost = self._cost._replace(nfe=self._cost.nfe + event.sample.nfe)
        if self._keeps:
            self.answers.append(event.answer)


class Names:
    """Models' names; those of versions that another took the place of are remembered.

    Args:
        service: Has them.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._known: WeakKeyDictionary[Network, str] = WeakKeyDictionary()
        self.refresh()

    def __call__(self, model: LanguageModel) -> str:
        """Return what requests call a model; ``other`` for one that is not served by a name."""
        if model.network not in self._known:
            self.refresh()
        return self._known.get(model.network, "other")

    def refresh(self) -> None:
        """Take down the names of what is served now; before a model is loaded anew."""
        for name in self._service.names:
            self._known[self._service.model(name).model.network] = name


def _manner(order: Order) -> str:
    if isinstance(order.how, Speculation | Pearl):
        return "speculation"
    return type(order.how).__name__


def _known(tokens: Sequence[int], given: Sequence[bool]) -> list[int]:
    return [token for token, known in zip(tokens, given, strict=True) if known]
