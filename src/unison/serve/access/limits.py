"""How much may one client ask? Token buckets per minute, and a number of requests at once.

A token bucket (Turner, 1986; RFC 2697 calls it a meter) fills at a constant rate up to its
capacity, here a minute's worth, and what is asked for is taken out.

A request costs one of the bucket of requests when it comes. What it will write is not known then;
it is let in while the bucket of tokens is not empty, and pays for what was written when it ends,
with debt if need be: it then takes longer until the next is let in. So a minute's limit is kept in
the long run and no request is refused for an estimate; what is written on credit is at most what
the client's requests at once may write.
"""

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

MINUTE = 60.0


@dataclass(frozen=True)
class Bucket:
    """A bucket at a moment.

    Attributes:
        capacity: What it holds when full; that much flows in within a minute.
        level: What it held at ``at``; negative for debt.
        at: Seconds of the clock.
    """

    capacity: float
    level: float
    at: float

    def now(self, now: float) -> "Bucket":
        """Return it at a later moment; at an earlier one it is as it was."""
        if now <= self.at:
            return self
        level = self.level + (now - self.at) * self.capacity / MINUTE
        return replace(self, level=min(self.capacity, level), at=now)

    def taken(self, amount: float) -> "Bucket":
        """Return it after an amount was taken out."""
        return replace(self, level=self.level - amount)

    def until(self, level: float) -> float:
        """Return the seconds until it holds at least so much."""
        return max(0.0, (level - self.level) * MINUTE / self.capacity)


class Limit(NamedTuple):
    """What a client may do; ``None`` for no limit.

    Attributes:
        requests_per_minute: Requests.
        tokens_per_minute: Tokens written.
        concurrent: Requests at once.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None


class Verdict(NamedTuple):
    """Whether a request is let in.

    Attributes:
        refused: Why not; ``None`` if it is.
        wait: Seconds after which to try again.
        headers: What is left, as the official clients read it.
    """

    refused: str | None
    wait: float
    headers: Mapping[str, str]


@dataclass
class _State:
    limit: Limit
    requests: Bucket | None
    tokens: Bucket | None
    running: int = 0


@dataclass
class Allotment:
    """Who has used how much; safe from any thread.

    Attributes:
        states: By client.
    """

    states: dict[str, _State] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, client: str, limit: Limit, now: float) -> Verdict:
        """Let a request in, or say when to come again; one let in must ``leave``."""
        with self._lock:
            state = self._state(client, limit, now)
            refused, wait = _refusal(state)
            if refused is None:
                state.running += 1
                if state.requests is not None:
                    state.requests = state.requests.taken(1.0)
            return Verdict(refused, wait, _headers(state))

    def leave(self, client: str, tokens: int, now: float) -> None:
        """Say that a request has ended, and how many tokens were written for it."""
        with self._lock:
            state = self.states[client]
            state.running -= 1
            if state.tokens is not None:
                state.tokens = state.tokens.now(now).taken(float(tokens))

    def _state(self, client: str, limit: Limit, now: float) -> _State:
        """Return a client's state at a moment; changed limits keep what was used."""
        old = self.states.get(client)
        if old is None:
            old = _State(limit, _full(limit.requests_per_minute), _full(limit.tokens_per_minute))
            old = self.states.setdefault(client, old)
        if old.limit != limit:
            old.requests = _resized(old.requests, limit.requests_per_minute, now)
            old.tokens = _resized(old.tokens, limit.tokens_per_minute, now)
            old.limit = limit
        old.requests = old.requests and old.requests.now(now)
        old.tokens = old.tokens and old.tokens.now(now)
        return old


def _full(per_minute: int | None) -> Bucket | None:
    return None if per_minute is None else Bucket(float(per_minute), float(per_minute), -math.inf)


def _resized(old: Bucket | None, per_minute: int | None, now: float) -> Bucket | None:
    """Return a bucket of another size with the same used from it."""
    if old is None or per_minute is None:
        return _full(per_minute)
    used = old.capacity - old.now(now).level
    return Bucket(float(per_minute), per_minute - used, now)


def _refusal(state: _State) -> tuple[str | None, float]:
    """Return why a request is not let in, and for how many seconds."""
    limit = state.limit
    if limit.concurrent is not None and state.running >= limit.concurrent:
        reason = (
            f"{state.running} requests of this key are running and {limit.concurrent} may; wait "
            "for one to end."
        )
        return reason, 1.0
    for bucket, least, what in (
        (state.requests, 1.0, "requests"),
        (state.tokens, 1.0, "tokens"),
    ):
        if bucket is not None and bucket.level < least:
            wait = bucket.until(least)
            reason = (
                f"this key may have {bucket.capacity:g} {what} per minute and has had them; come "
                f"again in {math.ceil(wait)} seconds."
            )
            return reason, wait
    return None, 0.0


def _headers(state: _State) -> dict[str, str]:
    told: dict[str, str] = {}
    for bucket, what in ((state.requests, "requests"), (state.tokens, "tokens")):
        if bucket is not None:
            told[f"x-ratelimit-limit-{what}"] = f"{bucket.capacity:g}"
            told[f"x-ratelimit-remaining-{what}"] = str(max(0, math.floor(bucket.level)))
            told[f"x-ratelimit-reset-{what}"] = f"{bucket.until(bucket.capacity):.3f}s"
    return told
