"""Who may ask? API keys, of which only digests are kept.

A key is 256 random bits. Guessing it is out of reach whatever a digest costs, so that a slow
password hash would only slow every request; SHA-256 it is. The file's salt makes one key look
different in two files.
"""

import dataclasses
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unison import files

VERSION = 1
PREFIX = "usk-"
_OWNER = 0o600
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_WRITABLE = stat.S_IWGRP | stat.S_IWOTH


class KeysError(ValueError):
    """A file of keys that cannot be used, or a change to it that cannot be made."""


@dataclass(frozen=True)
class Allowance:
    """What one key may do.

    Attributes:
        requests_per_minute: ``None`` for what the server gives everybody.
        tokens_per_minute: Tokens written for it; ``None`` likewise.
        concurrent: Requests at once; ``None`` likewise.
        priority: Highest priority it may ask for.
        models: Those it may use; empty for all.
        admin: Whether it may reload models.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    priority: int = 0
    models: tuple[str, ...] = ()
    admin: bool = False

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute", "concurrent"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise KeysError(
                    f"{name} must be at least 1, got {value}; to let nobody in, revoke the key."
                )


@dataclass(frozen=True)
class Key:
    """One entry of a file of keys.

    Attributes:
        name: Whose it is; logs and accounts go by it.
        digest: Of the salted key, in hexadecimal digits.
        created: Unix time.
        expires: Unix time from which it is void; ``None`` for never.
        revoked: Unix time at which it was; ``None`` if it was not.
        allowance: What it may do.
    """

    name: str
    digest: str
    created: int
    expires: int | None = None
    revoked: int | None = None
    allowance: Allowance = field(default_factory=Allowance)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise KeysError(
                f"the name {self.name!r} must be up to 64 letters, digits and . _ @ -, beginning "
                "with a letter or digit; it appears in logs."
            )

    def valid(self, now: float) -> bool:
        """Return whether it is neither revoked nor past its time."""
        return self.revoked is None and (self.expires is None or now < self.expires)


@dataclass(frozen=True)
class Keyring:
    """What a file of keys says.

    Attributes:
        salt: Goes into every digest.
        keys: In the order they were added; revoked ones stay, so that their names do.
    """

    salt: str
    keys: tuple[Key, ...] = ()

    def find(self, shown: str, now: float) -> Key | None:
        """Return the valid key that somebody shows, if there is one.

        Every entry is compared, in constant time each: how long it takes tells nothing.
        """
        digest, found = digest_of(self.salt, shown), None
        for key in self.keys:
            same = hmac.compare_digest(digest, key.digest)
            found = key if same and key.valid(now) else found
        return found

    def added(self, name: str, allowance: Allowance, now: int, expires: int | None) -> "Made":
        """Return a ring with one more key, and the key, which is not kept.

        Raises:
            KeysError: The name is taken, even if by a revoked key, or cannot be one.
        """
        if any(key.name == name for key in self.keys):
            raise KeysError(
                f"there is a key {name!r} already, and logs tell keys by their names; choose "
                "another."
            )
        if expires is not None and expires <= now:
            raise KeysError("a key must not expire before it is made.")
        shown = PREFIX + secrets.token_urlsafe(32)
        key = Key(name, digest_of(self.salt, shown), now, expires, None, allowance)
        return Made(replace(self, keys=(*self.keys, key)), shown)

    def without(self, name: str, now: int) -> "Keyring":
        """Return a ring in which a key is revoked.

        Raises:
            KeysError: There is none of that name, or it is revoked already.
        """
        old = next((key for key in self.keys if key.name == name), None)
        if old is None or old.revoked is not None:
            names = ", ".join(key.name for key in self.keys if key.revoked is None)
            state = "no key" if old is None else "no longer a key"
            raise KeysError(f"there is {state} {name!r}; there are: {names or 'none'}.")
        gone = replace(old, revoked=now)
        return replace(self, keys=tuple(gone if key is old else key for key in self.keys))


@dataclass(frozen=True)
class Made:
    """A new key.

    Attributes:
        ring: Where its digest is.
        shown: The key, to be shown once.
    """

    ring: Keyring
    shown: str = field(repr=False)


def digest_of(salt: str, shown: str) -> str:
    """Return the salted SHA-256 of a key, in hexadecimal digits."""
    return hashlib.sha256(f"{salt}:{shown}".encode("utf-8", "surrogatepass")).hexdigest()


def empty() -> Keyring:
    """Return a ring without keys, with a salt of its own."""
    return Keyring(secrets.token_hex(16))


def read(path: Path) -> Keyring:
    """Read a file of keys.

    Raises:
        KeysError: It is absent or damaged, or somebody besides its owner may change it.
    """
    try:
        if path.stat().st_mode & _WRITABLE:
            raise KeysError(
                f"{path}: others than its owner may change this file, and so let themselves in; "
                f"run: chmod 600 {path}"
            )
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise KeysError(
            f"there is no file {path}; make one with: unison keys add NAME --file {path}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise KeysError(f"{path} cannot be read: {error}") from None
    return parsed(text, str(path))


def parsed(text: str, place: str) -> Keyring:
    """Return what the text of a file of keys says.

    Raises:
        KeysError: It is damaged, or was written by a later version.
    """
    try:
        document = json.loads(text)
        if document["version"] > VERSION:
            raise KeysError(
                f"{place} was written by a later version of unison (format "
                f"{document['version']}, known up to {VERSION}); update unison."
            )
        keys = tuple(map(_key, document["keys"]))
        if not isinstance(document["salt"], str) or len({key.name for key in keys}) < len(keys):
            raise TypeError("no salt, or a name twice")
        return Keyring(document["salt"], keys)
    except (json.JSONDecodeError, RecursionError, TypeError, KeyError, AttributeError):
        raise KeysError(
            f"{place} is not a file of keys, or is damaged; restore it, or make another with: "
            "unison keys add NAME --file ANOTHER"
        ) from None


def write(path: Path, ring: Keyring) -> None:
    """Write a file of keys, atomically, which nobody but its owner may read.

    Raises:
        NotWrittenError: The file is as it was.
    """
    keys = [dataclasses.asdict(key) for key in ring.keys]
    files.write_json(path, {"version": VERSION, "salt": ring.salt, "keys": keys}, _OWNER)


def change(path: Path, how: Callable[[Keyring], Keyring], *, new: bool = False) -> None:
    """Change a file of keys; of two changes at once, the second sees the first.

    Args:
        path: The file.
        how: From what it says to what it shall say.
        new: Whether it may be absent.

    Raises:
        KeysError: It cannot be read or changed so.
        NotWrittenError: It cannot be written.
    """
    with _alone(path.absolute().parent):
        ring = empty() if new and not path.exists() else read(path)
        write(path, how(ring))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other changes to files of a folder waiting: the file itself is replaced each time."""
    if not folder.is_dir():
        raise KeysError(f"there is no folder {folder}.")
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


