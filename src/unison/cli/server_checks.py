"""Does a server that runs somewhere do what it should? Asked as any client would."""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from rich.table import Table
from rich.text import Text

from unison.cli import shared

KEY = "UNISON_API_KEY"
_TIMEOUT = 60.0
_SKEW = 60.0  # seconds that clocks may differ
_HERE = ("localhost", "127.0.0.1", "::1")
_TINY = {"prompt": "a", "max_tokens": 4, "seed": 0}
_MARKS = {True: Text("ok", style="green"), False: Text("wrong", style="red"), None: Text("note")}


class Check(NamedTuple):
    """One thing that was looked at.

    Attributes:
        name: What.
        fine: Whether it is as it should be; ``None`` where that is for people to judge.
        said: What was found.
    """

    name: str
    fine: bool | None
    said: str


class Answer(NamedTuple):
    """What a server answered.

    Attributes:
        status: Of HTTP.
        headers: Names in lower case.
        body: As sent.
        seconds: From asking to the end of the answer.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        """The body's value; ``None`` where it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True)
class Remote:
    """A server somewhere.

    Attributes:
        url: Without a path.
        key: To be let in; ``None`` for none.
    """

    url: str
    key: str | None

    def ask(self, path: str, body: Any = None, *, key: bool = True) -> Answer:
        """Return the answer to a GET, or with a body to a POST.

        Raises:
            ValueError: There is none.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        if key and self.key:
            headers["authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(self.url + path, data, headers)
        began = time.perf_counter()
        try:
            with self._opener().open(request, timeout=_TIMEOUT) as said:
                return _read(said, said.status, began)
        except urllib.error.HTTPError as error:
            with error:
                return _read(error, error.code, began)
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise ValueError(
                f"{self.url} cannot be reached: {reason}; is it running, and is this its address?"
            ) from None

    def _opener(self) -> urllib.request.OpenerDirector:
        here = urlsplit(self.url).hostname in _HERE
        direct = [urllib.request.ProxyHandler({})] if here else []
        return urllib.request.build_opener(_Staying, *direct)


class _Staying(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: the key is for this server and no other."""

    def redirect_request(self, *_: Any) -> None:
        """Stay, whatever is said."""


def run(url: str, *, as_json: bool) -> None:
    """Look at a server and print what was found.

    Raises:
        ValueError: Something is wrong; the message says what.
    """
    remote = Remote(address(url), os.environ.get(KEY))
    checks = examined(remote)
    if as_json:
        shared.emit({"server": remote.url, "checks": [check._asdict() for check in checks]})
    else:
        shared.Console(highlight=False).print(_table(checks))
    wrong = [check for check in checks if check.fine is False]
    if wrong:
        raise ValueError(
            f"{len(wrong)} of {len(checks)} checks of {remote.url} failed: "
            + "; ".join(f"{check.name}: {check.said}" for check in wrong)
        )


def address(url: str) -> str:
    """Return the address of a server without its path.

    Raises:
        ValueError: It is none.
    """
    whole = url if "://" in url else f"http://{url}"
    parts = urlsplit(whole)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"--server {url!r}: give an address such as http://127.0.0.1:8000.")
    return f"{parts.scheme}://{parts.netloc}"


def examined(remote: Remote) -> list[Check]:
    """Return everything that was looked at; later checks are left out where nobody is let in.

    Raises:
        ValueError: The server cannot be reached.
    """
    checks = [_alive(remote), _ready(remote), _clock(remote), _encrypted(remote), _keys(remote)]
    if checks[-1].fine is False:
        return checks
    later: Sequence[Callable[[Remote], Check]] = (
        _version,
        _models,
        _repeats,
        _streams,
        _strict,
        _measured,
        _latency,
    )
    return [*checks, *(look(remote) for look in later)]


def _alive(remote: Remote) -> Check:
    said = remote.ask("/health")
    return _expect("reachable", said, 200, f"GET /health in {said.seconds * 1e3:.0f} ms")


def _ready(remote: Remote) -> Check:
    return _expect("ready", remote.ask("/ready"), 200, "takes work")


def _clock(remote: Remote) -> Check:
    said = remote.ask("/health").headers.get("date")
    if said is None:
        return Check("clock", None, "the server does not tell its time")
    skew = parsedate_to_datetime(said).timestamp() - time.time()
    return Check("clock", abs(skew) < _SKEW, f"{skew:+.0f} s from this machine's")


