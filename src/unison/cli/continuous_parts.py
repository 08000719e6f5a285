"""How is a part of continuous diffusion named on a line? NAME, or NAME:FIELD=VALUE,FIELD=VALUE."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from unison.cli import shared
from unison.suggest import nearest
from unison.suites import made, spelt


def part_named(what: str, table: Mapping[str, Any], text: str) -> Any:
    """Return the part of a table that a line names.

    Args:
        what: The kind of part, for messages.
        table: Kinds by name.
        text: The line.

    Raises:
        ValueError: The name, a field or a value is unknown.
    """
    said = spelt(text)
    if said.name not in table:
        raise ValueError(
            f"unknown {what} {said.name!r}{nearest(said.name, table)}; known: {', '.join(table)}."
        )
    return made(table[said.name], text, said.settings)


def taken(
    arguments: list[str], flag: str, table: Mapping[str, Any]
) -> tuple[Any | None, list[str]]:
    """Remove ``--FLAG NAME...`` from arguments; return the part it names, and the rest."""
    text, arguments = shared.take_flag(arguments, f"--{flag}")
    return (None if text is None else part_named(flag, table, text)), arguments


def shelf(table: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return what is said of every part of a table: a line, and its settings."""
    return {
        name: {"about": _about(kind), "settings": _settings(kind)} for name, kind in table.items()
    }


def renamed(arguments: list[str]) -> list[str]:
    """Return arguments with ``--output``, as some say, for ``--out``."""
    return [
        f"--out{word.removeprefix('--output')}" if word.partition("=")[0] == "--output" else word
        for word in arguments
    ]


def _about(kind: type) -> str:
    return (kind.__doc__ or "").partition("\n")[0]


def _settings(kind: type) -> str:
    """Return the fields that a line can set, with their defaults."""
    shown = []
    for field in dataclasses.fields(kind):
        plain = isinstance(field.default, bool | int | float | str)
        if field.init and plain:
            shown.append(f"{field.name}={field.default}")
    return ",".join(shown)