class KeyFile:
    """A file of keys as it is now: read again when it changes, so that revocation acts at once.

    Args:
        path: The file.

    Raises:
        KeysError: It cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = self._state()
        self._ring = read(path)

    def find(self, shown: str, now: float) -> Key | None:
        """Return the valid key that somebody shows, if there is one.

        Raises:
            KeysError: The file is gone or damaged: then nobody is let in.
        """
        state = self._state()
        if state != self._seen:
            self._ring = read(self.path)
            self._seen = state
        return self._ring.find(shown, now)

    def _state(self) -> tuple[int, ...] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return (found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode)


def _key(entry: Mapping[str, Any]) -> Key:
    """Return an entry of the file; its types are looked at, for a stranger may have edited it."""
    allowance = {**entry["allowance"]}
    models = allowance.pop("models")
    _check(entry, {"name": str, "digest": str, "created": int})
    _check(allowance, {"priority": int, "admin": bool})
    whole = (
        *((entry, name) for name in ("expires", "revoked")),
        *((allowance, name) for name in ("requests_per_minute", "tokens_per_minute", "concurrent")),
    )
    for where, name in whole:
        if where[name] is not None:
            _check(where, {name: int})
    if not isinstance(models, Sequence) or not all(isinstance(name, str) for name in models):
        raise TypeError("models must be names")
    return Key(**{**entry, "allowance": Allowance(**allowance, models=tuple(models))})


def _check(where: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    for name, kind in kinds.items():
        if type(where[name]) is not kind:
            raise TypeError(f"{name} must be {kind.__name__}")
