"""How does one line name a thing with settings? ``copy:items=5,shots=2``; ``|`` offers several."""

from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from functools import partial
from itertools import product
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin

from unison.suggest import nearest
from unison.suites.task import SuiteError

T = TypeVar("T")


class Spelt(NamedTuple):
    """A name and its settings.

    Attributes:
        name: Before the colon.
        settings: Behind it, by name; numbers and truth values read as such, all else as text.
    """

    name: str
    settings: dict[str, Any]


def spelt(text: str) -> Spelt:
    """Return what a line says.

    Raises:
        SuiteError: It is not NAME or NAME:KEY=VALUE,KEY=VALUE.
    """
    name, colon, rest = text.partition(":")
    settings: dict[str, Any] = {}
    for part in rest.split(",") if colon else []:
        key, equals, value = part.partition("=")
        if not (key.strip() and equals and value.strip()):
            raise SuiteError(
                f"{text!r}: {part!r} is no setting; write NAME or NAME:KEY=VALUE,KEY=VALUE."
            )
        if key.strip() in settings:
            raise SuiteError(f"{text!r} says {key.strip()} twice.")
        settings[key.strip()] = _read(value.strip())
    return Spelt(name.strip(), settings)


def alternatives(text: str) -> list[str]:
    """Return every line that one with ``KEY=A|B`` stands for, in order."""
    name, colon, rest = text.partition(":")
    if not colon:
        return [text]
    choices = []
    for part in rest.split(","):
        key, equals, value = part.partition("=")
        choices.append([f"{key}{equals}{one}" for one in value.split("|")])
    return [f"{name}:{','.join(chosen)}" for chosen in product(*choices)]


def made(kind: Callable[..., T], text: str, settings: Mapping[str, Any]) -> T:
    """Return a dataclass with settings that were read from a line.

    Raises:
        SuiteError: A setting is unknown, missing, of another kind or out of range.
    """
    known: dict[str, Any] = {f.name: f.type for f in settings_of(kind)}
    for name in settings:
        if name not in known:
            raise SuiteError(
                f"{text!r}: there is no setting {name!r}{nearest(name, known)}; known: "
                f"{', '.join(known) or 'none'}."
            )
    values = {name: _fitting(text, name, known[name], value) for name, value in settings.items()}
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise SuiteError(f"{text!r}: {error}") from None


def settings_of(kind: Callable[..., Any]) -> tuple[Field[Any], ...]:
    """Return the fields of a dataclass, or those that a partial one does not fix by position."""
    built, fixed = (kind.func, len(kind.args)) if isinstance(kind, partial) else (kind, 0)
    return fields(built)[fixed:]  # pyright: ignore


def _fitting(text: str, name: str, kind: Any, value: Any) -> Any:
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if Path in kinds:
        return Path(str(value))
    if get_origin(kind) is Literal:
        if str(value) in get_args(kind):
            return str(value)
        raise SuiteError(
            f"{text!r}: {name} must be {' or '.join(map(str, get_args(kind)))}, got {value!r}."
        )
    if float in kinds and type(value) is int:
        return float(value)
    if str in kinds and bool not in kinds:
        return str(value)
    if type(value) in kinds:
        return value
    words = {bool: "true or false", int: "a whole number", float: "a number"}
    wanted = next((words[k] for k in kinds if k in words), str(kind))
    raise SuiteError(f"{text!r}: {name} must be {wanted}, got {value!r}.")


def _read(value: str) -> Any:
    """Return a number or a truth value as such, anything else as text."""
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
