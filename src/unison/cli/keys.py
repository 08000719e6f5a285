"""unison keys: let people in to a server, or keep them out."""

import datetime
import re
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from unison.cli import shared
from unison.cli.suggest import nearest
from unison.serve.access import keys
from unison.serve.access.keys import Allowance, Key, Keyring

_ACTIONS = ("add", "list", "revoke")
_SPAN = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Flags:
    """Manage the API keys of a server: unison keys add NAME, keys list, keys revoke NAME.

    A key is shown once, when it is added; the file holds only digests. A running server reads the
    file again when it changes: a revoked key is refused from the next request on.

    Attributes:
        file: The file of keys, for unison serve --keys.
        requests_per_minute: Of the new key; what the server gives everybody if left out.
        tokens_per_minute: Tokens written for it, likewise.
        concurrent: Its requests at once, likewise.
        priority: Highest priority it may ask for.
        models: Those it may use; all if left out.
        admin: Let it reload models.
        expires: Time after which it is void, such as 12h or 30d; never if left out.
        json: Print one JSON document on stdout.
    """

    file: Path = Path("keys.json")
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    priority: int = 0
    models: tuple[str, ...] = ()
    admin: bool = False
    expires: str | None = None
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    action, arguments = shared.take_leading(arguments)
    name, arguments = shared.take_leading(arguments)
    flags = shared.parse(Flags, "keys", arguments)
    if action not in _ACTIONS:
        guess = "" if action is None else f", not {action!r}{nearest(action, _ACTIONS)}"
        raise ValueError(f"say what to do: unison keys add NAME, list or revoke NAME{guess}.")
    if action == "list":
        _list(flags)
    elif name is None:
        raise ValueError(f"whose key? unison keys {action} NAME.")
    elif action == "add":
        _add(name, flags)
    else:
        keys.change(flags.file, lambda ring: ring.without(name, int(time.time())))
        shared.log(f"{name} is revoked; a running server knows from its next request on")


def seconds_of(span: str) -> int:
    """Return the seconds of a span of time such as ``90s``, ``5m``, ``12h`` or ``30d``.

    Raises:
        ValueError: It is not written so.
    """
    found = _SPAN.fullmatch(span)
    if found is None:
        raise ValueError(f"--expires {span!r}: write a number and s, m, h or d, such as 30d.")
    return int(found[1]) * _SECONDS[found[2]]


def _add(name: str, flags: Flags) -> None:
    now = int(time.time())
    expires = None if flags.expires is None else now + seconds_of(flags.expires)
    allowance = Allowance(
        flags.requests_per_minute,
        flags.tokens_per_minute,
        flags.concurrent,
        flags.priority,
        flags.models,
        flags.admin,
    )
    made: list[keys.Made] = []

    def with_one_more(ring: Keyring) -> Keyring:
        made.append(ring.added(name, allowance, now, expires))
        return made[0].ring

    keys.change(flags.file, with_one_more, new=True)
    if flags.json:
        shared.emit({"name": name, "key": made[0].shown, "file": str(flags.file)})
        return
    shared.log(f"the key of {name}, shown this once ({flags.file} holds only its digest):")
    print(made[0].shown)


def _list(flags: Flags) -> None:
    told = partial(_told, now=time.time())
    entries = [told(key) for key in keys.read(flags.file).keys]
    if flags.json:
        shared.emit(entries)
        return
    columns = ("name", "state", "created", "expires", "limits")
    table = Table(*columns, box=None, pad_edge=False)
    for entry in entries:
        table.add_row(*(str(entry[name] or "") for name in columns[:-1]), _limits(entry))
    shared.Console(highlight=False).print(table)


def _told(key: Key, now: float) -> dict[str, Any]:
    """Return a key as it is listed; its digest is nobody's business."""
    state = "valid" if key.valid(now) else "expired" if key.revoked is None else "revoked"
    times = {name: _date(getattr(key, name)) for name in ("created", "expires", "revoked")}
    return {"name": key.name, "state": state, **times, **vars(key.allowance)}


def _limits(entry: dict[str, Any]) -> str:
    """Return what a key may do beyond, or short of, what everybody may."""
    said = []
    for name, unit in (
        ("requests_per_minute", "requests/min"),
        ("tokens_per_minute", "tokens/min"),
        ("concurrent", "at once"),
    ):
        said += [f"{entry[name]} {unit}"] if entry[name] is not None else []
    said += [f"priority up to {entry['priority']}"] if entry["priority"] else []
    said += [f"only {' '.join(entry['models'])}"] if entry["models"] else []
    return ", ".join([*said, *(["admin"] if entry["admin"] else [])])


def _date(seconds: int | None) -> str | None:
    if seconds is None:
        return None
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
