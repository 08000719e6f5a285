"""Whose turn is it? Priorities first, then clients in turn, then who came first."""

import itertools
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from unison.serve.batching.work import Terms

T = TypeVar("T")


@dataclass(frozen=True)
class Waiting(Generic[T]):
    """Something that waits.

    Attributes:
        thing: What.
        terms: Whose, how urgent, until when.
        since: When it came, in seconds of the engine's clock.
        number: How many came before.
        size: What its service costs, in any unit that is the same for all.
    """

    thing: T
    terms: Terms
    since: float
    number: int
    size: float

    @property
    def expires(self) -> float:
        """When nobody waits for it any more."""
        return self.since + (float("inf") if self.terms.deadline is None else self.terms.deadline)


@dataclass
class FairQueue(Generic[T]):
    """A queue in which no client can starve another of its priority.

    Start-time fair queueing (Goyal, Vin & Cheng, 1997) with equal weights: each client has a
    virtual time that grows by the size of what it is served; the client with the least goes
    first, and one that was away comes back at the time of those being served.

    Attributes:
        waiting: What waits, as it came.
    """

    waiting: list[Waiting[T]] = field(default_factory=list)
    _served: dict[str, float] = field(default_factory=dict)
    _now: float = 0.0
    _numbers: itertools.count = field(default_factory=itertools.count)

    def __len__(self) -> int:
        return len(self.waiting)

    def put(self, thing: T, terms: Terms, since: float, size: float = 1.0) -> Waiting[T]:
        """Let something wait."""
        one = Waiting(thing, terms, since, next(self._numbers), size)
        if not any(other.terms.client == terms.client for other in self.waiting):
            self._served[terms.client] = max(self._served.get(terms.client, 0.0), self._now)
        self.waiting.append(one)
        return one

    def put_back(self, one: Waiting[T]) -> None:
        """Let something wait again that was served for a while; it keeps its place."""
        self.waiting.append(one)
        self._served[one.terms.client] = self._served.get(one.terms.client, 0.0) - one.size

    def first(self) -> Waiting[T] | None:
        """Return who is next; it stays in the queue."""
        return min(self.waiting, key=self._rank, default=None)

    def take(self, one: Waiting[T]) -> None:
        """Serve someone."""
        self.waiting.remove(one)
        client = one.terms.client
        self._now = max(self._now, self._served.get(client, 0.0))
        self._served[client] = self._served.get(client, 0.0) + one.size
        if not self.waiting:
            self._served = {client: self._served[client]}

    def expired(self, now: float) -> list[Waiting[T]]:
        """Remove and return everything nobody waits for any more."""
        late = [one for one in self.waiting if one.expires <= now]
        self.waiting = [one for one in self.waiting if one.expires > now]
        return late

    def _rank(self, one: Waiting[T]) -> tuple[int, float, float, int]:
        served = self._served.get(one.terms.client, 0.0)
        return (-one.terms.priority, served, one.expires, one.number)
