"""Which strategy do flags describe? Its name, its parts, and other tools' words for both."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from unison import aliases
from unison.cli import shared
from unison.decode import STRATEGIES, Strategy
from unison.decode.diffusion.composed import Composed
from unison.decode.parts import PARTS, part_names, required_settings, with_parts
from unison.decode.presets import PRESETS
from unison.engine import CACHES
from unison.generation import settings_of, strategy_named

_SLOTS = (*PARTS, "order.order")
_OF_COMPOSED = ("--per-block", "--anchor", "--judged", "--discount", "--discounted-by")


def take(arguments: list[str]) -> tuple[Strategy | None, list[str]]:
    """Remove what chooses the strategy and its parts from arguments; return it and the rest.

    The settings of the strategy and its parts are left: they are flags of their own. Parts without
    a strategy make a composed one.

    Raises:
        ValueError: A name is unknown, a flag lacks its value, or parts contradict each other.
    """
    chosen, arguments = shared.take_flag(arguments, "--strategy")
    names: dict[str, str] = {}
    for slot in _SLOTS:
        name, arguments = shared.take_flag(arguments, f"--{slot}")
        if name is not None:
            names[slot] = name
    if chosen is None and not names and not _speaks_of_parts(arguments):
        return None, arguments
    base = _numbered(strategy_named(chosen or "composed"), arguments)
    return with_parts(base, names, _required(names, arguments)), arguments


def _numbered(strategy: Strategy, arguments: list[str]) -> Strategy:
    """Return a strategy with the numbers that are common flags; other settings are read later.

    A setting that goes with them, such as --per-block, would be refused without.
    """
    for name in ("steps", "block_length"):
        flag = name.replace("_", "-")
        value = shared.take_flag(arguments, f"--{flag}")[0]
        if value is not None and value.isdecimal() and name in settings_of(strategy):
            strategy = replace(strategy, **{name: int(value)})  # pyright: ignore
    return strategy


def _speaks_of_parts(arguments: list[str]) -> bool:
    own = tuple(f"--{part}." for part in (*PARTS, "temper"))
    return any(a.startswith(own) or a.partition("=")[0] in _OF_COMPOSED for a in arguments)


def _required(names: Mapping[str, str], arguments: list[str]) -> dict[str, str]:
    """Return the settings that parts cannot do without."""
    settings: dict[str, str] = {}
    for part, name in names.items():
        kind = PARTS.get(part, {}).get(name)
        for field in [] if kind is None else required_settings(kind):
            value, _ = shared.take_flag(arguments, f"--{part}.{field}")
            if value is not None:
                settings[f"{part}.{field}"] = value
    return settings


def translated(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Replace other tools' flags by the ones used here; return them and a line for each.

    Raises:
        ValueError: One has two meanings or none here, or contradicts another.
    """
    rest, theirs, ours = _sorted_out(arguments)
    if not theirs:
        return arguments, []
    known, notes = aliases.canonical({**ours, **theirs})
    fresh = {name: value for name, value in known.items() if name not in ours}
    added = [word for name, value in fresh.items() for word in _flag(name, value)]
    return rest + added, [note.said(_named, _valued) for note in notes]


def _sorted_out(
    arguments: list[str],
) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    """Return arguments without other tools' flags, those, and the values of all other flags."""
    rest: list[str] = []
    theirs: dict[str, Any] = {}
    ours: dict[str, Any] = {}
    i = 0
    while i < len(arguments):
        word, dot, value = arguments[i].partition("=")
        follows = i + 1 < len(arguments) and not arguments[i + 1].startswith("--")
        name = word.removeprefix("--").replace("-", "_")
        used = 1
        if word.startswith("--"):
            used = 1 if dot or not follows else 2
            said = _read(value) if dot else _read(arguments[i + 1]) if follows else True
            (theirs if name in aliases.MEANINGS else ours)[name] = said
        if not (word.startswith("--") and name in aliases.MEANINGS):
            rest += arguments[i : i + used]
        i += used
    return rest, theirs, ours


def _read(value: str) -> Any:
    """Return a number, truth value or JSON structure as such, anything else as text."""
    plain = value.lower() if value.lower() in ("true", "false") else value
    try:
        return json.loads(plain)
    except ValueError:
        return value


def _named(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [_named(name)] if value else []
    return [_named(name), *map(str, value if isinstance(value, tuple) else (value,))]


def _valued(name: str, value: Any) -> str:
    return " ".join(_flag(name, value))


def about(strategy: Strategy | None) -> str:
    """Return what can be chosen, as paragraphs of help."""
    if strategy is None:
        return (
            f"Strategies: {', '.join(STRATEGIES)}.\n\nPresets: {', '.join(PRESETS)}.\n\n"
            f"Caches: {', '.join(CACHES)}."
        )
    said = (type(strategy).__doc__ or "").partition("\n\n")[0]
    if not isinstance(strategy, Composed):
        return f"{type(strategy).__name__}: {said}"
    chosen = part_names(strategy)
    parts = [
        f"Its {part} is {chosen[part]}, of {', '.join(known)}." for part, known in PARTS.items()
    ]
    return "\n\n".join([f"{type(strategy).__name__}: {said}", *parts])
