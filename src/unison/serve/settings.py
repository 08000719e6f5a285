"""How does a server behave? One frozen configuration, checked before anything is loaded."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What is served to whom, and how much of it.

    Attributes:
        host: Address to listen on; loopback unless told otherwise.
        port: Port to listen on; 0 for any free one.
        keys: File with hashed API keys; ``None`` for none, where everybody may ask.
        cors: Origins whose pages may ask; none unless told otherwise.
        body_bytes: Largest request body.
        prompt_tokens: Longest prompt; ``None`` for what the model reads.
        new_tokens: Most tokens written for one text; ``None`` for what the model's canvas holds.
        texts: Most texts (``n`` times prompts) of one request.
        timeout: Seconds after which a request is given up.
        body_seconds: Seconds a client may take to send its request.
        requests_per_minute: Of one key; ``None`` for no limit.
        tokens_per_minute: Written for one key; ``None`` for no limit.
        concurrent: Requests of one key at once; ``None`` for no limit.
        logprobs: Most alternatives of a token that are told; 0 tells no log-probabilities.
        logprob_digits: Decimals they are rounded down to; ``None`` for all.
        log_prompts: Whether logs hold prompts and answers.
        drain: Seconds that running requests get when the server goes down.
        playground: Whether the page to try things is served.
        rows: Texts written at once.
        waiting: Requests that may wait; more are refused.
        memory: Bytes for running work, weights aside; ``None`` for half of what is free.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: Path | None = None
    cors: tuple[str, ...] = ()
    body_bytes: int = 1_000_000
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    texts: int = 16
    timeout: float = 600.0
    body_seconds: float = 10.0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    logprobs: int = 5
    logprob_digits: int | None = None
    log_prompts: bool = False
    drain: float = 30.0
    playground: bool = True
    rows: int = 64
    waiting: int = 256
    memory: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port must be in [0, 65535], got {self.port}.")
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        for name in ("timeout", "body_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive seconds, got {getattr(self, name)}.")
        for name in ("logprobs", "logprob_digits", "drain"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} must be at least 0, got {value}.")


_AT_LEAST_ONE = (
    "body_bytes",
    "prompt_tokens",
    "new_tokens",
    "texts",
    "requests_per_minute",
    "tokens_per_minute",
    "concurrent",
    "rows",
    "waiting",
    "memory",
)