def _encrypted(remote: Remote) -> Check:
    parts = urlsplit(remote.url)
    if parts.scheme == "https":
        return Check("encryption", True, "TLS, and its certificate is valid")
    if parts.hostname in _HERE:
        return Check("encryption", True, "none, and none is needed on this machine")
    return Check("encryption", None, "none: put a proxy with TLS in front of it")


def _keys(remote: Remote) -> Check:
    if remote.ask("/v1/models", key=False).status == 200:
        here = urlsplit(remote.url).hostname in _HERE
        return Check("keys", True if here else None, "anybody may ask, without a key")
    with_key = remote.ask("/v1/models")
    if with_key.status == 200:
        return Check("keys", True, f"asked for, and the one in {KEY} is valid")
    hint = f"put a valid key into the environment variable {KEY}"
    return Check("keys", False, f"{_reason(with_key)} ({hint})")


def _version(remote: Remote) -> Check:
    said = remote.ask("/openapi.json").json or {}
    about = said.get("info", {}) if isinstance(said, dict) else {}
    known = "title" in about and "version" in about
    return Check("version", known or None, f"{about.get('title')} {about.get('version')}")


def _models(remote: Remote) -> Check:
    said = remote.ask("/v1/models").json
    entries = said.get("data", []) if isinstance(said, dict) else []
    names = [entry["id"] for entry in entries if "id" in entry]
    return Check("models", bool(names), ", ".join(names) or "none")


def _repeats(remote: Remote) -> Check:
    answers = [remote.ask("/v1/completions", _TINY) for _ in range(2)]
    for said in answers:
        if said.status != 200:
            return Check("completion", False, _reason(said))
    first, second = (_text(said) for said in answers)
    fine = first is not None and first == second
    return Check("completion", fine, "the same twice" if fine else f"{first!r}, then {second!r}")


def _streams(remote: Remote) -> Check:
    whole = _text(remote.ask("/v1/completions", _TINY))
    said = remote.ask("/v1/completions", {**_TINY, "stream": True})
    if said.status != 200:
        return Check("streaming", False, _reason(said))
    lines = [line.removeprefix(b"data: ") for line in said.body.split(b"\n") if line]
    if not lines or lines[-1] != b"[DONE]":
        return Check("streaming", False, "the stream does not end in [DONE]")
    chunks = [json.loads(line) for line in lines[:-1]]
    text = "".join(choice["text"] for chunk in chunks for choice in chunk.get("choices", []))
    fine = text == whole
    return Check("streaming", fine, "the same text" if fine else f"{text!r} instead of {whole!r}")


def _strict(remote: Remote) -> Check:
    field = "temprature"
    said = remote.ask("/v1/completions", {**_TINY, field: 0})
    fine = said.status == 400 and field in _reason(said)
    return Check("strictness", fine, "refuses a misspelt field" if fine else _reason(said))


def _measured(remote: Remote) -> Check:
    said = remote.ask("/metrics")
    fine = said.status == 200 and b"unison_engine_alive 1" in said.body
    return Check("metrics", fine, "there" if fine else _reason(said))


def _latency(remote: Remote) -> Check:
    times = sorted(remote.ask("/v1/completions", _TINY).seconds for _ in range(5))
    told = f"{times[2] * 1e3:.0f} ms for 4 tokens, {times[0] * 1e3:.0f} at best"
    return Check("latency", None, told)


def _expect(name: str, said: Answer, status: int, fine: str) -> Check:
    return Check(name, said.status == status, fine if said.status == status else _reason(said))


def _reason(said: Answer) -> str:
    """Return what an answer says is wrong, in one line."""
    error = said.json.get("error") if isinstance(said.json, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return f"status {said.status}" + (f", {message}" if message else "")


def _text(said: Answer) -> str | None:
    try:
        return said.json["choices"][0]["text"]
    except (KeyError, IndexError, TypeError):
        return None


def _read(said: Any, status: int, began: float) -> Answer:
    body = said.read()
    headers = {name.lower(): value for name, value in said.headers.items()}
    return Answer(status, headers, body, time.perf_counter() - began)


def _table(checks: Sequence[Check]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for check in checks:
        table.add_row(check.name, _MARKS[check.fine], Text(check.said))
    return table
